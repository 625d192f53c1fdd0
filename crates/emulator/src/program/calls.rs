//! Branches and calls: what needs a function's labels and other functions' frames.

use super::resolve::{Item, Prototype, Routine, Unit};
use super::scope::Entity;
use super::{Class, Decoder, Piece, Slot};
use crate::exec::control::{Call, Indirect, Op, Table, Transfer};
use crate::exec::print::{Builtin, Function};
use crate::exec::sreg::Sreg;
use crate::program::Modifiers;
use crate::ptx::ast::{Instruction, Operand, Space};
use crate::ptx::{Error, Result, Type};

/// What control flow decodes to. Targets are labels and functions still.
#[derive(Debug)]
pub(super) struct Flow {
    pub op: Op,
    /// What follows the instruction without being in the text.
    pub then: Option<Op>,
    pub class: Class,
}

/// Decodes branches, calls and what ends threads; `None` for other opcodes.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode<'a>(
    unit: &Unit<'_, 'a>,
    routine: &Routine<'_, 'a>,
    item: &Item<'_, 'a>,
    decoder: &mut Decoder<'a>,
) -> Result<Option<Flow>> {
    let inst = item.inst;
    let mut modifiers = Modifiers::new(inst);
    let plain = |op| Some(Flow { op, then: None, class: Class::Control });
    let flow = match inst.opcode {
        "bra" => {
            modifiers.take("uni");
            modifiers.finish()?;
            decoder.expect(inst, 1..=1)?;
            plain(Op::Branch { target: label(item, &inst.operands[0])?, spins: false })
        }
        "brx" => {
            if !modifiers.take("idx") {
                return Err(modifiers.invalid("brx without .idx"));
            }
            modifiers.take("uni");
            modifiers.finish()?;
            decoder.expect(inst, 2..=2)?;
            let index = decoder.src(inst, &inst.operands[0], Type::U32)?;
            let Some(Entity::Targets(table)) = entity(item, &inst.operands[1]) else {
                return Err(modifiers.invalid("its second operand is no .branchtargets"));
            };
            let targets = routine.tables[table].iter().map(|label| *label as u32).collect();
            plain(Op::Table(Box::new(Table { index, targets })))
        }
        "call" => {
            modifiers.take("uni");
            modifiers.finish()?;
            Some(call(unit, routine, item, decoder)?)
        }
        "ret" => {
            modifiers.take("uni");
            nothing(inst, decoder, &modifiers)?;
            plain(if routine.function.entry { Op::Exit } else { Op::Return })
        }
        "exit" => {
            nothing(inst, decoder, &modifiers)?;
            plain(Op::Exit)
        }
        "trap" => {
            nothing(inst, decoder, &modifiers)?;
            plain(Op::Trap)
        }
        "brkpt" => {
            nothing(inst, decoder, &modifiers)?;
            plain(Op::Nothing)
        }
        "pmevent" => {
            modifiers.take("mask");
            modifiers.finish()?;
            decoder.expect(inst, 1..=1)?;
            plain(Op::Nothing)
        }
        "nanosleep" => {
            let ty = modifiers.ty()?;
            modifiers.finish()?;
            decoder.expect(inst, 1..=1)?;
            decoder.src(inst, &inst.operands[0], ty)?;
            plain(Op::Sleep)
        }
        _ => None,
    };
    Ok(flow)
}

fn nothing(inst: &Instruction, decoder: &Decoder, modifiers: &Modifiers) -> Result<()> {
    modifiers.finish()?;
    decoder.expect(inst, 0..=0)
}

fn entity(item: &Item, operand: &Operand) -> Option<Entity> {
    let Operand::Name(name, 0) = operand else { return None };
    item.names.iter().find(|(known, _)| known == name).map(|(_, entity)| *entity)
}

fn label(item: &Item, operand: &Operand) -> Result<u32> {
    match entity(item, operand) {
        Some(Entity::Label(label)) => Ok(label as u32),
        _ => Err(Error::invalid(item.inst.line, format!("{}: {operand:?} is no label", item.inst.opcode))),
    }
}

