//! Allocation: device, managed, host and registered memory, pools, pointers.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use crate::api::{self, Location, cu, ok};
use crate::harness::{Context, PTX, download, function, launch, module, refused, stream, upload};

const DEVICE: Location = Location { kind: 1, id: 0 };

fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    ok!(cuMemAlloc_v2(&mut address, bytes));
    address
}

#[test]
fn device_memory_is_allocated_counted_and_freed() {
    let _context = Context::new();
    let (first, second) = (allocate(1000), allocate(1));
    assert!(first.is_multiple_of(512) && second.is_multiple_of(512));
    assert!(second >= first + 1000);
    let (mut base, mut bytes) = (0, 0);
    ok!(cuMemGetAddressRange_v2(&mut base, &mut bytes, first + 999));
    assert_eq!((base, bytes), (first, 1000));
    refused(cu!(cuMemGetAddressRange_v2(&mut base, &mut bytes, first + 1000)), api::NOT_FOUND);
    ok!(cuMemGetAddressRange_v2(&mut base, null_mut(), second));
    assert_eq!(base, second);
    let (mut free, mut total) = (0, 0);
    ok!(cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!(total, 141 << 30);
    assert!(free <= total - 1001);
    ok!(cuMemFree_v2(first));
    ok!(cuMemFree_v2(second));
}

#[test]
fn allocations_that_make_no_sense_are_refused() {
    let _context = Context::new();
    let mut address = 0;
    refused(cu!(cuMemAlloc_v2(&mut address, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemAlloc_v2(null_mut(), 4)), api::INVALID_VALUE);
    refused(cu!(cuMemAlloc_v2(&mut address, 142 << 30)), api::OUT_OF_MEMORY);
    refused(cu!(cuMemAlloc_v2(&mut address, usize::MAX)), api::OUT_OF_MEMORY);
    assert_eq!(address, 0);
}

#[test]
fn frees_of_what_is_not_allocated_are_refused() {
    let _context = Context::new();
    let address = allocate(64);
    refused(cu!(cuMemFree_v2(address + 4)), api::INVALID_VALUE);
    refused(cu!(cuMemFree_v2(0)), api::INVALID_VALUE);
    refused(cu!(cuMemFree_v2(0x1234_5678)), api::INVALID_VALUE);
    ok!(cuMemFree_v2(address));
    refused(cu!(cuMemFree_v2(address)), api::INVALID_VALUE);
    refused(cu!(cuMemFreeAsync(address, 0)), api::INVALID_VALUE);
    let variable = crate::harness::answer(module(PTX)).0;
    refused(cu!(cuMemFree_v2(variable)), api::INVALID_VALUE);
}

#[test]
fn rows_are_padded_to_their_pitch() {
    let _context = Context::new();
    let (mut address, mut pitch, mut bytes) = (0, 0, 0);
    ok!(cuMemAllocPitch_v2(&mut address, &mut pitch, 700, 3, 4));
    assert_eq!(pitch, 1024);
    ok!(cuMemGetAddressRange_v2(null_mut(), &mut bytes, address));
    assert_eq!(bytes, 3 * 1024);
    refused(cu!(cuMemAllocPitch_v2(&mut address, &mut pitch, 700, 3, 5)), api::INVALID_VALUE);
    refused(cu!(cuMemAllocPitch_v2(&mut address, &mut pitch, usize::MAX, 3, 4)), api::OUT_OF_MEMORY);
}

#[test]
fn kernels_reach_managed_host_and_registered_memory_at_the_hosts_address() {
    let _context = Context::new();
    let add = function(module(PTX), c"add");
    let (mut managed, mut pinned, mut old, mut registered) =
        (0, null_mut::<c_void>(), null_mut::<c_void>(), [5_u32; 33]);
    ok!(cuMemAllocManaged(&mut managed, 33 * 4, 1));
    ok!(cuMemHostAlloc(&mut pinned, 33 * 4, 2));
    ok!(cuMemAllocHost_v2(&mut old, 33 * 4));
    let place = registered.as_mut_ptr().cast::<c_void>();
    ok!(cuMemHostRegister_v2(place, 33 * 4, 0));
    for address in [managed, pinned as u64, old as u64, place as u64] {
        // SAFETY: 33 numbers that live until the end of the test, and nobody else has them.
        let values = unsafe { std::slice::from_raw_parts_mut(address as *mut u32, 33) };
        values.fill(5);
        refused(launch(add, 2, 32, &[&address, &33_u32, &7_u32]), 0);
        ok!(cuCtxSynchronize());
        assert_eq!(values, [12; 33]);
    }
    let (mut address, mut flags) = (0, 7);
    ok!(cuMemHostGetDevicePointer_v2(&mut address, pinned, 0));
    assert_eq!(address, pinned as u64);
    refused(cu!(cuMemHostGetDevicePointer_v2(&mut address, pinned, 1)), api::INVALID_VALUE);
    ok!(cuMemHostGetFlags(&mut flags, pinned));
    assert_eq!(flags, 2);
    let mut own = 0_u32;
    refused(cu!(cuMemHostGetFlags(&mut flags, (&raw mut own).cast())), api::INVALID_VALUE);
    refused(cu!(cuMemHostRegister_v2(place.wrapping_byte_add(4), 4, 0)), api::HOST_MEMORY_ALREADY_REGISTERED);
    refused(cu!(cuMemHostRegister_v2(null_mut(), 4, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemHostRegister_v2((&raw mut own).cast(), 0, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemHostRegister_v2((&raw mut own).cast(), 4, 4)), api::NOT_SUPPORTED);
    refused(cu!(cuMemHostRegister_v2((&raw mut own).cast(), 4, 64)), api::INVALID_VALUE);
    ok!(cuMemHostUnregister(place));
    refused(cu!(cuMemHostUnregister(place)), api::HOST_MEMORY_NOT_REGISTERED);
    refused(cu!(cuMemFree_v2(pinned as u64)), api::INVALID_VALUE);
    ok!(cuMemFreeHost(pinned));
    ok!(cuMemFreeHost(old));
    refused(cu!(cuMemFreeHost(pinned)), api::INVALID_VALUE);
    ok!(cuMemFree_v2(managed));
    refused(cu!(cuMemHostAlloc(&mut pinned, 0, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemHostAlloc(&mut pinned, 4, 8)), api::INVALID_VALUE);
    refused(cu!(cuMemAllocManaged(&mut managed, 4, 0)), api::INVALID_VALUE);
}

#[test]
fn memory_registered_again_at_the_same_place_is_reached_again() {
    let _context = Context::new();
    let add = function(module(PTX), c"add");
    let mut values = [1_u32; 8];
    let place = values.as_mut_ptr().cast::<c_void>();
    for round in 0..3 {
        ok!(cuMemHostRegister_v2(place, 32, 1));
        refused(launch(add, 1, 8, &[&(place as u64), &8_u32, &1_u32]), 0);
        ok!(cuCtxSynchronize());
        ok!(cuMemHostUnregister(place));
        assert_eq!(values, [round + 2; 8]);
    }
}

#[test]
fn advice_on_managed_memory_is_heard_on_other_memory_refused() {
    let _context = Context::new();
    let (mut managed, device) = (0, allocate(64));
    ok!(cuMemAllocManaged(&mut managed, 64, 1));
    ok!(cuMemPrefetchAsync_v2(managed, 64, DEVICE, 0, 0));
    ok!(cuMemPrefetchAsync(managed, 64, 0, 0));
    ok!(cuMemAdvise_v2(managed, 64, 1, DEVICE));
    ok!(cuMemAdvise(managed, 64, 1, 0));
    ok!(cuStreamAttachMemAsync(0, managed, 0, 4));
    refused(cu!(cuStreamAttachMemAsync(0, managed, 0, 8)), api::INVALID_VALUE);
    refused(cu!(cuMemPrefetchAsync_v2(managed, 65, DEVICE, 0, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemPrefetchAsync_v2(device, 64, DEVICE, 0, 0)), api::INVALID_VALUE);
    refused(cu!(cuMemAdvise_v2(managed, 64, 9, DEVICE)), api::INVALID_VALUE);
}

#[test]
fn memory_comes_from_pools_and_goes_back() {
    let _context = Context::new();
    let (mut default, mut current, mut own, mut address) = (0, 0, 0, 0);
    ok!(cuDeviceGetDefaultMemPool(&mut default, 0));
    ok!(cuDeviceGetMemPool(&mut current, 0));
    assert_eq!(default, current);
    let stream = stream();
    ok!(cuMemAllocAsync(&mut address, 256, stream));
    refused(cu!(cuMemFreeAsync(address + 8, stream)), api::INVALID_VALUE);
    ok!(cuMemFreeAsync(address, stream));
    ok!(cuMemAllocAsync(&mut address, 256, 0));
    ok!(cuMemFree_v2(address));

    let mut properties = [0_u64; 11]; // type and handle types, place, security, most bytes, usage and what is reserved
    properties[0] = 1;
    properties[1] = 1;
    ok!(cuMemPoolCreate(&mut own, properties.as_ptr().cast()));
    ok!(cuMemAllocFromPoolAsync(&mut address, 1000, own, stream));
    let mut used = 0_u64;
    ok!(cuMemPoolGetAttribute(own, 7, (&raw mut used).cast()));
    assert_eq!(used, 1000);
    let (mut threshold, mut reuse) = (1_u64 << 40, 0_i32);
    ok!(cuMemPoolSetAttribute(own, 4, (&raw mut threshold).cast()));
    threshold = 0;
    ok!(cuMemPoolGetAttribute(own, 4, (&raw mut threshold).cast()));
    assert_eq!(threshold, 1 << 40);
    ok!(cuMemPoolGetAttribute(own, 2, (&raw mut reuse).cast()));
    assert_eq!(reuse, 1);
    reuse = 0;
    ok!(cuMemPoolSetAttribute(own, 2, (&raw mut reuse).cast()));
    reuse = 7;
    ok!(cuMemPoolGetAttribute(own, 2, (&raw mut reuse).cast()));
    assert_eq!(reuse, 0);
    refused(cu!(cuMemPoolSetAttribute(own, 7, (&raw mut used).cast())), api::INVALID_VALUE);
    refused(cu!(cuMemPoolSetAttribute(own, 8, (&raw mut used).cast())), api::INVALID_VALUE);
    refused(cu!(cuMemPoolGetAttribute(own, 9, (&raw mut used).cast())), api::INVALID_VALUE);
    ok!(cuMemPoolTrimTo(own, 0));
    let (mut flags, mut place, access) = (0_u32, DEVICE, [1_i32, 0, 3]);
    ok!(cuMemPoolGetAccess(&mut flags, own, (&raw mut place).cast()));
    assert_eq!(flags, 3);
    ok!(cuMemPoolSetAccess(own, access.as_ptr().cast(), 1));
    refused(cu!(cuMemPoolSetAccess(own, [1_i32, 1, 3].as_ptr().cast(), 1)), api::INVALID_DEVICE);
    ok!(cuMemPoolDestroy(own));
    refused(cu!(cuMemAllocFromPoolAsync(&mut address, 4, own, stream)), api::INVALID_HANDLE);
    refused(cu!(cuMemPoolDestroy(default)), api::INVALID_VALUE);
    refused(cu!(cuDeviceSetMemPool(0, own)), api::INVALID_HANDLE);
    ok!(cuDeviceSetMemPool(0, default));
    properties[0] = 2;
    refused(cu!(cuMemPoolCreate(&mut own, properties.as_ptr().cast())), api::INVALID_VALUE);
    properties[0] = 1 | 1 << 32;
    refused(cu!(cuMemPoolCreate(&mut own, properties.as_ptr().cast())), api::NOT_SUPPORTED);
}

#[test]
fn pointers_are_known() {
    let context = Context::new();
    let (device, mut managed, mut pinned) = (allocate(100), 0, null_mut::<c_void>());
    ok!(cuMemAllocManaged(&mut managed, 64, 1));
    ok!(cuMemHostAlloc(&mut pinned, 64, 0));
    let wide = |number: u32, address: u64| {
        let mut value = u64::MAX;
        ok!(cuPointerGetAttribute((&raw mut value).cast(), number, address));
        value
    };
    let narrow = |number: u32, address: u64| {
        let mut value = u32::MAX;
        ok!(cuPointerGetAttribute((&raw mut value).cast(), number, address));
        value
    };
    assert_eq!(wide(1, device), context.0 as u64);
    assert_eq!((narrow(2, device), narrow(2, managed), narrow(2, pinned as u64)), (2, 2, 1));
    assert_eq!((wide(3, device + 4), wide(3, pinned as u64)), (device + 4, pinned as u64));
    assert_eq!((wide(4, managed), wide(4, pinned as u64 + 4)), (managed, pinned as u64 + 4));
    assert_eq!((narrow(8, device) & 0xff, narrow(8, managed) & 0xff), (0, 1));
    assert_eq!(narrow(9, device), 0);
    assert_eq!((wide(11, device + 9), wide(12, device)), (device, 100));
    assert_ne!(wide(7, device), wide(7, managed));
    let mut value = 0_u64;
    refused(cu!(cuPointerGetAttribute((&raw mut value).cast(), 4, device)), api::INVALID_VALUE);
    refused(cu!(cuPointerGetAttribute((&raw mut value).cast(), 2, 0x1000)), api::INVALID_VALUE);
    refused(cu!(cuPointerGetAttribute((&raw mut value).cast(), 99, device)), api::INVALID_VALUE);
    refused(cu!(cuPointerGetAttribute((&raw mut value).cast(), 5, device)), api::NOT_SUPPORTED);
    refused(cu!(cuPointerGetAttribute(null_mut(), 2, device)), api::INVALID_VALUE);

    let (mut kind, mut owner, mut ordinal) = (7_u32, 7_u64, 7_i32);
    let mut numbers = [2, 1, 9];
    let mut places: [*mut c_void; 3] =
        [(&raw mut kind).cast(), (&raw mut owner).cast(), (&raw mut ordinal).cast()];
    ok!(cuPointerGetAttributes(3, numbers.as_mut_ptr(), places.as_mut_ptr(), device));
    assert_eq!((kind, owner, ordinal), (2, context.0 as u64, 0));
    ok!(cuPointerGetAttributes(3, numbers.as_mut_ptr(), places.as_mut_ptr(), 0x1000));
    assert_eq!((kind, owner, ordinal), (0, 0, -2));
    let yes = 1_u32;
    ok!(cuPointerSetAttribute((&raw const yes).cast(), 6, device));
    refused(cu!(cuPointerSetAttribute((&raw const yes).cast(), 6, 0x1000)), api::INVALID_VALUE);
    refused(cu!(cuPointerSetAttribute((&raw const yes).cast(), 2, device)), api::INVALID_VALUE);
    refused(cu!(cuPointerSetAttribute(null(), 6, device)), api::INVALID_VALUE);
}

#[test]
fn what_is_freed_is_not_found_again() {
    let _context = Context::new();
    let address = upload(&[1_u32, 2, 3]);
    assert_eq!(download::<u32>(address, 3), [1, 2, 3]);
    ok!(cuMemFree_v2(address));
    let mut value = 0_u32;
    refused(cu!(cuMemcpyDtoH_v2((&raw mut value).cast(), address, 4)), api::INVALID_VALUE);
    let other = allocate(12);
    assert_ne!(other, address);
}
