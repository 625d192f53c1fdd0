//! What lanes tell one another, against a model of each operation written from its definition.

use wikigpt_emulator::fault::FaultKind;
use wikigpt_emulator::program::Class;

use crate::rig::Kernel;

/// What each lane brings: no two the same.
const VALUE: &str = "mul.lo.u32 %r1, %tid, 2654435761; xor.b32 %r1, %r1, 0x5bd1e995;";

fn value(lane: u32) -> u32 {
    lane.wrapping_mul(2654435761) ^ 0x5bd1e995
}

#[test]
fn shfl_takes_from_the_lane_that_its_mode_says() {
    for mode in ["up", "down", "bfly", "idx"] {
        for (b, c) in
            [(0, 31), (1, 31), (1, 0), (5, 31), (3, 0x1018), (3, 0x101f), (9, 0x1800), (2, 0x1807), (31, 31)]
        {
            let run = Kernel::new(&format!(
                "{VALUE} shfl.sync.{mode}.b32 %r2|%p0, %r1, {b}, {c}, 0xffffffff;
                 selp.u32 %r3, 1, 0, %p0;
                 st.global.u32 [%own], %r2; st.global.u32 [%own+1024], %r3;"
            ))
            .run();
            for lane in 0..32i64 {
                let (clamp, segment) = (c & 31, c >> 8 & 31);
                let highest = lane & segment | clamp & !segment & 31;
                let lowest = lane & segment;
                let (from, valid) = match mode {
                    "up" => (lane - b, lane - b >= highest),
                    "down" => (lane + b, lane + b <= highest),
                    "bfly" => (lane ^ b, lane ^ b <= highest),
                    _ => {
                        let from = lowest | b & !segment & 31;
                        (from, from <= highest)
                    }
                };
                let from = if valid { from } else { lane };
                let found = (run.words[lane as usize], run.words[lane as usize + 256]);
                assert_eq!(found, (value(from as u32), u32::from(valid)), "{mode} {b} {c:#x}, lane {lane}");
            }
        }
    }
}

#[test]
fn shfl_takes_an_offset_of_each_lane() {
    let run = Kernel::new(&format!(
        "{VALUE} sub.u32 %r3, 31, %tid; shfl.sync.idx.b32 %r2, %r1, %r3, 31, -1; st.global.u32 [%own], %r2;"
    ))
    .run();
    for lane in 0..32 {
        assert_eq!(run.words[lane as usize], value(31 - lane));
    }
}

#[test]
fn lanes_of_different_masks_exchange_among_themselves() {
    let run = Kernel::new(&format!(
        "{VALUE} setp.lt.u32 %p0, %tid, 12; selp.b32 %r4, 0xfff, 0xfffff000, %p0;
         shfl.sync.bfly.b32 %r2, %r1, 4, 31, %r4;
         vote.sync.ballot.b32 %r3, %p0, %r4;
         st.global.u32 [%own], %r2; st.global.u32 [%own+1024], %r3;"
    ))
    .run();
    for lane in 0..32u32 {
        let same = (lane < 12) == (lane ^ 4 < 12);
        assert_eq!(run.words[lane as usize], if same { value(lane ^ 4) } else { u32::MAX }, "lane {lane}");
        assert_eq!(run.words[lane as usize + 256], if lane < 12 { 0xfff } else { 0 });
    }
}

#[test]
fn a_sync_waits_for_lanes_that_come_later() {
    // Odd lanes come by a longer way; all meet at the vote, which runs once.
    let run = Kernel::new(
        "and.b32 %r1, %tid, 1; setp.eq.u32 %p0, %r1, 0; mov.u32 %r2, 0;
         @%p0 bra VOTE;
       LOOP:
         add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, %tid; @%p1 bra LOOP;
       VOTE:
         vote.sync.ballot.b32 %r3, %p0, 0xffffffff;
         st.global.u32 [%own], %r3;",
    )
    .run();
    assert_eq!(run.words[..32], [0x55555555; 32]);
    assert_eq!(run.warps(Class::Warp), 1);
}

#[test]
fn votes_look_at_the_lanes_of_their_mask_alone() {
    let run = Kernel::new(
        "setp.lt.u32 %p0, %tid, 8;
         setp.ge.u32 %p5, %tid, 16;
         @%p5 bra END;
         vote.sync.all.pred %p1, %p0, 0xffff;
         vote.sync.any.pred %p2, %p0, 0xffff;
         vote.sync.uni.pred %p3, %p0, 0xffff;
         vote.sync.all.pred %p4, !%p5, 0xffff;
         vote.sync.uni.pred %p6, %p5, 0xffff;
         vote.sync.ballot.b32 %r1, %p0, 0xffff;
         selp.u32 %r2, 1, 0, %p1; selp.u32 %r3, 2, 0, %p2; selp.u32 %r4, 4, 0, %p3;
         selp.u32 %r5, 8, 0, %p4; selp.u32 %r6, 16, 0, %p6;
         or.b32 %r2, %r2, %r3; or.b32 %r2, %r2, %r4; or.b32 %r2, %r2, %r5; or.b32 %r2, %r2, %r6;
         st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r2;
       END:",
    )
    .run();
    assert_eq!(run.words[..16], [0xff; 16]);
    assert_eq!(run.words[256..272], [2 | 8 | 16; 16]);
}

