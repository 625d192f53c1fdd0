//! What is reported, and the same in order, which is not.

use super::*;

/// A load of 256 bytes to the start of block 0's shared memory, issued by thread 0.
fn load(cluster: &mut Checker, warp: u32) -> (Flight, Result<(), Fault>) {
    let flight = cluster.issue(thread(warp, 0), Asynchronous::Bulk, 9);
    (flight, cluster.asynchronous(flight, Place::Shared { block: 0, offset: 0 }, 256, Access::Write))
}

/// A warp that touches words side by side from an offset.
fn row(
    cluster: &mut Checker,
    warp: u32,
    mask: u32,
    offset: u32,
    len: u32,
    access: Access,
) -> Result<(), Fault> {
    let offsets = std::array::from_fn(|lane| offset + lane as u32 * len);
    cluster.shared_warp(warp, mask, 0, &offsets, len, access, Order::Weak, 4, &|_, _| true)
}

#[test]
fn neighbours_of_two_bytes_are_told_apart() {
    let mut cluster = cluster();
    for lane in 0..32 {
        silent(cluster.shared(thread(0, lane), 0, 2 * lane, 2, Access::Write, Order::Weak, 4));
    }
    for lane in 0..32 {
        silent(cluster.shared(thread(0, lane), 0, 2 * lane, 2, Access::Read, Order::Weak, 4));
    }
    let read = cluster.shared(thread(0, 7), 0, 16, 2, Access::Read, Order::Weak, 4);
    refused(read, FaultKind::Race, Some((0, 8)), 4);
}

#[test]
fn neighbours_of_one_byte_are_told_apart_in_a_word_read_before() {
    let mut cluster = cluster();
    silent(cluster.read(thread(0, 0), 4));
    cluster.barrier(&[0, 1]);
    for lane in 0..4 {
        silent(cluster.shared(thread(1, lane), 0, 4 + lane, 1, Access::Write, Order::Weak, 4));
    }
    refused(cluster.read(thread(1, 2), 4), FaultKind::Race, Some((1, 0)), 4);
}

#[test]
fn a_row_of_a_warp_is_each_lanes_own_part_whatever_the_size_of_an_element() {
    for len in [1, 2, 4, 8, 16] {
        for other in [0, 1] {
            let mut cluster = cluster();
            silent(row(&mut cluster, 0, WARP, 0, len, Access::Write));
            silent(row(&mut cluster, 0, WARP, 0, len, Access::Read));
            silent(row(&mut cluster, 0, 0x0ff0, 0, len, Access::Write));
            // The lane beside touches the last byte of lane 13's part.
            let read = cluster.shared(thread(other, 14), 0, 14 * len - 1, 1, Access::Read, Order::Weak, 5);
            refused(read, FaultKind::Race, Some((0, 13)), 4);
            silent(cluster.shared(thread(0, 13), 0, 14 * len - 1, 1, Access::Read, Order::Weak, 5));
        }
    }
}

#[test]
fn a_shifted_row_is_a_race_and_behind_a_barrier_none() {
    for synchronized in [false, true] {
        let mut cluster = cluster();
        silent(row(&mut cluster, 0, WARP, 0, 4, Access::Write));
        if synchronized {
            cluster.warp_barrier(0, WARP);
        }
        let read = row(&mut cluster, 0, WARP >> 1, 4, 4, Access::Read);
        if synchronized { silent(read) } else { refused(read, FaultKind::Race, Some((0, 1)), 4) }
    }
}

#[test]
fn rows_of_two_warps_race_unless_they_are_ordered() {
    for synchronized in [false, true] {
        let mut cluster = cluster();
        silent(row(&mut cluster, 0, WARP, 128, 4, Access::Read));
        if synchronized {
            cluster.barrier(&[0, 1]);
        }
        let write = row(&mut cluster, 1, WARP, 128, 4, Access::Write);
        if synchronized { silent(write) } else { refused(write, FaultKind::Race, Some((0, 0)), 4) }
    }
}

#[test]
fn lanes_of_one_instruction_may_store_the_same_value_to_a_place_but_not_two() {
    for differ in [false, true] {
        let mut cluster = cluster();
        let offsets = std::array::from_fn(|lane| lane as u32 % 8 * 4);
        let write = |cluster: &mut Checker| {
            cluster.shared_warp(0, WARP, 0, &offsets, 4, Access::Write, Order::Weak, 4, &|_, _| differ)
        };
        let first = write(&mut cluster);
        if differ {
            refused(first, FaultKind::Race, Some((0, 0)), 4);
        } else {
            silent(first);
            // Each lane comes after its own write alone.
            refused(cluster.read(thread(0, 8), 0), FaultKind::Race, Some((0, 0)), 4);
        }
    }
}

