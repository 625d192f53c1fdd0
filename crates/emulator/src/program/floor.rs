//! Which target an instruction needs: a text for an older one is refused, as the compiler in a driver refuses it.
//!
//! The rules are what `ptxas` says of each form: `tests/kernels/floors.txt` is the list that was put to it. Targets below sm_70 are
//! not told apart from it.

use std::fmt;

use crate::ptx::ast::{Function, Instruction, Module, Operand, Statement};
use crate::ptx::{Error, Result};

/// A target: the number of `sm_90`, and whether it is `sm_90a`, for one architecture alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    number: u32,
    specific: bool,
}

const ANY: Target = sm(0);
const HOPPER: Target = Target { number: 90, specific: true };

const fn sm(number: u32) -> Target {
    Target { number, specific: false }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sm_{}{}", self.number, if self.specific { "a" } else { "" })
    }
}

impl Target {
    /// That of a module; `None` where it names none.
    pub(super) fn of(module: &Module) -> Option<Target> {
        let target = module.target.iter().find_map(|target| target.strip_prefix("sm_"))?;
        let digits = target.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        Some(Target { number: digits.parse().ok()?, specific: target.ends_with('a') })
    }

    /// Refuses an instruction that needs more.
    ///
    /// # Errors
    /// Invalid, naming the instruction and what it needs.
    pub(super) fn allows(self, inst: &Instruction) -> Result<()> {
        let needed = needed(inst);
        if needed <= self {
            return Ok(());
        }
        let mut name = inst.opcode.to_owned();
        for modifier in &inst.modifiers {
            name.push('.');
            name.push_str(modifier);
        }
        Err(Error::invalid(inst.line, format!("{name} needs .target {needed}, and the module has {self}")))
    }
}

/// Refuses a module with an instruction or a directive that its target does not have, reachable or not.
///
/// # Errors
/// Invalid, naming the first.
pub fn check_instructions(module: &Module) -> Result<()> {
    let Some(target) = Target::of(module) else { return Ok(()) };
    module.functions.iter().try_for_each(|function| {
        clusters(function, target)?;
        body(function.body.as_deref().unwrap_or_default(), target)
    })
}

fn body(statements: &[Statement], target: Target) -> Result<()> {
    statements.iter().try_for_each(|statement| match statement {
        Statement::Instruction(instruction) => target.allows(instruction),
        Statement::Block(inner) => body(inner, target),
        _ => Ok(()),
    })
}

fn clusters(function: &Function, target: Target) -> Result<()> {
    let limits = &function.limits;
    let directive = match () {
        () if limits.required_cluster.is_some() => ".reqnctapercluster",
        () if limits.explicit_cluster => ".explicitcluster",
        () if limits.max_cluster.is_some() => ".maxclusterrank",
        () => return Ok(()),
    };
    if sm(90) <= target {
        return Ok(());
    }
    let name = function.name;
    Err(Error::invalid(
        function.line,
        format!("{directive} of {name} needs .target sm_90, and the module has {target}"),
    ))
}

