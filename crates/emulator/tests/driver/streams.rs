//! Streams, events, functions that streams run, faults.

use std::ffi::c_void;
use std::sync::Mutex;

use crate::api::{self, cu, ok};
use crate::harness::{
    Context, PTX, child, download, event, function, is_child, launch, launch_in, module, refused, stderr,
    stream, upload,
};

#[test]
fn streams_have_identities() {
    let context = Context::new();
    let (mut plain, mut urgent) = (0, 0);
    ok!(cuStreamCreate(&mut plain, 0));
    ok!(cuStreamCreateWithPriority(&mut urgent, 1, -100));
    assert_ne!(plain, urgent);
    let priority = |stream| {
        let mut value = 7;
        ok!(cuStreamGetPriority(stream, &mut value));
        value
    };
    assert_eq!([plain, urgent, 0, 1, 2].map(priority), [0, -5, 0, 0, 0]);
    let flags = |stream| {
        let mut value = 7;
        ok!(cuStreamGetFlags(stream, &mut value));
        value
    };
    assert_eq!([plain, urgent, 0].map(flags), [0, 1, 0]);
    let id = |stream| {
        let mut value = 0;
        ok!(cuStreamGetId(stream, &mut value));
        value
    };
    assert_eq!((id(0), id(1)), (1, 1));
    assert_ne!(id(plain), id(urgent));
    assert_ne!(id(2), id(0));
    for stream in [plain, urgent, 0, 1, 2] {
        let (mut owner, mut green, mut device) = (0, 7, 7);
        ok!(cuStreamGetCtx(stream, &mut owner));
        assert_eq!(owner, context.0);
        ok!(cuStreamGetCtx_v2(stream, &mut owner, &mut green));
        assert_eq!((owner, green), (context.0, 0));
        ok!(cuStreamGetDevice(stream, &mut device));
        assert_eq!(device, 0);
        ok!(cuStreamQuery(stream));
        ok!(cuStreamSynchronize(stream));
    }
    ok!(cuStreamCopyAttributes(plain, urgent));
    let value = [0_u64; 8];
    ok!(cuStreamSetAttribute(plain, 3, value.as_ptr().cast()));
    refused(cu!(cuStreamSetAttribute(plain, 4, value.as_ptr().cast())), api::INVALID_VALUE);
    ok!(cuStreamDestroy_v2(plain));
    refused(cu!(cuStreamDestroy_v2(plain)), api::INVALID_HANDLE);
    refused(cu!(cuStreamQuery(plain)), api::INVALID_HANDLE);
    refused(cu!(cuStreamDestroy_v2(0)), api::INVALID_HANDLE);
    refused(cu!(cuStreamDestroy_v2(2)), api::INVALID_HANDLE);
    refused(cu!(cuStreamCreate(&mut plain, 2)), api::INVALID_VALUE);
    refused(cu!(cuStreamCreate(std::ptr::null_mut(), 0)), api::INVALID_VALUE);
}

#[test]
fn garbage_is_no_handle() {
    let context = Context::new();
    for handle in [3, 0x1000, context.0, usize::MAX, stream() + 1] {
        refused(cu!(cuStreamSynchronize(handle)), api::INVALID_HANDLE);
        refused(cu!(cuEventSynchronize(handle)), api::INVALID_HANDLE);
        refused(cu!(cuGraphDestroy(handle)), api::INVALID_HANDLE);
        refused(cu!(cuGraphLaunch(handle, 0)), api::INVALID_HANDLE);
    }
}

