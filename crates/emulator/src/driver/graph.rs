//! Graphs: nodes, what comes after what, and the order in which they run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_uint};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, In, Out, Text};
use super::context::current;
use super::entry::{entries, refuse};
use super::table::{Object, Table, lock};
use super::work::Action;
use super::{Code, Driver, Result, driver};

/// A graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Mutex<BTreeMap<Handle<Place>, Node>>,
}

/// What is done where, and after what.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What is done.
    pub action: Action,
    /// The nodes before it.
    pub after: BTreeSet<Handle<Place>>,
    /// The graph that a child graph's node was made from.
    pub child: Option<Handle<Graph>>,
    /// The node that it was cloned from.
    pub original: Option<Handle<Place>>,
}

/// Where a node is: what a `CUgraphNode` stands for.
#[derive(Debug)]
pub(super) struct Place {
    /// Its graph.
    pub graph: Handle<Graph>,
}

impl Object for Graph {
    const WHAT: &'static str = "graph";

    fn table(driver: &Driver) -> &Table<Graph> {
        &driver.graphs
    }
}

impl Object for Place {
    const WHAT: &'static str = "graph node";

    fn table(driver: &Driver) -> &Table<Place> {
        &driver.nodes
    }
}

/// Nodes in an order in which each comes after those before it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The nodes.
    pub nodes: Vec<(Handle<Place>, Node)>,
    /// Those that are passed over.
    pub disabled: BTreeSet<Handle<Place>>,
}

impl Order {
    /// What is to be done.
    pub(super) fn actions(&self) -> impl Iterator<Item = &Action> {
        self.nodes.iter().filter(|(place, _)| !self.disabled.contains(place)).map(|(_, node)| &node.action)
    }
}

impl Graph {
    /// Adds a node.
    pub(super) fn add(
        &self,
        driver: &Driver,
        graph: Handle<Graph>,
        action: Action,
        after: BTreeSet<Handle<Place>>,
    ) -> Handle<Place> {
        self.insert(driver, graph, Node { action, after, child: None, original: None })
    }

    /// Adds a node.
    pub(super) fn insert(&self, driver: &Driver, graph: Handle<Graph>, node: Node) -> Handle<Place> {
        let place = driver.nodes.insert(Place { graph });
        lock(&self.nodes).insert(place, node);
        place
    }

    /// Changes a node.
    pub(super) fn with<T>(&self, place: Handle<Place>, f: impl FnOnce(&mut Node) -> T) -> Result<T> {
        lock(&self.nodes).get_mut(&place).map(f).ok_or_else(|| gone(place))
    }

    /// These nodes and all that come before them.
    pub(super) fn before(&self, nodes: &BTreeSet<Handle<Place>>) -> BTreeSet<Handle<Place>> {
        let table = lock(&self.nodes);
        let (mut reached, mut left) = (BTreeSet::new(), Vec::from_iter(nodes.iter().copied()));
        while let Some(place) = left.pop() {
            if reached.insert(place)
                && let Some(node) = table.get(&place)
            {
                left.extend(&node.after);
            }
        }
        reached
    }

    /// Its nodes in order, those of equal rank as they were made.
    pub(super) fn order(&self) -> Result<Order> {
        let table = lock(&self.nodes);
        let (mut done, mut nodes) = (BTreeSet::new(), Vec::with_capacity(table.len()));
        while nodes.len() < table.len() {
            let ready: Vec<_> = table
                .iter()
                .filter(|(place, node)| !done.contains(*place) && node.after.is_subset(&done))
                .map(|(place, node)| (*place, node.clone()))
                .collect();
            if ready.is_empty() {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    "nodes of the graph wait for one another in a circle",
                ));
            }
            done.extend(ready.iter().map(|(place, _)| *place));
            nodes.extend(ready);
        }
        Ok(Order { nodes, disabled: BTreeSet::new() })
    }

    /// A copy whose nodes know theirs.
    fn copy(&self, driver: &Driver, graph: Handle<Graph>, into: &Graph) -> Result<()> {
        let mut places = BTreeMap::new();
        for (place, node) in self.order()?.nodes {
            let after = node.after.iter().map(|before| places[before]).collect();
            places.insert(place, into.insert(driver, graph, Node { after, original: Some(place), ..node }));
        }
        Ok(())
    }

    fn edges(&self) -> Vec<(Handle<Place>, Handle<Place>)> {
        let table = lock(&self.nodes);
        table.iter().flat_map(|(place, node)| node.after.iter().map(|before| (*before, *place))).collect()
    }
}

