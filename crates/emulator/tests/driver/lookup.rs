//! Entry points by name, and tensor maps, which have no better place.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;

use crate::api::{self, cu, ok};
use crate::harness::{Context, refused, symbol};

fn find(name: &str, version: i32, flags: u64) -> (*mut c_void, u32) {
    let (name, mut found, mut status) = (CString::new(name).unwrap(), null_mut(), 7);
    ok!(cuGetProcAddress_v2(name.as_ptr(), &mut found, version, flags, &mut status));
    (found, status)
}

#[test]
fn names_lead_to_the_function_of_the_version() {
    for (name, version, expected) in [
        ("cuInit", 2000, "cuInit"),
        ("cuMemAlloc", 12000, "cuMemAlloc_v2"),
        ("cuMemAlloc_v2", 12000, "cuMemAlloc_v2"),
        ("cuCtxCreate", 3020, "cuCtxCreate_v2"),
        ("cuCtxCreate", 12000, "cuCtxCreate_v3"),
        ("cuCtxCreate", 13000, "cuCtxCreate_v4"),
        ("cuCtxSynchronize", 12090, "cuCtxSynchronize"),
        ("cuCtxSynchronize", 13000, "cuCtxSynchronize_v2"),
        ("cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"),
        ("cuGraphInstantiate", 11000, "cuGraphInstantiate_v2"),
        ("cuStreamGetCaptureInfo", 12000, "cuStreamGetCaptureInfo_v2"),
        ("cuGetProcAddress", 12000, "cuGetProcAddress_v2"),
        ("cuArrayCreate", 12000, "cuArrayCreate_v2"),
        ("cuTensorMapEncodeTiled", 12000, "cuTensorMapEncodeTiled"),
    ] {
        assert_eq!(find(name, version, 0), (symbol(expected), 0), "{name} of {version}");
        assert_eq!(find(name, version, 1).0, symbol(expected));
    }
    assert_eq!(find("cuLaunchKernel", 12000, 2).0, symbol("cuLaunchKernel_ptsz"));
    assert_eq!(find("cuMemcpyHtoD", 12000, 2).0, symbol("cuMemcpyHtoD_v2_ptds"));
    assert_eq!(find("cuInit", 12000, 2).0, symbol("cuInit"));
}

#[test]
fn names_that_lead_nowhere_say_so() {
    assert_eq!(find("cuFrobnicate", 12000, 0), (null_mut(), 1));
    assert_eq!(find("cuCtxCreate", 2000, 0), (null_mut(), 2));
    let (mut found, name) = (null_mut(), c"cuFrobnicate".as_ptr());
    refused(cu!(cuGetProcAddress_v2(name, &mut found, 12000, 0, null_mut())), api::NOT_FOUND);
    refused(cu!(cuGetProcAddress(name, &mut found, 12000, 0)), api::NOT_FOUND);
    ok!(cuGetProcAddress(c"cuMemFree".as_ptr(), &mut found, 12000, 0));
    assert_eq!(found, symbol("cuMemFree_v2"));
    refused(cu!(cuGetProcAddress(c"cuMemFree".as_ptr(), &mut found, 12000, 4)), api::INVALID_VALUE);
    refused(cu!(cuGetProcAddress(c"cuMemFree".as_ptr(), null_mut(), 12000, 0)), api::INVALID_VALUE);
}

#[repr(align(64))]
struct Map([u8; 129]);

#[test]
fn tensor_maps_are_made_moved_and_refused() {
    let _context = Context::new();
    let mut map = Map([0; 129]);
    let (dims, strides, sizes, steps) = ([64_u64, 32], [128_u64], [64_u32, 8], [1_u32, 1]);
    let address = crate::harness::upload(&[0_u16; 64 * 32]);
    let mut encode = |at: usize, data_type: u32, rank: u32, swizzle: u32, promotion: u32| {
        let to = map.0[at..].as_mut_ptr().cast();
        let (dims, strides, sizes, steps) = (dims.as_ptr(), strides.as_ptr(), sizes.as_ptr(), steps.as_ptr());
        cu!(cuTensorMapEncodeTiled(
            to,
            data_type,
            rank,
            address as *mut c_void,
            dims,
            strides,
            sizes,
            steps,
            0,
            swizzle,
            promotion,
            0
        ))
    };
    refused(encode(0, 6, 2, 3, 2), 0);
    refused(encode(1, 6, 2, 3, 2), api::INVALID_VALUE);
    refused(encode(0, 16, 2, 3, 2), api::INVALID_VALUE);
    refused(encode(0, 6, 0, 3, 2), api::INVALID_VALUE);
    refused(encode(0, 6, 6, 3, 2), api::INVALID_VALUE);
    refused(encode(0, 6, 2, 9, 2), api::INVALID_VALUE);
    refused(encode(0, 6, 2, 3, 4), api::INVALID_VALUE);
    refused(encode(0, 7, 2, 3, 2), api::INVALID_VALUE); // rows of 256 bytes do not fit a swizzle of 128
    let before = map.0;
    ok!(cuTensorMapReplaceAddress(map.0.as_mut_ptr().cast(), (address + 128) as *mut c_void));
    assert_ne!(before, map.0);
    refused(
        cu!(cuTensorMapReplaceAddress(map.0.as_mut_ptr().cast(), (address + 8) as *mut c_void)),
        api::INVALID_VALUE,
    );
    ok!(cuTensorMapReplaceAddress(map.0.as_mut_ptr().cast(), address as *mut c_void));
    assert_eq!(before, map.0);
    map.0[0] ^= 1;
    refused(
        cu!(cuTensorMapReplaceAddress(map.0.as_mut_ptr().cast(), address as *mut c_void)),
        api::INVALID_VALUE,
    );
}
