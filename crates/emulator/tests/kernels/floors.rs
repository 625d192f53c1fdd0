//! Instructions that a module's target does not have: refused where `ptxas` refuses them, and nowhere else.

use wikigpt_emulator::program::check_instructions;
use wikigpt_emulator::ptx::{ErrorKind, parse};

use crate::rig::Kernel;

/// In the order of what they have; `tools/emulator/floors.py` asks `ptxas` about the same ones.
const TARGETS: [&str; 7] = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"];

fn text(target: &str, directives: &str, form: &str) -> String {
    format!(
        ".version 8.8\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 k_param_0) {directives}\n{{
         .reg .pred %p<8>; .reg .b8 %b<4>; .reg .b16 %h<16>; .reg .b32 %r<64>; .reg .b64 %d<32>; .reg .b128 %q<4>;
         .reg .f32 %f<64>; .reg .f64 %w<16>;
         {form}
         ret;\n}}\n"
    )
}

/// Whether a text is refused for its target; the message has to name what it has and what it needs.
fn refused(text: &str, line: u32, target: &str, floor: &str) -> bool {
    let module = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let Err(error) = check_instructions(&module) else { return false };
    assert_eq!((error.kind, error.line), (ErrorKind::Invalid, line), "{error}");
    let needed = if floor == "none" { "sm_100" } else { floor };
    let tail = format!(" needs .target {needed}, and the module has {target}");
    assert!(error.message.ends_with(&tail), "{error} does not end with {tail:?}");
    true
}

#[test]
fn a_target_has_what_ptxas_assembles_for_it() {
    let mut forms = 0;
    for line in include_str!("floors.txt").lines() {
        let (floor, form) = line.split_once(" | ").expect("a target and a form");
        let least = TARGETS.iter().position(|target| *target == floor).unwrap_or(TARGETS.len());
        for (index, target) in TARGETS.into_iter().enumerate() {
            let refused = refused(&text(target, "", form), 8, target, floor);
            assert_eq!(refused, index < least, "{form} for {target}: ptxas says {floor}");
        }
        forms += 1;
    }
    assert!(forms > 300, "{forms}");
}

#[test]
fn directives_of_clusters_need_sm_90() {
    for directive in [".reqnctapercluster 2, 1, 1", ".explicitcluster", ".maxclusterrank 4"] {
        for target in TARGETS {
            assert_eq!(
                refused(&text(target, directive, ""), 4, target, "sm_90"),
                !target.starts_with("sm_90")
            );
        }
    }
}

#[test]
fn a_kernel_is_not_decoded_with_an_instruction_that_its_target_lacks() {
    for (target, form) in [
        ("sm_80", "add.rn.bf16 %h0, %h1, %h2;"),
        ("sm_80", "@%p0 mbarrier.try_wait.shared.b64 %p1, [%r0], %d0;"),
        ("sm_90", "{ wgmma.fence.sync.aligned; }"),
        ("sm_86", "mov.u32 %r0, %cluster_ctarank;"),
    ] {
        let error = Kernel::text(text(target, "", form)).refused();
        assert_eq!((error.kind, error.line), (ErrorKind::Invalid, 8), "{error}");
    }
}
