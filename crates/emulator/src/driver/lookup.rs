//! Entry points by name.

use std::ffi::{c_int, c_uint, c_void};

use super::abi::{Out, Text};
use super::entry::{entries, refuse};
use super::{
    Code, Result, capture, code, context, copy, copy_shapes, device, event, fill, function, graph,
    graph_exec, graph_nodes, host_memory, launch, library, memory, module, occupancy, pointer, pool, refused,
    stream, tensor_map,
};

/// `CUdriverProcAddressQueryResult`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Found {
    /// It is there.
    Success = 0,
    /// There is no such name.
    Unknown = 1,
    /// It came with a newer CUDA than was asked for.
    TooNew = 2,
}

/// LEGACY_STREAM, PER_THREAD_DEFAULT_STREAM
const FLAGS: u64 = 3;
const PER_THREAD_DEFAULT_STREAM: u64 = 2;

/// Names whose function changed with a version of CUDA: from which version on they mean which symbol.
const CHANGED: &[(&str, &[(c_int, &str)])] = &[
    ("cuCtxCreate", &[(3020, "cuCtxCreate_v2"), (11040, "cuCtxCreate_v3"), (12050, "cuCtxCreate_v4")]),
    ("cuCtxGetDevice", &[(2000, "cuCtxGetDevice"), (13000, "cuCtxGetDevice_v2")]),
    ("cuCtxSynchronize", &[(2000, "cuCtxSynchronize"), (13000, "cuCtxSynchronize_v2")]),
    ("cuGetProcAddress", &[(11030, "cuGetProcAddress"), (12000, "cuGetProcAddress_v2")]),
    ("cuGraphAddDependencies", &[(10000, "cuGraphAddDependencies"), (12030, "cuGraphAddDependencies_v2")]),
    ("cuGraphAddKernelNode", &[(10000, "cuGraphAddKernelNode"), (12000, "cuGraphAddKernelNode_v2")]),
    ("cuGraphAddNode", &[(12020, "cuGraphAddNode"), (12030, "cuGraphAddNode_v2")]),
    (
        "cuGraphExecKernelNodeSetParams",
        &[(10010, "cuGraphExecKernelNodeSetParams"), (12000, "cuGraphExecKernelNodeSetParams_v2")],
    ),
    ("cuGraphExecUpdate", &[(10020, "cuGraphExecUpdate"), (12000, "cuGraphExecUpdate_v2")]),
    ("cuGraphGetEdges", &[(10000, "cuGraphGetEdges"), (12030, "cuGraphGetEdges_v2")]),
    ("cuGraphInstantiate", &[(10000, "cuGraphInstantiate_v2"), (12000, "cuGraphInstantiateWithFlags")]),
    (
        "cuGraphKernelNodeSetParams",
        &[(10000, "cuGraphKernelNodeSetParams"), (12000, "cuGraphKernelNodeSetParams_v2")],
    ),
    (
        "cuGraphNodeGetDependencies",
        &[(10000, "cuGraphNodeGetDependencies"), (12030, "cuGraphNodeGetDependencies_v2")],
    ),
    (
        "cuGraphNodeGetDependentNodes",
        &[(10000, "cuGraphNodeGetDependentNodes"), (12030, "cuGraphNodeGetDependentNodes_v2")],
    ),
    (
        "cuGraphRemoveDependencies",
        &[(10000, "cuGraphRemoveDependencies"), (12030, "cuGraphRemoveDependencies_v2")],
    ),
    ("cuMemAdvise", &[(8000, "cuMemAdvise"), (12020, "cuMemAdvise_v2")]),
    ("cuMemPrefetchAsync", &[(8000, "cuMemPrefetchAsync"), (12020, "cuMemPrefetchAsync_v2")]),
    ("cuStreamBeginCapture", &[(10010, "cuStreamBeginCapture_v2")]),
    ("cuStreamGetCaptureInfo", &[(11030, "cuStreamGetCaptureInfo_v2"), (12030, "cuStreamGetCaptureInfo_v3")]),
    ("cuStreamGetCtx", &[(9020, "cuStreamGetCtx"), (12050, "cuStreamGetCtx_v2")]),
];

/// The entry point of exactly this name.
fn symbol(name: &str) -> Option<*const c_void> {
    let rooms = [
        capture::address,
        code::address,
        context::address,
        copy::address,
        copy_shapes::address,
        device::address,
        event::address,
        fill::address,
        function::address,
        graph::address,
        graph_exec::address,
        graph_nodes::address,
        host_memory::address,
        launch::address,
        library::address,
        memory::address,
        module::address,
        occupancy::address,
        pointer::address,
        pool::address,
        stream::address,
        tensor_map::address,
        address,
        refused::address,
    ];
    rooms.iter().find_map(|room| room(name))
}

/// The entry point that a name means in a version of CUDA.
fn find(name: &str, version: c_int) -> Result<*const c_void, Found> {
    if let Some((_, symbols)) = CHANGED.iter().find(|(changed, _)| *changed == name) {
        let newest = symbols.iter().rev().find(|(since, _)| *since <= version);
        return newest.and_then(|(_, name)| symbol(name)).ok_or(Found::TooNew);
    }
    // Most names with a second version got it before there was a 64-bit driver.
    symbol(&format!("{name}_v2")).or_else(|| symbol(name)).ok_or(Found::Unknown)
}

fn look_up(name: Text, out: Out<*const c_void>, version: c_int, flags: u64) -> Result<Found> {
    let name = name.get()?;
    out.check()?;
    if flags & !FLAGS != 0 {
        return Err(refuse(Code::INVALID_VALUE, format_args!("flags {flags:#x} are not known")));
    }
    let found = match flags & PER_THREAD_DEFAULT_STREAM {
        0 => find(&name, version),
        // Those would take NULL for the stream of the thread.
        _ => refused::address(&format!("{name}_ptsz"))
            .or_else(|| refused::address(&format!("{name}_v2_ptds")))
            .or_else(|| refused::address(&format!("{name}_ptds")))
            .map_or_else(|| find(&name, version), Ok),
    };
    out.set(found.unwrap_or(std::ptr::null()))?;
    Ok(found.err().unwrap_or(Found::Success))
}

entries! {
    /// The entry point that a name means in a version of CUDA, and why there is none.
    fn cuGetProcAddress_v2(name: Text, function: Out<*const c_void>, version: c_int, flags: u64, status: Out<c_uint>) {
        let found = look_up(name, function, version, flags)?;
        status.offer(found as c_uint);
        // Who asks for the status learns it there; who does not, by the code.
        match found {
            Found::Success => Ok(()),
            _ if status.wanted() => Ok(()),
            _ => Err(Code::NOT_FOUND),
        }
    }

    /// The entry point that a name means in a version of CUDA.
    fn cuGetProcAddress(name: Text, function: Out<*const c_void>, version: c_int, flags: u64) {
        match look_up(name, function, version, flags)? {
            Found::Success => Ok(()),
            _ => Err(Code::NOT_FOUND),
        }
    }
}