fn gone(place: Handle<Place>) -> Code {
    refuse(Code::INVALID_HANDLE, format_args!("{place:?} is no graph node, or one that is gone"))
}

/// Ends a graph and its nodes.
pub(super) fn destroy(driver: &Driver, graph: Handle<Graph>) -> Result<()> {
    driver.graphs.remove(graph)?;
    driver.nodes.remove_where(|place| place.graph == graph);
    Ok(())
}

/// The graph of a node.
pub(super) fn graph_of(place: Handle<Place>) -> Result<Arc<Graph>> {
    let graph = place.get()?.graph;
    graph.get()
}

/// Refuses a node of another graph.
pub(super) fn check_node(graph: Handle<Graph>, place: Handle<Place>) -> Result<()> {
    match place.get()?.graph == graph {
        true => Ok(()),
        false => Err(refuse(Code::INVALID_VALUE, "a node belongs to another graph")),
    }
}

/// Adds a node for a program: checks what it comes after.
pub(super) fn add_node(
    out: Out<Handle<Place>>,
    graph: Handle<Graph>,
    after: In<Handle<Place>>,
    count: usize,
    action: Action,
    child: Option<Handle<Graph>>,
) -> Result<()> {
    let found = graph.get()?;
    out.check()?;
    let after = after.list(count)?;
    after.iter().try_for_each(|place| check_node(graph, *place))?;
    let node = Node { action, after: after.into_iter().collect(), child, original: None };
    out.set(found.insert(driver()?, graph, node))
}

/// Gives a list as the driver does: its length where no room is given, else as much as fits, the rest NULL.
fn list<T: Copy>(values: &[T], null: T, out: Out<T>, count: Out<usize>) -> Result<()> {
    if !out.wanted() {
        return count.set(values.len());
    }
    let room = count.get()?;
    count.set(room.min(values.len()))?;
    out.fill(values.iter().copied().chain(std::iter::repeat(null)).take(room))
}

fn edit_edges(
    graph: Handle<Graph>,
    from: In<Handle<Place>>,
    to: In<Handle<Place>>,
    count: usize,
    add: bool,
) -> Result<()> {
    let found = graph.get()?;
    let edges: Vec<_> = from.list(count)?.into_iter().zip(to.list(count)?).collect();
    for (from, to) in &edges {
        check_node(graph, *from)?;
        check_node(graph, *to)?;
        let there = found.with(*to, |node| node.after.contains(from))?;
        if there == add || from == to {
            let what = if add { "there already, or leads from a node to itself" } else { "not there" };
            return Err(refuse(Code::INVALID_VALUE, format_args!("an edge is {what}")));
        }
    }
    for (from, to) in edges {
        found.with(to, |node| if add { node.after.insert(from) } else { node.after.remove(&from) })?;
    }
    Ok(())
}

