//! Finding, freeing and registering memory, and what is said where there is none.

use super::{Memory, Nowhere};

fn text(memory: &Memory, address: u64, len: u64) -> String {
    memory.find(address, len).expect_err("nothing is there").describe(address, len)
}

#[test]
fn says_how_far_an_address_is_from_the_nearest_allocation() {
    let memory = Memory::default();
    let first = memory.allocate(4096).expect("room").base;
    let second = memory.allocate(100).expect("room").base;
    assert_eq!(
        text(&memory, first + 4096 + 12, 4),
        format!(", 12 bytes past the end of the allocation of 4096 bytes at {first:#x}")
    );
    assert_eq!(
        text(&memory, first + 4096, 4),
        format!(", just past the end of the allocation of 4096 bytes at {first:#x}")
    );
    assert_eq!(
        text(&memory, first + 4088, 16),
        format!(", the last 8 of them past the end of the allocation of 4096 bytes at {first:#x}")
    );
    assert_eq!(
        text(&memory, second - 4, 4),
        format!(", 4 bytes before the allocation of 100 bytes at {second:#x}")
    );
    assert_eq!(
        text(&memory, first - 8, 4),
        format!(", 8 bytes before the allocation of 4096 bytes at {first:#x}")
    );
    assert_eq!(text(&memory, 16, 4), ", where nothing is allocated");
    assert_eq!(text(&Memory::default(), 16, 4), ", where nothing is allocated");
    assert_eq!(text(&memory, u64::MAX - 3, 4), ", where nothing is allocated");
}

#[test]
fn knows_what_was_freed() {
    let memory = Memory::default();
    let base = memory.allocate(64).expect("room").base;
    assert_eq!(memory.used(), 64);
    let before = memory.frees();
    memory.free(base).expect("it is live");
    assert_ne!(memory.frees(), before);
    assert_eq!(memory.used(), 0);
    assert_eq!(
        text(&memory, base + 60, 4),
        format!(", in the allocation of 64 bytes at {base:#x} that was freed")
    );
    assert_eq!(memory.free(base), Err(Nowhere::Freed { base, len: 64 }));
    assert!(memory.allocate(64).expect("room").base > base, "an address is never given out twice");
}

#[test]
fn memory_of_the_host_is_reached_at_its_own_address_until_it_is_let_go() {
    let memory = Memory::default();
    let mut host = vec![0_u32; 16];
    let at = host.as_mut_ptr().cast::<u8>();
    // A start that is no multiple of 8 or 4: registered memory need not be aligned.
    let start = at.wrapping_add(3);
    // SAFETY: `host` outlives the registration.
    let allocation = unsafe { memory.register(start, 50) }.expect("nothing is registered there");
    assert_eq!((allocation.base, allocation.len), (start as u64, 50));
    assert!(allocation.is_foreign() && allocation.written(0, 50));
    assert_eq!(memory.used(), 0);
    allocation.store(5, 4, 0x0102_0304);
    allocation.write(9, &[9; 17]);
    allocation.fill(40, 7, &[1, 2]);
    let mut back = [0; 12];
    allocation.read(40, &mut back[..7]);
    assert_eq!(back[..7], [1, 2, 1, 2, 1, 2, 1]);
    // SAFETY: as above; it overlaps, so nothing comes of it.
    assert!(unsafe { memory.register(at, 4) }.is_none());
    // SAFETY: as above.
    assert!(unsafe { memory.register(at.wrapping_add(52), 4) }.is_none());
    // SAFETY: nothing is registered.
    assert!(unsafe { memory.register(at, 0) }.is_none());
    drop(allocation);
    memory.free(start as u64).expect("it is registered");
    assert!(matches!(memory.find(start as u64, 1), Err(Nowhere::Freed { .. })));
    // SAFETY: as above.
    assert!(unsafe { memory.register(at, 64) }.is_some());
    assert!(memory.find(start as u64, 1).is_ok(), "an address that the host gives out again is live again");
    memory.free(at as u64).expect("it is registered");
    assert_eq!(host[2], 0x0102_0304);
    assert_eq!(host[3..7], [0x0909_0909; 4]);
    assert_eq!(host[7], 0x09, "3 + 9 + 17 bytes end here");
}

#[test]
fn host_copies_and_fills_count_as_written_and_stores_do_not_by_themselves() {
    let memory = Memory::default();
    let allocation = memory.allocate(1000).expect("room");
    assert_eq!(allocation.first_unwritten(0, 1000), Some(0));
    allocation.write(3, &[7; 10]);
    assert!(allocation.written(3, 10) && !allocation.written(2, 1) && !allocation.written(13, 1));
    allocation.fill(100, 9, &[1, 2, 3, 4]);
    assert!(allocation.written(100, 9) && !allocation.written(109, 1));
    allocation.store(200, 4, 5);
    assert!(!allocation.written(200, 4));
    allocation.mark_written(200, 4);
    assert!(allocation.written(200, 4));
    allocation.fill(0, 1000, &[0]);
    assert!(allocation.written(0, 1000));
}

#[test]
fn sixteen_bytes_change_at_once() {
    let memory = Memory::default();
    let allocation = memory.allocate(16).expect("room");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    allocation.update_wide(0, |old| old + (1 << 64) + 1);
                }
            });
        }
    });
    assert_eq!((allocation.load(0, 8), allocation.load(8, 8)), (4000, 4000));
}
