//! What can go wrong in an op.

/// An op's error: each is one sentence for the person who runs the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor does not have the shape that the op's dimensions ask for, or overlaps one that is written.
    #[error("{op}: {message}")]
    Argument {
        /// The op that refused.
        op: &'static str,
        /// Which tensor, what it is and what it should be.
        message: String,
    },
    /// There is no memory for an allocation.
    #[error("out of memory on {device}: {wanted} bytes asked for{}", free.map(|f| format!(", {f} free")).unwrap_or_default())]
    OutOfMemory {
        /// The device asked.
        device: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes free, where the device tells.
        free: Option<u64>,
    },
    /// The device reported a fault.
    #[error("{op} failed on {device}: {message}")]
    Device {
        /// The op that was running.
        op: &'static str,
        /// The device it ran on.
        device: String,
        /// The device's own words.
        message: String,
    },
}

/// The result of an op.
pub type Result<T = ()> = std::result::Result<T, Error>;
