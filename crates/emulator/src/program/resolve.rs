//! The functions that a kernel can reach, flattened: each instruction with what its names stand for.

use std::collections::{HashMap, HashSet};

use super::layout;
use super::scope::{Entity, Scope, lookup};
use crate::exec::sreg::Sreg;
use crate::ptx::ast::{self, Function, Init, Instruction, Linkage, Module, Operand, Statement, Variable};
use crate::ptx::{Error, Result, Type};

/// One instruction and its names.
#[derive(Debug)]
pub(super) struct Item<'m, 'a> {
    pub inst: &'m Instruction<'a>,
    pub names: Vec<(&'a str, Entity)>,
    /// Special registers that it reads.
    pub sregs: Vec<(&'a str, Sreg)>,
}

/// A piece of a thread's local memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its address in the local space.
    pub address: u32,
    /// Its bytes.
    pub size: u32,
}

/// The functions that an indirect call may lead to, as its prototype says.
#[derive(Clone, Debug)]
pub(super) enum Prototype {
    /// `.callprototype`: any that takes and returns these sizes.
    Signature,
    /// `.calltargets`
    Targets(Vec<usize>),
}

/// A function with its body flattened.
#[derive(Debug)]
pub(super) struct Routine<'m, 'a> {
    /// Index of the first function of that name in the module.
    pub index: usize,
    pub function: &'m Function<'a>,
    pub items: Vec<Item<'m, 'a>>,
    /// Before which item each label stands; the number of items for one at the end.
    pub labels: Vec<usize>,
    pub tables: Vec<Vec<usize>>,
    pub prototypes: Vec<Prototype>,
    pub params: Vec<Piece>,
    pub returns: Vec<Piece>,
}

/// All routines of a kernel and what they share.
pub(super) struct Unit<'m, 'a> {
    module: &'m Module<'a>,
    globals: &'m dyn Fn(&str) -> Option<u64>,
    /// Functions by name: the first that bears it.
    functions: HashMap<&'a str, usize>,
    variables: HashMap<&'a str, &'m Variable<'a>>,
    /// What was found of the module's shared variables so far.
    placed: HashMap<&'a str, Entity>,
    seen_variables: HashSet<&'a str>,
    /// Types of all registers.
    pub registers: Vec<Type>,
    /// Routines in the order in which they were found; the kernel is the first.
    pub routines: Vec<Routine<'m, 'a>>,
    waiting: Vec<usize>,
    known: HashSet<usize>,
    local: layout::Space,
    shared: layout::Space,
    shared_base: u32,
    dynamic: Option<u32>,
}

impl<'m, 'a> Unit<'m, 'a> {
    /// The kernel `entry` with all that it can reach.
    ///
    /// # Errors
    /// Names that are not declared or declared twice, and what has no room.
    pub fn new(
        module: &'m Module<'a>,
        entry: &str,
        globals: &'m dyn Fn(&str) -> Option<u64>,
        shared_base: u32,
    ) -> Result<Self> {
        let mut functions = HashMap::new();
        for (index, function) in module.functions.iter().enumerate() {
            functions.entry(function.name).or_insert(index);
        }
        for (alias, name) in &module.aliases {
            if let Some(index) = functions.get(name).copied() {
                functions.insert(alias, index);
            }
        }
        let mut unit = Unit {
            module,
            globals,
            functions,
            variables: module.variables.iter().map(|variable| (variable.name, variable)).collect(),
            placed: HashMap::new(),
            seen_variables: HashSet::new(),
            registers: Vec::new(),
            routines: Vec::new(),
            waiting: Vec::new(),
            known: HashSet::new(),
            local: layout::Space::default(),
            shared: layout::Space { end: shared_base },
            shared_base,
            dynamic: None,
        };
        match unit.functions.get(entry).and_then(|index| unit.definition(*index)) {
            Some(found) if found.entry => unit.reach(unit.functions[entry]),
            _ => return Err(Error::invalid(1, format!("there is no kernel {entry}"))),
        }
        let mut next = 0;
        while let Some(index) = unit.waiting.get(next).copied() {
            next += 1;
            if let Some(function) = unit.definition(index) {
                let routine = Walk::function(&mut unit, index, function)?;
                unit.routines.push(routine);
            }
        }
        Ok(unit)
    }

