//! Branches: every path computes what it should, and lanes that parted meet again where their paths do. An addition of f64
//! in the common tail counts how often a warp ran it.

use wikigpt_emulator::program::Class;

use crate::rig::Kernel;

const TAIL: &str = "add.f64 %w0, %w0, %w0; st.global.u32 [%own], %r1;";

#[test]
fn both_arms_of_a_branch_run_and_join() {
    let run = Kernel::new(&format!(
        "and.b32 %r2, %tid, 1; setp.ne.u32 %p0, %r2, 0;
         @%p0 bra ODD;
         mul.lo.u32 %r1, %tid, 10;
         bra.uni JOIN;
       ODD:
         add.u32 %r1, %tid, 1000;
       JOIN:
         {TAIL}"
    ))
    .run();
    for at in 0..32 {
        assert_eq!(run.words[at as usize], if at % 2 == 1 { at + 1000 } else { at * 10 });
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (1, 32));
}

#[test]
fn lanes_join_whatever_the_order_of_the_text() {
    let run = Kernel::new(&format!(
        "and.b32 %r2, %tid, 3; setp.eq.u32 %p0, %r2, 0; setp.eq.u32 %p1, %r2, 1;
         bra START;
       JOIN:
         {TAIL}
         bra END;
       ONE:
         mov.u32 %r1, 11;
         bra JOIN;
       START:
         @%p0 bra ZERO;
         @%p1 bra ONE;
         mov.u32 %r1, 12;
         bra JOIN;
       ZERO:
         mov.u32 %r1, 10;
         bra JOIN;
       END:"
    ))
    .threads(64)
    .run();
    for at in 0..64 {
        assert_eq!(run.words[at], [10, 11, 12, 12][at % 4]);
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (2, 64));
}

#[test]
fn lanes_that_leave_a_loop_wait_for_the_others() {
    let run = Kernel::new(&format!(
        "mov.u32 %r1, 0; mov.u32 %r2, 0;
       LOOP:
         add.u32 %r1, %r1, %r2;
         add.u32 %r2, %r2, 1;
         setp.le.u32 %p0, %r2, %tid;
         @%p0 bra LOOP;
         {TAIL}"
    ))
    .run();
    for at in 0..32 {
        assert_eq!(run.words[at as usize], at * (at + 1) / 2);
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (1, 32));
    // The loop's branch runs as often as the slowest lane needs, and for those lanes that jump; ret comes on top.
    assert_eq!((run.warps(Class::Control), run.lanes(Class::Control)), (32 + 1, 32 * 31 / 2 + 32));
}

#[test]
fn loops_nest_with_exits_from_their_middle() {
    // for i in 0..tid % 5 + 1 { for j in 0.. { if i * j > tid { break } if j == 7 { continue outer } n += 1 } n += 100 }
    let run = Kernel::new(&format!(
        "mov.u32 %r1, 0; mov.u32 %r2, 0; rem.u32 %r5, %tid, 5;
       OUTER:
         mov.u32 %r3, 0;
       INNER:
         mul.lo.u32 %r4, %r2, %r3;
         setp.gt.u32 %p0, %r4, %tid;
         @%p0 bra BREAK;
         setp.eq.u32 %p1, %r3, 7;
         @%p1 bra CONTINUE;
         add.u32 %r1, %r1, 1;
         add.u32 %r3, %r3, 1;
         bra INNER;
       BREAK:
         add.u32 %r1, %r1, 100;
       CONTINUE:
         add.u32 %r2, %r2, 1;
         setp.le.u32 %p2, %r2, %r5;
         @%p2 bra OUTER;
         {TAIL}"
    ))
    .run();
    for at in 0..32u32 {
        let mut n = 0;
        'outer: for i in 0..=at % 5 {
            for j in 0.. {
                if i * j > at {
                    break;
                }
                if j == 7 {
                    continue 'outer;
                }
                n += 1;
            }
            n += 100;
        }
        assert_eq!(run.words[at as usize], n, "thread {at}");
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (1, 32));
}

#[test]
fn a_branch_table_sends_each_lane_where_its_index_says() {
    let run = Kernel::new(&format!(
        "and.b32 %r2, %tid, 3;
         table: .branchtargets A, B, C, B;
         brx.idx %r2, table;
       C: mov.u32 %r1, 300; bra JOIN;
       A: mov.u32 %r1, 100; bra JOIN;
       B: mov.u32 %r1, 200;
       JOIN: {TAIL}"
    ))
    .run();
    for at in 0..32 {
        assert_eq!(run.words[at], [100, 200, 300, 200][at % 4]);
    }
    assert_eq!(run.warps(Class::Double), 1);
}

