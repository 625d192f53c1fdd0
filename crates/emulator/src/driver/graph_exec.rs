//! Executable graphs: instantiation, launch, update.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint};
use std::sync::Mutex;

use super::abi::{Handle, In, Out};
use super::context::{Context, current};
use super::copy_shapes::Cuboid;
use super::entry::{entries, refuse};
use super::event::Event;
use super::graph::{Graph, Order, Place, empty_log};
use super::graph_nodes::{FillNode, HostNode, described};
use super::launch::KernelNode;
use super::stream::{Queue, Stream};
use super::table::{Object, Table, lock};
use super::work::{Action, submit};
use super::{Code, Driver, Result, driver};

/// An executable graph: the nodes as they were when it was instantiated, or as they were updated.
#[derive(Debug)]
pub(super) struct Executable {
    /// The context that it belongs to.
    pub context: Handle<Context>,
    flags: u64,
    order: Mutex<Order>,
}

impl Object for Executable {
    const WHAT: &'static str = "executable graph";

    fn table(driver: &Driver) -> &Table<Executable> {
        &driver.executables
    }
}

/// AUTO_FREE_ON_LAUNCH, UPLOAD, USE_NODE_PRIORITY; DEVICE_LAUNCH (4) is refused.
const FLAGS: u64 = 1 | 2 | 8;
const DEVICE_LAUNCH: u64 = 4;

/// `CUgraphExecUpdateResult`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Update {
    Success = 0,
    TopologyChanged = 2,
    NodeTypeChanged = 3,
}

/// `CUgraphExecUpdateResultInfo`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UpdateResult {
    result: c_uint,
    node: Handle<Place>,
    from: Handle<Place>,
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InstantiateParams {
    flags: u64,
    stream: Handle<Stream>,
    node: Handle<Place>,
    result: c_uint,
}

fn instantiate(out: Out<Handle<Executable>>, graph: Handle<Graph>, flags: u64) -> Result<()> {
    let (driver, context) = (driver()?, current()?);
    out.check()?;
    if flags & DEVICE_LAUNCH != 0 {
        return Err(refuse(Code::NOT_SUPPORTED, "graphs are not launched from kernels"));
    }
    if flags & !FLAGS != 0 {
        return Err(refuse(
            Code::INVALID_VALUE,
            format_args!("instantiation flags {flags:#x} are not known"),
        ));
    }
    let order = Mutex::new(graph.get()?.order()?);
    out.set(driver.executables.insert(Executable { context: context.handle, flags, order }))
}

/// Takes over what the nodes of a graph of the same shape do; which node does not fit.
fn update(executable: &Executable, graph: Handle<Graph>) -> Result<(Update, Handle<Place>)> {
    let new = graph.get()?.order()?;
    let mut order = lock(&executable.order);
    if new.nodes.len() != order.nodes.len() {
        return Ok((Update::TopologyChanged, Handle::NULL));
    }
    // Nodes stand for one another by the order in which they run, which depends on the edges and on who was made first.
    let pairs: BTreeMap<_, _> =
        new.nodes.iter().zip(&order.nodes).map(|((new, _), (old, _))| (*new, *old)).collect();
    for ((place, node), (_, old)) in new.nodes.iter().zip(&order.nodes) {
        if node.action.node_type() != old.action.node_type() {
            return Ok((Update::NodeTypeChanged, *place));
        }
        if node.after.iter().map(|before| pairs[before]).collect::<std::collections::BTreeSet<_>>()
            != old.after
        {
            return Ok((Update::TopologyChanged, *place));
        }
    }
    for ((_, old), (_, node)) in order.nodes.iter_mut().zip(new.nodes) {
        old.action = node.action;
    }
    Ok((Update::Success, Handle::NULL))
}

