//! Initialisation, discovery, error names.

use std::ffi::{CStr, c_char};

use crate::api::{self, cu, ok};
use crate::harness::{Context, child, is_child, name, refused, stderr};

fn attribute(number: u32) -> i32 {
    let mut value = i32::MIN;
    ok!(cuDeviceGetAttribute(&mut value, number, 0));
    value
}

#[test]
fn nothing_works_before_cu_init() {
    const TEST: &str = "device::nothing_works_before_cu_init";
    if !is_child() {
        let text = stderr(&child(TEST, &[]));
        assert!(text.contains("cuDeviceGetCount: cuInit has not been called"), "{text}");
        return;
    }
    let mut count = 7;
    refused(cu!(cuDeviceGetCount(&mut count)), api::NOT_INITIALIZED);
    refused(cu!(cuCtxSynchronize()), api::NOT_INITIALIZED);
    refused(cu!(cuInit(1)), api::INVALID_VALUE);
    // What needs no device does.
    let mut version = 0;
    ok!(cuDriverGetVersion(&mut version));
    assert_eq!(version, 13000);
    assert_eq!(name(3), "CUDA_ERROR_NOT_INITIALIZED");
    ok!(cuInit(0));
    ok!(cuInit(0));
    ok!(cuDeviceGetCount(&mut count));
    assert_eq!(count, 1);
}

#[test]
fn the_environment_chooses_the_device() {
    const TEST: &str = "device::the_environment_chooses_the_device";
    if is_child() {
        ok!(cuInit(0));
        println!("{}.{} {}", attribute(75), attribute(76), attribute(97));
        return;
    }
    for (architecture, said) in
        [("sm_80", "8.0 166912"), ("sm_86", "8.6 101376"), ("sm_90a", "9.0 232448"), ("", "9.0 232448")]
    {
        let output = child(TEST, &[("WIKIGPT_EMU_ARCH", architecture)]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(said), "{architecture}: {text}");
    }
    let output = child(TEST, &[("WIKIGPT_EMU_ARCH", "sm_75")]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("WIKIGPT_EMU_ARCH is sm_75, expected sm_80, sm_86 or sm_90a"), "{text}");
}

#[test]
fn the_environment_chooses_the_drivers_age() {
    const TEST: &str = "device::the_environment_chooses_the_drivers_age";
    if is_child() {
        let context = Context::new();
        let mut version = 0;
        ok!(cuDriverGetVersion(&mut version));
        let load = |ptx: &CStr| {
            let mut module = 0;
            cu!(cuModuleLoadData(&mut module, ptx.as_ptr().cast()))
        };
        let (old, new) = (
            load(c".version 8.4\n.target sm_80\n.address_size 64\n"),
            load(c".version 8.5\n.target sm_80\n.address_size 64\n"),
        );
        println!("{version} {old} {new}");
        drop(context);
        return;
    }
    for (driver, said) in [("12.4", "12040 0 222"), ("12.5", "12050 0 0"), ("", "13000 0 0")] {
        let output = child(TEST, &[("WIKIGPT_EMU_DRIVER", driver)]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(said), "{driver}: {text}");
    }
}

#[test]
fn the_device_has_an_h200s_numbers() {
    ok!(cuInit(0));
    let (mut device, mut bytes, mut major, mut minor) = (7, 0, 0, 0);
    ok!(cuDeviceGet(&mut device, 0));
    assert_eq!(device, 0);
    ok!(cuDeviceTotalMem_v2(&mut bytes, 0));
    assert_eq!(bytes, 141 << 30);
    ok!(cuDeviceComputeCapability(&mut major, &mut minor, 0));
    assert_eq!((major, minor), (9, 0));
    for (number, value) in [
        (1, 1024),
        (2, 1024),
        (3, 1024),
        (4, 64),
        (5, i32::MAX),
        (6, 65535),
        (7, 65535),
        (8, 49152),
        (9, 65536),
        (10, 32),
        (12, 65536),
        (16, 132),
        (39, 2048),
        (41, 1),
        (81, 228 << 10),
        (82, 65536),
        (95, 1),
        (97, 227 << 10),
        (106, 32),
        (111, 1024),
        (115, 1),
        (120, 1),
        (127, 1),
    ] {
        assert_eq!(attribute(number), value, "attribute {number}");
    }
    // Every number that CUDA 13.0 defines is answered, no other is.
    (1..=147).for_each(|number| {
        attribute(number);
    });
    for number in [0, 148, 1000] {
        refused(cu!(cuDeviceGetAttribute(&mut device, number, 0)), api::INVALID_VALUE);
    }
    let mut properties = [0; 14];
    ok!(cuDeviceGetProperties(properties.as_mut_ptr().cast(), 0));
    assert_eq!(properties[..8], [1024, 1024, 1024, 64, i32::MAX, 65535, 65535, 49152]);
    assert_eq!(properties[9], 32);
}