entries! {
    /// Makes a graph without nodes.
    fn cuGraphCreate(graph: Out<Handle<Graph>>, flags: c_uint) {
        let driver = driver()?;
        current()?;
        graph.check()?;
        if flags != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} where 0 is required")));
        }
        graph.set(driver.graphs.insert(Graph::default()))
    }

    /// Ends a graph and its nodes.
    fn cuGraphDestroy(graph: Handle<Graph>) {
        destroy(driver()?, graph)
    }

    /// Copies a graph.
    fn cuGraphClone(clone: Out<Handle<Graph>>, graph: Handle<Graph>) {
        let driver = driver()?;
        clone.check()?;
        let from = graph.get()?;
        let (handle, into) = driver.graphs.insert_with(|_| Graph::default());
        from.copy(driver, handle, &into)?;
        clone.set(handle)
    }

    /// The node of a copy that stands for a node.
    fn cuGraphNodeFindInClone(found: Out<Handle<Place>>, node: Handle<Place>, clone: Handle<Graph>) {
        let graph = clone.get()?;
        let table = lock(&graph.nodes);
        let place = table.iter().find(|(_, copy)| copy.original == Some(node)).map(|(place, _)| *place);
        found.set(place.ok_or_else(|| refuse(Code::INVALID_VALUE, "the graph was not cloned from the node's"))?)
    }

    /// The nodes of a graph.
    fn cuGraphGetNodes(graph: Handle<Graph>, nodes: Out<Handle<Place>>, count: Out<usize>) {
        let places: Vec<_> = lock(&graph.get()?.nodes).keys().copied().collect();
        list(&places, Handle::NULL, nodes, count)
    }

    /// The nodes of a graph that come after none.
    fn cuGraphGetRootNodes(graph: Handle<Graph>, nodes: Out<Handle<Place>>, count: Out<usize>) {
        let graph = graph.get()?;
        let table = lock(&graph.nodes);
        let roots: Vec<_> = table.iter().filter(|(_, node)| node.after.is_empty()).map(|(place, _)| *place).collect();
        drop(table);
        list(&roots, Handle::NULL, nodes, count)
    }

    /// The edges of a graph.
    fn cuGraphGetEdges(graph: Handle<Graph>, from: Out<Handle<Place>>, to: Out<Handle<Place>>, count: Out<usize>) {
        let edges = graph.get()?.edges();
        give_edges(&edges, from, to, count)
    }

    /// The edges of a graph, which are plain ones.
    fn cuGraphGetEdges_v2(graph: Handle<Graph>, from: Out<Handle<Place>>, to: Out<Handle<Place>>, data: Out<u64>, count: Out<usize>) {
        let edges = graph.get()?.edges();
        give_plain(&edges, data, count)?;
        give_edges(&edges, from, to, count)
    }

    /// Adds edges.
    fn cuGraphAddDependencies(graph: Handle<Graph>, from: In<Handle<Place>>, to: In<Handle<Place>>, count: usize) {
        edit_edges(graph, from, to, count, true)
    }

    /// Adds edges, which must be plain ones.
    fn cuGraphAddDependencies_v2(graph: Handle<Graph>, from: In<Handle<Place>>, to: In<Handle<Place>>, data: In<u64>, count: usize) {
        check_plain(data, count)?;
        edit_edges(graph, from, to, count, true)
    }

    /// Removes edges.
    fn cuGraphRemoveDependencies(graph: Handle<Graph>, from: In<Handle<Place>>, to: In<Handle<Place>>, count: usize) {
        edit_edges(graph, from, to, count, false)
    }

    /// Removes edges, which must be plain ones.
    fn cuGraphRemoveDependencies_v2(graph: Handle<Graph>, from: In<Handle<Place>>, to: In<Handle<Place>>, data: In<u64>, count: usize) {
        check_plain(data, count)?;
        edit_edges(graph, from, to, count, false)
    }

    /// The nodes that a node comes after.
    fn cuGraphNodeGetDependencies(node: Handle<Place>, before: Out<Handle<Place>>, count: Out<usize>) {
        let found: Vec<_> = graph_of(node)?.with(node, |node| node.after.iter().copied().collect())?;
        list(&found, Handle::NULL, before, count)
    }

    /// The nodes that a node comes after, by plain edges.
    fn cuGraphNodeGetDependencies_v2(node: Handle<Place>, before: Out<Handle<Place>>, data: Out<u64>, count: Out<usize>) {
        let found: Vec<_> = graph_of(node)?.with(node, |node| node.after.iter().copied().collect())?;
        give_plain(&found, data, count)?;
        list(&found, Handle::NULL, before, count)
    }

    /// The nodes that come after a node.
    fn cuGraphNodeGetDependentNodes(node: Handle<Place>, after: Out<Handle<Place>>, count: Out<usize>) {
        list(&dependents(node)?, Handle::NULL, after, count)
    }

    /// The nodes that come after a node, by plain edges.
    fn cuGraphNodeGetDependentNodes_v2(node: Handle<Place>, after: Out<Handle<Place>>, data: Out<u64>, count: Out<usize>) {
        let found = dependents(node)?;
        give_plain(&found, data, count)?;
        list(&found, Handle::NULL, after, count)
    }

    /// What kind of node it is.
    fn cuGraphNodeGetType(node: Handle<Place>, kind: Out<c_uint>) {
        kind.set(graph_of(node)?.with(node, |node| node.action.node_type())?)
    }

    /// Takes a node out of its graph, and its edges.
    fn cuGraphDestroyNode(node: Handle<Place>) {
        let graph = graph_of(node)?;
        driver()?.nodes.remove(node)?;
        let mut table = lock(&graph.nodes);
        table.remove(&node);
        table.values_mut().for_each(|other| {
            other.after.remove(&node);
        });
        Ok(())
    }

    /// Writes a graph as a `.dot` file.
    fn cuGraphDebugDotPrint(graph: Handle<Graph>, path: Text, _flags: c_uint) {
        let graph = graph.get()?;
        let path = path.get()?;
        let mut text = String::from("digraph {\n");
        for (place, node) in lock(&graph.nodes).iter() {
            let kind = ["kernel", "copy", "fill", "host", "graph", "empty", "wait", "record"][node.action.node_type() as usize];
            text.push_str(&format!("  \"{place:?}\" [label=\"{kind}\"];\n"));
        }
        for (from, to) in graph.edges() {
            text.push_str(&format!("  \"{from:?}\" -> \"{to:?}\";\n"));
        }
        text.push_str("}\n");
        std::fs::write(&path, text).map_err(|error| refuse(Code::OPERATING_SYSTEM, format_args!("{path}: {error}")))
    }
}

