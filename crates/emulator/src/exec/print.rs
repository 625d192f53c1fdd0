//! What device code calls of the CUDA runtime: printf, assert, malloc and free.

use std::io::Write;

use super::lanes::lanes;
use super::{Context, Flow};
use crate::fault::{Fault, FaultKind};
use crate::memory::{LOCAL_WINDOW, Nowhere, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use crate::program::Piece;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `vprintf(format, arguments)`
    Printf,
    /// `__assertfail(message, file, line, function, bytes of a character)`
    Assert,
    /// `malloc(bytes)`
    Malloc,
    /// `free(pointer)`
    Free,
}

impl Function {
    /// The function of a name, the sizes of its parameters and of its results.
    pub fn parse(name: &str) -> Option<(Function, &'static [u32], &'static [u32])> {
        Some(match name {
            "vprintf" => (Function::Printf, &[8, 8], &[4]),
            "__assertfail" => (Function::Assert, &[8, 8, 4, 8, 8], &[]),
            "malloc" => (Function::Malloc, &[8], &[8]),
            "free" => (Function::Free, &[8], &[]),
            _ => return None,
        })
    }
}

/// A call of one.
#[derive(Debug)]
pub struct Builtin {
    /// Which.
    pub function: Function,
    /// Its arguments in the caller's frame.
    pub arguments: Vec<Piece>,
    /// Where its result goes; nowhere, where it is not wanted.
    pub results: Vec<Piece>,
}

impl Builtin {
    /// Runs it.
    ///
    /// # Errors
    /// A failed assertion, bad pointers.
    pub fn execute(&self, cx: &mut Context, active: u32) -> Result<Flow, Fault> {
        for lane in lanes(active) {
            match self.function {
                Function::Printf => {
                    let (format, arguments) = (self.argument(cx, lane, 0), self.argument(cx, lane, 1));
                    if format == 0 {
                        self.result(cx, lane, u64::from(u32::MAX));
                        continue;
                    }
                    // CUDA's printf returns the number of its arguments.
                    let (text, count) = format_text(cx, lane, format, arguments)?;
                    cx.cluster.output.extend_from_slice(&text);
                    self.result(cx, lane, count);
                }
                Function::Assert => self.failed(cx, lane)?,
                Function::Malloc => {
                    let bytes = self.argument(cx, lane, 0);
                    let base = cx.launch.memory.allocate(bytes).map_or(0, |allocation| allocation.base);
                    self.result(cx, lane, base);
                }
                Function::Free => {
                    let pointer = self.argument(cx, lane, 0);
                    if pointer != 0
                        && let Err(nowhere) = cx.launch.memory.free(pointer)
                    {
                        let (kind, why) = match nowhere {
                            Nowhere::Freed { .. } => (FaultKind::UseAfterFree, "was freed before"),
                            Nowhere::Outside { .. } => (FaultKind::Address, "malloc did not give"),
                        };
                        let message = format!("free of {pointer:#x}, which {why}");
                        return Err(Fault::at(kind, lane as u32, message));
                    }
                }
            }
        }
        if self.function == Function::Assert {
            return Err(self.assertion(cx, active.trailing_zeros()));
        }
        Ok(Flow::Next)
    }

