//! Functions: arguments, results, frames, addresses.

use wikigpt_emulator::fault::FaultKind;
use wikigpt_emulator::program::Class;
use wikigpt_emulator::ptx::ErrorKind;

use crate::rig::Kernel;

const DOUBLE: &str = "
.func (.param .b32 func_retval0) twice(.param .b32 twice_param_0)
{
    .reg .b32 %r<3>;
    ld.param.u32 %r1, [twice_param_0];
    add.u32 %r2, %r1, %r1;
    st.param.b32 [func_retval0+0], %r2;
    ret;
}";

fn call(function: &str, from: &str, to: &str) -> String {
    format!(
        "{{ .param .b32 param0; st.param.b32 [param0+0], {from}; .param .b32 retval0;
            call.uni (retval0), {function}, (param0);
            ld.param.b32 {to}, [retval0+0]; }}"
    )
}

#[test]
fn a_function_takes_arguments_and_returns_a_result() {
    let body = format!(
        "{} {} st.global.u32 [%own], %r2;",
        call("twice", "%tid", "%r1"),
        call("twice", "%r1", "%r2")
    );
    let run = Kernel::module(DOUBLE, &body).run();
    for at in 0..32 {
        assert_eq!(run.words[at as usize], 4 * at);
    }
}

#[test]
fn functions_call_functions_and_pass_arrays() {
    let before = format!(
        "{DOUBLE}
        .func (.param .align 8 .b8 func_retval0[16]) pair(.param .align 8 .b8 pair_param_0[16], .param .b32 pair_param_1)
        {{
            .reg .b32 %r<8>; .reg .b64 %d<4>;
            ld.param.u64 %d1, [pair_param_0];
            ld.param.u64 %d2, [pair_param_0+8];
            ld.param.u32 %r1, [pair_param_1];
            {}
            cvt.u64.u32 %d3, %r2;
            add.u64 %d1, %d1, %d3;
            st.param.b64 [func_retval0+0], %d2;
            st.param.b64 [func_retval0+8], %d1;
            ret;
        }}",
        call("twice", "%r1", "%r2")
    );
    let body = "
        cvt.u64.u32 %d1, %tid; add.u64 %d2, %d1, 1000;
        { .param .align 8 .b8 param0[16]; st.param.b64 [param0+0], %d1; st.param.b64 [param0+8], %d2;
          .param .b32 param1; st.param.b32 [param1+0], %tid;
          .param .align 8 .b8 retval0[16];
          call.uni (retval0), pair, (param0, param1);
          ld.param.b64 %d3, [retval0+0]; ld.param.b64 %d4, [retval0+8]; }
        cvt.u32.u64 %r1, %d3; cvt.u32.u64 %r2, %d4;
        st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r2;";
    let run = Kernel::module(&before, body).run();
    for at in 0..32 {
        assert_eq!((run.words[at as usize], run.words[at as usize + 256]), (at + 1000, 3 * at));
    }
}

#[test]
fn lanes_that_return_early_wait_for_those_still_in_the_function() {
    let before = "
        .func (.param .b32 func_retval0) steps(.param .b32 steps_param_0)
        {
            .reg .pred %p<2>; .reg .b32 %r<4>;
            ld.param.u32 %r1, [steps_param_0];
            mov.u32 %r2, 0;
            setp.lt.u32 %p1, %r1, 8;
            @!%p1 bra LOOP;
            st.param.b32 [func_retval0+0], 77;
            ret;
        LOOP:
            add.u32 %r2, %r2, 3;
            sub.u32 %r1, %r1, 1;
            setp.ne.u32 %p1, %r1, 0;
            @%p1 bra LOOP;
            st.param.b32 [func_retval0+0], %r2;
            ret;
        }";
    // Half of the lanes call from one place, half from another; the tail runs once.
    let body = format!(
        "and.b32 %r2, %tid, 1; setp.ne.u32 %p0, %r2, 0;
         @%p0 bra ODD;
         {}
         bra JOIN;
       ODD:
         {} add.u32 %r1, %r1, 10000;
       JOIN:
         add.f64 %w0, %w0, %w0;
         st.global.u32 [%own], %r1;",
        call("steps", "%tid", "%r1"),
        call("steps", "%tid", "%r1")
    );
    let run = Kernel::module(before, &body).run();
    for at in 0..32 {
        let steps = if at < 8 { 77 } else { 3 * at };
        assert_eq!(run.words[at as usize], steps + 10000 * (at % 2));
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (1, 32));
}

