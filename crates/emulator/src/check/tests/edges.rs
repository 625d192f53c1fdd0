//! What orders two accesses: with each edge the pair is silent, without it a race.

use super::*;

const MBARRIER: Object = Object::Mbarrier { block: 0, offset: 512 };

#[test]
fn accesses_of_one_thread_are_in_the_order_of_its_program() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 5), 0));
    silent(cluster.read(thread(0, 5), 0));
    silent(cluster.write(thread(0, 5), 0));
}

#[test]
fn lanes_of_a_warp_are_ordered_by_bar_warp_sync_alone() {
    for synchronized in [false, true] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 5), 0));
        if synchronized {
            cluster.warp_barrier(0, WARP);
        }
        let read = cluster.read(thread(0, 6), 0);
        if synchronized { silent(read) } else { refused(read, FaultKind::Race, Some((0, 5)), 2) }
    }
}

#[test]
fn bar_warp_sync_orders_only_the_lanes_of_its_mask() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    cluster.warp_barrier(0, 0x0000_ffff);
    silent(cluster.read(thread(0, 15), 0));
    cluster.warp_barrier(0, 0xffff_0000);
    refused(cluster.read(thread(0, 16), 0), FaultKind::Race, Some((0, 0)), 2);
}

#[test]
fn bar_sync_orders_what_lies_before_it_in_one_warp_and_behind_it_in_another() {
    for synchronized in [false, true] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 5), 0));
        if synchronized {
            cluster.barrier(&[0, 1]);
        }
        let read = cluster.read(thread(1, 6), 0);
        if synchronized { silent(read) } else { refused(read, FaultKind::Race, Some((0, 5)), 2) }
    }
}

#[test]
fn a_read_is_followed_by_a_write_only_behind_a_barrier() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 5), 0));
    cluster.barrier(&[0, 1]);
    silent(cluster.read(thread(1, 6), 0));
    refused(cluster.write(thread(0, 5), 0), FaultKind::Race, Some((1, 6)), 1);
    cluster.barrier(&[0, 1]);
    silent(cluster.write(thread(0, 5), 0));
}

#[test]
fn who_arrives_for_the_next_phase_early_is_not_seen_by_who_leaves_the_last_one_late() {
    let mut cluster = cluster();
    let object = Object::Barrier { block: 0, id: 0 };
    cluster.release(0, WARP, object);
    cluster.release(1, WARP, object);
    cluster.phase(object);
    cluster.acquire(0, WARP, object);
    silent(cluster.write(thread(0, 0), 0));
    cluster.release(0, WARP, object);
    cluster.acquire(1, WARP, object);
    refused(cluster.read(thread(1, 0), 0), FaultKind::Race, Some((0, 0)), 2);
}

#[test]
fn barriers_are_told_apart_by_number_and_block() {
    for other in [Object::Barrier { block: 0, id: 1 }, Object::Barrier { block: 1, id: 0 }, Object::Cluster] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 0), 0));
        cluster.release(0, WARP, Object::Barrier { block: 0, id: 0 });
        cluster.phase(Object::Barrier { block: 0, id: 0 });
        cluster.release(1, WARP, other);
        cluster.phase(other);
        cluster.acquire(1, WARP, other);
        refused(cluster.read(thread(1, 0), 0), FaultKind::Race, Some((0, 0)), 2);
    }
}

#[test]
fn the_clusters_barrier_orders_its_blocks() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    cluster.release(0, WARP, Object::Cluster);
    cluster.release(2, WARP, Object::Cluster);
    cluster.phase(Object::Cluster);
    cluster.acquire(2, WARP, Object::Cluster);
    silent(cluster.read(thread(2, 3), 0));
}

#[test]
fn a_relaxed_arrival_releases_what_a_fence_covered() {
    for fenced in [false, true] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 0), 0));
        if fenced {
            cluster.fence(0, 1, Scope::Cluster);
        }
        silent(cluster.write(thread(0, 0), 4));
        cluster.release_fenced(0, WARP, Object::Cluster, Scope::Cluster);
        cluster.phase(Object::Cluster);
        cluster.acquire(2, WARP, Object::Cluster);
        let read = cluster.read(thread(2, 3), 0);
        if fenced {
            silent(read)
        } else {
            refused(read, FaultKind::Race, Some((0, 0)), 2)
        }
        refused(cluster.read(thread(2, 3), 4), FaultKind::Race, Some((0, 0)), 2);
    }
}