#[test]
fn match_finds_lanes_of_the_same_value() {
    let run = Kernel::new(
        "rem.u32 %r1, %tid, 5; cvt.u64.u32 %d1, %r1; shl.b64 %d1, %d1, 33; mov.u64 %d2, 9;
         match.any.sync.b32 %r2, %r1, -1;
         match.any.sync.b64 %r3, %d1, -1;
         match.all.sync.b32 %r4|%p0, %r1, -1;
         match.all.sync.b64 %r5|%p1, %d2, -1;
         selp.u32 %r6, 1, 0, %p0; selp.u32 %r7, 2, 0, %p1; or.b32 %r6, %r6, %r7;
         st.global.u32 [%own], %r2; st.global.u32 [%own+1024], %r3; st.global.u32 [%own+2048], %r4;
         st.global.u32 [%own+3072], %r5; st.global.u32 [%own+4096], %r6;",
    )
    .run();
    for lane in 0..32 {
        let same = (0..32).filter(|other| other % 5 == lane % 5).fold(0u32, |mask, other| mask | 1 << other);
        let found: Vec<u32> = (0..5).map(|array| run.words[lane + 256 * array]).collect();
        assert_eq!(found, [same, same, 0, u32::MAX, 2], "lane {lane}");
    }
}

#[test]
fn redux_reduces_over_its_mask() {
    let model: [(&str, fn(u32, u32) -> u32); 8] = [
        ("add.u32", u32::wrapping_add),
        ("min.u32", u32::min),
        ("max.u32", u32::max),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
    ];
    for (operation, of) in model {
        let run = Kernel::new(&format!(
            "{VALUE} setp.lt.u32 %p0, %tid, 20; selp.b32 %r4, 0xfffff, 0xfff00000, %p0;
             redux.sync.{operation} %r2, %r1, %r4; st.global.u32 [%own], %r2;"
        ))
        .run();
        for lane in 0..32 {
            let group = if lane < 20 { 0..20 } else { 20..32 };
            assert_eq!(Some(run.words[lane]), group.map(value).reduce(of), "{operation}, lane {lane}");
        }
    }
}

#[test]
fn elect_chooses_the_lowest_lane() {
    let run = Kernel::new(
        "setp.lt.u32 %p0, %tid, 3; @%p0 exit;
         elect.sync %r1|%p1, 0xffffffff; selp.u32 %r2, 1, 0, %p1;
         st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r2;",
    )
    .run();
    assert_eq!(run.words[3..32], [3; 29]);
    assert_eq!(run.words[256..288].iter().position(|leader| *leader == 1), Some(3));
    assert_eq!(run.words[256..288].iter().sum::<u32>(), 1);
}

#[test]
fn activemask_names_the_lanes_that_are_there() {
    let run = Kernel::new(
        "and.b32 %r1, %tid, 1; setp.eq.u32 %p0, %r1, 0;
         @%p0 activemask.b32 %r2;
         @!%p0 activemask.b32 %r2;
         st.global.u32 [%own], %r2;",
    )
    .run();
    for lane in 0..32 {
        assert_eq!(run.words[lane], if lane % 2 == 0 { 0x55555555 } else { 0xaaaaaaaa });
    }
}

#[test]
fn exited_lanes_are_not_waited_for() {
    let run = Kernel::new(&format!(
        "{VALUE} setp.ge.u32 %p0, %tid, 30; @%p0 exit;
         shfl.sync.down.b32 %r2, %r1, 1, 31, -1; st.global.u32 [%own], %r2;"
    ))
    .run();
    for lane in 0..29 {
        assert_eq!(run.words[lane as usize], value(lane + 1));
    }
    // What comes from a lane that is not there is undefined, and looks like it.
    assert_eq!(run.words[29], u32::MAX);
}

#[test]
fn a_lane_that_its_own_mask_does_not_name_is_at_fault() {
    for operation in [
        "shfl.sync.idx.b32 %r2, %r1, 0, 31, 0x7f",
        "vote.sync.ballot.b32 %r2, %p0, 0x7f",
        "bar.warp.sync 0x7f",
    ] {
        let report = Kernel::new(&format!("{operation};")).fault();
        assert_eq!(report.fault.kind, FaultKind::Barrier);
        assert_eq!(report.place.thread, [7, 0, 0], "{report}");
    }
}

#[test]
fn lanes_that_wait_for_one_another_at_different_places_are_at_fault() {
    let report = Kernel::new(
        "setp.lt.u32 %p0, %tid, 16;
         @%p0 bra LOW;
         shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;
         bra END;
       LOW:
         shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1;
       END:",
    )
    .fault();
    assert_eq!(report.fault.kind, FaultKind::Barrier);
    assert_eq!(report.fault.message, "it waits for lanes 0xffff0000 of its warp, which wait elsewhere");
    assert!(report.to_string().contains("lanes 0xffff0000 wait at PTX line"), "{report}");
}

#[test]
fn shuffles_without_sync_are_refused() {
    for text in ["shfl.up.b32 %r1, %r2, 1, 0;", "vote.all.pred %p0, %p1;"] {
        assert!(Kernel::new(text).refused().message.contains("without .sync"));
    }
}