#[test]
fn names_and_identities_fit_their_buffers() {
    ok!(cuInit(0));
    let text = |buffer: &[c_char]| {
        // SAFETY: the driver ended it with NUL.
        unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap().to_owned()
    };
    let mut buffer = [1 as c_char; 64];
    ok!(cuDeviceGetName(buffer.as_mut_ptr(), 64, 0));
    assert_eq!(text(&buffer), "wikigpt emulator (H200)");
    buffer = [1; 64];
    ok!(cuDeviceGetName(buffer.as_mut_ptr(), 8, 0));
    assert_eq!(text(&buffer), "wikigpt");
    assert_eq!(buffer[8], 1, "nothing is written behind the buffer");
    refused(cu!(cuDeviceGetName(buffer.as_mut_ptr(), 0, 0)), api::INVALID_VALUE);
    ok!(cuDeviceGetPCIBusId(buffer.as_mut_ptr(), 64, 0));
    assert_eq!(text(&buffer), "0000:01:00.0");
    let mut device = 7;
    ok!(cuDeviceGetByPCIBusId(&mut device, buffer.as_ptr()));
    assert_eq!(device, 0);
    refused(cu!(cuDeviceGetByPCIBusId(&mut device, c"0000:02:00.0".as_ptr())), api::INVALID_DEVICE);
    let (mut first, mut second) = ([0; 16], [1; 16]);
    ok!(cuDeviceGetUuid_v2(&mut first, 0));
    ok!(cuDeviceGetUuid_v2(&mut second, 0));
    assert_eq!(first, second);
}

#[test]
fn other_devices_are_refused() {
    ok!(cuInit(0));
    let mut value = 0;
    refused(cu!(cuDeviceGet(&mut value, 1)), api::INVALID_DEVICE);
    refused(cu!(cuDeviceGet(&mut value, -1)), api::INVALID_DEVICE);
    refused(cu!(cuDeviceGetAttribute(&mut value, 1, 1)), api::INVALID_DEVICE);
    let mut bytes = 0;
    refused(cu!(cuDeviceTotalMem_v2(&mut bytes, 1)), api::INVALID_DEVICE);
    let mut context = 0;
    refused(cu!(cuDevicePrimaryCtxRetain(&mut context, 1)), api::INVALID_DEVICE);
    refused(cu!(cuDeviceCanAccessPeer(&mut value, 0, 1)), api::INVALID_DEVICE);
    ok!(cuDeviceCanAccessPeer(&mut value, 0, 0));
    assert_eq!(value, 0);
    ok!(cuDeviceGetExecAffinitySupport(&mut value, 0, 0));
    assert_eq!(value, 0);
}

#[test]
fn results_that_lead_nowhere_are_refused() {
    ok!(cuInit(0));
    let null = std::ptr::null_mut;
    refused(cu!(cuDeviceGetCount(null())), api::INVALID_VALUE);
    refused(cu!(cuDeviceGet(std::ptr::null_mut(), 0)), api::INVALID_VALUE);
    refused(cu!(cuDeviceGetAttribute(std::ptr::null_mut(), 1, 0)), api::INVALID_VALUE);
    refused(cu!(cuDeviceGetUuid_v2(std::ptr::null_mut(), 0)), api::INVALID_VALUE);
    refused(cu!(cuDriverGetVersion(std::ptr::null_mut())), api::INVALID_VALUE);
}

#[test]
fn every_code_has_a_name_and_a_sentence() {
    let known = (0..=999).filter(|code| {
        let (mut text, mut sentence): (*const c_char, *const c_char) = (std::ptr::null(), std::ptr::null());
        let named = cu!(cuGetErrorName(*code, &mut text));
        assert_eq!(named, cu!(cuGetErrorString(*code, &mut sentence)));
        assert_eq!(named == 0, !text.is_null() && !sentence.is_null());
        assert!(named == 0 || named == api::INVALID_VALUE);
        named == 0
    });
    assert_eq!(known.count(), 101);
    for (code, expected) in [
        (0, "CUDA_SUCCESS"),
        (1, "CUDA_ERROR_INVALID_VALUE"),
        (209, "CUDA_ERROR_NO_BINARY_FOR_GPU"),
        (700, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        (912, "CUDA_ERROR_INVALID_CLUSTER_SIZE"),
        (999, "CUDA_ERROR_UNKNOWN"),
    ] {
        assert_eq!(name(code), expected);
    }
}

#[test]
fn what_is_not_there_says_so() {
    const TEST: &str = "device::what_is_not_there_says_so";
    if !is_child() {
        let text = stderr(&child(TEST, &[]));
        assert!(
            text.contains(
                "cuArrayCreate_v2: the emulator does not know this call (CUDA_ERROR_NOT_SUPPORTED)"
            ),
            "{text}"
        );
        assert!(text.contains("cuGetExportTable: the table of functions 0a0a"), "{text}");
        return;
    }
    let _context = Context::new();
    let call = crate::harness::symbol("cuArrayCreate_v2");
    // SAFETY: it takes whatever it is given.
    let call =
        unsafe { std::mem::transmute::<*mut std::ffi::c_void, extern "C" fn(usize, usize) -> u32>(call) };
    refused(call(0, 0), api::NOT_SUPPORTED);
    let mut table = std::ptr::null();
    let id = [10_u8; 16];
    refused(cu!(cuGetExportTable(&mut table, id.as_ptr().cast())), api::NOT_SUPPORTED);
    assert!(table.is_null());
    ok!(cuProfilerStart());
    ok!(cuProfilerStop());
}