const TABLE: &str = "
.func (.param .b32 func_retval0) plus(.param .b32 plus_param_0)
{ .reg .b32 %r<3>; ld.param.u32 %r1, [plus_param_0]; add.u32 %r2, %r1, 1; st.param.b32 [func_retval0+0], %r2; ret; }
.func (.param .b32 func_retval0) times(.param .b32 times_param_0)
{ .reg .b32 %r<3>; ld.param.u32 %r1, [times_param_0]; mul.lo.u32 %r2, %r1, 5; st.param.b32 [func_retval0+0], %r2; ret; }
.global .align 8 .u64 table[2] = {plus, times};";

#[test]
fn each_lane_calls_the_function_whose_address_it_has() {
    let call = "{ .param .b32 param0; st.param.b32 [param0+0], %tid; .param .b32 retval0;
        prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);
        call (retval0), %d3, (param0), prototype_0;
        ld.param.b32 %r1, [retval0+0]; }
        add.f64 %w0, %w0, %w0;
        st.global.u32 [%own], %r1;";
    // Addresses from a table in memory.
    let from_table = format!(
        "and.b32 %r2, %tid, 1; mul.wide.u32 %d1, %r2, 8; mov.u64 %d2, table; add.u64 %d2, %d2, %d1;
         ld.global.u64 %d3, [%d2]; {call}"
    );
    // Addresses by mov.
    let by_mov = format!(
        "and.b32 %r2, %tid, 1; setp.eq.u32 %p0, %r2, 0; mov.u64 %d1, plus; mov.u64 %d2, times;
         selp.b64 %d3, %d1, %d2, %p0; {call}"
    );
    for body in [from_table, by_mov] {
        let run = Kernel::module(TABLE, &body).run();
        for at in 0..32 {
            assert_eq!(run.words[at as usize], if at % 2 == 0 { at + 1 } else { 5 * at });
        }
        assert_eq!(run.warps(Class::Double), 1);
    }
}

#[test]
fn calls_of_what_is_no_function_are_faults() {
    let call = |address: &str, prototype: &str| {
        format!(
            "{{ .param .b32 param0; st.param.b32 [param0+0], %tid; .param .b32 retval0;
                {prototype}
                mov.u64 %d3, {address};
                call (retval0), %d3, (param0), prototype_0; }}"
        )
    };
    let any = "prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);";
    let report = Kernel::module(TABLE, &call("0", any)).fault();
    assert_eq!(report.fault.kind, FaultKind::Address);
    let named = "prototype_0 : .calltargets times;";
    let report = Kernel::module(TABLE, &call("plus", named)).fault();
    assert_eq!(report.fault.message, "call of plus, which its .calltargets does not name");
    let wide = TABLE.replace(".param .b32 plus_param_0", ".param .b64 plus_param_0");
    let report = Kernel::module(&wide, &call("plus", any)).fault();
    assert_eq!(report.fault.message, "call of plus with another function's prototype");
}

#[test]
fn recursion_is_refused() {
    let before = ".func f(); .func g() { call.uni f; ret; } .func f() { call.uni g; ret; }";
    let error = Kernel::module(before, "call.uni f;").refused();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("calls itself: recursion is not emulated"), "{error}");
    // Through an address, it is seen when it happens.
    let before = "
        .func f()
        { .reg .b64 %d<2>;
          mov.u64 %d1, f;
          prototype_0 : .callprototype _ ();
          call %d1, prototype_0;
          ret; }";
    let report = Kernel::module(before, "call.uni f;").fault();
    assert_eq!(report.fault.message, "f calls itself: recursion is not emulated");
}

#[test]
fn functions_that_cannot_be_reached_are_not_looked_at() {
    let before = format!("{DOUBLE} .func unknown() {{ frobnicate.u32; ret; }}");
    let run =
        Kernel::module(&before, &format!("{} st.global.u32 [%own], %r1;", call("twice", "%tid", "%r1")))
            .run();
    assert_eq!(run.words[3], 6);
    let error = Kernel::module(&before, "call.uni unknown;").refused();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("frobnicate"), "{error}");
}

#[test]
fn functions_without_a_body_are_refused() {
    let error = Kernel::module(".extern .func elsewhere();", "call.uni elsewhere;").refused();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("elsewhere, which the module declares and does not define"), "{error}");
}