#[test]
fn all_lanes_may_read_a_place_that_one_may_then_not_write() {
    let mut cluster = cluster();
    silent(cluster.shared_warp(0, WARP, 0, &[64; 32], 4, Access::Read, Order::Weak, 4, &|_, _| true));
    refused(cluster.write(thread(0, 0), 64), FaultKind::Race, Some((0, 1)), 4);
    cluster.warp_barrier(0, WARP);
    silent(cluster.write(thread(0, 0), 64));
}

#[test]
fn every_reader_of_a_place_is_remembered() {
    for reader in 0..4 {
        let mut cluster = cluster();
        (0..4).for_each(|warp| silent(cluster.read(thread(warp, 1), 0)));
        let others: Vec<u32> = (0..4).filter(|warp| *warp != reader).collect();
        for warp in &others {
            cluster.release(*warp, WARP, Object::Cluster);
        }
        cluster.phase(Object::Cluster);
        cluster.acquire(others[0], WARP, Object::Cluster);
        refused(cluster.write(thread(others[0], 1), 0), FaultKind::Race, Some((reader, 1)), 1);
    }
}

#[test]
fn atomics_race_with_plain_accesses_but_not_with_one_another() {
    let order = Order::Relaxed(Scope::Block);
    let mut cluster = cluster();
    for lane in 0..32 {
        silent(cluster.strong(thread(0, lane), 0, Access::Atomic, order));
        silent(cluster.strong(thread(1, lane), 0, Access::Atomic, order));
        silent(cluster.strong(thread(1, lane), 0, Access::Read, order));
    }
    assert_eq!(cluster.read(thread(0, 0), 0).expect_err("a race").kind, FaultKind::Race);
    cluster.barrier(&[0, 1]);
    silent(cluster.read(thread(0, 0), 0));
    refused(cluster.strong(thread(1, 0), 0, Access::Atomic, order), FaultKind::Race, Some((0, 0)), 1);
}

#[test]
fn atomics_whose_scope_does_not_hold_the_other_thread_race() {
    use Scope::{Block, Cluster, Device};
    // Warp 1 is of the same block, warp 2 of another one of the cluster.
    for (other, first, second, together) in [
        (1, Block, Block, true),
        (2, Block, Device, false),
        (2, Device, Block, false),
        (2, Cluster, Cluster, true),
    ] {
        let mut cluster = cluster();
        silent(cluster.strong(thread(0, 0), 0, Access::Atomic, Order::Relaxed(first)));
        let atomic = cluster.strong(thread(other, 0), 0, Access::Atomic, Order::Relaxed(second));
        if together {
            silent(atomic);
        } else {
            assert!(atomic.as_ref().is_err_and(|fault| fault.message.contains("scope")), "{atomic:?}");
            refused(atomic, FaultKind::Race, Some((0, 0)), 3);
        }
    }
    let memory = allocation(64);
    for (scope, together) in [(Block, false), (Cluster, false), (Device, true)] {
        let launch = 10 + scope as u64;
        let atomic = |number| {
            let order = Order::Relaxed(scope);
            cluster_of(launch, number).global(thread(0, 0), &memory, 0, 4, Access::Atomic, order, 3)
        };
        silent(atomic(0));
        if together { silent(atomic(1)) } else { refused(atomic(1), FaultKind::Race, Some((0, 0)), 3) }
    }
}

#[test]
fn a_bulk_store_reads_what_was_written_before_a_proxy_fence_on_either_side_of_the_barrier() {
    for (writer, issuer, early) in
        [(true, false, false), (false, true, false), (false, false, true), (false, false, false)]
    {
        let mut cluster = cluster();
        if early {
            cluster.proxy_fence(1, WARP);
        }
        silent(cluster.write(thread(1, 3), 0));
        if writer {
            cluster.proxy_fence(1, 1 << 3);
        }
        cluster.barrier(&[0, 1]);
        if issuer {
            cluster.proxy_fence(0, 1);
        }
        let flight = cluster.issue(thread(0, 0), Asynchronous::Bulk, 9);
        let read = cluster.asynchronous(flight, Place::Shared { block: 0, offset: 0 }, 128, Access::Read);
        if writer || issuer {
            silent(read);
        } else {
            assert!(
                read.as_ref().is_err_and(|fault| fault.message.contains("fence.proxy.async")),
                "{read:?}"
            );
            refused(read, FaultKind::Async, Some((1, 3)), 2);
        }
    }
}

