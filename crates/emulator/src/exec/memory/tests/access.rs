//! What is moved, from where to where.

use crate::exec::harness::{LOCAL, Machine, SHARED_BASE, numbers};
use crate::exec::lanes::{ALL, LANES, lanes};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

/// Lanes that an odd guard lets through.
const MASKS: [u32; 5] = [ALL, 1, 0x8000_0000, 0x5A5A_1234, 0x0000_FFFF];

/// `value` of `bytes` bytes in a register of `bits`: extended by its sign, or by zeros.
fn extend(value: u128, bytes: u32, signed: bool, bits: u32) -> u128 {
    let shift = 128 - 8 * bytes;
    let wide = if signed { (((value << shift) as i128) >> shift) as u128 } else { value };
    if bits == 128 { wide } else { wide & ((1 << bits) - 1) }
}

#[test]
fn a_load_extends_by_its_type_to_the_width_of_its_register() {
    let cases = [
        ("b8", 1, false),
        ("u8", 1, false),
        ("s8", 1, true),
        ("b16", 2, false),
        ("u16", 2, false),
        ("s16", 2, true),
        ("b32", 4, false),
        ("u32", 4, false),
        ("s32", 4, true),
        ("b64", 8, false),
        ("u64", 8, false),
        ("s64", 8, true),
        ("f32", 4, false),
        ("f64", 8, false),
        ("b128", 16, false),
    ];
    let mut m = Machine::unchecked();
    let memory = m.numbered(32 * 16);
    for (ty, bytes, signed) in cases {
        for (register, bits) in [("%b1", 8), ("%rs1", 16), ("%r1", 32), ("%rd1", 64), ("%q1", 128)] {
            // The sign goes as far as 64 bits: more than a register of .b128 asks for is not known.
            if bits < 8 * bytes || (bits == 128 && signed) {
                continue;
            }
            for mask in MASKS {
                m.set("%rd2", |lane| u128::from(memory.base + lane * u64::from(bytes)));
                m.set(register, |_| 0x77);
                m.run_lanes(mask, &format!("ld.global.{ty} {register}, [%rd2];")).expect("no fault");
                for lane in 0..LANES {
                    let expected = match mask >> lane & 1 {
                        1 => extend(numbers(lane as u64 * u64::from(bytes), bytes), bytes, signed, bits),
                        _ => 0x77,
                    };
                    assert_eq!(
                        m.get(register, lane),
                        expected,
                        ".{ty} to {register}, lane {lane} of {mask:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_store_takes_the_low_bytes_of_its_register() {
    let cases =
        [("b8", 1_u32), ("s8", 1), ("u16", 2), ("b32", 4), ("f32", 4), ("u64", 8), ("f64", 8), ("b128", 16)];
    let value = |lane: u64| 0x0F1E_2D3C_4B5A_6978_8796_A5B4_C3D2_E1F0_u128.rotate_left(4 * lane as u32);
    for (ty, bytes) in cases {
        for (register, bits) in [("%b1", 8), ("%rs1", 16), ("%r1", 32), ("%rd1", 64), ("%q1", 128)] {
            if bits < 8 * bytes {
                continue;
            }
            for mask in MASKS {
                let mut m = Machine::unchecked();
                let memory = m.numbered(32 * 16);
                m.set("%rd2", |lane| u128::from(memory.base + lane * u64::from(bytes)));
                m.set(register, value);
                m.run_lanes(mask, &format!("st.global.{ty} [%rd2], {register};")).expect("no fault");
                let mut back = [0; 32 * 16];
                memory.read(0, &mut back);
                for at in 0..32 * 16 {
                    let (lane, byte) = (at / u64::from(bytes), at % u64::from(bytes));
                    let stored = lane < 32 && mask >> lane & 1 == 1;
                    let expected =
                        if stored { (value(lane) >> (8 * byte)) as u8 } else { numbers(at, 1) as u8 };
                    assert_eq!(
                        back[at as usize], expected,
                        ".{ty} from {register}, byte {at}, lanes {mask:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn constants_are_stored_as_values_of_the_type() {
    let mut m = Machine::unchecked();
    let memory = m.memory.allocate(64).expect("room");
    m.set("%rd2", |_| u128::from(memory.base));
    m.run_lanes(
        1,
        "st.global.u8 [%rd2], 0x1ff;
         st.global.s16 [%rd2+2], -2;
         st.global.f32 [%rd2+4], 0fBF800000;
         st.global.f64 [%rd2+8], 0d3FF0000000000000;
         st.global.v2.u32 [%rd2+16], {7, 8};
         st.global.u64 [%rd2+24], gv;",
    )
    .expect("no fault");
    assert_eq!(memory.load(0, 8), 0xBF80_0000_FFFE_00FF);
    assert_eq!(f64::from_bits(memory.load(8, 8)), 1.0);
    assert_eq!(memory.load(16, 8), 8 << 32 | 7);
    assert_eq!(memory.load(24, 8), m.gv.base, "a variable's name is its address");
}

#[test]
fn vectors_move_their_elements_in_order() {
    let cases = [("v2", 2_u32), ("v4", 4)];
    let types = [("u8", 1, "%r"), ("b16", 2, "%rs"), ("u32", 4, "%r"), ("f32", 4, "%f"), ("b64", 8, "%rd")];
    for (vector, count) in cases {
        for (ty, bytes, prefix) in types {
            if count * bytes > 16 {
                continue;
            }
            let list: Vec<String> = (3..3 + count).map(|index| format!("{prefix}{index}")).collect();
            let list = list.join(", ");
            let size = count * bytes;
            for mask in MASKS {
                let mut m = Machine::unchecked();
                let (from, to) = (m.numbered(32 * 16), m.memory.allocate(32 * 16).expect("room"));
                m.set("%rd1", |lane| u128::from(from.base + lane * u64::from(size)));
                m.set("%rd2", |lane| u128::from(to.base + lane * u64::from(size)));
                m.run_lanes(
                    mask,
                    &format!("ld.global.{vector}.{ty} {{{list}}}, [%rd1]; st.global.{vector}.{ty} [%rd2], {{{list}}};"),
                )
                .expect("no fault");
                for lane in lanes(mask) {
                    for element in 0..count {
                        let at = u64::from(size) * lane as u64 + u64::from(element * bytes);
                        let value = m.get(&format!("{prefix}{}", 3 + element), lane);
                        assert_eq!(
                            value,
                            numbers(at, bytes),
                            ".{vector}.{ty}, element {element}, lane {lane}"
                        );
                    }
                }
                for at in 0..u64::from(32 * size) {
                    let stored = mask >> (at / u64::from(size)) & 1 == 1;
                    let expected = if stored { numbers(at, 1) as u64 } else { 0 };
                    assert_eq!(to.load(at, 1), expected, ".{vector}.{ty}, byte {at}, lanes {mask:#x}");
                }
            }
        }
    }
}

#[test]
fn an_element_that_nobody_wants_is_left_out() {
    let mut m = Machine::unchecked();
    let memory = m.numbered(32 * 16);
    m.set("%rd2", |lane| u128::from(memory.base + 16 * lane));
    m.run("ld.global.v4.u32 {_, %r1, _, %r2}, [%rd2];").expect("no fault");
    for lane in 0..32 {
        assert_eq!(m.get("%r1", lane), numbers(16 * lane as u64 + 4, 4));
        assert_eq!(m.get("%r2", lane), numbers(16 * lane as u64 + 12, 4));
    }
}

#[test]
fn an_address_may_be_the_register_that_is_loaded() {
    let mut m = Machine::unchecked();
    let memory = m.numbered(512);
    m.set("%rd1", |lane| u128::from(memory.base + 16 * lane));
    m.run("ld.global.v2.u64 {%rd1, %rd2}, [%rd1];").expect("no fault");
    for lane in 0..32 {
        assert_eq!(m.get("%rd1", lane), numbers(16 * lane as u64, 8));
        assert_eq!(m.get("%rd2", lane), numbers(16 * lane as u64 + 8, 8));
    }
}

#[test]
fn each_space_is_read_and_written_where_it_lies() {
    let mut m = Machine::unchecked();
    m.set("%r1", |lane| u128::from(lane + 100));
    m.set("%rd1", |lane| u128::from(SHARED_BASE + 4 * lane));
    m.set("%r2", |lane| u128::from(SHARED_BASE + 4 * lane));
    // Shared memory, by a register of 64 bits, one of 32, and a variable.
    m.run("st.shared.u32 [%rd1+128], %r1; ld.shared.u32 %r3, [%r2+128]; ld.shared.u32 %r4, [sm+132];")
        .expect("no fault");
    for lane in 0..32 {
        assert_eq!((m.get("%r3", lane), m.get("%r4", lane)), (lane as u128 + 100, 101));
        let at = SHARED_BASE as usize + 128 + 4 * lane;
        assert_eq!(m.cluster.blocks[0].shared[at], lane as u8 + 100);
    }
    // Local memory: each lane has its own under the same address.
    m.run("st.local.u32 [lc+4], %r1; ld.local.u32 %r3, [lc+4]; ld.local.u32 %r4, [20];").expect("no fault");
    for lane in 0..32 {
        assert_eq!((m.get("%r3", lane), m.get("%r4", lane)), (lane as u128 + 100, lane as u128 + 100));
        assert_eq!(m.warp().local[lane * LOCAL as usize + 20], lane as u8 + 100);
        let written = &m.warp().local_written[lane * LOCAL as usize..][..LOCAL as usize];
        assert!((0..LOCAL as usize).all(|byte| written[byte] == (20..24).contains(&byte)));
    }
    // Parameters of a call lie in local memory, those of the kernel in its parameters.
    m.run("st.param.b32 [cp+8], %r1; ld.param.b32 %r3, [cp+8]; ld.param.u32 %r4, [kp+4];").expect("no fault");
    m.set("%rd3", |_| 12);
    m.run("ld.param.u32 %r5, [%rd3]; ld.local.u32 %r6, [40];").expect("no fault");
    for lane in 0..32 {
        let found = [m.get("%r3", lane), m.get("%r4", lane), m.get("%r5", lane), m.get("%r6", lane)];
        assert_eq!(found, [lane as u128 + 100, 0x0F0E_0D0C, 0x0F0E_0D0C, lane as u128 + 100]);
    }
    // Constants and global variables.
    m.cv.store(8, 4, 77);
    let constants = m.cv.base;
    m.set("%rd3", |_| u128::from(constants));
    m.run("ld.const.u32 %r3, [cv+8]; ld.const.u32 %r4, [%rd3+8]; st.global.u32 [gv+4], %r3; ld.u32 %r5, [gv+4];")
        .expect("no fault");
    assert_eq!((m.get("%r3", 9), m.get("%r4", 9), m.get("%r5", 9)), (77, 77, 77));
    assert_eq!(m.gv.load(4, 4), 77);
}

#[test]
fn generic_addresses_of_one_instruction_lead_to_different_spaces() {
    let mut m = Machine::unchecked();
    let memory = m.numbered(512);
    let address = |lane: u64| {
        u128::from(match lane % 4 {
            0 => memory.base + 4 * lane,
            1 => SHARED_WINDOW + SHARED_BASE + 4 * lane,
            2 => LOCAL_WINDOW + 8,
            _ => PARAM_WINDOW + 4,
        })
    };
    let value = |lane: u64| u128::from(lane) * 0x0101_0101;
    m.set("%rd1", address);
    m.set("%r1", value);
    let writable = 0x7777_7777;
    m.run_lanes(writable, "st.u32 [%rd1], %r1;").expect("no fault");
    m.run("ld.u32 %r2, [%rd1];").expect("no fault");
    for lane in 0..32_u64 {
        let expected = if lane % 4 == 3 { 0x0706_0504 } else { value(lane) };
        assert_eq!(m.get("%r2", lane as usize), expected, "lane {lane}");
    }
    assert_eq!(memory.load(16, 4), 0x0404_0404);
    assert_eq!(m.cluster.blocks[0].shared[SHARED_BASE as usize + 20], 5);
    assert_eq!(m.warp().local[6 * LOCAL as usize + 8], 6);
}

#[test]
fn lanes_may_reach_many_allocations_at_once() {
    let mut m = Machine::unchecked();
    let memories: Vec<_> = (0..5).map(|_| m.numbered(256)).collect();
    let place = |lane: u64| (lane as usize * 7 % 5, 4 * lane);
    m.set("%rd1", |lane| u128::from(memories[place(lane).0].base + place(lane).1));
    m.set("%r1", |lane| u128::from(lane + 1000));
    m.run("ld.global.u32 %r2, [%rd1]; st.global.u32 [%rd1], %r1;").expect("no fault");
    for lane in 0..32 {
        assert_eq!(m.get("%r2", lane), numbers(4 * lane as u64, 4));
        let (which, at) = place(lane as u64);
        assert_eq!(memories[which].load(at, 4), lane as u64 + 1000);
    }
}

#[test]
fn of_lanes_that_store_to_one_place_the_last_wins() {
    let mut m = Machine::unchecked();
    let memory = m.memory.allocate(4).expect("room");
    m.set("%rd1", |_| u128::from(memory.base));
    m.set("%r1", u128::from);
    m.run_lanes(0x00FF_0000, "st.global.u32 [%rd1], %r1; st.shared.u32 [sm], %r1;").expect("no fault");
    assert_eq!(memory.load(0, 4), 23);
    assert_eq!(m.cluster.blocks[0].shared[SHARED_BASE as usize], 23);
}

#[test]
fn strong_128_bit_accesses_move_all_16_bytes() {
    let mut m = Machine::unchecked();
    let (from, to) = (m.numbered(512), m.memory.allocate(512).expect("room"));
    m.set("%rd1", |lane| u128::from(from.base + 16 * lane));
    m.set("%rd2", |lane| u128::from(to.base + 16 * lane));
    m.run("ld.acquire.gpu.global.b128 %q1, [%rd1]; st.release.gpu.global.b128 [%rd2], %q1;")
        .expect("no fault");
    for lane in 0..32 {
        assert_eq!(m.get("%q1", lane), numbers(16 * lane as u64, 16));
        assert_eq!(u128::from(to.load(16 * lane as u64 + 8, 8)), numbers(16 * lane as u64 + 8, 8));
    }
}

#[test]
fn loads_and_stores_are_counted_by_space() {
    let mut m = Machine::unchecked();
    let memory = m.numbered(1024);
    m.set("%rd1", |lane| u128::from(memory.base + 8 * lane));
    m.set("%r1", |lane| u128::from(SHARED_BASE + 128 * (lane % 16)));
    m.run("ld.global.u32 %r2, [%rd1]; ld.u32 %r2, [%rd1]; st.global.u32 [%rd1+4], %r2;").expect("no fault");
    m.run(
        "ld.shared.u32 %r3, [%r1]; ld.const.u32 %r3, [cv]; ld.param.u32 %r3, [kp]; ld.local.u32 %r3, [lc];",
    )
    .expect("no fault");
    m.run_lanes(3, "st.shared.u64 [sm], %rd1; st.local.u8 [lc], %r3;").expect("no fault");
    let c = &m.cluster.counters;
    assert_eq!((c.global_load_bytes, c.global_load_requests, c.global_load_sectors), (256, 2, 16));
    assert_eq!((c.global_store_bytes, c.global_store_requests, c.global_store_sectors), (128, 1, 8));
    assert_eq!((c.global_loaded.len(), c.global_stored.len()), (8, 8));
    assert_eq!((c.shared_load_bytes, c.shared_store_bytes, c.shared_requests), (128, 16, 2));
    assert_eq!((c.shared_wavefronts, c.shared_conflicts), (17, 15));
    assert_eq!((c.local_load_bytes, c.local_store_bytes), (128, 2));
}
