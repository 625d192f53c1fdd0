//! Matrices in shared memory.

use super::super::descriptor::{Descriptor, Major, Role, Tile, gather};
use super::super::elements::Bf16;
use super::super::product::panel;

fn tile(descriptor: Descriptor, major: Major) -> Tile {
    Tile { descriptor, major, bytes: 2 }
}

#[test]
fn a_descriptors_bits_are_taken_apart() {
    let bits = 0x40 | 0x8 << 16 | 0x40 << 32 | 1 << 62;
    let wanted = Descriptor { start: 0x400, leading: 0x80, stride: 0x400, swizzle: 3 };
    assert_eq!(Descriptor::decode(bits), Ok(wanted));
    for (code, swizzle) in [(0, 0), (1, 3), (2, 2), (3, 1)] {
        assert_eq!(Descriptor::decode(code << 62).unwrap().swizzle, swizzle);
    }
    assert_eq!(Descriptor::decode(0x3fff).unwrap().start, 0x3fff0);
    for refused in [1 << 49, 1 << 51, 1 << 14, 1 << 31, 1 << 46, 1 << 48, 1 << 52, 1 << 61] {
        assert!(Descriptor::decode(bits | refused).is_err(), "{refused:x}");
    }
}

#[test]
fn addresses_are_those_of_the_worked_examples() {
    let at = |start, leading, stride, swizzle, major, samples: &[((u32, u32), u32)]| {
        let tile = tile(Descriptor { start, leading, stride, swizzle }, major);
        for ((i, k), wanted) in samples {
            assert_eq!(tile.address(*i, *k), *wanted, "{tile:?} at {i}, {k}");
        }
    };
    let samples = [((0, 0), 0x400), ((1, 0), 0x490), ((3, 9), 0x5a2), ((9, 8), 0x880), ((10, 15), 0x93e)];
    at(0x400, 0, 1024, 3, Major::K, &samples);
    at(0x440, 0, 1024, 3, Major::K, &[((0, 0), 0x440), ((1, 0), 0x4d0), ((3, 9), 0x5e2)]);
    let samples = [((0, 0), 0x400), ((8, 1), 0x480), ((63, 15), 0xb8e), ((64, 0), 0x2400), ((70, 9), 0x289c)];
    at(0x400, 8192, 1024, 3, Major::Mn, &samples);
    let samples = [((1, 0), 0x410), ((0, 8), 0x480), ((9, 9), 0x592), ((63, 15), 0xbfe)];
    at(0x400, 128, 256, 0, Major::K, &samples);
    let samples = [((0, 1), 0x410), ((8, 0), 0x500), ((0, 8), 0x480), ((63, 15), 0xbfe)];
    at(0x400, 128, 256, 0, Major::Mn, &samples);
}

/// Where a tensor copy puts byte `byte` of row `row` of a box whose rows are one span long: chunk x of a row goes to chunk
/// x xor the row's number in the pattern.
fn copied(row: usize, byte: usize, swizzle: u32) -> usize {
    let span = 16 << swizzle;
    let linear = row * span + byte;
    let line = linear / 128;
    let chunk = linear / 16 % 8;
    let mask = (1 << swizzle) - 1;
    line * 128 + (chunk ^ (line % 8) & mask) * 16 + linear % 16
}

#[test]
fn a_tile_that_a_tensor_copy_swizzled_reads_back() {
    for swizzle in 1..=3 {
        let span = 16_usize << swizzle;
        let columns = span / 2;
        // 64 rows of one span, at a multiple of the pattern; the bits of each element are its number.
        let mut shared = vec![0; 1024 + 64 * span];
        let bits = |row: usize, column: usize| (row * columns + column) as u16;
        for row in 0..64 {
            for column in 0..columns {
                let at = 1024 + copied(row, column * 2, swizzle);
                shared[at..at + 2].copy_from_slice(&bits(row, column).to_le_bytes());
            }
        }
        let number =
            |row: usize, column: usize| f64::from(f32::from_bits(u32::from(bits(row, column)) << 16));

        // Rows are M, the span is K: steps of 16 along K start 32 bytes on.
        for step in 0..columns / 16 {
            let start = 1024 + 32 * step as u32;
            let stride = 8 * span as u32;
            let tile = tile(Descriptor { start, leading: 0, stride, swizzle }, Major::K);
            let mut out = vec![0.0; 48 * 16];
            gather::<Bf16>(&tile, &shared, 16..64, 16, Role::A, &mut out).unwrap();
            for i in 0..48 {
                for k in 0..16 {
                    assert_eq!(out[i * 16 + k], number(16 + i, 16 * step + k), "{swizzle} {step} {i} {k}");
                }
            }
        }

        // Rows are K, the span is M: a product takes 16 rows, 64 of M come from 64 / columns such boxes.
        for step in 0..2 {
            let start = 1024 + (16 * span * step) as u32;
            let (leading, stride) = (32 * span as u32, 8 * span as u32);
            let tile = tile(Descriptor { start, leading, stride, swizzle }, Major::Mn);
            let width = 2 * columns;
            let mut out = vec![0.0; 16 * width];
            gather::<Bf16>(&tile, &shared, 0..width as u32, 16, Role::B, &mut out).unwrap();
            for i in 0..width {
                for k in 0..16 {
                    let wanted = number(32 * (i / columns) + 16 * step + k, i % columns);
                    assert_eq!(out[panel(16, k, i)], wanted, "{swizzle} {step} {i} {k}");
                }
            }
        }
    }
}

#[test]
fn ranges_are_all_bytes_of_the_elements_and_no_others() {
    for swizzle in 0..4 {
        for major in [Major::K, Major::Mn] {
            let (leading, stride) = if swizzle == 0 { (128, 256) } else { (8192, 128 << swizzle) };
            let tile = tile(Descriptor { start: 1024, leading, stride, swizzle }, major);
            let mut bytes: Vec<u32> = (8..40)
                .flat_map(|i| (0..16).flat_map(move |k| [0, 1].map(|byte| tile.address(i, k) + byte)))
                .collect();
            bytes.sort_unstable();
            let ranges = tile.ranges(8..40, 16);
            let named: Vec<u32> = ranges.iter().cloned().flatten().collect();
            assert_eq!(named, bytes, "{swizzle} {major:?}");
            assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}

#[test]
fn bytes_outside_shared_memory_are_named() {
    let tile = tile(Descriptor { start: 1024, leading: 0, stride: 1024, swizzle: 3 }, Major::K);
    let mut out = [0.0; 16 * 16];
    let shared = vec![0; 2048];
    let result = gather::<Bf16>(&tile, &shared, 0..16, 16, Role::A, &mut out);
    assert_eq!(result, Err(2048));
}
