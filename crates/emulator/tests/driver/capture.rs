//! Capturing streams into graphs.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::api::{self, cu, ok};
use crate::harness::{Context, PTX, download, event, function, launch_in, module, refused, stream, upload};

fn begin(stream: usize) {
    ok!(cuStreamBeginCapture_v2(stream, 0));
}

fn end(stream: usize) -> usize {
    let mut graph = 0;
    ok!(cuStreamEndCapture(stream, &mut graph));
    graph
}

fn status(stream: usize) -> u32 {
    let mut status = 7;
    ok!(cuStreamIsCapturing(stream, &mut status));
    status
}

fn kinds(graph: usize) -> Vec<u32> {
    let (mut count, mut nodes) = (16, [0; 16]);
    ok!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count));
    let kind = |node: &usize| {
        let mut kind = 99;
        ok!(cuGraphNodeGetType(*node, &mut kind));
        kind
    };
    nodes[..count].iter().map(kind).collect()
}

unsafe extern "C" fn count(data: *mut c_void) {
    // SAFETY: the test's counter, which outlives the graph.
    unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn what_is_captured_runs_at_each_launch_and_not_before() {
    let _context = Context::new();
    let (add, stream, marker) = (function(module(PTX), c"add"), stream(), event());
    let (values, copy, calls) = (upload(&[1_u32, 2]), upload(&[0_u32; 2]), AtomicU32::new(0));
    let (mut got, mut milliseconds) = ([0_u32; 2], 0.0);
    begin(stream);
    assert_eq!(status(stream), 1);
    refused(launch_in(add, 1, 32, stream, &[&values, &2_u32, &10_u32]), 0);
    ok!(cuMemcpyDtoDAsync_v2(copy, values, 8, stream));
    ok!(cuMemsetD32Async(values, 5, 1, stream));
    ok!(cuLaunchHostFunc(stream, Some(count), (&raw const calls).cast_mut().cast()));
    ok!(cuMemcpyDtoHAsync_v2(got.as_mut_ptr().cast(), copy, 8, stream));
    ok!(cuEventRecordWithFlags(marker, stream, 1));
    let graph = end(stream);
    assert_eq!(status(stream), 0);
    assert_eq!(kinds(graph), [0, 1, 2, 3, 1, 7]);
    assert_eq!((download::<u32>(values, 2), calls.load(Ordering::Relaxed)), (vec![1, 2], 0));
    let mut executable = 0;
    ok!(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    ok!(cuGraphUpload(executable, stream));
    ok!(cuGraphLaunch(executable, stream));
    assert_eq!((got, download::<u32>(values, 2)), ([11, 12], vec![5, 12]));
    // The graph is not needed any more.
    ok!(cuGraphDestroy(graph));
    ok!(cuGraphLaunch(executable, 0));
    assert_eq!((got, download::<u32>(values, 2)), ([15, 22], vec![5, 22]));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    ok!(cuEventElapsedTime_v2(&mut milliseconds, marker, marker));
    ok!(cuGraphExecDestroy(executable));
    refused(cu!(cuGraphLaunch(executable, stream)), api::INVALID_HANDLE);
}

#[test]
fn parameters_are_those_of_the_capture() {
    let _context = Context::new();
    let (add, stream, values) = (function(module(PTX), c"add"), stream(), upload(&[0_u32]));
    begin(stream);
    let mut amount = 3_u32;
    refused(launch_in(add, 1, 1, stream, &[&values, &1_u32, &amount]), 0);
    amount += 100;
    let graph = end(stream);
    let mut executable = 0;
    ok!(cuGraphInstantiate_v2(&mut executable, graph, null_mut(), null_mut(), 0));
    ok!(cuGraphLaunch(executable, stream));
    assert_eq!((download::<u32>(values, 1), amount), (vec![3], 103));
}

#[test]
fn other_streams_join_by_events() {
    let _context = Context::new();
    let (add, first, second) = (function(module(PTX), c"add"), stream(), stream());
    let (values, forked, joined) = (upload(&[0_u32; 3]), event(), event());
    let add_to = |index: u64, stream| {
        refused(launch_in(add, 1, 1, stream, &[&(values + 4 * index), &1_u32, &1_u32]), 0)
    };
    begin(first);
    add_to(0, first);
    ok!(cuEventRecord(forked, first));
    ok!(cuStreamWaitEvent(second, forked, 0));
    assert_eq!(status(second), 1);
    add_to(1, second);
    ok!(cuEventRecord(joined, second));
    ok!(cuStreamWaitEvent(first, joined, 0));
    add_to(2, first);
    refused(cu!(cuEventQuery(joined)), api::CAPTURED_EVENT);
    refused(cu!(cuEventSynchronize(joined)), api::CAPTURED_EVENT);
    let mut milliseconds = 0.0;
    refused(cu!(cuEventElapsedTime_v2(&mut milliseconds, joined, joined)), api::CAPTURED_EVENT);
    let graph = end(first);
    assert_eq!(status(second), 0);
    assert_eq!(kinds(graph), [0, 0, 0]);
    let (mut from, mut to, mut edges) = ([0; 8], [0; 8], 8);
    ok!(cuGraphGetEdges(graph, from.as_mut_ptr(), to.as_mut_ptr(), &mut edges));
    // The last kernel of the first stream comes after its own first and after the second stream's.
    assert_eq!(edges, 3);
    let mut roots = 0;
    ok!(cuGraphGetRootNodes(graph, null_mut(), &mut roots));
    assert_eq!(roots, 1);
    let mut executable = 0;
    ok!(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    ok!(cuGraphLaunch(executable, second));
    assert_eq!(download::<u32>(values, 3), [1, 1, 1]);
    // An event of a capture that has ended is recorded anew, or refused.
    refused(cu!(cuStreamWaitEvent(second, forked, 0)), api::CAPTURED_EVENT);
    ok!(cuEventRecord(forked, first));
    ok!(cuStreamWaitEvent(second, forked, 0));
}

#[test]
fn streams_that_are_not_joined_again_spoil_the_capture() {
    let _context = Context::new();
    let (first, second, forked, values) = (stream(), stream(), event(), upload(&[0_u32]));
    begin(first);
    ok!(cuEventRecord(forked, first));
    ok!(cuStreamWaitEvent(second, forked, 0));
    ok!(cuMemsetD32Async(values, 1, 1, second));
    refused(cu!(cuStreamEndCapture(second, &mut 0)), api::STREAM_CAPTURE_UNMATCHED);
    let mut graph = 7;
    refused(cu!(cuStreamEndCapture(first, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
    assert_eq!(graph, 0);
    begin(first);
    ok!(cuEventRecord(forked, first));
    ok!(cuStreamWaitEvent(second, forked, 0));
    ok!(cuMemsetD32Async(values, 1, 1, second));
    refused(cu!(cuStreamEndCapture(first, &mut graph)), api::STREAM_CAPTURE_UNJOINED);
    assert_eq!((status(first), status(second)), (0, 0));
}

#[test]
fn what_cannot_be_captured_spoils_the_capture() {
    let _context = Context::new();
    let (first, second, outside, values) = (stream(), stream(), event(), upload(&[0_u32]));
    ok!(cuEventRecord(outside, second));
    let mut address = 0;
    let calls: [(&dyn Fn() -> u32, u32); 9] = [
        (&|| cu!(cuStreamSynchronize(first)), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuStreamQuery(first)), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuCtxSynchronize()), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuMemAlloc_v2(&mut { 0 }, 4)), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuMemFree_v2(values)), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuMemAllocAsync(&mut { 0 }, 4, first)), api::NOT_SUPPORTED),
        (&|| cu!(cuEventQuery(outside)), api::STREAM_CAPTURE_UNSUPPORTED),
        (&|| cu!(cuStreamWaitEvent(first, outside, 0)), api::STREAM_CAPTURE_ISOLATION),
        (&|| cu!(cuMemcpyHtoD_v2(values, [1_u32].as_ptr().cast(), 4)), api::STREAM_CAPTURE_UNSUPPORTED),
    ];
    for (index, (call, code)) in calls.into_iter().enumerate() {
        begin(first);
        assert_eq!(api_name(call()), api_name(code), "call {index}");
        assert_eq!(status(first), 2);
        refused(cu!(cuMemsetD32Async(values, 1, 1, first)), api::STREAM_CAPTURE_INVALIDATED);
        let mut graph = 7;
        refused(cu!(cuStreamEndCapture(first, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
        assert_eq!((graph, status(first)), (0, 0));
    }
    // Waiting for an event as a node of its own is something else.
    begin(first);
    ok!(cuStreamWaitEvent(first, outside, 1));
    assert_eq!(kinds(end(first)), [6]);
    ok!(cuMemAlloc_v2(&mut address, 4));
    ok!(cuMemFree_v2(values));
}

fn api_name(code: u32) -> String {
    crate::harness::name(code)
}

#[test]
fn the_legacy_stream_keeps_away_from_captures_it_would_wait_for() {
    let _context = Context::new();
    let (mut blocking, values) = (0, upload(&[0_u32]));
    refused(cu!(cuStreamBeginCapture_v2(0, 0)), api::STREAM_CAPTURE_UNSUPPORTED);
    ok!(cuStreamCreate(&mut blocking, 0));
    let mut graph = 0;
    ok!(cuStreamBeginCapture_v2(blocking, 2));
    refused(cu!(cuMemsetD32Async(values, 1, 1, 0)), api::STREAM_CAPTURE_IMPLICIT);
    refused(cu!(cuStreamEndCapture(blocking, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
    let free = stream();
    ok!(cuStreamBeginCapture_v2(free, 2));
    ok!(cuMemsetD32Async(values, 9, 1, 0));
    end(free);
    assert_eq!(download::<u32>(values, 1), [9]);
}

#[test]
fn modes_say_whose_calls_spoil_a_capture() {
    let context = Context::new();
    let handle = context.0;
    let elsewhere = |mode: u32| {
        std::thread::spawn(move || {
            let mut mode = mode;
            ok!(cuCtxPushCurrent_v2(handle));
            ok!(cuThreadExchangeStreamCaptureMode(&mut mode));
            assert_eq!(mode, 0);
            let code = cu!(cuMemAlloc_v2(&mut { 0 }, 4));
            ok!(cuCtxPopCurrent_v2(null_mut()));
            code
        })
        .join()
        .unwrap()
    };
    let here = || cu!(cuMemAlloc_v2(&mut { 0 }, 4));
    let stream = stream();
    let spoilt = api::STREAM_CAPTURE_UNSUPPORTED;
    for (mode, own, other, other_local) in [(0, spoilt, spoilt, 0), (1, spoilt, 0, 0), (2, 0, 0, 0)] {
        let calls: [(&dyn Fn() -> u32, u32); 4] =
            [(&here, own), (&|| elsewhere(0), other), (&|| elsewhere(1), other_local), (&|| elsewhere(2), 0)];
        for (call, code) in calls {
            ok!(cuStreamBeginCapture_v2(stream, mode));
            refused(call(), code);
            let ended = cu!(cuStreamEndCapture(stream, &mut { 0 }));
            refused(ended, if code == 0 { 0 } else { api::STREAM_CAPTURE_INVALIDATED });
        }
    }
    let mut mode = 3;
    refused(cu!(cuThreadExchangeStreamCaptureMode(&mut mode)), api::INVALID_VALUE);
    refused(cu!(cuStreamBeginCapture_v2(stream, 3)), api::INVALID_VALUE);
}

#[test]
fn captures_end_where_they_began() {
    let context = Context::new();
    let (handle, stream, other) = (context.0, stream(), stream());
    let mut graph = 0;
    refused(cu!(cuStreamEndCapture(stream, &mut graph)), api::ILLEGAL_STATE);
    begin(stream);
    refused(cu!(cuStreamBeginCapture_v2(stream, 0)), api::ILLEGAL_STATE);
    let code = std::thread::spawn(move || {
        ok!(cuCtxPushCurrent_v2(handle));
        let code = cu!(cuStreamEndCapture(stream, &mut { 0 }));
        ok!(cuCtxPopCurrent_v2(null_mut()));
        code
    });
    refused(code.join().unwrap(), api::STREAM_CAPTURE_WRONG_THREAD);
    refused(cu!(cuStreamEndCapture(stream, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
    // Two captures do not meet.
    let mark = event();
    ok!(cuStreamBeginCapture_v2(stream, 2));
    ok!(cuStreamBeginCapture_v2(other, 2));
    ok!(cuEventRecord(mark, stream));
    refused(cu!(cuStreamWaitEvent(other, mark, 0)), api::STREAM_CAPTURE_MERGE);
    refused(cu!(cuStreamEndCapture(stream, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
    refused(cu!(cuStreamEndCapture(other, &mut graph)), api::STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn captures_tell_their_graph_and_go_into_one_that_exists() {
    let _context = Context::new();
    let (stream, values) = (stream(), upload(&[0_u32]));
    let (mut graph, mut first) = (0, 0);
    ok!(cuGraphCreate(&mut graph, 0));
    ok!(cuGraphAddEmptyNode(&mut first, graph, null(), 0));
    ok!(cuStreamBeginCaptureToGraph(stream, graph, &first, null(), 1, 0));
    let (mut found, mut id, mut into, mut after, mut edges, mut count) = (7, 0, 0, null(), null(), 0);
    ok!(cuStreamGetCaptureInfo_v2(stream, &mut found, &mut id, &mut into, &mut after, &mut count));
    // SAFETY: as many nodes as the driver says.
    assert_eq!((found, into, count, unsafe { *after }), (1, graph, 1, first));
    ok!(cuMemsetD32Async(values, 1, 1, stream));
    let mut other = 0;
    ok!(cuStreamGetCaptureInfo_v3(
        stream, &mut found, &mut other, &mut into, &mut after, &mut edges, &mut count
    ));
    // SAFETY: as above.
    assert_ne!(unsafe { *after }, first);
    assert_eq!((id, count), (other, 1));
    assert_eq!(end(stream), graph);
    assert_eq!(kinds(graph), [5, 2]);
    ok!(cuStreamGetCaptureInfo_v2(stream, &mut found, null_mut(), null_mut(), null_mut(), null_mut()));
    assert_eq!(found, 0);
    refused(cu!(cuStreamBeginCaptureToGraph(stream, 7, null(), null(), 0, 0)), api::INVALID_HANDLE);
}
