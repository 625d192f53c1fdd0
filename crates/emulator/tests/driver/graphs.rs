//! Graphs made node by node, copied, instantiated, updated.

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

use crate::api::{self, cu, ok};
use crate::harness::{Context, PTX, download, event, function, module, refused, stream, upload};

/// `CUDA_KERNEL_NODE_PARAMS`
#[derive(Clone, Copy)]
#[repr(C)]
struct Kernel {
    function: usize,
    grid: [u32; 3],
    threads: [u32; 3],
    shared: u32,
    params: *const *const c_void,
    extra: usize,
    kernel: usize,
    context: usize,
}

/// `CUDA_MEMSET_NODE_PARAMS`
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Fill {
    to: u64,
    pitch: usize,
    value: u32,
    element: u32,
    width: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`, as numbers: from place, host and device, pitch and rows; the same for the destination; size.
fn copy(to: u64, from: u64, bytes: usize) -> [u64; 25] {
    let mut numbers = [0; 25];
    (numbers[4], numbers[6]) = (2, from);
    (numbers[15], numbers[17]) = (2, to);
    numbers[22..].copy_from_slice(&[bytes as u64, 1, 1]);
    numbers
}

/// A launch of `add` on one value.
struct Add {
    address: u64,
    count: u32,
    amount: u32,
}

impl Add {
    fn with<T>(&self, function: usize, run: impl FnOnce(*const c_void) -> T) -> T {
        let params: [*const c_void; 3] = [
            (&raw const self.address).cast(),
            (&raw const self.count).cast(),
            (&raw const self.amount).cast(),
        ];
        let (grid, threads) = ([1; 3], [32, 1, 1]);
        let kernel = Kernel {
            function,
            grid,
            threads,
            shared: 0,
            params: params.as_ptr(),
            extra: 0,
            kernel: 0,
            context: 0,
        };
        run((&raw const kernel).cast())
    }
}

fn create() -> usize {
    let mut graph = 0;
    ok!(cuGraphCreate(&mut graph, 0));
    graph
}

fn instantiate(graph: usize) -> usize {
    let mut executable = 0;
    ok!(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    executable
}

fn kernel(graph: usize, after: &[usize], function: usize, add: &Add) -> usize {
    let mut node = 0;
    add.with(function, |params| {
        ok!(cuGraphAddKernelNode_v2(&mut node, graph, after.as_ptr(), after.len(), params))
    });
    node
}

fn fill(graph: usize, after: &[usize], context: usize, to: u64, value: u32) -> usize {
    let (mut node, params) = (0, Fill { to, pitch: 0, value, element: 4, width: 1, height: 1 });
    ok!(cuGraphAddMemsetNode(
        &mut node,
        graph,
        after.as_ptr(),
        after.len(),
        (&raw const params).cast(),
        context
    ));
    node
}

fn run(graph: usize) {
    let executable = instantiate(graph);
    ok!(cuGraphLaunch(executable, 0));
    ok!(cuGraphExecDestroy(executable));
}

#[test]
fn nodes_run_after_those_they_depend_on() {
    let context = Context::new();
    let (add, values) = (function(module(PTX), c"add"), upload(&[0_u32, 0]));
    let graph = create();
    // Made in the wrong order, put right by an edge.
    let copy_node = {
        let (mut node, params) = (0, copy(values + 4, values, 4));
        ok!(cuGraphAddMemcpyNode(&mut node, graph, null(), 0, params.as_ptr().cast(), context.0));
        node
    };
    let fill_node = fill(graph, &[], context.0, values, 40);
    let add_node = kernel(graph, &[fill_node], add, &Add { address: values, count: 1, amount: 2 });
    ok!(cuGraphAddDependencies(graph, &add_node, &copy_node, 1));
    run(graph);
    assert_eq!(download::<u32>(values, 2), [42, 42]);
    refused(cu!(cuGraphAddDependencies(graph, &add_node, &copy_node, 1)), api::INVALID_VALUE);
    refused(cu!(cuGraphAddDependencies_v2(graph, &add_node, &add_node, null(), 1)), api::INVALID_VALUE);
    let port = 1_u64;
    refused(
        cu!(cuGraphAddDependencies_v2(graph, &copy_node, &fill_node, (&raw const port).cast(), 1)),
        api::NOT_SUPPORTED,
    );
    // A circle cannot run.
    ok!(cuGraphAddDependencies_v2(graph, &copy_node, &fill_node, null(), 1));
    let mut executable = 0;
    refused(cu!(cuGraphInstantiateWithFlags(&mut executable, graph, 0)), api::INVALID_VALUE);
    ok!(cuGraphRemoveDependencies_v2(graph, &copy_node, &fill_node, null(), 1));
    ok!(cuGraphRemoveDependencies(graph, &add_node, &copy_node, 1));
    refused(cu!(cuGraphRemoveDependencies(graph, &add_node, &copy_node, 1)), api::INVALID_VALUE);
    ok!(cuMemsetD32_v2(values, 7, 1));
    run(graph);
    assert_eq!(download::<u32>(values, 2), [42, 7], "the copy came first again");
    ok!(cuGraphDestroyNode(fill_node));
    run(graph);
    assert_eq!(download::<u32>(values, 2), [44, 42]);
    refused(cu!(cuGraphDestroyNode(fill_node)), api::INVALID_HANDLE);
}

#[test]
fn nodes_and_edges_are_listed() {
    let context = Context::new();
    let (graph, values) = (create(), upload(&[0_u32]));
    let first = fill(graph, &[], context.0, values, 1);
    let second = fill(graph, &[first], context.0, values, 2);
    let third = fill(graph, &[first, second], context.0, values, 3);
    let mut count = 0;
    ok!(cuGraphGetNodes(graph, null_mut(), &mut count));
    assert_eq!(count, 3);
    let (mut nodes, mut room) = ([7; 4], 2);
    ok!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut room));
    assert_eq!((nodes, room), ([first, second, 7, 7], 2));
    room = 4;
    ok!(cuGraphGetRootNodes(graph, nodes.as_mut_ptr(), &mut room));
    assert_eq!((nodes, room), ([first, 0, 0, 0], 1));
    let (mut from, mut to, mut data, mut edges) = ([0; 4], [0; 4], [9_u64; 4], 4);
    ok!(cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
    assert_eq!(edges, 3);
    edges = 4;
    ok!(cuGraphGetEdges_v2(graph, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr().cast(), &mut edges));
    let mut pairs: Vec<_> = from.into_iter().zip(to).take(edges).collect();
    pairs.sort_unstable();
    assert_eq!((pairs, data), (vec![(first, second), (first, third), (second, third)], [0, 0, 0, 9]));
    room = 4;
    ok!(cuGraphNodeGetDependencies(third, nodes.as_mut_ptr(), &mut room));
    assert_eq!((nodes, room), ([first, second, 0, 0], 2));
    room = 4;
    ok!(cuGraphNodeGetDependencies_v2(second, nodes.as_mut_ptr(), null_mut(), &mut room));
    assert_eq!((nodes[0], room), (first, 1));
    room = 4;
    ok!(cuGraphNodeGetDependentNodes(first, nodes.as_mut_ptr(), &mut room));
    assert_eq!((nodes, room), ([second, third, 0, 0], 2));
    room = 4;
    ok!(cuGraphNodeGetDependentNodes_v2(third, nodes.as_mut_ptr(), null_mut(), &mut room));
    assert_eq!(room, 0);
    let path = std::env::temp_dir().join(format!("wikigpt-emulator-{}.dot", std::process::id()));
    let name = CString::new(path.to_str().unwrap()).unwrap();
    ok!(cuGraphDebugDotPrint(graph, name.as_ptr(), 0));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((text.matches("fill").count(), text.matches("->").count()), (3, 3));
    let other = create();
    refused(cu!(cuGraphAddEmptyNode(&mut 0, other, &first, 1)), api::INVALID_VALUE);
    refused(cu!(cuGraphAddEmptyNode(&mut 0, other, &7, 1)), api::INVALID_HANDLE);
    refused(cu!(cuGraphCreate(&mut 0, 1)), api::INVALID_VALUE);
    ok!(cuGraphDestroy(graph));
    refused(cu!(cuGraphNodeGetType(first, &mut 0)), api::INVALID_HANDLE);
}

#[test]
fn copies_of_graphs_are_graphs_of_their_own() {
    let context = Context::new();
    let (graph, values) = (create(), upload(&[0_u32, 0]));
    let first = fill(graph, &[], context.0, values, 1);
    let second = fill(graph, &[first], context.0, values + 4, 2);
    let (mut clone, mut found) = (0, 0);
    ok!(cuGraphClone(&mut clone, graph));
    ok!(cuGraphNodeFindInClone(&mut found, second, clone));
    assert_ne!(found, second);
    let mut params = Fill { to: 0, pitch: 0, value: 0, element: 0, width: 0, height: 0 };
    ok!(cuGraphMemsetNodeGetParams(found, (&raw mut params).cast()));
    assert_eq!(params, Fill { to: values + 4, pitch: 0, value: 2, element: 4, width: 1, height: 1 });
    params.value = 9;
    ok!(cuGraphMemsetNodeSetParams(found, (&raw const params).cast()));
    run(clone);
    assert_eq!(download::<u32>(values, 2), [1, 9]);
    run(graph);
    assert_eq!(download::<u32>(values, 2), [1, 2]);
    refused(cu!(cuGraphNodeFindInClone(&mut found, second, graph)), api::INVALID_VALUE);
    // A graph within a graph is as it was when it was added.
    let (outer, mut node, mut inner) = (create(), 0, 0);
    ok!(cuGraphAddChildGraphNode(&mut node, outer, null(), 0, clone));
    ok!(cuGraphChildGraphNodeGetGraph(node, &mut inner));
    assert_eq!(inner, clone);
    params.value = 10;
    ok!(cuGraphMemsetNodeSetParams(found, (&raw const params).cast()));
    run(outer);
    assert_eq!(download::<u32>(values, 2), [1, 9]);
    refused(cu!(cuGraphChildGraphNodeGetGraph(first, &mut inner)), api::INVALID_VALUE);
    refused(cu!(cuGraphAddChildGraphNode(&mut node, outer, null(), 0, outer)), api::INVALID_VALUE);
}

/// Counts how often a graph called it.
unsafe extern "C" fn count(data: *mut c_void) {
    // SAFETY: the test's counter, which outlives the graph.
    unsafe { *data.cast::<u32>() += 1 };
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Host {
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    data: *mut c_void,
}

#[test]
fn every_kind_of_node_is_made_and_changed() {
    let context = Context::new();
    let (add, values, graph) = (function(module(PTX), c"add"), upload(&[0_u32; 4]), create());
    let (mut calls, mut other_calls) = (0_u32, 0_u32);
    let (mut host, mut record, mut wait, mut empty, mut copied) = (0, 0, 0, 0, 0);
    let (start, end) = (event(), event());
    let filled = fill(graph, &[], context.0, values, 5);
    let added = kernel(graph, &[filled], add, &Add { address: values, count: 1, amount: 1 });
    let params = copy(values + 4, values, 4);
    ok!(cuGraphAddMemcpyNode(&mut copied, graph, &added, 1, params.as_ptr().cast(), context.0));
    let mut call = Host { function: Some(count), data: (&raw mut calls).cast() };
    ok!(cuGraphAddHostNode(&mut host, graph, &copied, 1, (&raw const call).cast()));
    ok!(cuGraphAddEventRecordNode(&mut record, graph, &host, 1, start));
    ok!(cuGraphAddEventWaitNode(&mut wait, graph, &record, 1, start));
    ok!(cuGraphAddEmptyNode(&mut empty, graph, &wait, 1));
    run(graph);
    assert_eq!((download::<u32>(values, 2), calls), (vec![6, 6], 1));

    Add { address: values, count: 1, amount: 10 }
        .with(add, |params| ok!(cuGraphKernelNodeSetParams_v2(added, params)));
    let params = copy(values + 8, values, 4);
    ok!(cuGraphMemcpyNodeSetParams(copied, params.as_ptr().cast()));
    let mut known = Host { function: None, data: null_mut() };
    ok!(cuGraphHostNodeGetParams(host, (&raw mut known).cast()));
    assert_eq!(known.data, call.data);
    call.data = (&raw mut other_calls).cast();
    ok!(cuGraphHostNodeSetParams(host, (&raw const call).cast()));
    ok!(cuGraphEventRecordNodeSetEvent(record, end));
    ok!(cuGraphEventWaitNodeSetEvent(wait, end));
    run(graph);
    assert_eq!((download::<u32>(values, 3), calls, other_calls), (vec![15, 6, 15], 1, 1));
    let mut milliseconds = -1.0;
    ok!(cuEventElapsedTime_v2(&mut milliseconds, start, end));
    assert!(milliseconds >= 0.0);

    refused(cu!(cuGraphMemsetNodeSetParams(added, (&raw const call).cast())), api::INVALID_VALUE);
    refused(cu!(cuGraphHostNodeSetParams(added, (&raw const call).cast())), api::INVALID_VALUE);
    call.function = None;
    refused(cu!(cuGraphHostNodeSetParams(host, (&raw const call).cast())), api::INVALID_VALUE);
    let odd = Fill { to: values + 1, pitch: 0, value: 0, element: 4, width: 1, height: 1 };
    refused(cu!(cuGraphMemsetNodeSetParams(filled, (&raw const odd).cast())), api::INVALID_VALUE);
    let code = Add { address: 0, count: 0, amount: 0 }
        .with(add + 8, |params| cu!(cuGraphKernelNodeSetParams_v2(added, params)));
    refused(code, api::INVALID_HANDLE);
    Add { address: values, count: 1, amount: 10 }
        .with(add, |params| ok!(cuGraphAddKernelNode(&mut empty, graph, null(), 0, params)));
    let code = Add { address: 0, count: 0, amount: 0 }
        .with(add, |params| cu!(cuGraphKernelNodeSetParams(host, params)));
    refused(code, api::INVALID_VALUE);
}

#[test]
fn nodes_are_made_by_their_description() {
    let _context = Context::new();
    let (add, values, graph) = (function(module(PTX), c"add"), upload(&[0_u32; 2]), create());
    let describe = |kind: i32, content: &[u8]| {
        let mut description = vec![0_u8; 256];
        description[..4].copy_from_slice(&kind.to_ne_bytes());
        description[16..16 + content.len()].copy_from_slice(content);
        description
    };
    let filling = [values, 0, 4_u64 << 32 | 3, 2, 1];
    let filling: Vec<u8> = filling.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let (mut first, mut second, mut third) = (0, 0, 0);
    let description = describe(2, &filling);
    ok!(cuGraphAddNode_v2(&mut first, graph, null(), null(), 0, description.as_ptr().cast_mut().cast()));
    let amount = Add { address: values, count: 2, amount: 4 };
    let launch = amount.with(add, |params| {
        // SAFETY: 72 bytes of a description.
        let description = describe(0, unsafe { std::slice::from_raw_parts(params.cast(), 72) });
        cu!(cuGraphAddNode(&mut second, graph, &first, 1, description.as_ptr().cast_mut().cast()))
    });
    refused(launch, 0);
    let copying: Vec<u8> =
        [0, 0].iter().chain(&copy(values, values + 4, 4)).flat_map(|number| number.to_ne_bytes()).collect();
    let description = describe(1, &copying);
    ok!(cuGraphAddNode_v2(&mut third, graph, &second, null(), 1, description.as_ptr().cast_mut().cast()));
    run(graph);
    assert_eq!(download::<u32>(values, 2), [7, 7]);
    let other = [values, 0, 4_u64 << 32 | 8, 2, 1];
    let other: Vec<u8> = other.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let executable = instantiate(graph);
    let description = describe(2, &other);
    ok!(cuGraphNodeSetParams(first, description.as_ptr().cast_mut().cast()));
    ok!(cuGraphLaunch(executable, 0));
    assert_eq!(download::<u32>(values, 2), [7, 7]);
    ok!(cuGraphExecNodeSetParams(executable, first, description.as_ptr().cast_mut().cast()));
    ok!(cuGraphLaunch(executable, 0));
    assert_eq!(download::<u32>(values, 2), [12, 12]);
    let conditional = describe(13, &[]);
    refused(
        cu!(cuGraphAddNode_v2(&mut third, graph, null(), null(), 0, conditional.as_ptr().cast_mut().cast())),
        api::NOT_SUPPORTED,
    );
}

#[test]
fn executables_are_changed_without_their_graph() {
    let context = Context::new();
    let (add, values, graph, stream) =
        (function(module(PTX), c"add"), upload(&[0_u32; 4]), create(), stream());
    let mut calls = [0_u32; 2];
    let filled = fill(graph, &[], context.0, values, 5);
    let added = kernel(graph, &[filled], add, &Add { address: values, count: 1, amount: 1 });
    let (mut copied, mut host, mut record, mut wait, mut child) = (0, 0, 0, 0, 0);
    ok!(cuGraphAddMemcpyNode(
        &mut copied,
        graph,
        &added,
        1,
        copy(values + 4, values, 4).as_ptr().cast(),
        context.0
    ));
    let call = Host { function: Some(count), data: (&raw mut calls[0]).cast() };
    ok!(cuGraphAddHostNode(&mut host, graph, null(), 0, (&raw const call).cast()));
    let (start, end, inner) = (event(), event(), create());
    ok!(cuGraphAddEventRecordNode(&mut record, graph, null(), 0, start));
    ok!(cuGraphAddEventWaitNode(&mut wait, graph, null(), 0, start));
    ok!(cuGraphAddChildGraphNode(&mut child, graph, &copied, 1, inner));
    let executable = instantiate(graph);
    Add { address: values, count: 1, amount: 2 }.with(add, |params| {
        ok!(cuGraphExecKernelNodeSetParams_v2(executable, added, params));
        ok!(cuGraphExecKernelNodeSetParams(executable, added, params));
        refused(cu!(cuGraphExecKernelNodeSetParams_v2(executable, filled, params)), api::INVALID_VALUE);
        refused(cu!(cuGraphExecKernelNodeSetParams_v2(executable, 7, params)), api::INVALID_VALUE);
    });
    let params = Fill { to: values, pitch: 0, value: 70, element: 4, width: 1, height: 1 };
    ok!(cuGraphExecMemsetNodeSetParams(executable, filled, (&raw const params).cast(), context.0));
    ok!(cuGraphExecMemcpyNodeSetParams(
        executable,
        copied,
        copy(values + 8, values, 4).as_ptr().cast(),
        context.0
    ));
    let call = Host { function: Some(count), data: (&raw mut calls[1]).cast() };
    ok!(cuGraphExecHostNodeSetParams(executable, host, (&raw const call).cast()));
    ok!(cuGraphExecEventRecordNodeSetEvent(executable, record, end));
    ok!(cuGraphExecEventWaitNodeSetEvent(executable, wait, end));
    let other = create();
    fill(other, &[], context.0, values + 12, 3);
    ok!(cuGraphExecChildGraphNodeSetParams(executable, child, other));
    ok!(cuGraphLaunch(executable, stream));
    assert_eq!((download::<u32>(values, 4), calls), (vec![72, 0, 72, 3], [0, 1]));
    ok!(cuEventQuery(end));
    // The graph is as it was.
    run(graph);
    assert_eq!((download::<u32>(values, 2), calls), (vec![6, 6], [1, 1]));

    let mut enabled = 7;
    ok!(cuGraphNodeGetEnabled(executable, filled, &mut enabled));
    assert_eq!(enabled, 1);
    ok!(cuGraphNodeSetEnabled(executable, filled, 0));
    ok!(cuGraphNodeGetEnabled(executable, filled, &mut enabled));
    assert_eq!(enabled, 0);
    ok!(cuGraphLaunch(executable, stream));
    assert_eq!(download::<u32>(values, 1), [8]);
    ok!(cuGraphNodeSetEnabled(executable, filled, 1));
    ok!(cuGraphLaunch(executable, stream));
    assert_eq!(download::<u32>(values, 1), [72]);
    refused(cu!(cuGraphNodeSetEnabled(executable, host, 0)), api::INVALID_VALUE);
    refused(cu!(cuGraphNodeSetEnabled(executable, 7, 0)), api::INVALID_VALUE);
}

/// `CUgraphExecUpdateResultInfo`
#[derive(Clone, Copy)]
#[repr(C)]
struct Update {
    result: u32,
    node: usize,
    from: usize,
}

#[test]
fn executables_take_over_what_graphs_of_their_shape_do() {
    let context = Context::new();
    let (add, values) = (function(module(PTX), c"add"), upload(&[0_u32]));
    let make = |value: u32, amount: u32, joined: bool| {
        let graph = create();
        let filled = fill(graph, &[], context.0, values, value);
        let after = if joined { vec![filled] } else { Vec::new() };
        (graph, kernel(graph, &after, add, &Add { address: values, count: 1, amount }))
    };
    let executable = instantiate(make(1, 1, true).0);
    let mut info = Update { result: 99, node: 7, from: 7 };
    ok!(cuGraphExecUpdate_v2(executable, make(20, 4, true).0, (&raw mut info).cast()));
    assert_eq!((info.result, info.node, info.from), (0, 0, 0));
    ok!(cuGraphLaunch(executable, 0));
    assert_eq!(download::<u32>(values, 1), [24]);
    let (loose, node) = make(1, 1, false);
    refused(
        cu!(cuGraphExecUpdate_v2(executable, loose, (&raw mut info).cast())),
        api::GRAPH_EXEC_UPDATE_FAILURE,
    );
    assert_eq!((info.result, info.node), (2, node));
    let (bigger, _) = make(1, 1, true);
    fill(bigger, &[], context.0, values, 0);
    let (mut failed, mut result) = (7, 7);
    refused(
        cu!(cuGraphExecUpdate(executable, bigger, &mut failed, &mut result)),
        api::GRAPH_EXEC_UPDATE_FAILURE,
    );
    assert_eq!((failed, result), (0, 2));
    let (other, mut empty) = (create(), 0);
    let first = fill(other, &[], context.0, values, 1);
    ok!(cuGraphAddEmptyNode(&mut empty, other, &first, 1));
    refused(
        cu!(cuGraphExecUpdate(executable, other, &mut failed, &mut result)),
        api::GRAPH_EXEC_UPDATE_FAILURE,
    );
    assert_eq!((failed, result), (empty, 3));
    ok!(cuGraphLaunch(executable, 0));
    assert_eq!(download::<u32>(values, 1), [24], "what failed changed nothing");
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`
#[repr(C)]
struct Instantiate {
    flags: u64,
    stream: usize,
    node: usize,
    result: u32,
}

#[test]
fn instantiation_has_flags() {
    let _context = Context::new();
    let (graph, mut executable, mut flags) = (create(), 0, 7);
    ok!(cuGraphInstantiateWithFlags(&mut executable, graph, 1 | 8));
    ok!(cuGraphExecGetFlags(executable, &mut flags));
    assert_eq!(flags, 9);
    ok!(cuGraphLaunch(executable, 0));
    refused(cu!(cuGraphInstantiateWithFlags(&mut executable, graph, 4)), api::NOT_SUPPORTED);
    refused(cu!(cuGraphInstantiateWithFlags(&mut executable, graph, 16)), api::INVALID_VALUE);
    let mut params = Instantiate { flags: 2, stream: 0, node: 7, result: 7 };
    ok!(cuGraphInstantiateWithParams(&mut executable, graph, (&raw mut params).cast()));
    assert_eq!((params.node, params.result, params.stream), (0, 0, 0));
    params.flags = 4;
    refused(
        cu!(cuGraphInstantiateWithParams(&mut executable, graph, (&raw mut params).cast())),
        api::NOT_SUPPORTED,
    );
    assert_eq!(params.result, 1);
}