fn report((result, _): (Update, Handle<Place>)) -> Result<()> {
    match result {
        Update::Success => Ok(()),
        Update::TopologyChanged => {
            Err(refuse(Code::GRAPH_EXEC_UPDATE_FAILURE, "the graph has other nodes or edges"))
        }
        Update::NodeTypeChanged => {
            Err(refuse(Code::GRAPH_EXEC_UPDATE_FAILURE, "a node of the graph is of another kind"))
        }
    }
}

/// Replaces what a node of an executable does, as `make` says from what it did.
fn replace(
    executable: Handle<Executable>,
    place: Handle<Place>,
    make: impl FnOnce(&Action) -> Result<Action>,
) -> Result<()> {
    let found = executable.get()?;
    let mut order = lock(&found.order);
    let node = order.nodes.iter_mut().find(|(node, _)| *node == place);
    let (_, node) = node.ok_or_else(|| {
        refuse(Code::INVALID_VALUE, "the node was not in the graph when it was instantiated")
    })?;
    let action = make(&node.action)?;
    if node.action.node_type() != action.node_type() {
        return Err(refuse(Code::INVALID_VALUE, "the node is of another kind"));
    }
    node.action = action;
    Ok(())
}

/// Another launch of a kernel's node.
fn relaunch(executable: Handle<Executable>, node: Handle<Place>, params: KernelNode) -> Result<()> {
    replace(executable, node, |before| match before {
        Action::Kernel(launch) => params.action(Some(launch)),
        _ => params.action(None),
    })
}

