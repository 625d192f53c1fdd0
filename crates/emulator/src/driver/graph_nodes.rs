//! The kinds of graph nodes, and what they are given.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::abi::{Handle, Host, In, Out};
use super::context::{Context, current};
use super::copy_shapes::Cuboid;
use super::entry::{entries, refuse};
use super::event::Event;
use super::fill::Fill;
use super::graph::{Graph, Place, add_node, check_plain, graph_of};
use super::launch::KernelNode;
use super::work::{Action, HostCall};
use super::{Code, Result};

/// `CUDA_MEMSET_NODE_PARAMS`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FillNode {
    to: u64,
    pitch: usize,
    value: c_uint,
    element: c_uint,
    width: usize,
    height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HostNode {
    function: HostCall,
    data: Host,
}

impl FillNode {
    pub(super) fn action(self) -> Result<Action> {
        let FillNode { to, pitch, value, element, width, height } = self;
        let fill =
            Fill { to, pitch: pitch as u64, value, element, width: width as u64, height: height as u64 };
        Ok(Action::Fill(fill.check()?))
    }
}

impl HostNode {
    pub(super) fn action(self) -> Result<Action> {
        match self.function {
            None => Err(refuse(Code::INVALID_VALUE, "the function is NULL")),
            function => Ok(Action::Host(function, self.data.address())),
        }
    }
}

/// Replaces what a node does, if it is of that kind.
fn replace(node: Handle<Place>, action: Action) -> Result<()> {
    graph_of(node)?.with(node, |node| {
        if node.action.node_type() != action.node_type() {
            return Err(refuse(Code::INVALID_VALUE, "the node is of another kind"));
        }
        node.action = action;
        Ok(())
    })?
}

/// What a node does, if `f` knows it.
fn look<T>(node: Handle<Place>, f: impl Fn(&Action) -> Option<T>) -> Result<T> {
    let found = graph_of(node)?.with(node, |node| f(&node.action))?;
    found.ok_or_else(|| refuse(Code::INVALID_VALUE, "the node is of another kind"))
}

/// Another launch of a kernel's node.
fn relaunch(node: Handle<Place>, params: KernelNode) -> Result<()> {
    let before = look(node, |action| match action {
        Action::Kernel(launch) => Some(launch.clone()),
        _ => None,
    })?;
    replace(node, params.action(Some(&before))?)
}

/// A child graph as it is now.
fn child(graph: Handle<Graph>) -> Result<Action> {
    Ok(Action::Graph(Arc::new(graph.get()?.order()?)))
}

type Nodes = In<Handle<Place>>;
type NewNode = Out<Handle<Place>>;