#[test]
fn events_measure_time() {
    let _context = Context::new();
    let (stream, start, end) = (stream(), event(), event());
    let mut milliseconds = 0.0;
    refused(cu!(cuEventElapsedTime_v2(&mut milliseconds, start, end)), api::INVALID_HANDLE);
    ok!(cuEventQuery(start));
    ok!(cuEventSynchronize(start));
    ok!(cuEventRecord(start, stream));
    std::thread::sleep(std::time::Duration::from_millis(20));
    ok!(cuEventRecordWithFlags(end, stream, 0));
    ok!(cuEventQuery(end));
    ok!(cuEventElapsedTime_v2(&mut milliseconds, start, end));
    assert!((20.0..2000.0).contains(&milliseconds), "{milliseconds}");
    ok!(cuEventElapsedTime_v2(&mut milliseconds, end, start));
    assert!(milliseconds <= -20.0);
    let mut untimed = 0;
    ok!(cuEventCreate(&mut untimed, 2));
    ok!(cuEventRecord(untimed, stream));
    refused(cu!(cuEventElapsedTime_v2(&mut milliseconds, start, untimed)), api::INVALID_HANDLE);
    refused(cu!(cuEventRecordWithFlags(end, stream, 2)), api::INVALID_VALUE);
    refused(cu!(cuEventCreate(&mut untimed, 8)), api::INVALID_VALUE);
    refused(cu!(cuEventCreate(&mut untimed, 4)), api::INVALID_VALUE);
    ok!(cuStreamWaitEvent(stream, end, 0));
    refused(cu!(cuStreamWaitEvent(stream, end, 2)), api::INVALID_VALUE);
    ok!(cuEventDestroy_v2(end));
    refused(cu!(cuEventDestroy_v2(end)), api::INVALID_HANDLE);
    refused(cu!(cuEventRecord(end, stream)), api::INVALID_HANDLE);
}

#[test]
fn events_and_functions_of_another_context_are_refused() {
    let first = Context::new();
    let (elsewhere, add) = (event(), function(module(PTX), c"add"));
    let values = upload(&[1_u32]);
    let second = Context::new();
    let stream = stream();
    refused(cu!(cuEventRecord(elsewhere, stream)), api::INVALID_HANDLE);
    refused(launch_in(add, 1, 1, stream, &[&values, &1_u32, &1_u32]), api::INVALID_HANDLE);
    let here = event();
    ok!(cuCtxRecordEvent(second.0, here));
    ok!(cuCtxWaitEvent(second.0, here));
    refused(cu!(cuCtxRecordEvent(7, here)), api::INVALID_CONTEXT);
    drop(second);
    drop(first);
}

/// What functions run by streams saw, in order.
static CALLS: Mutex<Vec<(usize, u32, u32)>> = Mutex::new(Vec::new());

unsafe extern "C" fn host(data: *mut c_void) {
    let mut stream = 0;
    // SAFETY: an entry point that refuses.
    let inner = unsafe { api::cuStreamCreate()(&mut stream, 0) };
    CALLS.lock().unwrap().push((data as usize, inner, 0));
}

unsafe extern "C" fn callback(stream: usize, status: u32, data: *mut c_void) {
    CALLS.lock().unwrap().push((data as usize, status, stream as u32));
}

#[test]
fn streams_run_functions_in_their_turn_and_these_may_not_call_the_driver() {
    let _context = Context::new();
    let stream = stream();
    ok!(cuLaunchHostFunc(stream, Some(host), 11 as *mut c_void));
    ok!(cuStreamAddCallback(stream, Some(callback), 12 as *mut c_void, 0));
    ok!(cuLaunchHostFunc(0, Some(host), 13 as *mut c_void));
    let calls = CALLS.lock().unwrap().clone();
    assert_eq!(calls, [(11, api::NOT_PERMITTED, 0), (12, 0, stream as u32), (13, api::NOT_PERMITTED, 0)]);
    refused(cu!(cuLaunchHostFunc(stream, None, std::ptr::null_mut())), api::INVALID_VALUE);
    refused(cu!(cuStreamAddCallback(stream, None, std::ptr::null_mut(), 0)), api::INVALID_VALUE);
    refused(cu!(cuStreamAddCallback(stream, Some(callback), std::ptr::null_mut(), 1)), api::INVALID_VALUE);
    ok!(cuStreamSynchronize(stream));
}

