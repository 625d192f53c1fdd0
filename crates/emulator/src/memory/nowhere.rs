//! Why an address leads nowhere, in words.

/// What is where no allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// It never belonged to an allocation, or the access passes the end of one.
    Outside {
        /// The allocation that lies before it, or holds its start: its address and length.
        before: Option<(u64, u64)>,
        /// The allocation that lies behind it.
        after: Option<(u64, u64)>,
    },
    /// It belonged to an allocation that was freed.
    Freed {
        /// Its address.
        base: u64,
        /// Its length.
        len: u64,
    },
}

/// Farther from an allocation than this, an address has nothing to do with it.
const NEAR: u64 = 1 << 30;

impl Nowhere {
    /// What `len` bytes at `address` are near, as the end of a sentence that has named them: ", 12 bytes past the end of …".
    pub fn describe(&self, address: u64, len: u64) -> String {
        let (before, after) = match *self {
            Nowhere::Freed { base, len } => {
                return format!(", in the allocation of {len} bytes at {base:#x} that was freed");
            }
            Nowhere::Outside { before, after } => (before, after),
        };
        let what = |(base, size): (u64, u64)| format!("the allocation of {size} bytes at {base:#x}");
        let behind = before.map(|(base, size)| address.saturating_sub(base + size)).filter(|by| *by < NEAR);
        let ahead = after.map(|(base, _)| base - address).filter(|by| *by < NEAR);
        match (before, after) {
            (Some(before), _) if behind.is_some_and(|by| ahead.is_none_or(|ahead| by <= ahead)) => {
                beside(address, len, before, &what(before))
            }
            (_, Some(after)) if ahead.is_some() => beside(address, len, after, &what(after)),
            _ => ", where nothing is allocated".to_owned(),
        }
    }
}

/// Where `len` bytes at `address` lie, which are not all among the `size` bytes from `base` that `what` names.
pub(crate) fn beside(address: u64, len: u64, (base, size): (u64, u64), what: &str) -> String {
    let end = base + size;
    match address {
        _ if address < base => format!(", {} bytes before {what}", base - address),
        _ if address < end => {
            format!(", the last {} of them past the end of {what}", address.saturating_add(len) - end)
        }
        _ if address == end => format!(", just past the end of {what}"),
        _ => format!(", {} bytes past the end of {what}", address - end),
    }
}