    /// The definition of the function with an index; `None` where it is declared only.
    pub fn definition(&self, index: usize) -> Option<&'m Function<'a>> {
        let name = self.module.functions[index].name;
        self.module.functions.iter().find(|function| function.name == name && function.body.is_some())
    }

    /// The name of the function with an index.
    pub fn name(&self, index: usize) -> &'a str {
        self.module.functions[index].name
    }

    /// Bytes of local memory of all frames.
    pub fn local_bytes(&self) -> u32 {
        self.local.end
    }

    /// Bytes of static shared memory.
    pub fn shared_bytes(&self) -> u32 {
        self.shared.end - self.shared_base
    }

    /// What the base of dynamic shared memory is a multiple of. The driver gives 16 bytes even where none is asked for.
    pub fn dynamic_align(&self) -> u32 {
        self.dynamic.unwrap_or(1).max(16)
    }

    fn reach(&mut self, index: usize) {
        if self.known.insert(index) {
            self.waiting.push(index);
        }
    }

    /// What a name of the module stands for.
    fn module_name(&mut self, name: &'a str, line: u32) -> Result<Option<Entity>> {
        if let Some(index) = self.functions.get(name).copied() {
            self.reach(index);
            return Ok(Some(Entity::Function(index)));
        }
        let Some(variable) = self.variables.get(name).copied() else { return Ok(None) };
        if let Some(entity) = self.placed.get(name) {
            return Ok(Some(*entity));
        }
        let entity = match variable.space {
            ast::Space::Shared => self.shared(variable)?,
            ast::Space::Global | ast::Space::Const => {
                let address = (self.globals)(name).ok_or_else(|| {
                    Error::invalid(line, format!("the variable {name} is declared, but nowhere defined"))
                })?;
                self.reach_initial(variable);
                Entity::Variable { space: variable.space, address, size: layout::size(variable)? }
            }
            _ => {
                let message =
                    format!("{name}: only .global, .const and .shared variables stand outside functions");
                return Err(Error::invalid(variable.line, message));
            }
        };
        self.placed.insert(name, entity);
        Ok(Some(entity))
    }

    /// Functions whose addresses stand in the initial values of a variable, or of variables named there.
    fn reach_initial(&mut self, variable: &'m Variable<'a>) {
        let mut left = vec![variable];
        while let Some(variable) = left.pop() {
            if !self.seen_variables.insert(variable.name) {
                continue;
            }
            for init in &variable.init {
                let Init::Address { name, .. } = init else { continue };
                match self.functions.get(name).copied() {
                    Some(index) => self.reach(index),
                    None => left.extend(self.variables.get(name).copied()),
                }
            }
        }
    }

    fn shared(&mut self, variable: &Variable) -> Result<Entity> {
        if variable.linkage == Linkage::Extern {
            let align = layout::align(variable);
            self.dynamic = Some(self.dynamic.unwrap_or(1).max(align));
            return Ok(Entity::Dynamic);
        }
        let address = u64::from(self.shared.place(variable)?);
        Ok(Entity::Variable { space: ast::Space::Shared, address, size: layout::size(variable)? })
    }

    fn frame(&mut self, variable: &Variable) -> Result<Piece> {
        let address = self.local.place(variable)?;
        Ok(Piece { address, size: self.local.end - address })
    }
}

/// A function being flattened.
struct Walk<'u, 'm, 'a> {
    unit: &'u mut Unit<'m, 'a>,
    routine: Routine<'m, 'a>,
    scopes: Vec<Scope<'a>>,
}