/// `call (results), function, (arguments), prototype;`, of which all but the function may be missing.
fn call<'a>(
    unit: &Unit<'_, 'a>,
    routine: &Routine<'_, 'a>,
    item: &Item<'_, 'a>,
    decoder: &mut Decoder<'a>,
) -> Result<Flow> {
    let inst = item.inst;
    let invalid = |message: &str| Error::invalid(inst.line, format!("call: {message}"));
    let mut operands = inst.operands.iter().peekable();
    let results = operands.next_if(|operand| matches!(operand, Operand::List(_)));
    let callee = operands.next().ok_or_else(|| invalid("of what?"))?;
    let arguments = operands.next_if(|operand| matches!(operand, Operand::List(_)));
    let prototype = operands.next();
    if operands.next().is_some() {
        return Err(invalid("too many operands"));
    }
    let results = pieces(item, results)?;
    let arguments = pieces(item, arguments)?;
    let class = Class::Control;
    if let Some(Entity::Function(index)) = entity(item, callee) {
        let Some(target) = unit.routines.iter().find(|routine| routine.index == index) else {
            return builtin(unit.name(index), arguments, results, inst);
        };
        let arguments = transfers(&arguments, &target.params)
            .ok_or_else(|| invalid("the arguments are not of the parameters' sizes"))?;
        let results = transfers(&target.returns, &results)
            .ok_or_else(|| invalid("the results are not of the function's sizes"))?;
        let then = (!results.is_empty()).then(|| Op::Results(Box::new(results)));
        let call = Call { target: index as u32, arguments };
        return Ok(Flow { op: Op::Call(Box::new(call)), then, class });
    }
    let pointer: Slot = decoder.src(inst, callee, Type::U64)?;
    let allowed = match prototype.map(|operand| entity(item, operand)) {
        Some(Some(Entity::Prototype(number))) => match &routine.prototypes[number] {
            Prototype::Signature => None,
            Prototype::Targets(targets) => Some(targets.iter().map(|index| *index as u32).collect()),
        },
        _ => return Err(invalid("an indirect call needs a prototype")),
    };
    let indirect = Indirect { pointer, callee: decoder.fresh(1), allowed, arguments, results };
    let then = (!indirect.results.is_empty()).then(|| Op::IndirectResults(Box::new(indirect.clone())));
    Ok(Flow { op: Op::Indirect(Box::new(indirect)), then, class })
}

/// Variables in the caller's frame.
fn pieces(item: &Item, operand: Option<&Operand>) -> Result<Vec<Piece>> {
    let Some(Operand::List(parts)) = operand else { return Ok(Vec::new()) };
    let piece = |part| match entity(item, part) {
        Some(Entity::Variable { space: Space::Local, address, size }) => {
            Ok(Piece { address: address as u32, size })
        }
        _ => {
            let message = format!("call: {part:?} is no .param variable of the caller");
            Err(Error::unsupported(item.inst.line, message))
        }
    };
    parts.iter().map(piece).collect()
}

fn transfers(from: &[Piece], to: &[Piece]) -> Option<Vec<Transfer>> {
    let same = from.len() == to.len() && from.iter().zip(to).all(|(from, to)| from.size == to.size);
    let transfer =
        |(from, to): (&Piece, &Piece)| Transfer { from: from.address, to: to.address, size: to.size };
    same.then(|| from.iter().zip(to).map(transfer).collect())
}

fn builtin(name: &str, arguments: Vec<Piece>, results: Vec<Piece>, inst: &Instruction) -> Result<Flow> {
    let Some((function, params, returns)) = Function::parse(name) else {
        let message = format!("call of {name}, which the module declares and does not define");
        return Err(Error::invalid(inst.line, message));
    };
    let sizes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.size).collect::<Vec<_>>();
    if sizes(&arguments) != params || !(results.is_empty() || sizes(&results) == returns) {
        let message = format!("call of {name} with parameters that are not its own");
        return Err(Error::invalid(inst.line, message));
    }
    let op = Op::Builtin(Box::new(Builtin { function, arguments, results }));
    Ok(Flow { op, then: None, class: Class::Control })
}

/// Whether a thread may see in an instruction what another has changed: a loop around it may be one that waits.
pub(super) fn watches(item: &Item) -> bool {
    const STRONG: [&str; 4] = ["volatile", "relaxed", "acquire", "mmio"];
    let inst = item.inst;
    let has = |names: &[&str]| inst.modifiers.iter().any(|modifier| names.contains(modifier));
    match inst.opcode {
        "ld" => has(&STRONG),
        "atom" | "nanosleep" | "call" | "activemask" => true,
        "mbarrier" => has(&["test_wait", "try_wait"]),
        _ => item.sregs.iter().any(|(_, sreg): &(_, Sreg)| sreg.runs()),
    }
}

/// Whether an instruction changes what others can see.
pub(super) fn changes(inst: &Instruction) -> bool {
    match inst.opcode {
        "st" | "red" | "stmatrix" | "bar" | "barrier" | "cp" | "wgmma" | "call" => true,
        "mbarrier" => !inst.modifiers.iter().any(|name| ["test_wait", "try_wait"].contains(name)),
        _ => false,
    }
}