#[test]
fn a_matrix_product_needs_the_proxy_fence_of_its_own_thread_too() {
    for fenced in [false, true] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 0), 0));
        if fenced {
            cluster.proxy_fence(0, WARP);
        }
        let flight = cluster.issue(thread(0, 0), Asynchronous::Product, 9);
        let read = cluster.asynchronous(flight, Place::Shared { block: 0, offset: 0 }, 16, Access::Read);
        if fenced { silent(read) } else { refused(read, FaultKind::Async, Some((0, 0)), 2) }
    }
}

#[test]
fn cp_async_needs_no_proxy_fence() {
    let memory = allocation(64);
    let mut cluster = cluster();
    let write = cluster.global(thread(0, 0), &memory, 0, 16, Access::Write, Order::Weak, 2);
    silent(write);
    let flight = cluster.issue(thread(0, 0), Asynchronous::Copy, 9);
    silent(cluster.asynchronous(flight, Place::Global(&memory, 0), 16, Access::Read));
    let other = cluster.issue(thread(0, 1), Asynchronous::Copy, 9);
    let read = cluster.asynchronous(other, Place::Global(&memory, 0), 16, Access::Read);
    refused(read, FaultKind::Race, Some((0, 0)), 2);
}

#[test]
fn a_load_overwrites_what_others_have_finished_reading() {
    for synchronized in [false, true] {
        let mut cluster = cluster();
        silent(cluster.read(thread(1, 4), 8));
        if synchronized {
            cluster.warp_barrier(1, WARP);
            cluster.release(1, 1, Object::Mbarrier { block: 0, offset: 1024 });
            cluster.phase(Object::Mbarrier { block: 0, offset: 1024 });
            cluster.acquire(0, 1, Object::Mbarrier { block: 0, offset: 1024 });
        }
        let (_, write) = load(&mut cluster, 0);
        if synchronized { silent(write) } else { refused(write, FaultKind::Race, Some((1, 4)), 1) }
    }
}

#[test]
fn two_loads_to_the_same_place_are_ordered_by_the_first_ones_mbarrier() {
    for waited in [false, true] {
        let mut cluster = cluster();
        let object = Object::Mbarrier { block: 0, offset: 1024 };
        let (flight, write) = load(&mut cluster, 0);
        silent(write);
        cluster.complete(flight, Some(object));
        cluster.phase(object);
        if waited {
            cluster.acquire(0, 1, object);
        }
        let (_, write) = load(&mut cluster, 0);
        if waited { silent(write) } else { refused(write, FaultKind::Async, None, 9) }
    }
}

#[test]
fn a_phase_that_ends_later_does_not_tell_of_a_load_that_completes_later_still() {
    let mut cluster = cluster();
    let object = Object::Mbarrier { block: 0, offset: 1024 };
    let (flight, write) = load(&mut cluster, 0);
    silent(write);
    cluster.phase(object);
    cluster.complete(flight, Some(object));
    cluster.acquire(1, WARP, object);
    refused(cluster.read(thread(1, 0), 0), FaultKind::Async, None, 9);
    cluster.phase(object);
    cluster.acquire(1, WARP, object);
    silent(cluster.read(thread(1, 0), 0));
}

#[test]
fn the_operand_of_a_product_is_overwritten_only_behind_its_end() {
    for waited in [false, true] {
        let mut cluster = cluster();
        let flight = cluster.issue(thread(1, 0), Asynchronous::Product, 5);
        silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 64 }, 64, Access::Read));
        let object = Object::Mbarrier { block: 0, offset: 1024 };
        if waited {
            cluster.wait(1, WARP, flight, false);
        }
        cluster.release(1, 1, object);
        cluster.phase(object);
        cluster.acquire(0, 1, object);
        let (_, write) = load(&mut cluster, 0);
        if waited { silent(write) } else { refused(write, FaultKind::Async, Some((1, 0)), 5) }
    }
}

