//! A kernel of the syntax tree as a program: its functions one behind the other, each laid out in its order.

use std::collections::HashMap;
use std::ops::Range;

use super::floor::Target;
use super::guesses::guesses;
use super::order::order;
use super::resolve::{Item, Routine, Unit};
use super::scope::Entity;
use super::{Class, Decoder, Detail, Function, Guard, Inst, Meet, Param, Program, Slot, Symbol};
use super::{calls, layout, registers, target};
use crate::device::Device;
use crate::exec::sreg::Sreg;
use crate::exec::{self, Op, control, memory, moves};
use crate::ptx::ast::{self, Module, Space};
use crate::ptx::{Error, Result, Type};

/// The index that a function has in [`Program::functions`], whatever the kernel.
pub fn function_number(module: &Module, name: &str) -> Option<u32> {
    module.functions.iter().position(|function| function.name == name).map(|index| index as u32)
}

/// A kernel's parameters as a C struct would hold them, and their bytes together.
///
/// # Errors
/// Invalid when they are more than fits.
pub fn parameters(function: &ast::Function) -> Result<(Vec<Param>, u32)> {
    layout::parameters(&function.params)
}

impl Program {
    /// Decodes a kernel and what it can reach. `globals` gives the addresses of the module's variables in global and
    /// constant memory.
    ///
    /// # Errors
    /// What the module or the device does not allow, and what is not emulated.
    pub fn decode(
        module: &Module,
        entry: &str,
        globals: &dyn Fn(&str) -> Option<u64>,
        device: &Device,
    ) -> Result<Program> {
        target::check(module, device)?;
        let base = device.shared_base();
        let unit = Unit::new(module, entry, globals, base)?;
        let kernel = unit.routines[0].function;
        let (params, param_bytes) = parameters(kernel)?;
        let mut program = Program {
            name: entry.to_owned(),
            params,
            param_bytes,
            local_bytes: unit.local_bytes(),
            shared_bytes: unit.shared_bytes(),
            dynamic_align: unit.dynamic_align(),
            limits: kernel.limits,
            files: module.files.clone(),
            functions: module.functions.iter().map(declared).collect(),
            ..Program::default()
        };
        let dynamic = program.dynamic_base(base);
        let mut decoder = Decoder::default();
        decoder.scopes.push(HashMap::new());
        let mut emitter = Emitter {
            unit: &unit,
            target: Target::of(module),
            dynamic: u64::from(dynamic),
            decoder,
            places: vec![None; unit.registers.len()],
            watches: Vec::new(),
            program: &mut program,
        };
        for routine in &unit.routines {
            emitter.routine(routine)?;
        }
        let decoder = emitter.decoder;
        program.slots = decoder.slots;
        program.predicates = decoder.predicates;
        program.constants = decoder.constants();
        program.ranked = decoder.ranked();
        refuse_recursion(&program)?;
        for inst in &mut program.code {
            if let Op::Control(control::Op::Call(call)) = &mut inst.op {
                call.target = program.functions[call.target as usize].start;
            }
        }
        Ok(program)
    }
}

/// Refuses functions that call themselves, directly or through others: each has one frame and one set of registers.
///
/// # Errors
/// Unsupported, naming the call that closes the circle.
fn refuse_recursion(program: &Program) -> Result<()> {
    let calls: Vec<Vec<(usize, u32)>> = program
        .functions
        .iter()
        .map(|function| {
            let code = program.code.get(function.start as usize..function.end as usize).unwrap_or(&[]);
            let calls = code.iter().filter_map(|inst| match &inst.op {
                Op::Control(control::Op::Call(call)) => Some((call.target as usize, inst.line)),
                _ => None,
            });
            calls.collect()
        })
        .collect();
    // Functions from which no circle can be reached; those on the way.
    let (mut done, mut on_the_way) = (vec![false; calls.len()], vec![false; calls.len()]);
    for start in 0..calls.len() {
        let mut path = vec![(start, 0)];
        on_the_way[start] = true;
        while let Some((function, next)) = path.last_mut() {
            let function = *function;
            match calls[function].get(*next) {
                Some((callee, line)) if on_the_way[*callee] => {
                    let message = format!(
                        "{} calls itself: recursion is not emulated",
                        program.functions[*callee].name
                    );
                    return Err(Error::unsupported(*line, message));
                }
                Some((callee, _)) => {
                    *next += 1;
                    if !done[*callee] {
                        on_the_way[*callee] = true;
                        path.push((*callee, 0));
                    }
                }
                None => {
                    done[function] = true;
                    on_the_way[function] = false;
                    path.pop();
                }
            }
        }
    }
    Ok(())
}

fn declared(function: &ast::Function) -> Function {
    let name = function.name.to_owned();
    Function { name, start: u32::MAX, end: u32::MAX, params: Vec::new(), returns: Vec::new() }
}