impl<'m, 'a> Walk<'_, 'm, 'a> {
    fn function(
        unit: &mut Unit<'m, 'a>,
        index: usize,
        function: &'m Function<'a>,
    ) -> Result<Routine<'m, 'a>> {
        let routine = Routine {
            index,
            function,
            items: Vec::new(),
            labels: Vec::new(),
            tables: Vec::new(),
            prototypes: Vec::new(),
            params: Vec::new(),
            returns: Vec::new(),
        };
        let mut walk = Walk { unit, routine, scopes: vec![Scope::default()] };
        walk.parameters()?;
        if let Some(body) = &function.body {
            walk.scope(body)?;
        }
        Ok(walk.routine)
    }

    fn parameters(&mut self) -> Result<()> {
        let function = self.routine.function;
        if function.entry {
            let (placed, _) = layout::parameters(&function.params)?;
            for (variable, param) in function.params.iter().zip(placed) {
                let (address, size) = (u64::from(param.offset), param.size);
                let entity = Entity::Variable { space: ast::Space::Param, address, size };
                self.declare(variable.name, entity, variable.line)?;
            }
            return Ok(());
        }
        for (variable, returned) in function
            .returns
            .iter()
            .map(|variable| (variable, true))
            .chain(function.params.iter().map(|variable| (variable, false)))
        {
            let piece = self.unit.frame(variable)?;
            let pieces = if returned { &mut self.routine.returns } else { &mut self.routine.params };
            pieces.push(piece);
            self.declare(variable.name, local(piece), variable.line)?;
        }
        Ok(())
    }

    fn declare(&mut self, name: &'a str, entity: Entity, line: u32) -> Result<()> {
        let scope = self.scopes.last_mut().expect("a scope is open");
        // `_` may name any number of parameters.
        if scope.declare(name, entity) || name == "_" {
            return Ok(());
        }
        Err(Error::invalid(line, format!("{name} is declared twice")))
    }

    fn scope(&mut self, statements: &'m [Statement<'a>]) -> Result<()> {
        self.scopes.push(Scope::default());
        self.labels(statements)?;
        for statement in statements {
            self.statement(statement)?;
        }
        self.scopes.pop();
        Ok(())
    }

    /// Declares what may be named before it stands there.
    fn labels(&mut self, statements: &'m [Statement<'a>]) -> Result<()> {
        for statement in statements {
            if let Statement::Label(name, line) = statement {
                let label = self.routine.labels.len();
                self.routine.labels.push(usize::MAX);
                self.declare(name, Entity::Label(label), *line)?;
            }
        }
        for statement in statements {
            match statement {
                Statement::BranchTargets(name, targets) => {
                    let mut table = Vec::with_capacity(targets.len());
                    for target in targets {
                        match lookup(&self.scopes, target) {
                            Some(Entity::Label(label)) => table.push(label),
                            _ => return Err(self.error(format!("{name}: there is no label {target}"))),
                        }
                    }
                    let number = self.routine.tables.len();
                    self.routine.tables.push(table);
                    self.declare(name, Entity::Targets(number), self.line())?;
                }
                Statement::CallPrototype(prototype) => {
                    self.prototype(prototype.name, Prototype::Signature)?;
                }
                Statement::CallTargets(name, targets) => {
                    let mut found = Vec::with_capacity(targets.len());
                    for target in targets {
                        match self.unit.module_name(target, self.routine.function.line)? {
                            Some(Entity::Function(index)) => found.push(index),
                            _ => return Err(self.error(format!("{name}: there is no function {target}"))),
                        }
                    }
                    self.prototype(name, Prototype::Targets(found))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn prototype(&mut self, name: &'a str, prototype: Prototype) -> Result<()> {
        let number = self.routine.prototypes.len();
        self.routine.prototypes.push(prototype);
        self.declare(name, Entity::Prototype(number), self.line())
    }

    fn statement(&mut self, statement: &'m Statement<'a>) -> Result<()> {
        match statement {
            Statement::Registers { ty, names } => {
                for (name, count) in names {
                    let first = self.unit.registers.len();
                    let registers = count.unwrap_or(1) as usize;
                    // A declaration of more is a mistake; it must not cost memory.
                    if registers > 1 << 20 || first > 1 << 22 {
                        return Err(self.error(format!("{name}<{registers}>: too many registers")));
                    }
                    self.unit.registers.resize(first + registers, *ty);
                    match count {
                        Some(count) => {
                            let scope = self.scopes.last_mut().expect("a scope is open");
                            scope.declare_range(name, first, *count);
                        }
                        None => self.declare(name, Entity::Register(first), self.line())?,
                    }
                }
                Ok(())
            }
            Statement::Variable(variable) => self.variable(variable),
            Statement::Label(name, _) => {
                if let Some(Entity::Label(label)) = lookup(&self.scopes, name) {
                    self.routine.labels[label] = self.routine.items.len();
                }
                Ok(())
            }
            Statement::Instruction(inst) => self.instruction(inst),
            Statement::Block(statements) => self.scope(statements),
            Statement::BranchTargets(..) | Statement::CallPrototype(_) | Statement::CallTargets(..) => Ok(()),
        }
    }

    fn variable(&mut self, variable: &'m Variable<'a>) -> Result<()> {
        let entity = match variable.space {
            ast::Space::Shared => self.unit.shared(variable)?,
            ast::Space::Local | ast::Space::Param => local(self.unit.frame(variable)?),
            // A static variable of a function is the module's.
            ast::Space::Global | ast::Space::Const => {
                let address = (self.unit.globals)(variable.name).ok_or_else(|| {
                    Error::unsupported(
                        variable.line,
                        format!("the variable {} inside a function", variable.name),
                    )
                })?;
                self.unit.reach_initial(variable);
                Entity::Variable { space: variable.space, address, size: layout::size(variable)? }
            }
            ast::Space::Generic => {
                return Err(Error::invalid(variable.line, format!("{} has no state space", variable.name)));
            }
        };
        self.declare(variable.name, entity, variable.line)
    }

    fn instruction(&mut self, inst: &'m Instruction<'a>) -> Result<()> {
        let mut mentioned = Vec::new();
        mentioned.extend(inst.guard.map(|(name, _)| name));
        for operand in &inst.operands {
            mention(operand, &mut mentioned);
        }
        let mut item = Item { inst, names: Vec::new(), sregs: Vec::new() };
        for name in mentioned {
            if item.names.iter().any(|(known, _)| *known == name)
                || item.sregs.iter().any(|(known, _)| *known == name)
            {
                continue;
            }
            let entity = match lookup(&self.scopes, name) {
                Some(entity) => Some(entity),
                None => self.unit.module_name(name, inst.line)?,
            };
            match (entity, Sreg::parse(name)) {
                (Some(entity), _) => item.names.push((name, entity)),
                (None, Some(sreg)) => item.sregs.push((name, sreg)),
                // Whoever decodes the instruction knows it (WARP_SZ, `vprintf` without a declaration) or refuses it.
                (None, None) => {}
            }
        }
        self.routine.items.push(item);
        Ok(())
    }

    fn line(&self) -> u32 {
        self.routine.items.last().map_or(self.routine.function.line, |item| item.inst.line)
    }

    fn error(&self, message: String) -> Error {
        Error::invalid(self.line(), message)
    }
}

fn local(piece: Piece) -> Entity {
    Entity::Variable { space: ast::Space::Local, address: u64::from(piece.address), size: piece.size }
}

/// The names in an operand.
pub(super) fn mention<'a>(operand: &Operand<'a>, names: &mut Vec<&'a str>) {
    match operand {
        Operand::Name(name, _) | Operand::Not(name) => names.push(name),
        Operand::Vector(parts) | Operand::List(parts) => {
            parts.iter().for_each(|part| mention(part, names));
        }
        Operand::Pair(first, second) => {
            mention(first, names);
            mention(second, names);
        }
        Operand::Address { base, coordinates, .. } => {
            mention(base, names);
            coordinates.iter().for_each(|coordinate| mention(coordinate, names));
        }
        Operand::Int(_) | Operand::F32(_) | Operand::F64(_) | Operand::Sink => {}
    }
}