entries! {
    /// Adds a kernel.
    fn cuGraphAddKernelNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<KernelNode>) {
        current()?;
        add_node(node, graph, after, count, params.get()?.action(None)?, None)
    }

    /// Adds a kernel.
    fn cuGraphAddKernelNode_v2(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<KernelNode>) {
        current()?;
        add_node(node, graph, after, count, KernelNode::of_two(params)?.action(None)?, None)
    }

    /// Replaces a kernel's launch.
    fn cuGraphKernelNodeSetParams(node: Handle<Place>, params: In<KernelNode>) {
        relaunch(node, params.get()?)
    }

    /// Replaces a kernel's launch.
    fn cuGraphKernelNodeSetParams_v2(node: Handle<Place>, params: In<KernelNode>) {
        relaunch(node, KernelNode::of_two(params)?)
    }

    /// Adds a copy.
    fn cuGraphAddMemcpyNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<Cuboid>, context: Handle<Context>) {
        super::context::healthy(context)?;
        add_node(node, graph, after, count, Action::Copy(params.get()?.copy()?), None)
    }

    /// Replaces a copy.
    fn cuGraphMemcpyNodeSetParams(node: Handle<Place>, params: In<Cuboid>) {
        replace(node, Action::Copy(params.get()?.copy()?))
    }

    /// Adds a fill.
    fn cuGraphAddMemsetNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<FillNode>, context: Handle<Context>) {
        super::context::healthy(context)?;
        add_node(node, graph, after, count, params.get()?.action()?, None)
    }

    /// A fill.
    fn cuGraphMemsetNodeGetParams(node: Handle<Place>, params: Out<FillNode>) {
        params.set(look(node, |action| match action {
            Action::Fill(fill) => Some(FillNode {
                to: fill.to,
                pitch: fill.pitch as usize,
                value: fill.value,
                element: fill.element,
                width: fill.width as usize,
                height: fill.height as usize,
            }),
            _ => None,
        })?)
    }

    /// Replaces a fill.
    fn cuGraphMemsetNodeSetParams(node: Handle<Place>, params: In<FillNode>) {
        replace(node, params.get()?.action()?)
    }

    /// Adds a function of the program.
    fn cuGraphAddHostNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<HostNode>) {
        add_node(node, graph, after, count, params.get()?.action()?, None)
    }

    /// A function of the program.
    fn cuGraphHostNodeGetParams(node: Handle<Place>, params: Out<HostNode>) {
        params.set(look(node, |action| match action {
            // SAFETY: what the program said.
            Action::Host(function, data) => Some(HostNode { function: *function, data: unsafe { Host::from_address(*data) } }),
            _ => None,
        })?)
    }

    /// Replaces a function of the program.
    fn cuGraphHostNodeSetParams(node: Handle<Place>, params: In<HostNode>) {
        replace(node, params.get()?.action()?)
    }

    /// Adds a graph within the graph, as it is now.
    fn cuGraphAddChildGraphNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, inner: Handle<Graph>) {
        if inner == graph {
            return Err(refuse(Code::INVALID_VALUE, "a graph cannot be within itself"));
        }
        add_node(node, graph, after, count, child(inner)?, Some(inner))
    }

    /// The graph that a node was made from.
    fn cuGraphChildGraphNodeGetGraph(node: Handle<Place>, inner: Out<Handle<Graph>>) {
        let found = graph_of(node)?.with(node, |node| node.child)?;
        inner.set(found.ok_or_else(|| refuse(Code::INVALID_VALUE, "the node is of another kind"))?)
    }

    /// Adds a node that does nothing.
    fn cuGraphAddEmptyNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize) {
        add_node(node, graph, after, count, Action::Empty, None)
    }

    /// Adds an event that happens.
    fn cuGraphAddEventRecordNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, event: Handle<Event>) {
        add_node(node, graph, after, count, Action::EventRecord(event.get()?), None)
    }

    /// Replaces it.
    fn cuGraphEventRecordNodeSetEvent(node: Handle<Place>, event: Handle<Event>) {
        replace(node, Action::EventRecord(event.get()?))
    }

    /// Adds an event that is waited for.
    fn cuGraphAddEventWaitNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, event: Handle<Event>) {
        event.get()?;
        add_node(node, graph, after, count, Action::EventWait, None)
    }

    /// Replaces it.
    fn cuGraphEventWaitNodeSetEvent(node: Handle<Place>, event: Handle<Event>) {
        event.get()?;
        replace(node, Action::EventWait)
    }

    /// Adds a node of the kind that its description names.
    fn cuGraphAddNode_v2(node: NewNode, graph: Handle<Graph>, after: Nodes, edges: In<u64>, count: usize, params: In<c_int>) {
        check_plain(edges, count)?;
        let (action, inner) = described(params)?;
        add_node(node, graph, after, count, action, inner)
    }

    /// The same, without data of edges.
    fn cuGraphAddNode(node: NewNode, graph: Handle<Graph>, after: Nodes, count: usize, params: In<c_int>) {
        let (action, inner) = described(params)?;
        add_node(node, graph, after, count, action, inner)
    }

    /// Replaces what a node does.
    fn cuGraphNodeSetParams(node: Handle<Place>, params: In<c_int>) {
        replace(node, described(params)?.0)
    }
}

/// What a `CUgraphNodeParams` describes: its kind, 12 bytes that must be 0, then what the kind needs.
pub(super) fn described(params: In<c_int>) -> Result<(Action, Option<Handle<Graph>>)> {
    let kind = params.get()?;
    let rest: In<u8> = params.cast::<u8>().offset(16);
    Ok(match kind {
        0 => (KernelNode::of_two(rest.cast())?.action(None)?, None),
        // Flags and 4 bytes that must be 0, the context, then the copy.
        1 => (Action::Copy(rest.offset(16).cast::<Cuboid>().get()?.copy()?), None),
        2 => (rest.cast::<FillNode>().get()?.action()?, None),
        3 => (rest.cast::<HostNode>().get()?.action()?, None),
        4 => {
            let inner = rest.cast::<Handle<Graph>>().get()?;
            (child(inner)?, Some(inner))
        }
        5 => (Action::Empty, None),
        6 => {
            rest.cast::<Handle<Event>>().get()?.get()?;
            (Action::EventWait, None)
        }
        7 => (Action::EventRecord(rest.cast::<Handle<Event>>().get()?.get()?), None),
        _ => {
            return Err(refuse(
                Code::NOT_SUPPORTED,
                format_args!("graph nodes of type {kind} are not known"),
            ));
        }
    })
}