    fn argument(&self, cx: &Context, lane: usize, index: usize) -> u64 {
        let Piece { address, size } = self.arguments[index];
        let at = lane * (cx.warp.local.len() / 32) + address as usize;
        cx.warp.local[at..at + size as usize]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn result(&self, cx: &mut Context, lane: usize, value: u64) {
        if let Some(Piece { address, size }) = self.results.first() {
            let at = lane * (cx.warp.local.len() / 32) + *address as usize;
            let size = *size as usize;
            cx.warp.local[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            cx.warp.local_written[at..at + size].fill(true);
        }
    }

    /// Prints what CUDA prints for a failed assertion.
    fn failed(&self, cx: &Context, lane: usize) -> Result<(), Fault> {
        let text = |index| Ok(lossy(&string(cx, lane, self.argument(cx, lane, index))?));
        let (message, file, function) = (text(0)?, text(1)?, text(3)?);
        let line = self.argument(cx, lane, 2);
        let [bx, by, bz] = cx.cluster.blocks[cx.warp.block as usize].index;
        let [tx, ty, tz] = cx.launch.thread(cx.warp.index, lane as u32);
        let place = format!("{file}:{line}: {function}: block: [{bx},{by},{bz}], thread: [{tx},{ty},{tz}]");
        // Nothing can be done about an error stream that is closed.
        let _ = writeln!(std::io::stderr(), "{place} Assertion `{message}` failed.");
        Ok(())
    }

    fn assertion(&self, cx: &Context, lane: u32) -> Fault {
        let message = string(cx, lane as usize, self.argument(cx, lane as usize, 0)).unwrap_or_default();
        Fault::at(FaultKind::Assert, lane, format!("assertion `{}` failed", lossy(&message)))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A byte at a generic address.
fn byte(cx: &Context, lane: usize, address: u64) -> Result<u8, Fault> {
    let bad = |what: String| Fault::at(FaultKind::Address, lane as u32, format!("printf reads {what}"));
    let within = |window: u64| address.checked_sub(window).filter(|offset| *offset < WINDOW);
    let place = |bytes: &[u8], at: u64| bytes.get(usize::try_from(at).ok()?).copied();
    if let Some(offset) = within(LOCAL_WINDOW) {
        let size = cx.warp.local.len() / 32;
        let own = &cx.warp.local[lane * size..(lane + 1) * size];
        return place(own, offset).ok_or_else(|| bad(format!("local memory at {offset:#x}")));
    }
    if let Some(offset) = within(PARAM_WINDOW) {
        return place(cx.launch.params, offset).ok_or_else(|| bad(format!("parameters at {offset:#x}")));
    }
    if let Some(offset) = within(SHARED_WINDOW) {
        let block = cx.cluster.blocks.get((offset >> 24) as usize);
        return block
            .and_then(|block| place(&block.shared, offset & 0xff_ffff))
            .ok_or_else(|| bad(format!("shared memory at {offset:#x}")));
    }
    match cx.launch.memory.find(address, 1) {
        Ok(allocation) => Ok(allocation.load(address - allocation.base, 1) as u8),
        Err(_) => Err(bad(format!("{address:#x}, where no memory is"))),
    }
}

/// The bytes up to a NUL.
fn string(cx: &Context, lane: usize, address: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for at in address.. {
        match byte(cx, lane, at)? {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    Ok(bytes)
}

/// The arguments of a printf: each at a multiple of its size.
struct Arguments {
    lane: usize,
    at: u64,
    count: u64,
}

impl Arguments {
    fn next(&mut self, cx: &Context, size: u64) -> Result<u64, Fault> {
        let at = self.at.next_multiple_of(size);
        self.at = at + size;
        self.count += 1;
        (0..size)
            .rev()
            .try_fold(0, |value, offset| Ok(value << 8 | u64::from(byte(cx, self.lane, at + offset)?)))
    }
}

/// The text of a printf, and how many arguments it took.
fn format_text(cx: &Context, lane: usize, format: u64, arguments: u64) -> Result<(Vec<u8>, u64), Fault> {
    let format = string(cx, lane, format)?;
    let mut arguments = Arguments { lane, at: arguments, count: 0 };
    let mut text = Vec::new();
    let mut rest = format.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            text.push(*first);
            continue;
        }
        let mut flags = Vec::new();
        while let Some((flag @ (b'-' | b'+' | b' ' | b'#' | b'0'), after)) = rest.split_first() {
            flags.push(*flag);
            rest = after;
        }
        let width = number(cx, &mut rest, &mut arguments)?;
        let mut precision = None;
        if let Some(after) = rest.strip_prefix(b".") {
            rest = after;
            precision = Some(number(cx, &mut rest, &mut arguments)?.unwrap_or(0));
        }
        let mut length = Vec::new();
        while let Some((letter @ (b'h' | b'l' | b'j' | b'z' | b't' | b'L'), after)) = rest.split_first() {
            length.push(*letter);
            rest = after;
        }
        let Some((conversion, after)) = rest.split_first() else {
            text.push(b'%');
            break;
        };
        rest = after;
        let spec = Spec { flags, width, precision };
        let wide = matches!(length.first(), Some(b'l' | b'j' | b'z' | b't'));
        match conversion {
            b'%' => text.push(b'%'),
            b'd' | b'i' => {
                let value = if wide {
                    arguments.next(cx, 8)? as i64
                } else {
                    let value = arguments.next(cx, 4)? as i32;
                    match length.len() {
                        0 => i64::from(value),
                        1 => i64::from(value as i16),
                        _ => i64::from(value as i8),
                    }
                };
                spec.print(&mut text, "lld", Value::Int(value as u64));
            }
            b'u' | b'x' | b'X' | b'o' => {
                let value = if wide {
                    arguments.next(cx, 8)?
                } else {
                    let value = arguments.next(cx, 4)?;
                    match length.len() {
                        0 => value,
                        1 => value & 0xffff,
                        _ => value & 0xff,
                    }
                };
                let conversion = format!("ll{}", char::from(*conversion));
                spec.print(&mut text, &conversion, Value::Int(value));
            }
            b'c' => spec.print(&mut text, "c", Value::Char(arguments.next(cx, 4)? as i32)),
            b'p' => {
                let spec = Spec { precision: None, ..spec };
                spec.print(&mut text, "p", Value::Int(arguments.next(cx, 8)?));
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                let value = f64::from_bits(arguments.next(cx, 8)?);
                spec.print(&mut text, &char::from(*conversion).to_string(), Value::Float(value));
            }
            b's' => {
                let mut value = string(cx, lane, arguments.next(cx, 8)?)?;
                if let Some(precision) = spec.precision {
                    value.truncate(usize::try_from(precision).unwrap_or(usize::MAX));
                }
                let padding = spec.width.unwrap_or(0).unsigned_abs().min(LONGEST as u64) as usize;
                let padding = vec![b' '; padding.saturating_sub(value.len())];
                if spec.flags.contains(&b'-') || spec.width.is_some_and(|width| width < 0) {
                    text.extend(value.into_iter().chain(padding));
                } else {
                    text.extend(padding.into_iter().chain(value));
                }
            }
            other => {
                let message = format!("printf with the unknown conversion %{}", char::from(*other));
                return Err(Fault::at(FaultKind::Unsupported, lane as u32, message));
            }
        }
    }
    Ok((text, arguments.count))
}

/// A width or a precision: digits, or `*` for the next argument.
fn number(cx: &Context, rest: &mut &[u8], arguments: &mut Arguments) -> Result<Option<i64>, Fault> {
    if let Some(after) = rest.strip_prefix(b"*") {
        *rest = after;
        return Ok(Some(i64::from(arguments.next(cx, 4)? as i32)));
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    Ok(std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()))
}

/// The longest width and precision that are honoured.
const LONGEST: i64 = 4096;

struct Spec {
    flags: Vec<u8>,
    width: Option<i64>,
    precision: Option<i64>,
}

enum Value {
    Int(u64),
    Char(i32),
    Float(f64),
}

impl Spec {
    /// Prints one value as the C library does.
    fn print(&self, text: &mut Vec<u8>, conversion: &str, value: Value) {
        let mut format = vec![b'%'];
        format.extend(&self.flags);
        if let Some(width) = self.width {
            format.extend(width.clamp(-LONGEST, LONGEST).to_string().bytes());
        }
        // A negative precision is none.
        if let Some(precision) = self.precision.filter(|precision| *precision >= 0) {
            format.extend(format!(".{}", precision.min(LONGEST)).bytes());
        }
        format.extend(conversion.bytes());
        format.push(0);
        // 309 digits before the point of the largest f64, and what width and precision may add.
        let mut out = vec![0u8; 2 * LONGEST as usize + 512];
        let format = format.as_ptr().cast();
        // SAFETY: `out` has the length that is passed; the format has a NUL at its end and one conversion, whose type is
        // the value's (`ll` or `p`: 64 bits; `c`: int; else double).
        let written = unsafe {
            match value {
                Value::Int(value) => libc::snprintf(out.as_mut_ptr().cast(), out.len(), format, value),
                Value::Char(value) => libc::snprintf(out.as_mut_ptr().cast(), out.len(), format, value),
                Value::Float(value) => libc::snprintf(out.as_mut_ptr().cast(), out.len(), format, value),
            }
        };
        let written = usize::try_from(written).unwrap_or(0).min(out.len() - 1);
        text.extend(&out[..written]);
    }
}
