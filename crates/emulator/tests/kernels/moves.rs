//! mov in all its forms, selp, logic on predicates, special registers.

use crate::rig::Kernel;

#[test]
fn vectors_are_packed_and_unpacked_from_the_lowest_bits_up() {
    let run = Kernel::new(
        "add.u32 %r1, %tid, 0x11110000; add.u32 %r2, %tid, 0x22220000;
         mov.b64 %d1, {%r1, %r2};
         mov.b64 {%r3, %r4}, %d1;
         mov.b32 {%h1, %h2}, %r1;
         mov.b32 %r5, {%h2, %h1};
         mov.b64 {%h3, _, %h4, %h5}, %d1;
         mov.b64 %d2, {%h5, %h4, %h3, %h2};
         mov.b64 {_, %r6}, %d2; mov.b64 {%r7, _}, %d2;
         st.global.u32 [%own], %r3; st.global.u32 [%own+1024], %r4; st.global.u32 [%own+2048], %r5;
         st.global.u32 [%own+3072], %r7; st.global.u32 [%own+4096], %r6;",
    )
    .run();
    for lane in 0..32 {
        let found: Vec<u32> = (0..5).map(|array| run.words[lane as usize + 256 * array]).collect();
        let (a, b) = (0x11110000 + lane, 0x22220000 + lane);
        assert_eq!(
            found,
            [a, b, lane << 16 | 0x1111, lane << 16 | 0x2222, 0x1111 << 16 | lane],
            "lane {lane}"
        );
    }
}

#[test]
fn moves_of_128_bits_carry_both_halves() {
    let run = Kernel::new(
        ".reg .b128 %q<2>;
         cvt.u64.u32 %d1, %tid; mov.u64 %d2, 0x123456789abcdef0;
         mov.b128 %q0, {%d1, %d2}; mov.b128 %q1, %q0; mov.b128 {%d3, %d4}, %q1;
         cvt.u32.u64 %r1, %d3; shr.u64 %d4, %d4, 32; cvt.u32.u64 %r2, %d4;
         st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r2;",
    )
    .run();
    for lane in 0..32 {
        assert_eq!((run.words[lane], run.words[lane + 256]), (lane as u32, 0x12345678));
    }
}

#[test]
fn moves_write_the_lanes_of_their_guard_alone() {
    let run = Kernel::new(
        "and.b32 %r2, %tid, 4; setp.ne.u32 %p0, %r2, 0;
         mov.u32 %r1, 1; @%p0 mov.u32 %r1, 2;
         mov.b64 %d1, 0; @!%p0 mov.b64 %d1, {%tid, %r1};
         mov.b64 {%r3, _}, %d1; add.u32 %r1, %r1, %r3;
         st.global.u32 [%own], %r1;",
    )
    .run();
    for lane in 0..32u32 {
        assert_eq!(run.words[lane as usize], if lane & 4 != 0 { 2 } else { 1 + lane });
    }
}

#[test]
fn selp_chooses_by_lane_in_every_width() {
    let run = Kernel::new(
        "and.b32 %r2, %tid, 1; setp.ne.u32 %p0, %r2, 0;
         selp.b32 %r1, %tid, 0x77, %p0;
         selp.b16 %h1, 0x11, 0x2222, %p0; cvt.u32.u16 %r3, %h1;
         selp.b64 %d1, 0x100000001, 0x200000002, %p0; mov.b64 {_, %r4}, %d1;
         selp.f32 %r5, 0f3F800000, 0f40000000, %p0;
         st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r3; st.global.u32 [%own+2048], %r4;
         st.global.u32 [%own+3072], %r5;",
    )
    .run();
    for lane in 0..32 {
        let found: Vec<u32> = (0..4).map(|array| run.words[lane as usize + 256 * array]).collect();
        let expected =
            if lane % 2 == 1 { [lane, 0x11, 1, 1f32.to_bits()] } else { [0x77, 0x2222, 2, 2f32.to_bits()] };
        assert_eq!(found, expected);
    }
}

#[test]
fn predicates_are_combined_by_lane() {
    let run = Kernel::new(
        "and.b32 %r1, %tid, 1; setp.ne.u32 %p0, %r1, 0; and.b32 %r1, %tid, 2; setp.ne.u32 %p1, %r1, 0;
         and.pred %p2, %p0, %p1; or.pred %p3, %p0, %p1; xor.pred %p4, %p0, %p1; not.pred %p5, %p0;
         mov.pred %p6, %p1; and.pred %p7, %p0, !%p1;
         selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p4; selp.u32 %r5, 8, 0, %p5;
         selp.u32 %r6, 16, 0, %p6; selp.u32 %r7, 32, 0, %p7;
         add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4; add.u32 %r2, %r2, %r5; add.u32 %r2, %r2, %r6;
         add.u32 %r2, %r2, %r7;
         st.global.u32 [%own], %r2;",
    )
    .run();
    for lane in 0..32 {
        assert_eq!(run.words[lane], [8, 2 + 4 + 32, 2 + 4 + 8 + 16, 1 + 2 + 16][lane % 4]);
    }
}

