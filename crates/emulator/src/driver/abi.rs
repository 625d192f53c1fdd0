//! Arguments as C passes them. Each type holds a pointer that the caller of an entry point vouches for: NULL, or valid for
//! what the type says. Nothing but an entry point can make one.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use super::entry::refuse;
use super::{Code, Result};

/// Where a result is to be written.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// Whether the caller wants it.
    pub(super) fn wanted(self) -> bool {
        !self.0.is_null()
    }

    /// Refuses NULL: for calls that must not do anything before they know that they can answer.
    pub(super) fn check(self) -> Result<()> {
        if self.0.is_null() { Err(refuse(Code::INVALID_VALUE, "a result's address is NULL")) } else { Ok(()) }
    }

    /// Whether its address is a multiple of `align`.
    pub(super) fn is_multiple_of(self, align: u64) -> bool {
        (self.0 as u64).is_multiple_of(align)
    }

    /// Writes a result that must be wanted.
    pub(super) fn set(self, value: T) -> Result<()> {
        self.check()?;
        // SAFETY: not NULL, so valid for a write as the caller of the entry point promised.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes a result if it is wanted.
    pub(super) fn offer(self, value: T) {
        if self.wanted() {
            // SAFETY: as in `set`.
            unsafe { self.0.write(value) };
        }
    }

    /// Writes the results of an array, which has room for as many as the caller said.
    pub(super) fn fill(self, values: impl IntoIterator<Item = T>) -> Result<()> {
        self.check()?;
        for (index, value) in values.into_iter().enumerate() {
            // SAFETY: within the array that the caller of the entry point promised.
            unsafe { self.0.add(index).write(value) };
        }
        Ok(())
    }
}

impl<T: Copy> Out<T> {
    /// What stands there, for arguments that are read and written.
    pub(super) fn get(self) -> Result<T> {
        self.check()?;
        // SAFETY: not NULL, so valid for a read as the caller of the entry point promised.
        Ok(unsafe { self.0.read() })
    }
}

impl<T> Out<T> {
    /// The element of an array.
    pub(super) fn at(self, index: usize) -> Out<T> {
        Out(self.0.wrapping_add(index))
    }
}

impl Out<usize> {
    /// What the address that stands here leads to.
    pub(super) fn target<U>(self) -> Out<U> {
        Out(self.get().unwrap_or_default() as *mut U)
    }
}

impl Out<c_char> {
    /// Writes a text into `len` bytes, cut off where they end, and its NUL.
    pub(super) fn text(self, text: &str, len: i32) -> Result<()> {
        let room = usize::try_from(len).ok().filter(|len| *len > 0);
        let room = room.ok_or_else(|| refuse(Code::INVALID_VALUE, "a text's buffer has no room"))?;
        let bytes = text.bytes().take(room - 1).chain([0]);
        self.fill(bytes.map(|byte| byte as c_char))
    }
}

/// Something to read: one value or an array.
#[derive(Debug)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T> In<T> {
    /// No address.
    pub(super) const NULL: In<T> = In(std::ptr::null());
}

impl<T: Copy> In<T> {
    /// Whether it is NULL.
    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The value.
    pub(super) fn get(self) -> Result<T> {
        Ok(self.list(1)?[0])
    }

    /// `count` values.
    pub(super) fn list(self, count: usize) -> Result<Vec<T>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(refuse(Code::INVALID_VALUE, "an argument is NULL"));
        }
        // SAFETY: not NULL, so it leads to as many values as the caller of the entry point promised.
        Ok((0..count).map(|index| unsafe { self.0.add(index).read_unaligned() }).collect())
    }

    /// Values of our own, which must stay while this is used.
    pub(super) fn of(values: &[T]) -> In<T> {
        In(values.as_ptr())
    }

    /// The same address, of something else: for what is a value or an array as another argument says.
    pub(super) fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }

    /// The same, `bytes` further on.
    pub(super) fn offset(self, bytes: usize) -> In<T> {
        In(self.0.wrapping_byte_add(bytes))
    }
}

/// A text that ends with NUL.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// A text that an image turned out to be.
    pub(super) fn of(image: In<u8>) -> Text {
        Text(image.0.cast())
    }

    /// Its bytes.
    pub(super) fn bytes(self) -> Result<Vec<u8>> {
        if self.0.is_null() {
            return Err(refuse(Code::INVALID_VALUE, "a text is NULL"));
        }
        // SAFETY: not NULL, so a text that ends with NUL, as the caller of the entry point promised.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes().to_vec())
    }

    /// The text.
    pub(super) fn get(self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| refuse(Code::INVALID_VALUE, "a text is not UTF-8"))
    }
}

/// Memory of the program.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Host(*mut c_void);

impl Host {
    /// Its address.
    pub(super) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The memory at an address that an entry point was given as a number.
    ///
    /// # Safety
    /// The caller of the entry point vouches for it as for an argument of this type.
    pub(super) unsafe fn from_address(address: u64) -> Host {
        Host(address as *mut c_void)
    }

    /// `len` bytes of it, for reading.
    pub(super) fn read<'a>(self, len: usize) -> Result<&'a [u8]> {
        if len == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() {
            return Err(refuse(Code::INVALID_VALUE, "host memory is NULL"));
        }
        // SAFETY: not NULL, so valid for as many bytes as the call says, as the caller of the entry point promised.
        Ok(unsafe { std::slice::from_raw_parts(self.0.cast(), len) })
    }

    /// `len` bytes of it, for writing.
    pub(super) fn write<'a>(self, len: usize) -> Result<&'a mut [u8]> {
        if len == 0 {
            return Ok(&mut []);
        }
        if self.0.is_null() {
            return Err(refuse(Code::INVALID_VALUE, "host memory is NULL"));
        }
        // SAFETY: as in `read`; nobody else has these bytes during the call.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.cast(), len) })
    }

    /// The pointer itself.
    pub(super) fn pointer(self) -> *mut c_void {
        self.0
    }
}

/// What the driver gives a program instead of an object. It leads nowhere: only a [`Table`](super::table::Table) knows it.
#[repr(transparent)]
pub struct Handle<T> {
    number: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// No object.
    pub(super) const NULL: Handle<T> = Handle::new(0);

    /// A handle of this number.
    pub(super) const fn new(number: usize) -> Handle<T> {
        Handle { number, of: PhantomData }
    }

    /// Its number.
    pub(super) const fn number(self) -> usize {
        self.number
    }

    /// Whether it is NULL.
    pub(super) const fn is_null(self) -> bool {
        self.number == 0
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Handle<T> {}
impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<T> Eq for Handle<T> {}
impl<T> PartialOrd for Handle<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Handle<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}
impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.number)
    }
}
