//! Copies and fills.

use std::ffi::c_void;

use crate::api::{self, cu, ok};
use crate::harness::{Context, download, refused, stream, upload};

fn numbers(count: u32) -> Vec<u32> {
    (0..count).map(|index| index.wrapping_mul(0x9e37_79b9) ^ 0x55).collect()
}

fn zeros(count: usize) -> u64 {
    upload(&vec![0_u32; count])
}

#[test]
fn every_copy_of_a_row_moves_its_bytes_and_no_others() {
    let context = Context::new();
    // More than the emulator moves at once between allocations.
    let (count, stream) = (40_000_usize, stream());
    let source = numbers(count as u32);
    let from = upload(&source);
    let bytes = (count - 2) * 4;
    let copies: [&dyn Fn(u64) -> u32; 6] = [
        &|to| cu!(cuMemcpyDtoD_v2(to + 4, from + 4, bytes)),
        &|to| cu!(cuMemcpyDtoDAsync_v2(to + 4, from + 4, bytes, stream)),
        &|to| cu!(cuMemcpy(to + 4, from + 4, bytes)),
        &|to| cu!(cuMemcpyAsync(to + 4, from + 4, bytes, stream)),
        &|to| cu!(cuMemcpyPeer(to + 4, context.0, from + 4, context.0, bytes)),
        &|to| cu!(cuMemcpyPeerAsync(to + 4, context.0, from + 4, context.0, bytes, stream)),
    ];
    for copy in copies {
        let to = zeros(count);
        refused(copy(to), 0);
        let got = download::<u32>(to, count);
        assert_eq!((got[0], got[count - 1]), (0, 0));
        assert_eq!(got[1..count - 1], source[1..count - 1]);
        ok!(cuMemFree_v2(to));
    }
    let to_device: [&dyn Fn(u64, *const c_void, usize) -> u32; 4] = [
        &|to, from, len| cu!(cuMemcpyHtoD_v2(to, from, len)),
        &|to, from, len| cu!(cuMemcpyHtoDAsync_v2(to, from, len, stream)),
        &|to, from, len| cu!(cuMemcpy(to, from as u64, len)),
        &|to, from, len| cu!(cuMemcpyAsync(to, from as u64, len, stream)),
    ];
    for copy in to_device {
        let to = zeros(16);
        refused(copy(to + 1, source.as_ptr().cast(), 13), 0);
        let got = download::<u8>(to, 64);
        assert_eq!(got[0], 0);
        assert_eq!(got[1..14], bytemuck::cast_slice::<u32, u8>(&source)[..13]);
        assert_eq!(got[14..], [0; 50]);
    }
    let to_host: [&dyn Fn(*mut c_void, u64, usize) -> u32; 4] = [
        &|to, from, len| cu!(cuMemcpyDtoH_v2(to, from, len)),
        &|to, from, len| cu!(cuMemcpyDtoHAsync_v2(to, from, len, stream)),
        &|to, from, len| cu!(cuMemcpy(to as u64, from, len)),
        &|to, from, len| cu!(cuMemcpyAsync(to as u64, from, len, stream)),
    ];
    for copy in to_host {
        let mut got = [0_u8; 32];
        refused(copy(got.as_mut_ptr().cast(), from + 3, 21), 0);
        assert_eq!(got[..21], bytemuck::cast_slice::<u32, u8>(&source)[3..24]);
        assert_eq!(got[21..], [0; 11]);
    }
    let mut host = [0_u32; 4];
    ok!(cuMemcpy(host.as_mut_ptr() as u64, source.as_ptr() as u64, 16));
    assert_eq!(host, source[..4]);
}