#[test]
fn an_mbarrier_orders_who_arrived_before_who_waited_lane_by_lane() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    silent(cluster.write(thread(0, 1), 4));
    cluster.release(0, 1, MBARRIER);
    cluster.phase(MBARRIER);
    cluster.acquire(1, 1 << 7, MBARRIER);
    silent(cluster.read(thread(1, 7), 0));
    refused(cluster.read(thread(1, 7), 4), FaultKind::Race, Some((0, 1)), 2);
    refused(cluster.read(thread(1, 8), 0), FaultKind::Race, Some((0, 0)), 2);
    cluster.warp_barrier(1, WARP);
    silent(cluster.read(thread(1, 8), 0));
}

#[test]
fn order_is_passed_on_through_a_third_warp() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    let (first, second) = (Object::Barrier { block: 0, id: 1 }, Object::Barrier { block: 0, id: 2 });
    for (from, to, object) in [(0, 1, first), (1, 2, second)] {
        cluster.release(from, WARP, object);
        cluster.phase(object);
        cluster.acquire(to, WARP, object);
    }
    silent(cluster.write(thread(2, 9), 0));
}

#[test]
fn a_release_orders_for_an_acquire_of_the_same_place() {
    let block = Scope::Block;
    for (release, acquire, ordered) in [
        (Order::Release(block), Order::Acquire(block), true),
        (Order::Relaxed(block), Order::Acquire(block), false),
        (Order::Release(block), Order::Relaxed(block), false),
    ] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 0), 0));
        silent(cluster.strong(thread(0, 0), 64, Access::Write, release));
        silent(cluster.strong(thread(1, 1), 64, Access::Read, acquire));
        let read = cluster.read(thread(1, 1), 0);
        if ordered { silent(read) } else { refused(read, FaultKind::Race, Some((0, 0)), 2) }
    }
}

#[test]
fn fences_make_a_release_and_an_acquire_of_relaxed_accesses() {
    for (released, acquired) in [(true, true), (false, true), (true, false)] {
        let mut cluster = cluster();
        let order = Order::Relaxed(Scope::Device);
        silent(cluster.write(thread(0, 0), 0));
        if released {
            cluster.fence(0, WARP, Scope::Device);
        }
        silent(cluster.strong(thread(0, 0), 64, Access::Write, order));
        silent(cluster.strong(thread(1, 1), 64, Access::Atomic, order));
        if acquired {
            cluster.fence(1, 1 << 1, Scope::Device);
        }
        let read = cluster.read(thread(1, 1), 0);
        if released && acquired { silent(read) } else { refused(read, FaultKind::Race, Some((0, 0)), 2) }
    }
}

#[test]
fn each_thread_may_fence_and_one_raise_the_flag_behind_the_barrier() {
    let order = Order::Relaxed(Scope::Device);
    for (fenced, met) in [(true, true), (false, true), (true, false)] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 5), 0));
        if fenced {
            cluster.fence(0, WARP, Scope::Device);
        }
        if met {
            cluster.barrier(&[0, 1]);
        }
        silent(cluster.strong(thread(0, 0), 64, Access::Atomic, order));
        let flag = |cluster: &mut Checker| cluster.shared(thread(2, 0), 0, 64, 4, Access::Atomic, order, 3);
        silent(flag(&mut cluster));
        cluster.fence(2, 1, Scope::Device);
        let read = cluster.read(thread(2, 0), 0);
        if fenced && met { silent(read) } else { refused(read, FaultKind::Race, Some((0, 5)), 2) }
    }
}

#[test]
fn a_fence_releases_nothing_that_comes_after_it() {
    let mut cluster = cluster();
    let order = Order::Relaxed(Scope::Device);
    cluster.fence(0, 1, Scope::Device);
    silent(cluster.write(thread(0, 0), 0));
    silent(cluster.strong(thread(0, 0), 64, Access::Write, order));
    silent(cluster.strong(thread(1, 1), 64, Access::Read, order));
    cluster.fence(1, WARP, Scope::Device);
    refused(cluster.read(thread(1, 1), 0), FaultKind::Race, Some((0, 0)), 2);
}

#[test]
fn atomics_pass_on_what_was_released_and_stores_end_it() {
    for (access, ordered) in [(Access::Atomic, true), (Access::Write, false)] {
        let mut cluster = cluster();
        silent(cluster.write(thread(0, 0), 0));
        silent(cluster.strong(thread(0, 0), 64, Access::Write, Order::Release(Scope::Device)));
        silent(cluster.strong(thread(1, 0), 64, access, Order::Relaxed(Scope::Device)));
        silent(cluster.strong(thread(1, 1), 64, Access::Read, Order::Acquire(Scope::Device)));
        let read = cluster.read(thread(1, 1), 0);
        if ordered { silent(read) } else { refused(read, FaultKind::Race, Some((0, 0)), 2) }
    }
}

