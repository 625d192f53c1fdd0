//! How many blocks fit.

use crate::api::{self, cu, ok};
use crate::harness::{Context, PTX, function, module, refused};
use crate::launches::{Attribute, Config};

fn add(directives: &str) -> usize {
    let text = PTX.replace(".param .u32 add_amount)\n", &format!(".param .u32 add_amount)\n{directives}\n"));
    function(module(&text), c"add")
}

fn blocks(function: usize, threads: i32, shared: usize) -> i32 {
    let (mut first, mut second) = (-1, -1);
    ok!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut first, function, threads, shared));
    ok!(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&mut second, function, threads, shared, 1));
    assert_eq!(first, second);
    first
}

#[test]
fn blocks_fit_by_number_threads_registers_and_shared_memory() {
    let _context = Context::new();
    let few = add(".maxnreg 32");
    assert_eq!(blocks(few, 32, 0), 32, "32 blocks, whatever their size");
    assert_eq!(blocks(few, 128, 0), 16, "2048 threads");
    assert_eq!(blocks(few, 1000, 0), 2, "warps are whole");
    let plain = add("");
    assert_eq!(blocks(plain, 256, 0), 4, "64 registers for each of 1024 threads");
    ok!(cuFuncSetAttribute(plain, 8, 200_000));
    assert_eq!(blocks(plain, 32, 100_000), 2, "100096 + 1024 bytes of 233472");
    assert_eq!(blocks(plain, 32, 200_000), 1);
    assert_eq!(blocks(plain, 32, 300_000), 0);
    let bounded = add(".maxntid 64, 1, 1");
    assert_eq!(blocks(bounded, 65, 0), 0);
    let mut count = 0;
    refused(cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, plain, 0, 0)), api::INVALID_VALUE);
    refused(cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, plain, 1025, 0)), api::INVALID_VALUE);
    refused(
        cu!(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&mut count, plain, 32, 0, 2)),
        api::INVALID_VALUE,
    );
    refused(cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, 0, 32, 0)), api::INVALID_HANDLE);
}

unsafe extern "C" fn four_bytes_each(threads: i32) -> usize {
    threads as usize * 64
}

#[test]
fn the_block_that_fills_a_multiprocessor_is_found() {
    let _context = Context::new();
    let function = add(".maxnreg 32");
    let (mut grid, mut threads) = (0, 0);
    ok!(cuOccupancyMaxPotentialBlockSize(&mut grid, &mut threads, function, None, 0, 0));
    assert_eq!((grid, threads), (264, 1024));
    ok!(cuOccupancyMaxPotentialBlockSize(&mut grid, &mut threads, function, None, 0, 200));
    assert_eq!(
        (blocks(function, threads, 0) * threads, grid),
        (2048 / threads * threads, blocks(function, threads, 0) * 132)
    );
    assert!(threads <= 200);
    ok!(cuFuncSetAttribute(function, 8, 100_000));
    ok!(cuOccupancyMaxPotentialBlockSizeWithFlags(
        &mut grid,
        &mut threads,
        function,
        Some(four_bytes_each),
        0,
        0,
        0
    ));
    assert_eq!(blocks(function, threads, threads as usize * 64) * 132, grid);
    let mut room = 0;
    ok!(cuOccupancyAvailableDynamicSMemPerBlock(&mut room, function, 2, 256));
    assert_eq!(room, (228 * 1024 / 2 - 1024) / 128 * 128);
    assert_eq!(blocks(function, 256, room), 2);
    refused(cu!(cuOccupancyAvailableDynamicSMemPerBlock(&mut room, function, 9, 256)), api::INVALID_VALUE);
    refused(cu!(cuOccupancyAvailableDynamicSMemPerBlock(&mut room, function, 0, 256)), api::INVALID_VALUE);
}

#[test]
fn clusters_fit_into_groups_of_multiprocessors() {
    let _context = Context::new();
    let function = add("");
    let mut count = 0;
    let pair = [Attribute::new(4, &[2, 1, 1])];
    let config = Config::new([264, 1, 1], [1024, 1, 1], &pair);
    ok!(cuOccupancyMaxActiveClusters(&mut count, function, (&raw const config).cast()));
    assert_eq!(count, 66, "one block on each of 132 multiprocessors");
    let odd = Config { grid: [263, 1, 1], ..config };
    refused(
        cu!(cuOccupancyMaxActiveClusters(&mut count, function, (&raw const odd).cast())),
        api::INVALID_CLUSTER_SIZE,
    );
    ok!(cuOccupancyMaxPotentialClusterSize(&mut count, function, (&raw const config).cast()));
    assert_eq!(count, 8);
    ok!(cuFuncSetAttribute(function, 14, 1));
    ok!(cuOccupancyMaxPotentialClusterSize(&mut count, function, (&raw const config).cast()));
    assert_eq!(count, 16);
}