#[test]
fn what_is_read_as_constant_is_not_written_in_the_launch_ordered_or_not() {
    let memory = allocation(64);
    let by =
        |cluster: &mut Checker, access, order| cluster.global(thread(0, 0), &memory, 0, 4, access, order, 5);
    for launch in [1, 2] {
        let mut cluster = cluster_of(launch, 0);
        silent(by(&mut cluster, Access::Read, Order::Constant));
        cluster.barrier(&[0, 1]);
        refused(by(&mut cluster, Access::Write, Order::Weak), FaultKind::Race, Some((0, 0)), 5);
    }
    let mut cluster = cluster_of(3, 0);
    silent(by(&mut cluster, Access::Write, Order::Weak));
    refused(by(&mut cluster, Access::Read, Order::Constant), FaultKind::Race, Some((0, 0)), 5);
}

#[test]
fn shared_memory_that_nobody_wrote_is_not_read() {
    let options = Options { uninitialized: true, ..Options::NONE };
    let unwritten =
        |read: Result<(), Fault>| assert_eq!(read.expect_err("unwritten").kind, FaultKind::Uninitialized);
    let mut cluster = Checker::new(options, 1, 0, 2, 1, 4096);
    silent(cluster.shared(thread(0, 0), 0, 60, 8, Access::Write, Order::Weak, 1));
    silent(cluster.shared(thread(1, 0), 0, 60, 8, Access::Read, Order::Weak, 1));
    for (block, offset) in [(0, 64), (0, 56), (1, 60)] {
        unwritten(cluster.shared(thread(0, 0), block, offset, 8, Access::Read, Order::Weak, 1));
    }
    unwritten(cluster.shared(thread(0, 0), 0, 128, 4, Access::Atomic, Order::Weak, 1));
    let flight = cluster.issue(thread(0, 0), Asynchronous::Copy, 1);
    unwritten(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 4080 }, 16, Access::Read));
    silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 4080 }, 16, Access::Write));
    silent(cluster.shared(thread(0, 0), 0, 4095, 1, Access::Read, Order::Weak, 1));
}

#[test]
fn global_memory_that_nobody_wrote_is_not_read() {
    let options = Options { uninitialized: true, ..Options::NONE };
    let memory = allocation(256);
    memory.write(0, &[0; 6]);
    let mut cluster = Checker::new(options, 1, 0, 1, 1, 0);
    let mut by =
        |offset, len, access| cluster.global(thread(0, 0), &memory, offset, len, access, Order::Weak, 1);
    silent(by(0, 4, Access::Read));
    assert_eq!(by(4, 4, Access::Read).expect_err("unwritten").kind, FaultKind::Uninitialized);
    silent(by(6, 2, Access::Write));
    silent(by(4, 4, Access::Read));
}

#[test]
fn nothing_is_said_where_nothing_is_checked() {
    let memory = allocation(64);
    let mut cluster = Checker::new(Options::NONE, 1, 0, 2, 2, 4096);
    for warp in 0..4 {
        silent(cluster.write(thread(warp, 0), 0));
        silent(cluster.read(thread(warp, 0), 64));
        silent(cluster.global(thread(warp, 0), &memory, 0, 4, Access::Write, Order::Weak, 1));
        let (flight, write) = load(&mut cluster, warp);
        silent(write);
        cluster.complete(flight, Some(Object::Cluster));
        cluster.wait(warp, WARP, flight, false);
        cluster.barrier(&[0, 1]);
        cluster.fence(warp, WARP, Scope::Device);
        cluster.proxy_fence(warp, WARP);
    }
}

#[test]
fn a_race_in_global_memory_is_seen_from_another_block_and_within_one() {
    let memory = allocation(8192);
    let offsets: WideRow = std::array::from_fn(|lane| 4096 + lane as u64 * 4);
    let by = |cluster: &mut Checker, warp, access| {
        cluster.global_warp(warp, WARP, &memory, &offsets, 4, access, Order::Weak, 8, &|_, _| true)
    };
    let (mut first, mut second) = (cluster_of(1, 0), cluster_of(1, 1));
    silent(by(&mut first, 0, Access::Write));
    silent(by(&mut first, 0, Access::Read));
    refused(by(&mut second, 0, Access::Read), FaultKind::Race, Some((0, 0)), 8);
    refused(by(&mut first, 1, Access::Read), FaultKind::Race, Some((0, 0)), 8);
    first.barrier(&[0, 1]);
    silent(by(&mut first, 1, Access::Read));
}