#[test]
fn scopes_of_a_release_and_its_acquire_hold_each_others_thread() {
    use Scope::{Block, Cluster, Device};
    // Warp 2 is of the other block.
    for (reader, release, acquire, ordered) in [
        (1, Block, Block, true),
        (2, Block, Device, false),
        (2, Device, Block, false),
        (2, Cluster, Device, true),
        (2, Device, Cluster, true),
    ] {
        let mut cluster = cluster();
        let flag = |cluster: &mut Checker, who, access, order| {
            cluster.shared(thread(who, 0), 0, 64, 4, access, order, 3)
        };
        silent(cluster.write(thread(0, 0), 0));
        silent(flag(&mut cluster, 0, Access::Write, Order::Release(release)));
        let read = flag(&mut cluster, reader, Access::Read, Order::Acquire(acquire));
        if ordered {
            silent(read);
            silent(cluster.read(thread(reader, 0), 0));
        } else {
            refused(read, FaultKind::Race, Some((0, 0)), 3);
        }
    }
}

#[test]
fn cp_async_is_ordered_after_its_issuer_and_before_who_waits_for_it() {
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    silent(cluster.read(thread(0, 0), 4));
    let flight = cluster.issue(thread(0, 0), Asynchronous::Copy, 9);
    silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 0 }, 16, Access::Write));
    refused(cluster.read(thread(0, 0), 8), FaultKind::Async, Some((0, 0)), 9);
    cluster.complete(flight, None);
    refused(cluster.read(thread(0, 0), 8), FaultKind::Async, Some((0, 0)), 9);
    cluster.wait(0, 1, flight, false);
    silent(cluster.read(thread(0, 0), 8));
    refused(cluster.read(thread(1, 0), 8), FaultKind::Async, Some((0, 0)), 9);
    cluster.barrier(&[0, 1]);
    silent(cluster.read(thread(1, 0), 8));
    silent(cluster.write(thread(1, 0), 8));
}

#[test]
fn cp_async_that_arrives_at_an_mbarrier_is_ordered_before_who_waits_there() {
    let mut cluster = cluster();
    let flight = cluster.issue(thread(0, 3), Asynchronous::Copy, 9);
    silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 16 }, 16, Access::Write));
    cluster.complete(flight, Some(MBARRIER));
    refused(cluster.read(thread(1, 0), 16), FaultKind::Async, Some((0, 3)), 9);
    cluster.phase(MBARRIER);
    cluster.acquire(1, WARP, MBARRIER);
    silent(cluster.read(thread(1, 0), 16));
}

#[test]
fn a_bulk_load_is_ordered_before_who_waits_on_its_mbarrier_alone() {
    let mut cluster = cluster();
    let loads = [512, 520].map(|offset| {
        let flight = cluster.issue(thread(0, 0), Asynchronous::Bulk, 9);
        let place = Place::Shared { block: 0, offset: (offset - 512) * 32 };
        silent(cluster.asynchronous(flight, place, 256, Access::Write));
        let object = Object::Mbarrier { block: 0, offset };
        cluster.complete(flight, Some(object));
        cluster.phase(object);
        object
    });
    cluster.acquire(1, WARP, loads[1]);
    silent(cluster.read(thread(1, 0), 300));
    refused(cluster.read(thread(1, 0), 60), FaultKind::Async, None, 9);
    cluster.acquire(1, WARP, loads[0]);
    silent(cluster.read(thread(1, 0), 60));
}

#[test]
fn a_bulk_store_lets_go_of_its_source_when_its_issuer_waited_for_the_reads() {
    let memory = allocation(1024);
    let mut cluster = cluster();
    silent(cluster.write(thread(0, 0), 0));
    cluster.proxy_fence(0, WARP);
    let flight = cluster.issue(thread(0, 0), Asynchronous::Bulk, 9);
    silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset: 0 }, 128, Access::Read));
    silent(cluster.asynchronous(flight, Place::Global(&memory, 0), 128, Access::Write));
    silent(cluster.read(thread(0, 0), 0));
    refused(cluster.write(thread(0, 0), 0), FaultKind::Async, Some((0, 0)), 9);
    cluster.complete(flight, None);
    cluster.wait(0, 1, flight, true);
    silent(cluster.write(thread(0, 0), 0));
    refused(cluster.write(thread(1, 0), 8), FaultKind::Async, Some((0, 0)), 9);
    let read =
        |cluster: &mut Checker| cluster.global(thread(0, 0), &memory, 4, 4, Access::Read, Order::Weak, 7);
    refused(read(&mut cluster), FaultKind::Async, Some((0, 0)), 9);
    cluster.wait(0, 1, flight, false);
    silent(read(&mut cluster));
}

