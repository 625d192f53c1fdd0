//! How many blocks fit on a multiprocessor: by threads, blocks, shared memory and registers.

use std::ffi::{c_int, c_uint};

use super::abi::{Handle, In, Out};
use super::context::current;
use super::entry::{entries, refuse};
use super::function::Function;
use super::launch::{Config, LARGEST_CLUSTER, product};
use super::{Code, Driver, Result, driver};

/// Shared memory is given out in pieces of this many bytes.
const SHARED_STEP: u32 = 128;
/// Registers of a warp are given out in pieces of this many.
const REGISTER_STEP: u32 = 256;
const REGISTERS: u32 = 65536;
/// Multiprocessors that a cluster's blocks can be spread over.
const CLUSTER_REACH: u32 = 16;

/// Blocks of a function that a multiprocessor holds at once.
pub(super) fn blocks(driver: &Driver, function: &Function, threads: u32, dynamic_shared: u32) -> Result<u32> {
    let (device, fixed) = (driver.device, function.program()?.shared_bytes);
    if threads == 0 || threads > 1024 {
        return Err(refuse(
            Code::INVALID_VALUE,
            format_args!("blocks of {threads} threads, expected 1 to 1024"),
        ));
    }
    let shared = fixed.saturating_add(dynamic_shared);
    if threads > function.max_threads()? || shared > device.shared_per_block {
        return Ok(0);
    }
    let warps = threads.div_ceil(32);
    let by_threads = device.threads_per_multiprocessor / (warps * 32);
    let by_shared = match shared.next_multiple_of(SHARED_STEP) + device.reserved_shared {
        0 => u32::MAX,
        bytes => device.shared_per_multiprocessor / bytes,
    };
    let by_registers = REGISTERS / ((function.registers() * 32).next_multiple_of(REGISTER_STEP) * warps);
    Ok(device.blocks_per_multiprocessor.min(by_threads).min(by_shared).min(by_registers))
}

/// `CUoccupancyB2DSize`
type SharedOfThreads = Option<unsafe extern "C" fn(c_int) -> usize>;

fn active(
    out: Out<c_int>,
    function: Handle<Function>,
    threads: c_int,
    dynamic_shared: usize,
    flags: c_uint,
) -> Result<()> {
    let driver = driver()?;
    current()?;
    out.check()?;
    check_flags(flags)?;
    let threads = u32::try_from(threads).unwrap_or(0);
    let dynamic_shared = u32::try_from(dynamic_shared).unwrap_or(u32::MAX);
    out.set(blocks(driver, &*function.get()?, threads, dynamic_shared)? as c_int)
}

fn check_flags(flags: c_uint) -> Result<()> {
    match flags {
        0 | 1 => Ok(()),
        _ => Err(refuse(Code::INVALID_VALUE, format_args!("occupancy flags {flags:#x} are not known"))),
    }
}

fn potential(
    (grid, threads): (Out<c_int>, Out<c_int>),
    function: Handle<Function>,
    shared_of_threads: SharedOfThreads,
    dynamic_shared: usize,
    limit: c_int,
    flags: c_uint,
) -> Result<()> {
    let driver = driver()?;
    current()?;
    grid.check()?;
    threads.check()?;
    check_flags(flags)?;
    let function = function.get()?;
    let most = function.max_threads()?;
    let most = if limit > 0 { most.min(limit as u32) } else { most };
    let (mut best, mut best_blocks) = (0, 0);
    for size in (32..=most.next_multiple_of(32)).rev().step_by(32).map(|size| size.min(most)) {
        // SAFETY: the caller of the entry point vouches for its function.
        let shared = shared_of_threads.map_or(dynamic_shared, |f| unsafe { f(size as c_int) });
        let fitting = blocks(driver, &function, size, u32::try_from(shared).unwrap_or(u32::MAX))?;
        if fitting * size > best_blocks * best {
            (best, best_blocks) = (size, fitting);
        }
    }
    if best == 0 {
        return Err(refuse(Code::INVALID_VALUE, format_args!("{}: no block fits", function.name)));
    }
    threads.set(best as c_int)?;
    grid.set((best_blocks * driver.device.multiprocessors) as c_int)
}