fn dependents(node: Handle<Place>) -> Result<Vec<Handle<Place>>> {
    Ok(graph_of(node)?.edges().into_iter().filter(|(from, _)| *from == node).map(|(_, to)| to).collect())
}

fn give_edges(
    edges: &[(Handle<Place>, Handle<Place>)],
    from: Out<Handle<Place>>,
    to: Out<Handle<Place>>,
    count: Out<usize>,
) -> Result<()> {
    if !from.wanted() || !to.wanted() {
        return count.set(edges.len());
    }
    let (firsts, seconds): (Vec<_>, Vec<_>) = edges.iter().copied().unzip();
    let room = count.get()?;
    list(&firsts, Handle::NULL, from, count)?;
    count.set(room)?;
    list(&seconds, Handle::NULL, to, count)
}

/// The data of plain edges: zeros.
fn give_plain<T>(edges: &[T], data: Out<u64>, count: Out<usize>) -> Result<()> {
    match data.wanted() {
        true => data.fill(std::iter::repeat_n(0, edges.len().min(count.get()?))),
        false => Ok(()),
    }
}

/// Refuses edges that are not plain: a kernel is done before what comes after it starts.
pub(super) fn check_plain(data: In<u64>, count: usize) -> Result<()> {
    if data.is_null() || data.list(count)?.iter().all(|edge| *edge == 0) {
        return Ok(());
    }
    Err(refuse(Code::NOT_SUPPORTED, "edges with ports are not known"))
}

/// Text that a call leaves empty: nothing went wrong.
pub(super) fn empty_log(log: Out<c_char>, len: usize) {
    if len > 0 {
        log.offer(0);
    }
}