#[test]
fn a_matrix_product_lets_go_of_its_operands_for_who_waited_for_it() {
    let mut cluster = cluster();
    let flights = [0, 256].map(|offset| {
        let flight = cluster.issue(thread(0, 0), Asynchronous::Product, 9);
        silent(cluster.asynchronous(flight, Place::Shared { block: 0, offset }, 256, Access::Read));
        flight
    });
    cluster.wait(0, WARP, flights[0], false);
    cluster.wait(1, WARP, flights[0], false);
    silent(cluster.write(thread(0, 9), 0));
    silent(cluster.write(thread(1, 9), 128));
    refused(cluster.write(thread(1, 9), 256), FaultKind::Async, Some((0, 0)), 9);
    refused(cluster.write(thread(2, 0), 64), FaultKind::Async, Some((0, 0)), 9);
}

#[test]
fn launches_are_ordered() {
    let memory = allocation(64);
    let write =
        |cluster: &mut Checker| cluster.global(thread(0, 0), &memory, 0, 4, Access::Write, Order::Weak, 5);
    silent(write(&mut cluster_of(1, 0)));
    silent(write(&mut cluster_of(2, 1)));
    refused(write(&mut cluster_of(2, 0)), FaultKind::Race, Some((0, 0)), 5);
    silent(write(&mut cluster_of(3, 0)));
}

#[test]
fn blocks_are_ordered_by_release_and_acquire_of_global_memory() {
    let order = |ordered, order: fn(Scope) -> Order| {
        if ordered { order(Scope::Device) } else { Order::Relaxed(Scope::Device) }
    };
    for (released, acquired) in [(true, true), (false, true), (true, false)] {
        let memory = allocation(4096);
        let (mut first, mut second) = (cluster_of(1, 0), cluster_of(1, 1));
        let by = |cluster: &mut Checker, offset, access, order| {
            cluster.global(thread(1, 2), &memory, offset, 4, access, order, 6)
        };
        silent(by(&mut first, 0, Access::Write, Order::Weak));
        silent(by(&mut first, 64, Access::Atomic, order(released, Order::Release)));
        silent(by(&mut second, 64, Access::Atomic, order(acquired, Order::Acquire)));
        let read = by(&mut second, 0, Access::Read, Order::Weak);
        if released && acquired { silent(read) } else { refused(read, FaultKind::Race, Some((1, 2)), 6) }
    }
}

#[test]
fn the_last_block_knows_what_all_others_wrote_before_their_fences() {
    let memory = allocation(4096);
    let by = |cluster: &mut Checker, warp, offset, access, order| {
        cluster.global(thread(warp, 0), &memory, offset, 4, access, order, 6)
    };
    let mut clusters: Vec<_> = (0..4).map(|number| cluster_of(1, number)).collect();
    for (number, cluster) in clusters.iter_mut().enumerate() {
        silent(by(cluster, 1, number as u64 * 4, Access::Write, Order::Weak));
        cluster.barrier(&[0, 1]);
        cluster.fence(0, 1, Scope::Device);
        silent(by(cluster, 0, 1024, Access::Atomic, Order::Relaxed(Scope::Device)));
    }
    let last = &mut clusters[3];
    refused(by(last, 0, 0, Access::Read, Order::Weak), FaultKind::Race, Some((1, 0)), 6);
    last.fence(0, 1, Scope::Device);
    last.barrier(&[0, 1]);
    (0..4).for_each(|number| silent(by(last, 1, number * 4, Access::Read, Order::Weak)));
}

#[test]
fn fences_of_two_blocks_are_in_the_order_that_what_is_read_behind_them_proves() {
    let fence = |cluster: &mut Checker, total: bool| match total {
        true => cluster.total_fence(0, WARP, Scope::Device),
        false => cluster.fence(0, WARP, Scope::Device),
    };
    for (first, second, stale) in
        [(true, true, true), (false, true, true), (true, false, true), (true, true, false)]
    {
        let memory = allocation(256);
        let (mut one, mut two) = (cluster_of(1, 0), cluster_of(1, 1));
        let touch = |cluster: &mut Checker, offset, access, order| {
            cluster.global(thread(0, 3), &memory, offset, 4, access, order, 7)
        };
        let flag = |cluster: &mut Checker, access| touch(cluster, 64, access, Order::Relaxed(Scope::Device));
        silent(touch(&mut one, 0, Access::Write, Order::Weak));
        fence(&mut one, first);
        if stale {
            silent(flag(&mut one, Access::Read));
        }
        silent(flag(&mut two, Access::Write));
        if !stale {
            silent(flag(&mut one, Access::Read));
        }
        fence(&mut two, second);
        let read = touch(&mut two, 0, Access::Read, Order::Weak);
        if first && second && stale { silent(read) } else { refused(read, FaultKind::Race, Some((0, 3)), 7) }
    }
}