/// Instructions that run one behind the other, by item; where they lead.
pub(super) struct Blocks {
    pub ranges: Vec<Range<usize>>,
    pub successors: Vec<Vec<usize>>,
    /// Whether the end of the block leads to the next one of the text.
    falls: Vec<bool>,
}

impl Blocks {
    /// Those of a function. The last one is empty: the end of the text.
    fn new(routine: &Routine) -> Blocks {
        let items = &routine.items;
        let mut starts: Vec<usize> = routine.labels.iter().copied().chain([0, items.len()]).collect();
        starts.extend((0..items.len()).filter(|at| leaves(&items[*at])).map(|at| at + 1));
        starts.sort_unstable();
        starts.dedup();
        let mut blocks = Blocks { ranges: Vec::new(), successors: Vec::new(), falls: Vec::new() };
        for (block, start) in starts.iter().enumerate() {
            let end = starts.get(block + 1).copied().unwrap_or(*start);
            let last = items[*start..end].last().filter(|item| leaves(item));
            let falls = end > *start && last.is_none_or(|item| item.inst.guard.is_some());
            let mut successors: Vec<usize> = last
                .map_or(Vec::new(), |item| targets(routine, item))
                .iter()
                .map(|item| starts.binary_search(item).expect("a label starts a block"))
                .collect();
            if falls {
                successors.push(block + 1);
            }
            blocks.ranges.push(*start..end);
            blocks.successors.push(successors);
            blocks.falls.push(falls);
        }
        blocks
    }
}

/// Whether a thread may not go on with the next instruction of the text.
fn leaves(item: &Item) -> bool {
    matches!(item.inst.opcode, "bra" | "brx" | "ret" | "exit" | "trap")
}

/// The items that a branch leads to.
fn targets(routine: &Routine, item: &Item) -> Vec<usize> {
    let mut found = Vec::new();
    for (_, entity) in &item.names {
        match entity {
            Entity::Label(label) => found.push(routine.labels[*label]),
            Entity::Targets(table) => {
                found.extend(routine.tables[*table].iter().map(|label| routine.labels[*label]));
            }
            _ => {}
        }
    }
    found
}

struct Emitter<'e, 'm, 'a> {
    unit: &'e Unit<'m, 'a>,
    /// What the text was made for.
    target: Option<Target>,
    /// Where dynamic shared memory starts.
    dynamic: u64,
    decoder: Decoder<'a>,
    /// First row, or index among the predicates, of each register that was mentioned.
    places: Vec<Option<u32>>,
    /// Of each instruction, whether it may see what others change.
    watches: Vec<bool>,
    program: &'e mut Program,
}

impl<'a> Emitter<'_, '_, 'a> {
    fn routine(&mut self, routine: &Routine<'_, 'a>) -> Result<()> {
        self.decoder.callee = !routine.function.entry;
        let blocks = Blocks::new(routine);
        let order = order(&blocks.successors);
        let types = &self.unit.registers;
        registers::allocate(routine, &blocks, &order, types, &mut self.decoder, &mut self.places);
        let guesses = guesses(routine);
        let start = self.here();
        let mut at = vec![u32::MAX; blocks.ranges.len()];
        for (place, block) in order.iter().enumerate() {
            at[*block] = self.here();
            let range = blocks.ranges[*block].clone();
            for index in range.clone() {
                self.item(routine, &routine.items[index])?;
                if guesses.contains(&index)
                    && let Some(Op::Memory(memory::Op::Load(load))) =
                        self.program.code.last_mut().map(|inst| &mut inst.op)
                {
                    load.guess();
                }
            }
            let line = routine.items[..range.end].last().map_or(routine.function.line, |item| item.inst.line);
            if range.is_empty() {
                let end = if routine.function.entry { control::Op::Exit } else { control::Op::Return };
                self.imply(Op::Control(end), Guard::Always, line);
            } else if blocks.falls[*block] && order.get(place + 1) != Some(&(block + 1)) {
                // A block's number, until all have their place.
                let goto = control::Op::Goto { target: *block as u32 + 1 };
                self.imply(Op::Control(goto), Guard::Always, line);
            }
        }
        let end = self.here();
        let label = |label: u32| {
            let item = routine.labels[label as usize];
            let block = blocks.ranges.partition_point(|range| range.start < item);
            at[block]
        };
        for pc in start..end {
            let Op::Control(op) = &mut self.program.code[pc as usize].op else { continue };
            match op {
                control::Op::Branch { target, spins } => {
                    *target = label(*target);
                    *spins = *target <= pc
                        && self.watches[*target as usize..=pc as usize].iter().any(|watches| *watches);
                }
                control::Op::Goto { target } => {
                    *target = at[*target as usize];
                    // A loop may be closed by what was the order of the text.
                    if *target <= pc {
                        let spins =
                            self.watches[*target as usize..=pc as usize].iter().any(|watches| *watches);
                        *op = control::Op::Branch { target: *target, spins };
                    }
                }
                control::Op::Table(table) => {
                    table.targets.iter_mut().for_each(|target| *target = label(*target));
                }
                _ => {}
            }
        }
        let function = &mut self.program.functions[routine.index];
        function.start = start;
        function.end = end;
        function.params.clone_from(&routine.params);
        function.returns.clone_from(&routine.returns);
        Ok(())
    }

