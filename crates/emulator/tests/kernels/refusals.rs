//! Modules that a device cannot run, and names that nothing stands for.

use wikigpt_emulator::ptx::ErrorKind;

use crate::rig::Kernel;

fn target(target: &str) -> Kernel {
    Kernel::text(format!(
        ".version 8.0\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 k_param_0)\n{{ ret; }}\n"
    ))
}

#[test]
fn modules_run_on_their_architecture_and_newer_ones() {
    for (module, device) in [
        ("sm_52", "sm_80"),
        ("sm_80", "sm_80"),
        ("sm_80", "sm_86"),
        ("sm_80", "sm_90a"),
        ("sm_90", "sm_90a"),
        ("sm_90a", "sm_90a"),
        ("sm_90a, debug", "sm_90a"),
    ] {
        target(module).on(device).run();
    }
}

#[test]
fn modules_for_newer_or_other_architectures_are_refused() {
    for (module, device) in [
        ("sm_86", "sm_80"),
        ("sm_90", "sm_86"),
        ("sm_90a", "sm_80"),
        ("sm_100", "sm_90a"),
        ("sm_100a", "sm_90a"),
    ] {
        let error = target(module).on(device).refused();
        assert_eq!(error.kind, ErrorKind::Target, "{error}");
        assert!(error.message.contains(&format!(".target {module} does not run on")), "{error}");
    }
}

#[test]
fn names_that_are_not_declared_or_declared_twice_are_refused() {
    for (body, message) in [
        ("add.u32 %r1, %r2, %nosuch;", "%nosuch is not declared"),
        ("add.u32 %r1, %r2, %r64;", "%r64 is not declared"),
        ("add.u32 %r1, %r2, %r01;", "%r01 is not declared"),
        ("bra NOWHERE;", "NOWHERE"),
        ("L: L: bra L;", "L is declared twice"),
        (".reg .b32 %x; .reg .b64 %x;", "%x is declared twice"),
        ("{ .reg .b32 %x; L: } add.u32 %x, %x, %x;", "%x is not declared"),
        ("{ L: } bra L;", "L"),
        ("@%r1 bra END; END:", "the guard %r1 is no predicate"),
        ("call.uni nosuch;", "nosuch"),
        ("mov.u64 %d1, nosuch;", "nosuch is not declared"),
    ] {
        let error = Kernel::new(body).refused();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.message.contains(message), "{body}: {error}");
    }
}

#[test]
fn there_must_be_a_kernel_of_that_name() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry other() { ret; }\n.func k() { ret; }\n";
    let error = Kernel::text(text.to_owned()).refused();
    assert_eq!(error.message, "there is no kernel k");
}

#[test]
fn unknown_instructions_are_refused_by_name_and_line() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a)\n{\nfrobnicate.u32;\nret;\n}\n";
    let error = Kernel::text(text.to_owned()).refused();
    assert_eq!((error.kind, error.line), (ErrorKind::Unsupported, 6));
    assert!(error.message.contains("frobnicate.u32"), "{error}");
}
