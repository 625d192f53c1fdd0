//! printf, assert, malloc and free, trap.

use wikigpt_emulator::fault::FaultKind;

use crate::rig::Kernel;

/// A module with printf and a format, and its call with the words and double words stored at `%SP`.
fn printf(format: &str, stores: &str) -> Kernel {
    let bytes: Vec<String> = format.bytes().chain([0]).map(|byte| byte.to_string()).collect();
    let before = format!(
        ".extern .func (.param .b32 func_retval0) vprintf(.param .b64 vprintf_param_0, .param .b64 vprintf_param_1);
         .global .align 1 .b8 $str[{}] = {{{}}};
         .global .align 1 .b8 $word[6] = {{104, 101, 108, 108, 111, 0}};",
        bytes.len(),
        bytes.join(", ")
    );
    let body = format!(
        ".local .align 16 .b8 depot[64]; .reg .b64 %SP, %SPL;
         mov.u64 %SPL, depot; cvta.local.u64 %SP, %SPL;
         setp.ne.u32 %p0, %tid, 3; @%p0 exit;
         {stores}
         mov.u64 %d1, $str; cvta.global.u64 %d2, %d1;
         {{ .param .b64 param0; st.param.b64 [param0+0], %d2; .param .b64 param1; st.param.b64 [param1+0], %SP;
            .param .b32 retval0; call.uni (retval0), vprintf, (param0, param1); ld.param.b32 %r1, [retval0+0]; }}
         st.global.u32 [%out], %r1;"
    );
    Kernel::module(&before, &body)
}

#[test]
fn printf_formats_as_c_does() {
    let run = printf(
        "%d %5u|%-4x|%c %s %8.3f %g %lld %p %% %hhd %i\n",
        "st.local.u32 [%SPL], -7; st.local.u32 [%SPL+4], 42; st.local.u32 [%SPL+8], 0xab; st.local.u32 [%SPL+12], 65;
         mov.u64 %d3, $word; cvta.global.u64 %d3, %d3; st.local.u64 [%SPL+16], %d3;
         st.local.u64 [%SPL+24], 0xC00921FB54442D18; st.local.u64 [%SPL+32], 0x3FB999999999999A;
         st.local.u64 [%SPL+40], -5000000000; st.local.u64 [%SPL+48], 0x7300;
         st.local.u32 [%SPL+56], 0x1ff; st.local.u32 [%SPL+60], 6;",
    )
    .run();
    assert_eq!(run.printed, "-7    42|ab  |A hello   -3.142 0.1 -5000000000 0x7300 % -1 6\n");
    // The number of arguments.
    assert_eq!(run.words[0], 11);
}

#[test]
fn printf_takes_widths_from_its_arguments() {
    let run = printf(
        "[%*d][%-*d][%.*f][%.2s]",
        "st.local.u32 [%SPL], 5; st.local.u32 [%SPL+4], 1; st.local.u32 [%SPL+8], 4; st.local.u32 [%SPL+12], 2;
         st.local.u32 [%SPL+16], 1; st.local.u64 [%SPL+24], 0x4002000000000000;
         mov.u64 %d3, $word; cvta.global.u64 %d3, %d3; st.local.u64 [%SPL+32], %d3;",
    )
    .run();
    assert_eq!(run.printed, "[    1][2   ][2.2][he]");
}

#[test]
fn printf_prints_once_a_thread_in_the_order_of_the_blocks_that_run() {
    let run = printf("x\n", "").grid(3).run();
    assert_eq!(run.printed, "x\nx\nx\n");
}

#[test]
fn a_failed_assertion_names_its_text_and_thread() {
    let text = |name: &str, text: &str| {
        let bytes: Vec<String> = text.bytes().chain([0]).map(|byte| byte.to_string()).collect();
        format!(".global .align 1 .b8 {name}[{}] = {{{}}};\n", bytes.len(), bytes.join(", "))
    };
    let before = format!(
        ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e) .noreturn;
         {}{}{}",
        text("$msg", "x < 5"),
        text("$file", "k.cu"),
        text("$func", "void k()")
    );
    let report = Kernel::module(
        &before,
        "setp.lt.u32 %p0, %tid, 5; @%p0 bra FINE;
         mov.u64 %d1, $msg; mov.u64 %d2, $file; mov.u64 %d3, $func;
         { .param .b64 param0; st.param.b64 [param0+0], %d1; .param .b64 param1; st.param.b64 [param1+0], %d2;
           .param .b32 param2; st.param.b32 [param2+0], 12; .param .b64 param3; st.param.b64 [param3+0], %d3;
           .param .b64 param4; st.param.b64 [param4+0], 1;
           call.uni __assertfail, (param0, param1, param2, param3, param4); }
       FINE:",
    )
    .threads([8, 4, 1])
    .fault();
    assert_eq!(
        (report.fault.kind, report.fault.message.as_str()),
        (FaultKind::Assert, "assertion `x < 5` failed")
    );
    assert_eq!(report.place.thread, [5, 0, 0]);
}

const HEAP: &str = ".extern .func (.param .b64 func_retval0) malloc(.param .b64 malloc_param_0);
    .extern .func free(.param .b64 free_param_0);";

fn free(pointer: &str) -> String {
    format!("{{ .param .b64 param0; st.param.b64 [param0+0], {pointer}; call.uni free, (param0); }}")
}

const MALLOC: &str = "{ .param .b64 param0; st.param.b64 [param0+0], 64; .param .b64 retval0;
    call.uni (retval0), malloc, (param0); ld.param.b64 %d1, [retval0+0]; }";

#[test]
fn malloc_gives_each_thread_memory_of_its_own() {
    let body = format!(
        "{MALLOC} st.global.u32 [%d1+60], %tid; ld.global.u32 %r1, [%d1+60]; st.global.u32 [%own], %r1;
         {} mov.u64 %d1, 0; {}",
        free("%d1"),
        free("%d1")
    );
    let run = Kernel::module(HEAP, &body).run();
    assert_eq!(run.words[..32], (0..32).collect::<Vec<u32>>());
}

#[test]
fn free_of_what_malloc_did_not_give_is_a_fault() {
    let twice = format!("{MALLOC} {} {}", free("%d1"), free("%d1"));
    let report = Kernel::module(HEAP, &twice).threads(1).fault();
    assert_eq!(report.fault.kind, FaultKind::UseAfterFree);
    let report = Kernel::module(HEAP, &free("12345")).threads(1).fault();
    assert_eq!(report.fault.kind, FaultKind::Address);
}

#[test]
fn a_trap_stops_the_launch_and_says_where() {
    let report = Kernel::text(
        ".version 8.0\n.target sm_80\n.address_size 64\n.file 1 \"dir/k.cu\"\n.visible .entry k(.param .u64 a)\n{\n\
         .reg .pred %p, %q; .reg .b32 %r, %s;\nmov.u32 %r, %tid.x;\nmov.u32 %s, %tid.y;\nsetp.eq.u32 %q, %s, 2;\n\
         setp.eq.and.u32 %p, %r, 5, %q;\n.loc 1 55 3\n@%p trap;\nret;\n}\n"
            .to_owned(),
    )
    .grid([1, 2, 1])
    .threads([8, 4, 2])
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Trap);
    assert_eq!(
        report.to_string(),
        "trap in kernel k, block (0,0,0), thread (5,2,0), PTX line 13: @%p trap; [dir/k.cu:55]"
    );
}
