//! What `cuDeviceGetAttribute` answers.

use crate::device::Device;

/// The value of the attribute with this number; `None` for one that CUDA 13.0 does not define.
pub(super) fn of(device: &Device, attribute: u32) -> Option<i32> {
    let hopper = device.at_least(9, 0);
    let yes_on_hopper = i32::from(hopper);
    Some(match attribute {
        1 => 1024,                                      // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,                                  // MAX_BLOCK_DIM_X, _Y
        4 => 64,                                        // MAX_BLOCK_DIM_Z
        5 => i32::MAX,                                  // MAX_GRID_DIM_X
        6 | 7 => 65535,                                 // MAX_GRID_DIM_Y, _Z
        8 => 48 * 1024,                                 // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 64 * 1024,                                 // TOTAL_CONSTANT_MEMORY
        10 => 32,                                       // WARP_SIZE
        11 => i32::MAX,                                 // MAX_PITCH
        12 => 64 * 1024,                                // MAX_REGISTERS_PER_BLOCK
        13 => device.clock as i32,                      // CLOCK_RATE
        14 => 512,                                      // TEXTURE_ALIGNMENT
        15 => 1,                                        // GPU_OVERLAP
        16 => device.multiprocessors as i32,            // MULTIPROCESSOR_COUNT
        17 => 0,                                        // KERNEL_EXEC_TIMEOUT
        18 => 0,                                        // INTEGRATED
        19 => 1,                                        // CAN_MAP_HOST_MEMORY
        20 => 0,                                        // COMPUTE_MODE: default
        21..=30 => textures(attribute),                 // textures and surfaces: sizes of the hardware
        31 => 1,                                        // CONCURRENT_KERNELS
        32 => i32::from(device.capability != (8, 6)),   // ECC_ENABLED
        33 => 1,                                        // PCI_BUS_ID
        34 => 0,                                        // PCI_DEVICE_ID
        35 => 0,                                        // TCC_DRIVER
        36 => device.memory_clock as i32,               // MEMORY_CLOCK_RATE
        37 => device.memory_bus as i32,                 // GLOBAL_MEMORY_BUS_WIDTH
        38 => device.l2 as i32,                         // L2_CACHE_SIZE
        39 => device.threads_per_multiprocessor as i32, // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 3,                                        // ASYNC_ENGINE_COUNT
        41 => 1,                                        // UNIFIED_ADDRESSING
        42..=49 => textures(attribute),
        50 => 0,  // PCI_DOMAIN_ID
        51 => 32, // TEXTURE_PITCH_ALIGNMENT
        52..=74 | 77 if attribute != 75 => textures(attribute),
        75 => device.capability.0 as i32, // COMPUTE_CAPABILITY_MAJOR
        76 => device.capability.1 as i32, // COMPUTE_CAPABILITY_MINOR
        78 => 1,                          // STREAM_PRIORITIES_SUPPORTED
        79 | 80 => 1,                     // GLOBAL_L1_, LOCAL_L1_CACHE_SUPPORTED
        81 => device.shared_per_multiprocessor as i32, // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        82 => 64 * 1024,                  // MAX_REGISTERS_PER_MULTIPROCESSOR
        83 => 1,                          // MANAGED_MEMORY
        84 | 85 => 0,                     // MULTI_GPU_BOARD, its GROUP_ID
        86 => 0,                          // HOST_NATIVE_ATOMIC_SUPPORTED
        87 => {
            if device.capability == (8, 6) {
                32
            } else {
                2
            }
        } // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        88 => 0,                          // PAGEABLE_MEMORY_ACCESS
        89 => 1,                          // CONCURRENT_MANAGED_ACCESS
        90 => 1,                          // COMPUTE_PREEMPTION_SUPPORTED
        91 => 1,                          // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        92..=94 | 122 | 123 => 0,         // stream memory operations
        95 => 1,                          // COOPERATIVE_LAUNCH
        96 => 0,                          // COOPERATIVE_MULTI_DEVICE_LAUNCH
        97 => device.shared_per_block as i32, // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        98 => 1,                          // CAN_FLUSH_REMOTE_WRITES
        99 => 1,                          // HOST_REGISTER_SUPPORTED
        100 | 101 => 0,                   // page tables of the host, direct access from the host
        102..=105 | 107 => 0,             // virtual memory management and its handles, compression
        106 => device.blocks_per_multiprocessor as i32, // MAX_BLOCKS_PER_MULTIPROCESSOR
        108 => (device.l2 / 16 * 11) as i32, // MAX_PERSISTING_L2_CACHE_SIZE
        109 => 128 << 20,                 // MAX_ACCESS_POLICY_WINDOW_SIZE
        110 => 0,                         // GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED
        111 => device.reserved_shared as i32, // RESERVED_SHARED_MEMORY_PER_BLOCK
        112 => 0,                         // SPARSE_CUDA_ARRAY_SUPPORTED
        113 => 1,                         // READ_ONLY_HOST_REGISTER_SUPPORTED
        114 => 0,                         // TIMELINE_SEMAPHORE_INTEROP_SUPPORTED
        115 => 1,                         // MEMORY_POOLS_SUPPORTED
        116..=119 => 0,                   // GPUDirect RDMA, handle types of pools
        120 => yes_on_hopper,             // CLUSTER_LAUNCH
        121 => 0,                         // DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED
        124 | 125 => 0,                   // DMA_BUF_SUPPORTED, IPC_EVENT_SUPPORTED
        126 => {
            if hopper {
                4
            } else {
                1
            }
        } // MEM_SYNC_DOMAIN_COUNT
        127 => yes_on_hopper,             // TENSOR_MAP_ACCESS_SUPPORTED
        128 => 0,                         // HANDLE_TYPE_FABRIC_SUPPORTED
        129 => 0,                         // UNIFIED_FUNCTION_POINTERS
        130 => 0,                         // NUMA_CONFIG: none
        131 => -1,                        // NUMA_ID
        132 => 0,                         // MULTICAST_SUPPORTED
        133 => 0,                         // MPS_ENABLED
        134 => -1,                        // HOST_NUMA_ID
        135..=138 => 0,                   // graphics, decompression
        139 | 140 => 0,                   // GPU_PCI_DEVICE_ID, _SUBSYSTEM_ID
        141..=147 => 0,                   // what host memory and pools there may be used for
        _ => return None,
    })
}

/// Sizes of textures and surfaces, which no kernel here can use: those of the hardware.
fn textures(attribute: u32) -> i32 {
    match attribute {
        21 | 22 => 131_072,
        23 => 65_536,
        24..=26 => 16_384,
        27 | 28 | 42 => 32_768,
        29 | 43 | 62 | 65 => 2048,
        30 => 512,
        44 => 1,
        45 | 46 => 32_768,
        47 | 48 => 8192,
        49 => 32_768,
        52 | 53 => 32_768,
        54 | 68 => 2046,
        55 | 61 | 63 | 64 | 66 | 67 => 32_768,
        56 => 131_072,
        57 => 65_536,
        58..=60 => 16_384,
        69 => 268_435_456,
        70 => 131_072,
        71 => 65_000,
        72 => 2_097_120,
        _ => 32_768,
    }
}
