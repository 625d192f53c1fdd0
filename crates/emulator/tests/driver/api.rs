//! The driver's C interface as CUDA's manual has it: handles are numbers, enumerations `u32`.

use std::ffi::{c_char, c_void};

/// `CUmemLocation`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Location {
    pub kind: i32,
    pub id: i32,
}

macro_rules! api {
    ($(fn $name:ident($($ty:ty),* $(,)?);)*) => {
        $(
            #[allow(non_snake_case, reason = "the driver's name")]
            pub fn $name() -> unsafe extern "C" fn($($ty),*) -> u32 {
                // SAFETY: the entry point of this name has this signature.
                unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($ty),*) -> u32>(super::harness::symbol(stringify!($name))) }
            }
        )*
    };
}

/// Calls an entry point; the code that it returns.
macro_rules! cu {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: pointers lead to what the call wants, or the test is about those that do not.
        unsafe { $crate::api::$name()($($argument),*) }
    };
}

/// Calls an entry point that must succeed.
macro_rules! ok {
    ($name:ident($($argument:expr),* $(,)?)) => {
        assert_eq!(cu!($name($($argument),*)), 0, stringify!($name))
    };
}

pub(crate) use {cu, ok};

api! {
    fn cuCtxCreate_v2(*mut usize, u32, i32);
    fn cuCtxCreate_v3(*mut usize, *mut c_void, i32, u32, i32);
    fn cuCtxCreate_v4(*mut usize, *mut c_void, u32, i32);
    fn cuCtxDestroy_v2(usize);
    fn cuCtxDisablePeerAccess(usize);
    fn cuCtxEnablePeerAccess(usize, u32);
    fn cuCtxGetApiVersion(usize, *mut u32);
    fn cuCtxGetCacheConfig(*mut u32);
    fn cuCtxGetCurrent(*mut usize);
    fn cuCtxGetDevice(*mut i32);
    fn cuCtxGetDevice_v2(*mut i32, usize);
    fn cuCtxGetExecAffinity(*mut c_void, u32);
    fn cuCtxGetFlags(*mut u32);
    fn cuCtxGetId(usize, *mut u64);
    fn cuCtxGetLimit(*mut usize, u32);
    fn cuCtxGetSharedMemConfig(*mut u32);
    fn cuCtxGetStreamPriorityRange(*mut i32, *mut i32);
    fn cuCtxPopCurrent_v2(*mut usize);
    fn cuCtxPushCurrent_v2(usize);
    fn cuCtxRecordEvent(usize, usize);
    fn cuCtxResetPersistingL2Cache();
    fn cuCtxSetCacheConfig(u32);
    fn cuCtxSetCurrent(usize);
    fn cuCtxSetFlags(u32);
    fn cuCtxSetLimit(u32, usize);
    fn cuCtxSetSharedMemConfig(u32);
    fn cuCtxSynchronize();
    fn cuCtxSynchronize_v2(usize);
    fn cuCtxWaitEvent(usize, usize);
    fn cuDeviceCanAccessPeer(*mut i32, i32, i32);
    fn cuDeviceComputeCapability(*mut i32, *mut i32, i32);
    fn cuDeviceGet(*mut i32, i32);
    fn cuDeviceGetAttribute(*mut i32, u32, i32);
    fn cuDeviceGetByPCIBusId(*mut i32, *const c_char);
    fn cuDeviceGetCount(*mut i32);
    fn cuDeviceGetDefaultMemPool(*mut usize, i32);
    fn cuDeviceGetExecAffinitySupport(*mut i32, u32, i32);
    fn cuDeviceGetMemPool(*mut usize, i32);
    fn cuDeviceGetName(*mut c_char, i32, i32);
    fn cuDeviceGetPCIBusId(*mut c_char, i32, i32);
    fn cuDeviceGetProperties(*mut c_void, i32);
    fn cuDeviceGetUuid_v2(*mut [u8; 16], i32);
    fn cuDevicePrimaryCtxGetState(i32, *mut u32, *mut i32);
    fn cuDevicePrimaryCtxRelease_v2(i32);
    fn cuDevicePrimaryCtxReset_v2(i32);
    fn cuDevicePrimaryCtxRetain(*mut usize, i32);
    fn cuDevicePrimaryCtxSetFlags_v2(i32, u32);
    fn cuDeviceSetMemPool(i32, usize);
    fn cuDeviceTotalMem_v2(*mut usize, i32);
    fn cuDriverGetVersion(*mut i32);
    fn cuEventCreate(*mut usize, u32);
    fn cuEventDestroy_v2(usize);
    fn cuEventElapsedTime_v2(*mut f32, usize, usize);
    fn cuEventQuery(usize);
    fn cuEventRecord(usize, usize);
    fn cuEventRecordWithFlags(usize, usize, u32);
    fn cuEventSynchronize(usize);
    fn cuFlushGPUDirectRDMAWrites(u32, u32);
    fn cuFuncGetAttribute(*mut i32, u32, usize);
    fn cuFuncGetModule(*mut usize, usize);
    fn cuFuncGetName(*mut *const c_char, usize);
    fn cuFuncGetParamInfo(usize, usize, *mut usize, *mut usize);
    fn cuFuncIsLoaded(*mut u32, usize);
    fn cuFuncLoad(usize);
    fn cuFuncSetAttribute(usize, u32, i32);
    fn cuFuncSetCacheConfig(usize, u32);
    fn cuFuncSetSharedMemConfig(usize, u32);
    fn cuGetErrorName(u32, *mut *const c_char);
    fn cuGetErrorString(u32, *mut *const c_char);
    fn cuGetExportTable(*mut *const c_void, *const [u8; 16]);
    fn cuGetProcAddress(*const c_char, *mut *mut c_void, i32, u64);
    fn cuGetProcAddress_v2(*const c_char, *mut *mut c_void, i32, u64, *mut u32);
    fn cuGraphAddChildGraphNode(*mut usize, usize, *const usize, usize, usize);
    fn cuGraphAddDependencies(usize, *const usize, *const usize, usize);
    fn cuGraphAddDependencies_v2(usize, *const usize, *const usize, *const c_void, usize);
    fn cuGraphAddEmptyNode(*mut usize, usize, *const usize, usize);
    fn cuGraphAddEventRecordNode(*mut usize, usize, *const usize, usize, usize);
    fn cuGraphAddEventWaitNode(*mut usize, usize, *const usize, usize, usize);
    fn cuGraphAddHostNode(*mut usize, usize, *const usize, usize, *const c_void);
    fn cuGraphAddKernelNode(*mut usize, usize, *const usize, usize, *const c_void);
    fn cuGraphAddKernelNode_v2(*mut usize, usize, *const usize, usize, *const c_void);
    fn cuGraphAddMemcpyNode(*mut usize, usize, *const usize, usize, *const c_void, usize);
    fn cuGraphAddMemsetNode(*mut usize, usize, *const usize, usize, *const c_void, usize);
    fn cuGraphAddNode(*mut usize, usize, *const usize, usize, *mut c_void);
    fn cuGraphAddNode_v2(*mut usize, usize, *const usize, *const c_void, usize, *mut c_void);
    fn cuGraphChildGraphNodeGetGraph(usize, *mut usize);
    fn cuGraphClone(*mut usize, usize);
    fn cuGraphCreate(*mut usize, u32);
    fn cuGraphDebugDotPrint(usize, *const c_char, u32);
    fn cuGraphDestroy(usize);
    fn cuGraphDestroyNode(usize);
    fn cuGraphEventRecordNodeSetEvent(usize, usize);
    fn cuGraphEventWaitNodeSetEvent(usize, usize);
    fn cuGraphExecChildGraphNodeSetParams(usize, usize, usize);
    fn cuGraphExecDestroy(usize);
    fn cuGraphExecEventRecordNodeSetEvent(usize, usize, usize);
    fn cuGraphExecEventWaitNodeSetEvent(usize, usize, usize);
    fn cuGraphExecGetFlags(usize, *mut u64);
    fn cuGraphExecHostNodeSetParams(usize, usize, *const c_void);
    fn cuGraphExecKernelNodeSetParams(usize, usize, *const c_void);
    fn cuGraphExecKernelNodeSetParams_v2(usize, usize, *const c_void);
    fn cuGraphExecMemcpyNodeSetParams(usize, usize, *const c_void, usize);
    fn cuGraphExecMemsetNodeSetParams(usize, usize, *const c_void, usize);
    fn cuGraphExecNodeSetParams(usize, usize, *mut c_void);
    fn cuGraphExecUpdate(usize, usize, *mut usize, *mut u32);
    fn cuGraphExecUpdate_v2(usize, usize, *mut c_void);
    fn cuGraphGetEdges(usize, *mut usize, *mut usize, *mut usize);
    fn cuGraphGetEdges_v2(usize, *mut usize, *mut usize, *mut c_void, *mut usize);
    fn cuGraphGetNodes(usize, *mut usize, *mut usize);
    fn cuGraphGetRootNodes(usize, *mut usize, *mut usize);
    fn cuGraphHostNodeGetParams(usize, *mut c_void);
    fn cuGraphHostNodeSetParams(usize, *const c_void);
    fn cuGraphInstantiateWithFlags(*mut usize, usize, u64);
    fn cuGraphInstantiateWithParams(*mut usize, usize, *mut c_void);
    fn cuGraphInstantiate_v2(*mut usize, usize, *mut usize, *mut c_char, usize);
    fn cuGraphKernelNodeSetParams(usize, *const c_void);
    fn cuGraphKernelNodeSetParams_v2(usize, *const c_void);
    fn cuGraphLaunch(usize, usize);
    fn cuGraphMemcpyNodeSetParams(usize, *const c_void);
    fn cuGraphMemsetNodeGetParams(usize, *mut c_void);
    fn cuGraphMemsetNodeSetParams(usize, *const c_void);
    fn cuGraphNodeFindInClone(*mut usize, usize, usize);
    fn cuGraphNodeGetDependencies(usize, *mut usize, *mut usize);
    fn cuGraphNodeGetDependencies_v2(usize, *mut usize, *mut c_void, *mut usize);
    fn cuGraphNodeGetDependentNodes(usize, *mut usize, *mut usize);
    fn cuGraphNodeGetDependentNodes_v2(usize, *mut usize, *mut c_void, *mut usize);
    fn cuGraphNodeGetEnabled(usize, usize, *mut u32);
    fn cuGraphNodeGetType(usize, *mut u32);
    fn cuGraphNodeSetEnabled(usize, usize, u32);
    fn cuGraphNodeSetParams(usize, *mut c_void);
    fn cuGraphRemoveDependencies(usize, *const usize, *const usize, usize);
    fn cuGraphRemoveDependencies_v2(usize, *const usize, *const usize, *const c_void, usize);
    fn cuGraphUpload(usize, usize);
    fn cuInit(u32);
    fn cuKernelGetAttribute(*mut i32, u32, usize, i32);
    fn cuKernelGetFunction(*mut usize, usize);
    fn cuKernelGetLibrary(*mut usize, usize);
    fn cuKernelGetName(*mut *const c_char, usize);
    fn cuKernelGetParamInfo(usize, usize, *mut usize, *mut usize);
    fn cuKernelSetAttribute(u32, i32, usize, i32);
    fn cuKernelSetCacheConfig(usize, u32, i32);
    fn cuLaunchCooperativeKernel(usize, u32, u32, u32, u32, u32, u32, u32, usize, *mut *mut c_void);
    fn cuLaunchHostFunc(usize, Option<unsafe extern "C" fn(*mut c_void)>, *mut c_void);
    fn cuLaunchKernel(usize, u32, u32, u32, u32, u32, u32, u32, usize, *mut *mut c_void, *mut *mut c_void);
    fn cuLaunchKernelEx(*const c_void, usize, *mut *mut c_void, *mut *mut c_void);
    fn cuLibraryEnumerateKernels(*mut usize, u32, usize);
    fn cuLibraryGetGlobal(*mut u64, *mut usize, usize, *const c_char);
    fn cuLibraryGetKernel(*mut usize, usize, *const c_char);
    fn cuLibraryGetKernelCount(*mut u32, usize);
    fn cuLibraryGetManaged(*mut u64, *mut usize, usize, *const c_char);
    fn cuLibraryGetModule(*mut usize, usize);
    fn cuLibraryGetUnifiedFunction(*mut *mut c_void, usize, *const c_char);
    fn cuLibraryLoadData(*mut usize, *const c_void, *mut u32, *mut *mut c_void, u32, *mut u32, *mut *mut c_void, u32);
    fn cuLibraryLoadFromFile(*mut usize, *const c_char, *mut u32, *mut *mut c_void, u32, *mut u32, *mut *mut c_void, u32);
    fn cuLibraryUnload(usize);
    fn cuMemAdvise(u64, usize, u32, i32);
    fn cuMemAdvise_v2(u64, usize, u32, Location);
    fn cuMemAllocAsync(*mut u64, usize, usize);
    fn cuMemAllocFromPoolAsync(*mut u64, usize, usize, usize);
    fn cuMemAllocHost_v2(*mut *mut c_void, usize);
    fn cuMemAllocManaged(*mut u64, usize, u32);
    fn cuMemAllocPitch_v2(*mut u64, *mut usize, usize, usize, u32);
    fn cuMemAlloc_v2(*mut u64, usize);
    fn cuMemFreeAsync(u64, usize);
    fn cuMemFreeHost(*mut c_void);
    fn cuMemFree_v2(u64);
    fn cuMemGetAddressRange_v2(*mut u64, *mut usize, u64);
    fn cuMemGetInfo_v2(*mut usize, *mut usize);
    fn cuMemHostAlloc(*mut *mut c_void, usize, u32);
    fn cuMemHostGetDevicePointer_v2(*mut u64, *mut c_void, u32);
    fn cuMemHostGetFlags(*mut u32, *mut c_void);
    fn cuMemHostRegister_v2(*mut c_void, usize, u32);
    fn cuMemHostUnregister(*mut c_void);
    fn cuMemPoolCreate(*mut usize, *const c_void);
    fn cuMemPoolDestroy(usize);
    fn cuMemPoolGetAccess(*mut u32, usize, *mut Location);
    fn cuMemPoolGetAttribute(usize, u32, *mut c_void);
    fn cuMemPoolSetAccess(usize, *const c_void, usize);
    fn cuMemPoolSetAttribute(usize, u32, *mut c_void);
    fn cuMemPoolTrimTo(usize, usize);
    fn cuMemPrefetchAsync(u64, usize, i32, usize);
    fn cuMemPrefetchAsync_v2(u64, usize, Location, u32, usize);
    fn cuMemcpy(u64, u64, usize);
    fn cuMemcpy2DAsync_v2(*const c_void, usize);
    fn cuMemcpy2D_v2(*const c_void);
    fn cuMemcpy3DAsync_v2(*const c_void, usize);
    fn cuMemcpy3D_v2(*const c_void);
    fn cuMemcpyAsync(u64, u64, usize, usize);
    fn cuMemcpyDtoDAsync_v2(u64, u64, usize, usize);
    fn cuMemcpyDtoD_v2(u64, u64, usize);
    fn cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, usize);
    fn cuMemcpyDtoH_v2(*mut c_void, u64, usize);
    fn cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, usize);
    fn cuMemcpyHtoD_v2(u64, *const c_void, usize);
    fn cuMemcpyPeer(u64, usize, u64, usize, usize);
    fn cuMemcpyPeerAsync(u64, usize, u64, usize, usize, usize);
    fn cuMemsetD16Async(u64, u16, usize, usize);
    fn cuMemsetD16_v2(u64, u16, usize);
    fn cuMemsetD2D16Async(u64, usize, u16, usize, usize, usize);
    fn cuMemsetD2D16_v2(u64, usize, u16, usize, usize);
    fn cuMemsetD2D32Async(u64, usize, u32, usize, usize, usize);
    fn cuMemsetD2D32_v2(u64, usize, u32, usize, usize);
    fn cuMemsetD2D8Async(u64, usize, u8, usize, usize, usize);
    fn cuMemsetD2D8_v2(u64, usize, u8, usize, usize);
    fn cuMemsetD32Async(u64, u32, usize, usize);
    fn cuMemsetD32_v2(u64, u32, usize);
    fn cuMemsetD8Async(u64, u8, usize, usize);
    fn cuMemsetD8_v2(u64, u8, usize);
    fn cuModuleEnumerateFunctions(*mut usize, u32, usize);
    fn cuModuleGetFunction(*mut usize, usize, *const c_char);
    fn cuModuleGetFunctionCount(*mut u32, usize);
    fn cuModuleGetGlobal_v2(*mut u64, *mut usize, usize, *const c_char);
    fn cuModuleGetLoadingMode(*mut u32);
    fn cuModuleLoad(*mut usize, *const c_char);
    fn cuModuleLoadData(*mut usize, *const c_void);
    fn cuModuleLoadDataEx(*mut usize, *const c_void, u32, *mut u32, *mut *mut c_void);
    fn cuModuleLoadFatBinary(*mut usize, *const c_void);
    fn cuModuleUnload(usize);
    fn cuOccupancyAvailableDynamicSMemPerBlock(*mut usize, usize, i32, i32);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(*mut i32, usize, i32, usize);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(*mut i32, usize, i32, usize, u32);
    fn cuOccupancyMaxActiveClusters(*mut i32, usize, *const c_void);
    fn cuOccupancyMaxPotentialBlockSize(*mut i32, *mut i32, usize, Option<unsafe extern "C" fn(i32) -> usize>, usize, i32);
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(*mut i32, *mut i32, usize, Option<unsafe extern "C" fn(i32) -> usize>, usize, i32, u32);
    fn cuOccupancyMaxPotentialClusterSize(*mut i32, usize, *const c_void);
    fn cuPointerGetAttribute(*mut c_void, u32, u64);
    fn cuPointerGetAttributes(u32, *mut u32, *mut *mut c_void, u64);
    fn cuPointerSetAttribute(*const c_void, u32, u64);
    fn cuStreamAddCallback(usize, Option<unsafe extern "C" fn(usize, u32, *mut c_void)>, *mut c_void, u32);
    fn cuStreamAttachMemAsync(usize, u64, usize, u32);
    fn cuStreamBeginCaptureToGraph(usize, usize, *const usize, *const c_void, usize, u32);
    fn cuStreamBeginCapture_v2(usize, u32);
    fn cuStreamCopyAttributes(usize, usize);
    fn cuStreamCreate(*mut usize, u32);
    fn cuStreamCreateWithPriority(*mut usize, u32, i32);
    fn cuStreamDestroy_v2(usize);
    fn cuStreamEndCapture(usize, *mut usize);
    fn cuStreamGetCaptureInfo_v2(usize, *mut u32, *mut u64, *mut usize, *mut *const usize, *mut usize);
    fn cuStreamGetCaptureInfo_v3(usize, *mut u32, *mut u64, *mut usize, *mut *const usize, *mut *const c_void, *mut usize);
    fn cuStreamGetCtx(usize, *mut usize);
    fn cuStreamGetCtx_v2(usize, *mut usize, *mut usize);
    fn cuStreamGetDevice(usize, *mut i32);
    fn cuStreamGetFlags(usize, *mut u32);
    fn cuStreamGetId(usize, *mut u64);
    fn cuStreamGetPriority(usize, *mut i32);
    fn cuStreamIsCapturing(usize, *mut u32);
    fn cuStreamQuery(usize);
    fn cuStreamSetAttribute(usize, u32, *const c_void);
    fn cuStreamSynchronize(usize);
    fn cuStreamWaitEvent(usize, usize, u32);
    fn cuTensorMapEncodeTiled(*mut c_void, u32, u32, *mut c_void, *const u64, *const u64, *const u32, *const u32, u32, u32, u32, u32);
    fn cuTensorMapReplaceAddress(*mut c_void, *mut c_void);
    fn cuThreadExchangeStreamCaptureMode(*mut u32);
    fn cuProfilerStart();
    fn cuProfilerStop();
}

pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const NOT_INITIALIZED: u32 = 3;
pub const INVALID_DEVICE: u32 = 101;
pub const INVALID_IMAGE: u32 = 200;
pub const INVALID_CONTEXT: u32 = 201;
pub const NO_BINARY_FOR_GPU: u32 = 209;
pub const UNSUPPORTED_LIMIT: u32 = 215;
pub const PEER_ACCESS_UNSUPPORTED: u32 = 217;
pub const INVALID_PTX: u32 = 218;
pub const UNSUPPORTED_PTX_VERSION: u32 = 222;
pub const UNSUPPORTED_EXEC_AFFINITY: u32 = 224;
pub const FILE_NOT_FOUND: u32 = 301;
pub const INVALID_HANDLE: u32 = 400;
pub const ILLEGAL_STATE: u32 = 401;
pub const NOT_FOUND: u32 = 500;
pub const ILLEGAL_ADDRESS: u32 = 700;
pub const LAUNCH_OUT_OF_RESOURCES: u32 = 701;
pub const PEER_ACCESS_NOT_ENABLED: u32 = 705;
pub const CONTEXT_IS_DESTROYED: u32 = 709;
pub const HOST_MEMORY_ALREADY_REGISTERED: u32 = 712;
pub const HOST_MEMORY_NOT_REGISTERED: u32 = 713;
pub const COOPERATIVE_LAUNCH_TOO_LARGE: u32 = 720;
pub const NOT_PERMITTED: u32 = 800;
pub const NOT_SUPPORTED: u32 = 801;
pub const STREAM_CAPTURE_UNSUPPORTED: u32 = 900;
pub const STREAM_CAPTURE_INVALIDATED: u32 = 901;
pub const STREAM_CAPTURE_MERGE: u32 = 902;
pub const STREAM_CAPTURE_UNMATCHED: u32 = 903;
pub const STREAM_CAPTURE_UNJOINED: u32 = 904;
pub const STREAM_CAPTURE_ISOLATION: u32 = 905;
pub const STREAM_CAPTURE_IMPLICIT: u32 = 906;
pub const CAPTURED_EVENT: u32 = 907;
pub const STREAM_CAPTURE_WRONG_THREAD: u32 = 908;
pub const GRAPH_EXEC_UPDATE_FAILURE: u32 = 910;
pub const INVALID_CLUSTER_SIZE: u32 = 912;