entries! {
    /// Makes a graph executable.
    fn cuGraphInstantiateWithFlags(executable: Out<Handle<Executable>>, graph: Handle<Graph>, flags: u64) {
        instantiate(executable, graph, flags)
    }

    /// Makes a graph executable; there is nothing to log.
    fn cuGraphInstantiate_v2 or cuGraphInstantiate(
        executable: Out<Handle<Executable>>,
        graph: Handle<Graph>,
        error: Out<Handle<Place>>,
        log: Out<c_char>,
        len: usize,
    ) {
        error.offer(Handle::NULL);
        empty_log(log, len);
        instantiate(executable, graph, 0)
    }

    /// Makes a graph executable.
    fn cuGraphInstantiateWithParams(executable: Out<Handle<Executable>>, graph: Handle<Graph>, params: Out<InstantiateParams>) {
        let given = params.get()?;
        let done = instantiate(executable, graph, given.flags);
        params.offer(InstantiateParams { node: Handle::NULL, result: u32::from(done.is_err()), ..given });
        done
    }

    /// The flags that a graph was instantiated with.
    fn cuGraphExecGetFlags(executable: Handle<Executable>, flags: Out<u64>) {
        flags.set(executable.get()?.flags)
    }

    /// Ends an executable graph.
    fn cuGraphExecDestroy(executable: Handle<Executable>) {
        driver()?.executables.remove(executable).map(|_| ())
    }

    /// Prepares a launch: nothing to prepare.
    fn cuGraphUpload(executable: Handle<Executable>, stream: Handle<Stream>) {
        let queue = Queue::of(stream)?;
        executable.get()?;
        match queue.capture()? {
            None => Ok(()),
            Some(capture) => {
                capture.invalidate();
                Err(refuse(Code::STREAM_CAPTURE_UNSUPPORTED, "uploading a graph is not captured"))
            }
        }
    }

    /// Launches a graph.
    fn cuGraphLaunch(executable: Handle<Executable>, stream: Handle<Stream>) {
        let queue = Queue::of(stream)?;
        let executable = executable.get()?;
        let order = lock(&executable.order).clone();
        submit(&queue, Action::Graph(order.into()))
    }

    /// Updates an executable graph by a graph of the same shape.
    fn cuGraphExecUpdate_v2(executable: Handle<Executable>, graph: Handle<Graph>, info: Out<UpdateResult>) {
        info.check()?;
        let done = update(&*executable.get()?, graph)?;
        info.set(UpdateResult { result: done.0 as c_uint, node: done.1, from: Handle::NULL })?;
        report(done)
    }

    /// The same, of old.
    fn cuGraphExecUpdate(executable: Handle<Executable>, graph: Handle<Graph>, node: Out<Handle<Place>>, result: Out<c_uint>) {
        let done = update(&*executable.get()?, graph)?;
        node.offer(done.1);
        result.offer(done.0 as c_uint);
        report(done)
    }

    /// Replaces a kernel's launch.
    fn cuGraphExecKernelNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, params: In<KernelNode>) {
        relaunch(executable, node, params.get()?)
    }

    /// Replaces a kernel's launch.
    fn cuGraphExecKernelNodeSetParams_v2(executable: Handle<Executable>, node: Handle<Place>, params: In<KernelNode>) {
        relaunch(executable, node, KernelNode::of_two(params)?)
    }

    /// Replaces a copy.
    fn cuGraphExecMemcpyNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, params: In<Cuboid>, context: Handle<Context>) {
        super::context::healthy(context)?;
        let copy = params.get()?.copy()?;
        replace(executable, node, |_| Ok(Action::Copy(copy)))
    }

    /// Replaces a fill.
    fn cuGraphExecMemsetNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, params: In<FillNode>, context: Handle<Context>) {
        super::context::healthy(context)?;
        let action = params.get()?.action()?;
        replace(executable, node, |_| Ok(action))
    }

    /// Replaces a function of the program.
    fn cuGraphExecHostNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, params: In<HostNode>) {
        let action = params.get()?.action()?;
        replace(executable, node, |_| Ok(action))
    }

    /// Replaces an event that happens.
    fn cuGraphExecEventRecordNodeSetEvent(executable: Handle<Executable>, node: Handle<Place>, event: Handle<Event>) {
        let event = event.get()?;
        replace(executable, node, |_| Ok(Action::EventRecord(event)))
    }

    /// Replaces an event that is waited for.
    fn cuGraphExecEventWaitNodeSetEvent(executable: Handle<Executable>, node: Handle<Place>, event: Handle<Event>) {
        event.get()?;
        replace(executable, node, |_| Ok(Action::EventWait))
    }

    /// Replaces a graph within the graph.
    fn cuGraphExecChildGraphNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, inner: Handle<Graph>) {
        let order = inner.get()?.order()?;
        replace(executable, node, |_| Ok(Action::Graph(order.into())))
    }

    /// Replaces what a node does.
    fn cuGraphExecNodeSetParams(executable: Handle<Executable>, node: Handle<Place>, params: In<c_int>) {
        let (action, _) = described(params)?;
        replace(executable, node, |_| Ok(action))
    }

    /// Passes over a kernel, copy or fill, or no longer does.
    fn cuGraphNodeSetEnabled(executable: Handle<Executable>, node: Handle<Place>, enabled: c_uint) {
        let found = executable.get()?;
        let mut order = lock(&found.order);
        known(&order, node)?;
        if enabled == 0 {
            order.disabled.insert(node);
        } else {
            order.disabled.remove(&node);
        }
        Ok(())
    }

    /// Whether a node is passed over.
    fn cuGraphNodeGetEnabled(executable: Handle<Executable>, node: Handle<Place>, enabled: Out<c_uint>) {
        let found = executable.get()?;
        let order = lock(&found.order);
        known(&order, node)?;
        enabled.set(c_uint::from(!order.disabled.contains(&node)))
    }
}

/// Refuses nodes that cannot be passed over.
fn known(order: &Order, place: Handle<Place>) -> Result<()> {
    match order.nodes.iter().find(|(node, _)| *node == place) {
        Some((_, node)) if node.action.node_type() <= 2 => Ok(()),
        Some(_) => Err(refuse(Code::INVALID_VALUE, "only kernels, copies and fills can be passed over")),
        None => Err(refuse(Code::INVALID_VALUE, "the node was not in the graph when it was instantiated")),
    }
}