/// Clusters of a launch that run at once.
fn clusters(driver: &Driver, function: &Function, config: &Config, size: u32) -> Result<u32> {
    let shape = config.shape()?;
    let held = blocks(driver, function, product(shape.threads).min(1025) as u32, shape.dynamic_shared)?;
    let (groups, rest) =
        (driver.device.multiprocessors / CLUSTER_REACH, driver.device.multiprocessors % CLUSTER_REACH);
    Ok(groups * (CLUSTER_REACH * held / size) + rest * held / size)
}

entries! {
    /// Blocks that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(out: Out<c_int>, function: Handle<Function>, threads: c_int, shared: usize) {
        active(out, function, threads, shared, 0)
    }

    /// Blocks that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>,
        function: Handle<Function>,
        threads: c_int,
        shared: usize,
        flags: c_uint,
    ) {
        active(out, function, threads, shared, flags)
    }

    /// The block of which most threads run at once.
    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>,
        threads: Out<c_int>,
        function: Handle<Function>,
        shared_of_threads: SharedOfThreads,
        shared: usize,
        limit: c_int,
    ) {
        potential((grid, threads), function, shared_of_threads, shared, limit, 0)
    }

    /// The block of which most threads run at once.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>,
        threads: Out<c_int>,
        function: Handle<Function>,
        shared_of_threads: SharedOfThreads,
        shared: usize,
        limit: c_int,
        flags: c_uint,
    ) {
        potential((grid, threads), function, shared_of_threads, shared, limit, flags)
    }

    /// Dynamic shared memory that blocks may have so that so many run at once.
    fn cuOccupancyAvailableDynamicSMemPerBlock(out: Out<usize>, function: Handle<Function>, count: c_int, threads: c_int) {
        let driver = driver()?;
        current()?;
        out.check()?;
        let function = function.get()?;
        let count = u32::try_from(count).unwrap_or(0);
        let without = blocks(driver, &function, u32::try_from(threads).unwrap_or(0), 0)?;
        if count == 0 || count > without {
            return Err(refuse(Code::INVALID_VALUE, format_args!("{count} blocks at once, of which {without} fit")));
        }
        let device = driver.device;
        let each = (device.shared_per_multiprocessor / count).saturating_sub(device.reserved_shared) / SHARED_STEP * SHARED_STEP;
        out.set(each.min(device.shared_per_block).saturating_sub(function.program()?.shared_bytes) as usize)
    }

    /// The largest cluster that can be launched.
    fn cuOccupancyMaxPotentialClusterSize(out: Out<c_int>, function: Handle<Function>, config: In<Config>) {
        let driver = driver()?;
        current()?;
        out.check()?;
        let (function, config) = (function.get()?, config.get()?);
        let most = if function.non_portable_cluster() { LARGEST_CLUSTER } else { 8 };
        let most = if driver.device.at_least(9, 0) { most as u32 } else { 1 };
        let mut sizes = std::iter::successors(Some(most), |size| (*size > 1).then_some(size / 2));
        let fitting = sizes.find(|size| matches!(clusters(driver, &function, &config, *size), Ok(1..)));
        out.set(fitting.unwrap_or(0) as c_int)
    }

    /// Clusters that run at once.
    fn cuOccupancyMaxActiveClusters(out: Out<c_int>, function: Handle<Function>, config: In<Config>) {
        let driver = driver()?;
        current()?;
        out.check()?;
        let (function, config) = (function.get()?, config.get()?);
        let cluster = config.shape()?.check(driver, &function)?;
        out.set(clusters(driver, &function, &config, product(cluster) as u32)? as c_int)
    }
}