#[test]
fn copies_that_lead_nowhere_are_refused_and_none_of_no_bytes_is() {
    let _context = Context::new();
    let (device, mut host) = (zeros(4), [0_u32; 8]);
    let place = host.as_mut_ptr().cast::<c_void>();
    refused(cu!(cuMemcpyHtoD_v2(device, place, 17)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyHtoD_v2(device + 16, place, 1)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyHtoD_v2(0, place, 4)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyHtoD_v2(u64::MAX, place, 4)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyHtoD_v2(device, std::ptr::null(), 4)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyDtoH_v2(std::ptr::null_mut(), device, 4)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyDtoH_v2(place, device + 12, 8)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyDtoD_v2(device, place as u64, 4)), api::INVALID_VALUE);
    refused(cu!(cuMemcpyHtoDAsync_v2(device, place, 4, 0x7777)), api::INVALID_HANDLE);
    refused(cu!(cuMemcpyPeer(device, 0x7777, device, 0x7777, 4)), api::INVALID_CONTEXT);
    // An address of the device's that is given as the host's is followed as what it is.
    refused(cu!(cuMemcpyHtoD_v2(device, (device + 4096) as *const c_void, 4)), api::INVALID_VALUE);
    ok!(cuMemcpyHtoD_v2(device, (device + 8) as *const c_void, 4));
    ok!(cuMemcpyHtoD_v2(0, std::ptr::null(), 0));
    ok!(cuMemcpyDtoH_v2(std::ptr::null_mut(), 0, 0));
    ok!(cuMemsetD8_v2(0, 0, 0));
}

/// `CUDA_MEMCPY3D`; where `rows` is 1 what `CUDA_MEMCPY2D` has of it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Cuboid {
    from_at: [usize; 4],
    from_kind: u32,
    from_host: u64,
    from_device: u64,
    from_array: [usize; 2],
    from_pitch: usize,
    from_rows: usize,
    to_at: [usize; 4],
    to_kind: u32,
    to_host: u64,
    to_device: u64,
    to_array: [usize; 2],
    to_pitch: usize,
    to_rows: usize,
    size: [usize; 3],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Rectangle {
    from_at: [usize; 2],
    from_kind: u32,
    from_host: u64,
    from_device: u64,
    from_array: usize,
    from_pitch: usize,
    to_at: [usize; 2],
    to_kind: u32,
    to_host: u64,
    to_device: u64,
    to_array: usize,
    to_pitch: usize,
    size: [usize; 2],
}

#[test]
fn rectangles_and_boxes_are_copied_where_they_belong() {
    let _context = Context::new();
    let source: Vec<u8> = (0..240).collect();
    let (from, stream) = (upload(&source), stream());
    // 5 bytes of 3 rows from (2, 1) in rows of 16 to (1, 2) in rows of 10 on the host.
    let rectangle = |to: &mut [u8]| Rectangle {
        from_at: [2, 1],
        from_kind: 2,
        from_device: from,
        from_pitch: 16,
        to_at: [1, 2],
        to_kind: 1,
        to_host: to.as_mut_ptr() as u64,
        to_pitch: 10,
        size: [5, 3],
        ..Rectangle::default()
    };
    let mut expected = [0_u8; 60];
    for row in 0..3 {
        for byte in 0..5 {
            expected[(row + 2) * 10 + byte + 1] = source[(row + 1) * 16 + byte + 2];
        }
    }
    let copies: [&dyn Fn(&Rectangle) -> u32; 2] =
        [&|what| cu!(cuMemcpy2D_v2(std::ptr::from_ref(what).cast())), &|what| {
            cu!(cuMemcpy2DAsync_v2(std::ptr::from_ref(what).cast(), stream))
        }];
    for copy in copies {
        let mut to = [0_u8; 60];
        let what = rectangle(&mut to);
        refused(copy(&what), 0);
        assert_eq!(to, expected);
    }
    let mut to = [0_u8; 60];
    let wrong = Rectangle { to_pitch: 5, ..rectangle(&mut to) };
    refused(copies[0](&wrong), api::INVALID_VALUE);
    refused(copies[0](&Rectangle { from_kind: 3, ..rectangle(&mut to) }), api::NOT_SUPPORTED);
    refused(copies[0](&Rectangle { from_kind: 9, ..rectangle(&mut to) }), api::INVALID_VALUE);
    refused(copies[0](&Rectangle { size: [5, 30], ..rectangle(&mut to) }), api::INVALID_VALUE);

    // 2 slices of 2 rows of 3 bytes, from (1, 1, 0) in slices of 4 rows of 8 bytes to (0, 0, 1) in slices of 3 rows of 4.
    let to = upload(&[0_u8; 36]);
    let cuboid = Cuboid {
        from_at: [1, 1, 0, 0],
        from_kind: 1,
        from_host: source.as_ptr() as u64,
        from_pitch: 8,
        from_rows: 4,
        to_at: [0, 0, 1, 0],
        to_kind: 4,
        to_device: to,
        to_pitch: 4,
        to_rows: 3,
        size: [3, 2, 2],
        ..Cuboid::default()
    };
    let mut expected = [0_u8; 36];
    for (slice, row, byte) in
        (0..2).flat_map(|slice| (0..2).flat_map(move |row| (0..3).map(move |byte| (slice, row, byte))))
    {
        expected[(slice + 1) * 12 + row * 4 + byte] = source[slice * 32 + (row + 1) * 8 + byte + 1];
    }
    ok!(cuMemcpy3D_v2((&raw const cuboid).cast()));
    assert_eq!(download::<u8>(to, 36), expected);
    ok!(cuMemsetD8_v2(to, 0, 36));
    ok!(cuMemcpy3DAsync_v2((&raw const cuboid).cast(), stream));
    assert_eq!(download::<u8>(to, 36), expected);
}