#[test]
fn special_registers_of_a_grid_of_three_dimensions() {
    let names = [
        "tid.x", "tid.y", "tid.z", "ntid.x", "ntid.y", "ntid.z", "ctaid.x", "ctaid.y", "ctaid.z", "nctaid.x",
        "nctaid.y", "nctaid.z", "laneid", "warpid",
    ];
    // The number of the thread in the grid is put together from what is tested last: x fastest.
    let mut body = "
        mov.u32 %r1, %ctaid.z; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %ctaid.x;
        mad.lo.u32 %r1, %r1, 3, %r2; mad.lo.u32 %r1, %r1, 2, %r3;
        mov.u32 %r4, %tid.z; mov.u32 %r5, %tid.y; mov.u32 %r6, %tid.x;
        mad.lo.u32 %r4, %r4, 3, %r5; mad.lo.u32 %r4, %r4, 5, %r6;
        mad.lo.u32 %r1, %r1, 60, %r4; mul.lo.u32 %r1, %r1, 64; cvt.u64.u32 %d1, %r1; add.u64 %d1, %d1, %out;
        "
    .to_owned();
    for (at, name) in names.iter().enumerate() {
        body.push_str(&format!("mov.u32 %r7, %{name}; st.global.u32 [%d1+{}], %r7;", 4 * at));
    }
    let run = Kernel::new(&body).grid([2, 3, 1]).threads([5, 3, 4]).run();
    for block in 0..6u32 {
        for thread in 0..60u32 {
            let at = (block * 60 + thread) as usize * 16;
            let expected = [
                thread % 5,
                thread / 5 % 3,
                thread / 15,
                5,
                3,
                4,
                block % 2,
                block / 2,
                0,
                2,
                3,
                1,
                thread % 32,
                thread / 32,
            ];
            if at + 16 <= run.words.len() {
                assert_eq!(run.words[at..at + 14], expected);
            }
        }
    }
}

#[test]
fn lane_masks() {
    let names = ["eq", "le", "lt", "ge", "gt"];
    let mut body = String::new();
    for (at, name) in names.iter().enumerate() {
        body.push_str(&format!("mov.u32 %r1, %lanemask_{name}; st.global.u32 [%own+{}], %r1;", 1024 * at));
    }
    let run = Kernel::new(&body).run();
    for lane in 0..32u32 {
        let mask = |holds: fn(u32, u32) -> bool| {
            (0..32).filter(|other| holds(*other, lane)).fold(0u32, |mask, other| mask | 1 << other)
        };
        let expected = [
            mask(|other, lane| other == lane),
            mask(|other, lane| other <= lane),
            mask(|other, lane| other < lane),
            mask(|other, lane| other >= lane),
            mask(|other, lane| other > lane),
        ];
        let found: Vec<u32> = (0..5).map(|array| run.words[lane as usize + 256 * array]).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn special_registers_may_stand_where_other_registers_do() {
    let run = Kernel::new(
        "add.u32 %r1, %laneid, %ntid.x; cvt.u64.u32 %d1, %ctaid.x; cvt.u32.u64 %r2, %d1; add.u32 %r1, %r1, %r2;
         st.global.u32 [%own], %r1;",
    )
    .grid(2)
    .threads(32)
    .run();
    for at in 0..64 {
        assert_eq!(run.words[at as usize], at % 32 + 32 + at / 32);
    }
}

#[test]
fn clocks_go_forward() {
    let run = Kernel::new(
        "mov.u64 %d1, %clock64; mov.u32 %r1, %clock; mov.u64 %d2, %globaltimer;
         mov.u32 %r2, 0;
       LOOP: add.u32 %r2, %r2, 1; setp.lt.u32 %p0, %r2, 1000; @%p0 bra LOOP;
         mov.u64 %d3, %clock64; mov.u64 %d4, %globaltimer;
         setp.gt.u64 %p1, %d3, %d1; setp.gt.u64 %p2, %d4, %d2; and.pred %p1, %p1, %p2;
         selp.u32 %r3, 1, 0, %p1; st.global.u32 [%own], %r3;",
    )
    .run();
    assert_eq!(run.words[..32], [1; 32]);
}

#[test]
fn shared_memory_sizes() {
    let run = Kernel::module(
        ".extern .shared .align 128 .b8 dyn[];",
        ".shared .align 4 .b8 fixed[40];
         mov.u32 %r1, fixed; mov.u32 %r2, dyn; mov.u32 %r3, %dynamic_smem_size; mov.u32 %r4, %total_smem_size;
         st.global.u32 [%own], %r1; st.global.u32 [%own+1024], %r2; st.global.u32 [%own+2048], %r3;
         st.global.u32 [%own+3072], %r4;",
    )
    .dynamic(256)
    .run();
    let found: Vec<u32> = (0..4).map(|array| run.words[256 * array]).collect();
    // What the system keeps comes first, then what is static, then at its alignment what is dynamic.
    assert_eq!(found, [1024, 1024 + 128, 256, 40 + 256]);
}

#[test]
fn moves_that_do_not_fit_are_refused() {
    for text in [
        "mov.u32 %d1, %r1;",
        "mov.b64 %d1, {%r1, %r2, %r3};",
        "mov.u32 %r1, %clock64;",
        "mov.u32 %r1, %nosuch;",
        "mov.b8 %r1, %r2;",
        "selp.b32 %r1, %r2, %r3, %r4;",
    ] {
        Kernel::new(text).refused();
    }
}