    fn here(&self) -> u32 {
        self.program.code.len() as u32
    }

    fn item(&mut self, routine: &Routine<'_, 'a>, item: &Item<'_, 'a>) -> Result<()> {
        let inst = item.inst;
        self.target.map_or(Ok(()), |target| target.allows(inst))?;
        self.bind(item)?;
        let guard = match inst.guard {
            None => Guard::Always,
            Some((name, negated)) => match self.decoder.lookup(name) {
                Some(Symbol::Predicate(index)) if negated => Guard::Unless(*index),
                Some(Symbol::Predicate(index)) => Guard::If(*index),
                _ => return Err(Error::invalid(inst.line, format!("the guard {name} is no predicate"))),
            },
        };
        if inst.opcode != "mov" {
            self.special_registers(item, guard);
        }
        let (op, meet, class, then) = match calls::decode(self.unit, routine, item, &mut self.decoder)? {
            Some(flow) => (Op::Control(flow.op), Meet::Nobody, flow.class, flow.then),
            None => match exec::decode(inst, &mut self.decoder)? {
                Some(decoded) => (decoded.op, decoded.meet, decoded.class, None),
                None => {
                    return Err(Error::unsupported(inst.line, format!("{inst}: it is not known here")));
                }
            },
        };
        self.program.code.push(Inst { op, guard, meet, class, line: inst.line, source: inst.source });
        let text = format!("{inst};");
        let named = self.decoder.scopes[0].values().filter_map(|symbol| match symbol {
            Symbol::Register(slot, ty) => Some(*slot..*slot + ty.slots()),
            _ => None,
        });
        let registers = named.flatten().collect();
        self.program.details.push(Detail { text, implied: false, changes: calls::changes(inst), registers });
        self.watches.push(calls::watches(item));
        if let Some(op) = then {
            self.imply(Op::Control(op), guard, inst.line);
        }
        Ok(())
    }

    /// An instruction that does not stand in the text.
    fn imply(&mut self, op: Op, guard: Guard, line: u32) {
        self.program.code.push(Inst {
            op,
            guard,
            meet: Meet::Nobody,
            class: Class::Control,
            line,
            source: None,
        });
        self.program.details.push(Detail { implied: true, ..Detail::default() });
        self.watches.push(false);
    }

    /// Makes the decoder know the names of an instruction.
    fn bind(&mut self, item: &Item<'_, 'a>) -> Result<()> {
        let mut scope = std::mem::take(&mut self.decoder.scopes[0]);
        scope.clear();
        for (name, entity) in &item.names {
            let symbol = match *entity {
                Entity::Register(number) => self.register(number),
                Entity::Variable { space, address, .. } => Symbol::Variable(space, address),
                Entity::Dynamic => Symbol::Variable(Space::Shared, self.dynamic),
                Entity::Function(index) => Symbol::Function(index as u32),
                Entity::Label(_) | Entity::Targets(_) | Entity::Prototype(_) => continue,
            };
            scope.insert(*name, symbol);
        }
        self.decoder.scopes[0] = scope;
        Ok(())
    }

    fn register(&mut self, number: usize) -> Symbol {
        let ty = self.unit.registers[number];
        let decoder = &mut self.decoder;
        let place = *self.places[number].get_or_insert_with(|| {
            if ty == Type::Pred {
                decoder.predicates += 1;
                decoder.predicates - 1
            } else {
                decoder.fresh(ty.slots())
            }
        });
        if ty == Type::Pred { Symbol::Predicate(place) } else { Symbol::Register(place, ty) }
    }

    /// Only mov reads special registers by itself: elsewhere one stands for a register that is set before.
    fn special_registers(&mut self, item: &Item<'_, 'a>, guard: Guard) {
        for (name, sreg) in &item.sregs {
            let sreg: Sreg = *sreg;
            let (op, symbol) = if sreg.ty() == Type::Pred {
                let dst = self.decoder.predicates;
                self.decoder.predicates += 1;
                (moves::Op::SpecialPredicate { dst, sreg }, Symbol::Predicate(dst))
            } else {
                let dst: Slot = self.decoder.fresh(sreg.ty().slots());
                (moves::Op::Special { dst, sreg }, Symbol::Register(dst, sreg.ty()))
            };
            self.imply(Op::Moves(op), guard, item.inst.line);
            self.decoder.scopes[0].insert(*name, symbol);
        }
    }
}
