//! The driver's result codes: numbers, names, sentences.

use std::ffi::{CStr, c_char};

use super::abi::Out;
use super::entry::entries;

/// A result code of the driver, `CUresult`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Code(pub u32);

/// A result whose error is the code that the caller gets.
pub type Result<T, E = Code> = std::result::Result<T, E>;

macro_rules! codes {
    ($($name:ident $full:literal = $number:literal $sentence:literal)*) => {
        #[allow(missing_docs, reason = "the names are the driver's own, each has its sentence below")]
        impl Code {
            $(pub const $name: Code = Code($number);)*
        }

        const CODES: &[(Code, &CStr, &CStr)] = &[$((Code::$name, $full, $sentence),)*];
    };
}

codes! {
    SUCCESS c"CUDA_SUCCESS" = 0 c"no error"
    INVALID_VALUE c"CUDA_ERROR_INVALID_VALUE" = 1 c"invalid argument"
    OUT_OF_MEMORY c"CUDA_ERROR_OUT_OF_MEMORY" = 2 c"out of memory"
    NOT_INITIALIZED c"CUDA_ERROR_NOT_INITIALIZED" = 3 c"initialization error"
    DEINITIALIZED c"CUDA_ERROR_DEINITIALIZED" = 4 c"driver shutting down"
    PROFILER_DISABLED c"CUDA_ERROR_PROFILER_DISABLED" = 5 c"profiler disabled while using external profiling tool"
    PROFILER_NOT_INITIALIZED c"CUDA_ERROR_PROFILER_NOT_INITIALIZED" = 6 c"profiler not initialized"
    PROFILER_ALREADY_STARTED c"CUDA_ERROR_PROFILER_ALREADY_STARTED" = 7 c"profiler already started"
    PROFILER_ALREADY_STOPPED c"CUDA_ERROR_PROFILER_ALREADY_STOPPED" = 8 c"profiler already stopped"
    STUB_LIBRARY c"CUDA_ERROR_STUB_LIBRARY" = 34 c"CUDA driver is a stub library"
    CALL_REQUIRES_NEWER_DRIVER c"CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER" = 36 c"CUDA driver too old for this call"
    DEVICE_UNAVAILABLE c"CUDA_ERROR_DEVICE_UNAVAILABLE" = 46 c"CUDA-capable device(s) is/are busy or unavailable"
    NO_DEVICE c"CUDA_ERROR_NO_DEVICE" = 100 c"no CUDA-capable device is detected"
    INVALID_DEVICE c"CUDA_ERROR_INVALID_DEVICE" = 101 c"invalid device ordinal"
    DEVICE_NOT_LICENSED c"CUDA_ERROR_DEVICE_NOT_LICENSED" = 102 c"device not licensed"
    INVALID_IMAGE c"CUDA_ERROR_INVALID_IMAGE" = 200 c"device kernel image is invalid"
    INVALID_CONTEXT c"CUDA_ERROR_INVALID_CONTEXT" = 201 c"invalid device context"
    CONTEXT_ALREADY_CURRENT c"CUDA_ERROR_CONTEXT_ALREADY_CURRENT" = 202 c"context already current"
    MAP_FAILED c"CUDA_ERROR_MAP_FAILED" = 205 c"mapping of buffer object failed"
    UNMAP_FAILED c"CUDA_ERROR_UNMAP_FAILED" = 206 c"unmapping of buffer object failed"
    ARRAY_IS_MAPPED c"CUDA_ERROR_ARRAY_IS_MAPPED" = 207 c"array is mapped"
    ALREADY_MAPPED c"CUDA_ERROR_ALREADY_MAPPED" = 208 c"resource already mapped"
    NO_BINARY_FOR_GPU c"CUDA_ERROR_NO_BINARY_FOR_GPU" = 209 c"no kernel image is available for execution on the device"
    ALREADY_ACQUIRED c"CUDA_ERROR_ALREADY_ACQUIRED" = 210 c"resource already acquired"
    NOT_MAPPED c"CUDA_ERROR_NOT_MAPPED" = 211 c"resource not mapped"
    NOT_MAPPED_AS_ARRAY c"CUDA_ERROR_NOT_MAPPED_AS_ARRAY" = 212 c"resource not mapped as array"
    NOT_MAPPED_AS_POINTER c"CUDA_ERROR_NOT_MAPPED_AS_POINTER" = 213 c"resource not mapped as pointer"
    ECC_UNCORRECTABLE c"CUDA_ERROR_ECC_UNCORRECTABLE" = 214 c"uncorrectable ECC error encountered"
    UNSUPPORTED_LIMIT c"CUDA_ERROR_UNSUPPORTED_LIMIT" = 215 c"limit is not supported on this architecture"
    CONTEXT_ALREADY_IN_USE c"CUDA_ERROR_CONTEXT_ALREADY_IN_USE" = 216 c"exclusive-thread device already in use by a different thread"
    PEER_ACCESS_UNSUPPORTED c"CUDA_ERROR_PEER_ACCESS_UNSUPPORTED" = 217 c"peer access is not supported between these two devices"
    INVALID_PTX c"CUDA_ERROR_INVALID_PTX" = 218 c"a PTX JIT compilation failed"
    INVALID_GRAPHICS_CONTEXT c"CUDA_ERROR_INVALID_GRAPHICS_CONTEXT" = 219 c"invalid OpenGL or DirectX context"
    NVLINK_UNCORRECTABLE c"CUDA_ERROR_NVLINK_UNCORRECTABLE" = 220 c"uncorrectable NVLink error detected during the execution"
    JIT_COMPILER_NOT_FOUND c"CUDA_ERROR_JIT_COMPILER_NOT_FOUND" = 221 c"PTX JIT compiler library not found"
    UNSUPPORTED_PTX_VERSION c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION" = 222 c"the provided PTX was compiled with an unsupported toolchain."
    JIT_COMPILATION_DISABLED c"CUDA_ERROR_JIT_COMPILATION_DISABLED" = 223 c"PTX JIT compilation was disabled"
    UNSUPPORTED_EXEC_AFFINITY c"CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY" = 224 c"the provided execution affinity is not supported"
    UNSUPPORTED_DEVSIDE_SYNC c"CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC" = 225 c"the provided PTX contains unsupported call to cudaDeviceSynchronize"
    CONTAINED c"CUDA_ERROR_CONTAINED" = 226 c"invalid access at memory location, contained"
    INVALID_SOURCE c"CUDA_ERROR_INVALID_SOURCE" = 300 c"device kernel image is invalid"
    FILE_NOT_FOUND c"CUDA_ERROR_FILE_NOT_FOUND" = 301 c"file not found"
    SHARED_OBJECT_SYMBOL_NOT_FOUND c"CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND" = 302 c"shared object symbol not found"
    SHARED_OBJECT_INIT_FAILED c"CUDA_ERROR_SHARED_OBJECT_INIT_FAILED" = 303 c"shared object initialization failed"
    OPERATING_SYSTEM c"CUDA_ERROR_OPERATING_SYSTEM" = 304 c"OS call failed or operation not supported on this OS"
    INVALID_HANDLE c"CUDA_ERROR_INVALID_HANDLE" = 400 c"invalid resource handle"
    ILLEGAL_STATE c"CUDA_ERROR_ILLEGAL_STATE" = 401 c"the operation cannot be performed in the present state"
    LOSSY_QUERY c"CUDA_ERROR_LOSSY_QUERY" = 402 c"attempted introspection would be semantically lossy"
    NOT_FOUND c"CUDA_ERROR_NOT_FOUND" = 500 c"named symbol not found"
    NOT_READY c"CUDA_ERROR_NOT_READY" = 600 c"device not ready"
    ILLEGAL_ADDRESS c"CUDA_ERROR_ILLEGAL_ADDRESS" = 700 c"an illegal memory access was encountered"
    LAUNCH_OUT_OF_RESOURCES c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" = 701 c"too many resources requested for launch"
    LAUNCH_TIMEOUT c"CUDA_ERROR_LAUNCH_TIMEOUT" = 702 c"the launch timed out and was terminated"
    LAUNCH_INCOMPATIBLE_TEXTURING c"CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING" = 703 c"launch uses incompatible texturing mode"
    PEER_ACCESS_ALREADY_ENABLED c"CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED" = 704 c"peer access is already enabled"
    PEER_ACCESS_NOT_ENABLED c"CUDA_ERROR_PEER_ACCESS_NOT_ENABLED" = 705 c"peer access has not been enabled"
    PRIMARY_CONTEXT_ACTIVE c"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE" = 708 c"cannot set while device is active in this process"
    CONTEXT_IS_DESTROYED c"CUDA_ERROR_CONTEXT_IS_DESTROYED" = 709 c"context is destroyed"
    ASSERT c"CUDA_ERROR_ASSERT" = 710 c"device-side assert triggered"
    TOO_MANY_PEERS c"CUDA_ERROR_TOO_MANY_PEERS" = 711 c"peer mapping resources exhausted"
    HOST_MEMORY_ALREADY_REGISTERED c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" = 712 c"part or all of the requested memory range is already mapped"
    HOST_MEMORY_NOT_REGISTERED c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED" = 713 c"pointer does not correspond to a registered memory region"
    HARDWARE_STACK_ERROR c"CUDA_ERROR_HARDWARE_STACK_ERROR" = 714 c"hardware stack error"
    ILLEGAL_INSTRUCTION c"CUDA_ERROR_ILLEGAL_INSTRUCTION" = 715 c"an illegal instruction was encountered"
    MISALIGNED_ADDRESS c"CUDA_ERROR_MISALIGNED_ADDRESS" = 716 c"misaligned address"
    INVALID_ADDRESS_SPACE c"CUDA_ERROR_INVALID_ADDRESS_SPACE" = 717 c"operation not supported on global/shared address space"
    INVALID_PC c"CUDA_ERROR_INVALID_PC" = 718 c"invalid program counter"
    LAUNCH_FAILED c"CUDA_ERROR_LAUNCH_FAILED" = 719 c"unspecified launch failure"
    COOPERATIVE_LAUNCH_TOO_LARGE c"CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE" = 720 c"too many blocks in cooperative launch"
    TENSOR_MEMORY_LEAK c"CUDA_ERROR_TENSOR_MEMORY_LEAK" = 721 c"tensor memory not freed before exit"
    NOT_PERMITTED c"CUDA_ERROR_NOT_PERMITTED" = 800 c"operation not permitted"
    NOT_SUPPORTED c"CUDA_ERROR_NOT_SUPPORTED" = 801 c"operation not supported"
    SYSTEM_NOT_READY c"CUDA_ERROR_SYSTEM_NOT_READY" = 802 c"system not yet initialized"
    SYSTEM_DRIVER_MISMATCH c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" = 803 c"system has unsupported display driver / cuda driver combination"
    COMPAT_NOT_SUPPORTED_ON_DEVICE c"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE" = 804 c"forward compatibility was attempted on non supported HW"
    MPS_CONNECTION_FAILED c"CUDA_ERROR_MPS_CONNECTION_FAILED" = 805 c"MPS client failed to connect to the MPS control daemon or the MPS server"
    MPS_RPC_FAILURE c"CUDA_ERROR_MPS_RPC_FAILURE" = 806 c"the remote procedural call between the MPS server and the MPS client failed"
    MPS_SERVER_NOT_READY c"CUDA_ERROR_MPS_SERVER_NOT_READY" = 807 c"MPS server is not ready to accept new MPS client requests"
    MPS_MAX_CLIENTS_REACHED c"CUDA_ERROR_MPS_MAX_CLIENTS_REACHED" = 808 c"the hardware resources required to create MPS client have been exhausted"
    MPS_MAX_CONNECTIONS_REACHED c"CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED" = 809 c"the hardware resources required to support device connections have been exhausted"
    MPS_CLIENT_TERMINATED c"CUDA_ERROR_MPS_CLIENT_TERMINATED" = 810 c"the MPS client has been terminated by the server"
    CDP_NOT_SUPPORTED c"CUDA_ERROR_CDP_NOT_SUPPORTED" = 811 c"CUDA dynamic parallelism is not supported"
    CDP_VERSION_MISMATCH c"CUDA_ERROR_CDP_VERSION_MISMATCH" = 812 c"unsupported interaction between different versions of CUDA dynamic parallelism"
    STREAM_CAPTURE_UNSUPPORTED c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" = 900 c"operation not permitted when stream is capturing"
    STREAM_CAPTURE_INVALIDATED c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" = 901 c"operation failed due to a previous error during capture"
    STREAM_CAPTURE_MERGE c"CUDA_ERROR_STREAM_CAPTURE_MERGE" = 902 c"operation would result in a merge of separate capture sequences"
    STREAM_CAPTURE_UNMATCHED c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED" = 903 c"capture was not ended in the same stream as it began"
    STREAM_CAPTURE_UNJOINED c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED" = 904 c"capturing stream has unjoined work"
    STREAM_CAPTURE_ISOLATION c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION" = 905 c"dependency created on uncaptured work in another stream"
    STREAM_CAPTURE_IMPLICIT c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT" = 906 c"operation would make the legacy stream depend on a capturing blocking stream"
    CAPTURED_EVENT c"CUDA_ERROR_CAPTURED_EVENT" = 907 c"operation not permitted on an event last recorded in a capturing stream"
    STREAM_CAPTURE_WRONG_THREAD c"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD" = 908 c"attempt to terminate a thread-local capture sequence from another thread"
    TIMEOUT c"CUDA_ERROR_TIMEOUT" = 909 c"wait operation timed out"
    GRAPH_EXEC_UPDATE_FAILURE c"CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE" = 910 c"the graph update was not performed because it included changes which violated constraints specific to instantiated graph update"
    EXTERNAL_DEVICE c"CUDA_ERROR_EXTERNAL_DEVICE" = 911 c"an async error has occurred in external entity outside of CUDA"
    INVALID_CLUSTER_SIZE c"CUDA_ERROR_INVALID_CLUSTER_SIZE" = 912 c"a kernel launch error has occurred due to cluster misconfiguration"
    FUNCTION_NOT_LOADED c"CUDA_ERROR_FUNCTION_NOT_LOADED" = 913 c"the function handle is not loaded"
    INVALID_RESOURCE_TYPE c"CUDA_ERROR_INVALID_RESOURCE_TYPE" = 914 c"one or more resources passed in are not valid resource types for the operation"
    INVALID_RESOURCE_CONFIGURATION c"CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION" = 915 c"one or more resources are insufficient or non-applicable for the operation"
    KEY_ROTATION c"CUDA_ERROR_KEY_ROTATION" = 916 c"the requested operation is not allowed because of a key rotation"
    UNKNOWN c"CUDA_ERROR_UNKNOWN" = 999 c"unknown error"
}

impl Code {
    /// Its name, `CUDA_ERROR_…`.
    pub fn name(self) -> Option<&'static CStr> {
        CODES.iter().find(|(code, ..)| *code == self).map(|(_, name, _)| *name)
    }

    /// What it means.
    pub fn sentence(self) -> Option<&'static CStr> {
        CODES.iter().find(|(code, ..)| *code == self).map(|(.., sentence)| *sentence)
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(&name.to_string_lossy()),
            None => write!(f, "CUresult({})", self.0),
        }
    }
}

entries! {
    /// The name of a code.
    fn cuGetErrorName(error: Code, name: Out<*const c_char>) {
        name.set(error.name().map_or(std::ptr::null(), CStr::as_ptr))?;
        error.name().map(|_| ()).ok_or(Code::INVALID_VALUE)
    }

    /// The sentence of a code.
    fn cuGetErrorString(error: Code, sentence: Out<*const c_char>) {
        sentence.set(error.sentence().map_or(std::ptr::null(), CStr::as_ptr))?;
        error.sentence().map(|_| ()).ok_or(Code::INVALID_VALUE)
    }
}