/// The least target that has an instruction.
fn needed(inst: &Instruction) -> Target {
    const BF16: [&str; 2] = ["bf16", "bf16x2"];
    const HALVES: [&str; 4] = ["f16", "f16x2", "bf16", "bf16x2"];
    let has = |names: &[&str]| inst.modifiers.iter().any(|modifier| names.contains(modifier));
    // The most that one of these asks for which hold.
    let most = |base: u32, rules: &[(bool, u32)]| {
        sm(rules.iter().filter(|(holds, _)| *holds).fold(base, |most, (_, number)| most.max(*number)))
    };
    let in_cluster = has(&["cluster", "shared::cluster"]);
    match inst.opcode {
        "mov" => special_registers(inst),
        "add" | "sub" | "mul" => {
            most(0, &[(has(&BF16), 90), (has(&["u16x2", "s16x2"]), 90), (has(&["f32x2"]), 100)])
        }
        "fma" => most(0, &[(has(&BF16), 80), (has(&["relu"]), 80), (has(&["f32x2"]), 100)]),
        "neg" | "abs" => most(0, &[(has(&BF16), 80)]),
        "min" | "max" => most(
            0,
            &[
                (has(&HALVES), 80),
                (has(&["NaN"]), 80),
                (has(&["xorsign"]), 86),
                (has(&["u16x2", "s16x2", "relu"]), 90),
                (inst.operands.len() > 3, 100),
            ],
        ),
        "tanh" => most(75, &[(has(&BF16), 90)]),
        "ex2" => most(0, &[(has(&HALVES), 75), (has(&BF16), 90)]),
        "set" | "setp" => most(0, &[(has(&BF16), 90)]),
        "cvt" => conversion(inst),
        "redux" => most(80, &[(has(&["f32"]), 100)]),
        "movmatrix" => sm(75),
        "ldmatrix" => most(75, &[(has(&["m16n16", "m8n16"]), 100)]),
        "stmatrix" => most(90, &[(has(&["m16n8"]), 100)]),
        "mma" => product(inst),
        "wmma" => {
            let integers = has(&["s8", "u8", "s4", "u4", "b1", "s32"]);
            most(0, &[(integers, 75), (has(&["bf16", "tf32", "f64"]), 80)])
        }
        "wgmma" | "setmaxnreg" => HOPPER,
        "tensormap" if has(&["replace"]) => HOPPER,
        "elect" | "mapa" | "getctarank" | "griddepcontrol" | "multimem" | "tensormap" => sm(90),
        "barrier" => most(0, &[(has(&["cluster"]), 90)]),
        "fence" => {
            let proxy = has(&["tensormap::generic", "async::generic"])
                || inst.modifiers.iter().any(|modifier| modifier.starts_with("async"));
            most(0, &[(in_cluster || proxy || has(&["mbarrier_init"]), 90)])
        }
        "isspacep" | "cvta" => most(0, &[(in_cluster, 90)]),
        "mbarrier" => {
            let counted = has(&["arrive", "arrive_drop"])
                && !has(&["noComplete", "expect_tx"])
                && inst.operands.len() > 2;
            let newer = has(&["try_wait", "expect_tx", "complete_tx", "relaxed"]);
            most(80, &[(counted || newer || in_cluster, 90)])
        }
        "cp" => most(80, &[(has(&["bulk", "reduce"]), 90)]),
        "ld" | "ldu" | "st" | "atom" | "red" => {
            let atomic = matches!(inst.opcode, "atom" | "red");
            let wide = !atomic && has(&["b64", "u64", "s64", "f64"]);
            let rules = [
                (in_cluster || has(&["async"]), 90),
                (atomic && (has(&BF16) || has(&["b128", "v2", "v4", "v8"])), 90),
                (has(&["L2::64B", "L2::128B"]), 75),
                (has(&["L2::cache_hint", "L2::256B"]), 80),
                (!atomic && has(&["v8"]) || wide && has(&["v4"]) || has(&["bulk"]), 100),
            ];
            most(0, &rules)
        }
        "createpolicy" | "applypriority" | "discard" => sm(80),
        "prefetch" => {
            most(0, &[(has(&["L2::evict_last", "L2::evict_normal"]), 80), (has(&["tensormap"]), 90)])
        }
        "clusterlaunchcontrol" | "tcgen05" => sm(100),
        _ => ANY,
    }
}

/// `mov` of a register that not every target has.
fn special_registers(inst: &Instruction) -> Target {
    inst.operands.iter().fold(ANY, |most, operand| {
        let Operand::Name(name, 0) = operand else { return most };
        let (name, _) = name.split_once('.').unwrap_or((name, ""));
        let needed = match name {
            "%clusterid"
            | "%nclusterid"
            | "%cluster_ctaid"
            | "%cluster_nctaid"
            | "%cluster_ctarank"
            | "%cluster_nctarank"
            | "%is_explicit_cluster"
            | "%aggr_smem_size" => sm(90),
            "%reserved_smem_offset_begin"
            | "%reserved_smem_offset_end"
            | "%reserved_smem_offset_cap"
            | "%reserved_smem_offset_0"
            | "%reserved_smem_offset_1" => sm(80),
            _ => ANY,
        };
        most.max(needed)
    })
}

fn conversion(inst: &Instruction) -> Target {
    let has = |names: &[&str]| inst.modifiers.iter().any(|modifier| names.contains(modifier));
    let tf32 = has(&["tf32"]);
    let rules = [
        (has(&["pack"]), 75),
        (has(&["relu", "bf16", "bf16x2", "f16x2", "tf32"]), 80),
        (has(&["e4m3x2", "e5m2x2"]), 89),
        // With f32 alone bf16 goes since it exists.
        (has(&["bf16"]) && !has(&["f32"]), 90),
        (tf32 && !has(&["rna"]), 90),
        (tf32 && has(&["satfinite"]) && !has(&["rna"]), 100),
        (has(&["e2m1x2", "e2m3x2", "e3m2x2", "ue8m0x2"]), 100),
    ];
    sm(rules.iter().filter(|(holds, _)| *holds).fold(0, |most, (_, number)| most.max(*number)))
}

/// `mma`, by what it multiplies and in which shape.
fn product(inst: &Instruction) -> Target {
    let has = |names: &[&str]| inst.modifiers.iter().any(|modifier| names.contains(modifier));
    sm(match () {
        () if has(&["kind::f8f6f4", "kind::mxf4", "kind::mxf8f6f4", "kind::mxf4nvf4"]) => 100,
        () if has(&["e4m3", "e5m2"]) => 89,
        () if has(&["f64"]) => {
            if has(&["m8n8k4"]) {
                80
            } else {
                90
            }
        }
        () if has(&["m8n8k4"]) => 0,
        () if has(&["m8n8k16", "m8n8k32"]) => 75,
        () if has(&["m8n8k128"]) && !has(&["and"]) => 75,
        () if has(&["m16n8k8"]) && !has(&["bf16", "tf32"]) => 75,
        () => 80,
    })
}