/// The bytes of an element, and a fill of an address by a count or pitch.
type Fill<'a, T> = (T, &'a dyn Fn(u64, usize) -> u32);

#[test]
fn fills_repeat_their_value_in_every_width() {
    let _context = Context::new();
    let stream = stream();
    let fills: [Fill<u8>; 6] = [
        (1, &|to, count| cu!(cuMemsetD8_v2(to, 0xab, count))),
        (2, &|to, count| cu!(cuMemsetD16_v2(to, 0x1234, count))),
        (4, &|to, count| cu!(cuMemsetD32_v2(to, 0xdead_beef, count))),
        (1, &|to, count| cu!(cuMemsetD8Async(to, 0xab, count, stream))),
        (2, &|to, count| cu!(cuMemsetD16Async(to, 0x1234, count, stream))),
        (4, &|to, count| cu!(cuMemsetD32Async(to, 0xdead_beef, count, stream))),
    ];
    for (width, fill) in fills {
        let pattern: &[u8] = match width {
            1 => &[0xab],
            2 => &[0x34, 0x12],
            _ => &[0xef, 0xbe, 0xad, 0xde],
        };
        let (width, count) = (width as usize, 50_001);
        let to = upload(&vec![7_u8; (count + 2) * width]);
        refused(fill(to + width as u64, count), 0);
        let got = download::<u8>(to, (count + 2) * width);
        assert!(got[..width].iter().chain(&got[(count + 1) * width..]).all(|byte| *byte == 7));
        assert!(got[width..(count + 1) * width].chunks(width).all(|value| value == pattern));
        refused(fill(to + width as u64, count + 2), api::INVALID_VALUE);
        if width > 1 {
            refused(fill(to + 1, 1), api::INVALID_VALUE);
        }
    }
}

#[test]
fn fills_of_rows_leave_what_lies_between_them() {
    let _context = Context::new();
    let stream = stream();
    let fills: [Fill<usize>; 6] = [
        (1, &|to, pitch| cu!(cuMemsetD2D8_v2(to, pitch, 9, 5, 3))),
        (2, &|to, pitch| cu!(cuMemsetD2D16_v2(to, pitch, 0x0909, 5, 3))),
        (4, &|to, pitch| cu!(cuMemsetD2D32_v2(to, pitch, 0x0909_0909, 5, 3))),
        (1, &|to, pitch| cu!(cuMemsetD2D8Async(to, pitch, 9, 5, 3, stream))),
        (2, &|to, pitch| cu!(cuMemsetD2D16Async(to, pitch, 0x0909, 5, 3, stream))),
        (4, &|to, pitch| cu!(cuMemsetD2D32Async(to, pitch, 0x0909_0909, 5, 3, stream))),
    ];
    for (width, fill) in fills {
        let to = upload(&[1_u8; 96]);
        refused(fill(to, 32), 0);
        for (index, byte) in download::<u8>(to, 96).into_iter().enumerate() {
            assert_eq!(byte, if index % 32 < 5 * width { 9 } else { 1 }, "byte {index}");
        }
        refused(fill(to, 5 * width - 1), api::INVALID_VALUE);
        refused(fill(to, 48), if 2 * 48 + 5 * width > 96 { api::INVALID_VALUE } else { 0 });
    }
}
