//! Contexts.

use crate::api::{self, cu, ok};
use crate::harness::{Context, PTX, download, function, launch, module, refused, upload};

fn current() -> usize {
    let mut context = 7;
    ok!(cuCtxGetCurrent(&mut context));
    context
}

#[test]
fn a_thread_has_a_stack_of_contexts() {
    let first = Context::new();
    assert_eq!(current(), first.0);
    let second = Context::new();
    assert_eq!(current(), second.0);
    let mut popped = 0;
    ok!(cuCtxPopCurrent_v2(&mut popped));
    assert_eq!((popped, current()), (second.0, first.0));
    ok!(cuCtxPushCurrent_v2(second.0));
    assert_eq!(current(), second.0);
    ok!(cuCtxSetCurrent(first.0));
    assert_eq!(current(), first.0);
    ok!(cuCtxSetCurrent(0));
    assert_eq!(current(), first.0, "what was pushed before it is current again");
    ok!(cuCtxPopCurrent_v2(std::ptr::null_mut()));
    assert_eq!(current(), 0);
    refused(cu!(cuCtxPopCurrent_v2(&mut popped)), api::INVALID_CONTEXT);
    std::thread::spawn(|| assert_eq!(current(), 0)).join().unwrap();
}

#[test]
fn calls_without_a_context_are_refused() {
    ok!(cuInit(0));
    let (mut address, mut stream) = (0, 0);
    refused(cu!(cuMemAlloc_v2(&mut address, 4)), api::INVALID_CONTEXT);
    refused(cu!(cuStreamCreate(&mut stream, 0)), api::INVALID_CONTEXT);
    refused(cu!(cuCtxSynchronize()), api::INVALID_CONTEXT);
    refused(cu!(cuCtxSetCurrent(0x1234)), api::INVALID_CONTEXT);
    refused(cu!(cuCtxPushCurrent_v2(usize::MAX)), api::INVALID_CONTEXT);
    refused(cu!(cuCtxDestroy_v2(8)), api::INVALID_CONTEXT);
    let mut device = 7;
    refused(cu!(cuCtxGetDevice(&mut device)), api::INVALID_CONTEXT);
}

#[test]
fn a_context_takes_what_belongs_to_it() {
    let context = Context::new();
    let address = upload(&[1_u32, 2]);
    let module = module(PTX);
    let add = function(module, c"add");
    let (mut stream, mut event) = (0, 0);
    ok!(cuStreamCreate(&mut stream, 0));
    ok!(cuEventCreate(&mut event, 0));
    ok!(cuCtxDestroy_v2(context.0));
    refused(cu!(cuCtxDestroy_v2(context.0)), api::INVALID_CONTEXT);
    let _other = Context::new();
    refused(launch(add, 1, 1, &[&address, &1_u32, &1_u32]), api::INVALID_HANDLE);
    refused(cu!(cuStreamSynchronize(stream)), api::INVALID_HANDLE);
    refused(cu!(cuEventSynchronize(event)), api::INVALID_HANDLE);
    refused(cu!(cuModuleUnload(module)), api::INVALID_HANDLE);
    refused(cu!(cuMemFree_v2(address)), api::INVALID_VALUE);
}

#[test]
fn a_context_destroyed_elsewhere_is_noticed() {
    let context = Context::new();
    let handle = context.0;
    std::thread::spawn(move || ok!(cuCtxDestroy_v2(handle))).join().unwrap();
    refused(cu!(cuCtxSynchronize()), api::CONTEXT_IS_DESTROYED);
    ok!(cuCtxPopCurrent_v2(std::ptr::null_mut()));
}