#[test]
fn a_fault_is_told_by_the_next_call_that_waits_and_stays() {
    const TEST: &str = "streams::a_fault_is_told_by_the_next_call_that_waits_and_stays";
    if !is_child() {
        let text = stderr(&child(TEST, &[]));
        let told = text.matches("in kernel poke, block (0,0,0), thread (0,0,0), PTX line").count();
        assert_eq!(told, 1, "{text}");
        assert!(text.contains("st.global.u32 [%rd1], %r1"), "{text}");
        return;
    }
    let context = Context::new();
    let text = module(PTX);
    let (add, poke) = (function(text, c"add"), function(text, c"poke"));
    let (values, stream) = (upload(&[1_u32]), stream());
    refused(launch_in(poke, 1, 1, stream, &[&0x10_u64]), 0);
    // What does not wait does not know; but nothing is done any more.
    refused(launch_in(poke, 1, 1, stream, &[&0x10_u64]), 0);
    refused(launch_in(add, 1, 1, stream, &[&values, &1_u32, &1_u32]), 0);
    ok!(cuMemcpyHtoDAsync_v2(values, [7_u32].as_ptr().cast(), 4, stream));
    ok!(cuEventRecord(event(), stream));
    refused(cu!(cuStreamSynchronize(stream)), api::ILLEGAL_ADDRESS);
    let (mut address, mut got, mut device) = (0, 0_u32, 7);
    refused(cu!(cuMemAlloc_v2(&mut address, 4)), api::ILLEGAL_ADDRESS);
    refused(cu!(cuMemcpyDtoH_v2((&raw mut got).cast(), values, 4)), api::ILLEGAL_ADDRESS);
    refused(launch_in(add, 1, 1, stream, &[&values, &1_u32, &1_u32]), api::ILLEGAL_ADDRESS);
    refused(cu!(cuCtxSynchronize()), api::ILLEGAL_ADDRESS);
    refused(cu!(cuStreamQuery(0)), api::ILLEGAL_ADDRESS);
    // Other contexts are well, and the device is.
    let other = Context::new();
    let values = upload(&[1_u32]);
    refused(launch(function(module(PTX), c"add"), 1, 1, &[&values, &1_u32, &1_u32]), 0);
    assert_eq!(download::<u32>(values, 1), [2]);
    ok!(cuDeviceGet(&mut device, 0));
    drop(other);
    ok!(cuCtxDestroy_v2(context.0));
}

#[test]
fn every_call_that_waits_tells_of_a_fault() {
    let calls: [&dyn Fn(u64) -> u32; 8] = [
        &|_| cu!(cuCtxSynchronize()),
        &|_| cu!(cuStreamSynchronize(0)),
        &|_| cu!(cuStreamQuery(2)),
        &|_| cu!(cuEventSynchronize(event())),
        &|_| cu!(cuEventQuery(event())),
        &|values| cu!(cuMemFree_v2(values)),
        &|values| cu!(cuMemcpyDtoH_v2((&raw mut *Box::leak(Box::new(0_u32))).cast(), values, 4)),
        &|values| cu!(cuMemcpyHtoD_v2(values, [1_u32].as_ptr().cast(), 4)),
    ];
    for call in calls {
        let _context = Context::new();
        let values = upload(&[1_u32]);
        refused(launch(function(module(PTX), c"poke"), 1, 1, &[&(values + 2)]), 0);
        refused(call(values), 716);
    }
}

#[test]
fn a_thread_has_a_stream_of_its_own_that_can_be_captured() {
    let _context = Context::new();
    ok!(cuStreamBeginCapture_v2(2, 2));
    let (mut status, mut graph) = (7, 0);
    ok!(cuStreamIsCapturing(2, &mut status));
    assert_eq!(status, 1);
    ok!(cuStreamEndCapture(2, &mut graph));
    ok!(cuGraphDestroy(graph));
}