#[test]
fn a_branch_table_has_no_entry_past_its_end() {
    let report = Kernel::new(
        "table: .branchtargets A, B;
         brx.idx %tid, table;
       A: mov.u32 %r1, 1;
       B: mov.u32 %r1, 2;",
    )
    .fault();
    assert_eq!(report.fault.message, "brx.idx with index 2 into a table of 2");
    assert_eq!(report.place.thread, [2, 0, 0]);
}

#[test]
fn lanes_exit_one_by_one_and_a_last_warp_may_be_short() {
    let run = Kernel::new(&format!(
        "setp.lt.u32 %p0, %tid, 5;
         @%p0 exit;
         mov.u32 %r1, 7;
         setp.eq.u32 %p1, %tid, 40;
         @!%p1 bra NEXT;
         ret;
       NEXT:
         {TAIL}"
    ))
    .threads(50)
    .run();
    for at in 0..64 {
        assert_eq!(run.words[at], u32::from((5..50).contains(&at) && at != 40) * 7, "thread {at}");
    }
    assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (2, 50 - 5 - 1));
}

#[test]
fn scopes_shadow_registers_and_labels() {
    let run = Kernel::new(
        "mov.u32 %r1, 5;
         setp.lt.u32 %p1, %tid, 16;
         {
           .reg .pred %p1; .reg .b32 %r1;
           setp.ge.u32 %p1, %tid, 16;
           mov.u32 %r1, 100;
           @%p1 bra L;
           add.u32 %r1, %r1, 1;
         L:
           st.global.u32 [%own], %r1;
         }
         {
           @!%p1 bra L;
           add.u32 %r1, %r1, 1;
         L:
           st.global.u32 [%own+1024], %r1;
         }",
    )
    .run();
    for at in 0..32 {
        assert_eq!(run.words[at], if at >= 16 { 100 } else { 101 });
        assert_eq!(run.words[at + 256], if at < 16 { 6 } else { 5 });
    }
}

#[test]
fn a_guard_that_holds_for_no_lane_skips_a_branch() {
    let run = Kernel::new(
        "setp.gt.u32 %p0, %tid, 100; mov.u32 %r1, 1;
         @%p0 bra SKIP;
         mov.u32 %r1, 2;
       SKIP: st.global.u32 [%own], %r1;",
    )
    .run();
    assert_eq!(run.words[..32], [2; 32]);
}

#[test]
fn what_the_order_of_the_text_implies_is_not_counted() {
    // The block behind the loop stands before it in the text: a jump has to be made up, which is no instruction.
    let run = Kernel::new(
        "mov.u32 %r1, 0; bra LOOP;
       END:
         st.global.u32 [%own], %r1;
         exit;
       LOOP:
         add.u32 %r1, %r1, 1;
         setp.ge.u32 %p0, %r1, 3;
         @%p0 bra END;
         bra LOOP;",
    )
    .run();
    assert_eq!(run.words[..32], [3; 32]);
    // bra LOOP; 3 × @%p0 bra END; 2 × bra LOOP; exit
    assert_eq!(run.warps(Class::Control), 1 + 3 + 2 + 1);
}

#[test]
fn registers_that_are_not_live_together_share_rows() {
    use wikigpt_emulator::device::Device;
    use wikigpt_emulator::program::Program;
    use wikigpt_emulator::ptx::parse;
    // A chain of a thousand values, each needed for the next alone, beside one that is needed all the time.
    let mut body = "mov.u32 %r0, 1; mov.u32 %keep, 5;\n".to_owned();
    for at in 1..1000 {
        body.push_str(&format!("add.u32 %r{at}, %r{}, 1;\n", at - 1));
    }
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{
         .reg .b32 %r<1000>, %keep; .reg .b64 %d;
         {body} ld.param.u64 %d, [out]; add.u32 %r999, %r999, %keep; st.global.u32 [%d], %r999; ret;\n}}\n"
    );
    let module = parse(&text).expect("it is PTX");
    let device = Device::of("sm_80").expect("it is known");
    let program = Program::decode(&module, "k", &|_| None, device).expect("it is a kernel");
    assert!(program.slots < 16, "{} rows", program.slots);
}
