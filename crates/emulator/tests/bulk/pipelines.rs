//! Kernels of CUDA C++ (`pipelines.cu`), compiled by NVRTC.

use super::rig::{Random, Rig, contents, matrix, words};

const TEXT: &str = include_str!("pipelines_sm_90a.ptx");

/// Rows of 16-bit numbers, `pitch` bytes each, as bytes; the padding holds numbers too.
fn numbers(rows: usize, pitch: usize, seed: u64) -> Vec<u16> {
    let mut random = Random(seed);
    (0..rows * pitch / 2).map(|_| random.next() as u16).collect()
}

fn bytes(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn a_swizzled_pipeline_of_three_stages_scales_and_sums_a_matrix_bit_for_bit() {
    for (rows, columns, seed) in [(64, 64, 1), (128, 256, 2), (70, 72, 3), (1, 8, 4), (200, 1000, 5)] {
        let pitch = columns * 2 + 16;
        let inp = numbers(rows, pitch, seed);
        let rig = Rig {
            blocks: rows.div_ceil(64) as u32,
            threads: 160,
            dynamic: 1024 + 5 * 8192 + 64,
            ..Rig::new()
        };
        let source = rig.allocate(&bytes(&inp));
        let target = rig.allocate(&vec![0x77; rows * pitch]);
        let sums = rig.memory.allocate(rows as u64 * 4).expect("memory");
        let counters = rig.run(
            TEXT,
            "scale",
            &[
                &matrix(source.base, [rows, columns], pitch, 64),
                &matrix(target.base, [rows, columns], pitch, 64),
                &sums.base.to_le_bytes(),
                &(rows as u32).to_le_bytes(),
                &(columns as u32).to_le_bytes(),
            ],
        );
        let mut expected = vec![0x7777; rows * pitch / 2];
        let mut expected_sums = vec![0u32; rows];
        for row in 0..rows {
            for column in 0..columns {
                let number = inp[row * pitch / 2 + column];
                expected[row * pitch / 2 + column] = number.wrapping_mul(3).wrapping_add(1);
                let term = u32::from(number).wrapping_mul(column as u32 + 1);
                expected_sums[row] = expected_sums[row].wrapping_add(term);
            }
        }
        assert!(contents(&target) == bytes(&expected), "{rows} × {columns}");
        assert_eq!(words(&sums), expected_sums, "{rows} × {columns}");
        let moved = (rows * columns * 2) as u64;
        assert_eq!(
            (counters.bulk_load_bytes, counters.bulk_store_bytes),
            (moved, moved),
            "{rows} × {columns}"
        );
    }
}

#[test]
fn two_blocks_of_a_cluster_share_tiles_by_multicast_bit_for_bit() {
    for (blocks, columns, seed) in [(2, 64, 6), (2, 512, 7), (6, 320, 8)] {
        let pitch = columns * 2;
        let (a, b) = (numbers(blocks * 64, pitch, seed), numbers(64, pitch, seed + 100));
        let rig = Rig {
            blocks: blocks as u32,
            cluster: 2,
            threads: 160,
            dynamic: 1024 + 6 * 8192 + 64,
            ..Rig::new()
        };
        let (left, right) = (rig.allocate(&bytes(&a)), rig.allocate(&bytes(&b)));
        let out = rig.memory.allocate(blocks as u64 * 256).expect("memory");
        let counters = rig.run(
            TEXT,
            "share",
            &[
                &matrix(left.base, [blocks * 64, columns], pitch, 64),
                &matrix(right.base, [64, columns], pitch, 32),
                &out.base.to_le_bytes(),
                &(columns as u32).to_le_bytes(),
            ],
        );
        let dot = |row: usize| {
            let pairs = a[row * columns..][..columns].iter().zip(&b[row % 64 * columns..][..columns]);
            pairs.fold(0u32, |sum, (a, b)| sum.wrapping_add(u32::from(*a).wrapping_mul(u32::from(*b))))
        };
        assert_eq!(
            words(&out),
            (0..blocks * 64).map(dot).collect::<Vec<_>>(),
            "{blocks} blocks, {columns} columns"
        );
        // Of b, each cluster loads every byte once.
        let loaded = blocks * 64 * pitch + blocks / 2 * 64 * pitch;
        assert_eq!(counters.bulk_load_bytes, loaded as u64);
    }
}

#[test]
fn a_pipeline_that_is_told_of_too_many_bytes_stands_still_and_says_what_it_waits_for() {
    // A box of 32 rows where the kernel expects 64.
    let rig = Rig { threads: 160, dynamic: 1024 + 5 * 8192 + 64, ..Rig::new() };
    let source = rig.allocate(&[0; 8192]);
    let sums = rig.memory.allocate(256).expect("memory");
    let map = matrix(source.base, [64, 64], 128, 32);
    let target = matrix(rig.allocate(&[0; 8192]).base, [64, 64], 128, 64);
    let params: [&[u8]; 5] =
        [&map, &target, &sums.base.to_le_bytes(), &64u32.to_le_bytes(), &64u32.to_le_bytes()];
    rig.fault(TEXT, "scale", &params, "deadlock");
    rig.fault(TEXT, "scale", &params, "4096 bytes pending");
    rig.fault(TEXT, "scale", &params, "[pipelines.cu:");
}