#[test]
fn the_primary_context_is_counted() {
    // Alone in its process, because others would count too.
    const TEST: &str = "context::the_primary_context_is_counted";
    if !crate::harness::is_child() {
        crate::harness::stderr(&crate::harness::child(TEST, &[]));
        return;
    }
    ok!(cuInit(0));
    let (mut first, mut second, mut flags, mut active) = (0, 0, 7, 7);
    ok!(cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!((flags, active), (0, 0));
    refused(cu!(cuDevicePrimaryCtxRelease_v2(0)), api::INVALID_CONTEXT);
    ok!(cuDevicePrimaryCtxSetFlags_v2(0, 4));
    ok!(cuDevicePrimaryCtxRetain(&mut first, 0));
    ok!(cuDevicePrimaryCtxRetain(&mut second, 0));
    assert_eq!(first, second);
    ok!(cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!((flags, active), (4, 1));
    refused(cu!(cuCtxDestroy_v2(first)), api::INVALID_CONTEXT);
    ok!(cuCtxSetCurrent(first));
    let address = upload(&[3_u32]);
    ok!(cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(download::<u32>(address, 1), [3]);
    ok!(cuDevicePrimaryCtxRelease_v2(0));
    refused(cu!(cuCtxSynchronize()), api::CONTEXT_IS_DESTROYED);
    ok!(cuDevicePrimaryCtxRetain(&mut second, 0));
    assert_ne!(first, second);
    ok!(cuCtxSetCurrent(second));
    refused(cu!(cuMemFree_v2(address)), api::INVALID_VALUE);
    ok!(cuDevicePrimaryCtxReset_v2(0));
    refused(cu!(cuCtxSynchronize()), api::CONTEXT_IS_DESTROYED);
    refused(cu!(cuDevicePrimaryCtxRelease_v2(0)), api::INVALID_CONTEXT);
}

#[test]
fn flags_numbers_and_limits_are_kept() {
    ok!(cuInit(0));
    let (mut context, mut flags, mut id, mut other, mut version) = (0, 0, 0, 0, 0);
    ok!(cuCtxCreate_v2(&mut context, 8 | 1, 0));
    ok!(cuCtxGetFlags(&mut flags));
    assert_eq!(flags, 9);
    ok!(cuCtxSetFlags(2));
    ok!(cuCtxGetFlags(&mut flags));
    assert_eq!(flags, 2);
    refused(cu!(cuCtxSetFlags(3)), api::INVALID_VALUE);
    refused(cu!(cuCtxSetFlags(0x1000)), api::INVALID_VALUE);
    refused(cu!(cuCtxCreate_v2(&mut context, 7, 0)), api::INVALID_VALUE);
    ok!(cuCtxGetId(context, &mut id));
    ok!(cuCtxGetId(0, &mut other));
    assert_eq!(id, other);
    ok!(cuCtxGetApiVersion(context, &mut version));
    assert_eq!(version, 3020);
    let mut device = 7;
    ok!(cuCtxGetDevice(&mut device));
    assert_eq!(device, 0);
    device = 7;
    ok!(cuCtxGetDevice_v2(&mut device, context));
    assert_eq!(device, 0);
    let mut value = 0;
    for (limit, first) in [(0, 1024), (1, 1 << 20), (2, 8 << 20), (4, 2048), (5, 64), (6, 0)] {
        ok!(cuCtxGetLimit(&mut value, limit));
        assert_eq!(value, first, "limit {limit}");
        ok!(cuCtxSetLimit(limit, 4096));
        ok!(cuCtxGetLimit(&mut value, limit));
        assert_eq!(value, 4096);
    }
    refused(cu!(cuCtxGetLimit(&mut value, 3)), api::UNSUPPORTED_LIMIT);
    refused(cu!(cuCtxSetLimit(77, 1)), api::UNSUPPORTED_LIMIT);
    let (mut config, mut least, mut greatest) = (7, 7, 7);
    ok!(cuCtxGetCacheConfig(&mut config));
    assert_eq!(config, 0);
    ok!(cuCtxSetCacheConfig(3));
    ok!(cuCtxGetCacheConfig(&mut config));
    assert_eq!(config, 3);
    refused(cu!(cuCtxSetCacheConfig(4)), api::INVALID_VALUE);
    ok!(cuCtxGetSharedMemConfig(&mut config));
    assert_eq!(config, 1);
    ok!(cuCtxSetSharedMemConfig(2));
    refused(cu!(cuCtxSetSharedMemConfig(3)), api::INVALID_VALUE);
    ok!(cuCtxGetStreamPriorityRange(&mut least, &mut greatest));
    assert!(greatest < least);
    ok!(cuCtxResetPersistingL2Cache());
    ok!(cuCtxSynchronize());
    ok!(cuCtxSynchronize_v2(context));
    ok!(cuFlushGPUDirectRDMAWrites(0, 0));
    ok!(cuCtxDestroy_v2(context));
}

#[test]
fn affinities_graphics_and_peers_are_refused() {
    let context = Context::new();
    let mut made = 0;
    let none = std::ptr::null_mut();
    ok!(cuCtxCreate_v3(&mut made, none, 0, 0, 0));
    ok!(cuCtxDestroy_v2(made));
    let mut affinity = [0_u8; 16];
    refused(
        cu!(cuCtxCreate_v3(&mut made, affinity.as_mut_ptr().cast(), 1, 0, 0)),
        api::UNSUPPORTED_EXEC_AFFINITY,
    );
    let mut with_affinity = [affinity.as_mut_ptr() as usize, 1, 0];
    refused(
        cu!(cuCtxCreate_v4(&mut made, with_affinity.as_mut_ptr().cast(), 0, 0)),
        api::UNSUPPORTED_EXEC_AFFINITY,
    );
    let mut with_graphics = [0, 0, affinity.as_mut_ptr() as usize];
    refused(cu!(cuCtxCreate_v4(&mut made, with_graphics.as_mut_ptr().cast(), 0, 0)), api::NOT_SUPPORTED);
    refused(cu!(cuCtxGetExecAffinity(affinity.as_mut_ptr().cast(), 0)), api::UNSUPPORTED_EXEC_AFFINITY);
    refused(cu!(cuCtxEnablePeerAccess(context.0, 0)), api::PEER_ACCESS_UNSUPPORTED);
    refused(cu!(cuCtxDisablePeerAccess(context.0)), api::PEER_ACCESS_NOT_ENABLED);
}
