//! The device that is played.

/// An NVIDIA device, as far as programs can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What `cuDeviceGetName` says.
    pub name: &'static str,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Whether it runs PTX for exactly its architecture (`sm_90a`).
    pub specific: bool,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that one block may have.
    pub shared_per_block: u32,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_per_multiprocessor: u32,
    /// Of them, what the system keeps per block: user addresses start behind it.
    pub reserved_shared: u32,
    /// Threads of a multiprocessor.
    pub threads_per_multiprocessor: u32,
    /// Blocks of a multiprocessor.
    pub blocks_per_multiprocessor: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of L2.
    pub l2: u32,
    /// kHz.
    pub clock: u32,
    /// kHz.
    pub memory_clock: u32,
    /// Bits.
    pub memory_bus: u32,
}

const H200: Device = Device {
    name: "wikigpt emulator (H200)",
    capability: (9, 0),
    specific: true,
    multiprocessors: 132,
    shared_per_block: 227 * 1024,
    shared_per_multiprocessor: 228 * 1024,
    reserved_shared: 1024,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    memory: 141 << 30,
    l2: 50 << 20,
    clock: 1_980_000,
    memory_clock: 3_201_000,
    memory_bus: 6144,
};

const A100: Device = Device {
    name: "wikigpt emulator (A100)",
    capability: (8, 0),
    specific: false,
    multiprocessors: 108,
    shared_per_block: 163 * 1024,
    shared_per_multiprocessor: 164 * 1024,
    reserved_shared: 1024,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    memory: 80 << 30,
    l2: 40 << 20,
    clock: 1_410_000,
    memory_clock: 1_593_000,
    memory_bus: 5120,
};

const RTX3090: Device = Device {
    name: "wikigpt emulator (RTX 3090)",
    capability: (8, 6),
    specific: false,
    multiprocessors: 82,
    shared_per_block: 99 * 1024,
    shared_per_multiprocessor: 100 * 1024,
    reserved_shared: 1024,
    threads_per_multiprocessor: 1536,
    blocks_per_multiprocessor: 16,
    memory: 24 << 30,
    l2: 6 << 20,
    clock: 1_695_000,
    memory_clock: 9_751_000,
    memory_bus: 384,
};

impl Device {
    /// The device of an architecture: `sm_80`, `sm_86`, or `sm_90a` (also `sm_90`).
    pub fn of(architecture: &str) -> Option<&'static Device> {
        match architecture {
            "sm_80" => Some(&A100),
            "sm_86" => Some(&RTX3090),
            "sm_90" | "sm_90a" => Some(&H200),
            _ => None,
        }
    }

    /// Whether it has what came with compute capability `major.minor`.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.capability >= (major, minor)
    }

    /// The first address of shared memory that belongs to the program.
    pub fn shared_base(&self) -> u32 {
        if self.at_least(9, 0) { self.reserved_shared } else { 0 }
    }
}
