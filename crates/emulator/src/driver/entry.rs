//! What every entry point goes through.

use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Code, Result};

thread_local! {
    /// The entry point that this thread is in.
    static CALL: Cell<&'static str> = const { Cell::new("") };
    /// Whether this thread runs a function that the program gave to a stream.
    static HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

/// Declares entry points: documentation, name (and further names of the same function), arguments, body. The body is a
/// closure that returns [`Result<()>`](Result): no panic gets past it. Makes `address`, which finds an entry by its name.
macro_rules! entries {
    ($($(#[$meta:meta])* fn $name:ident $(or $alias:ident)* ($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$meta])*
            ///
            /// # Safety
            /// Pointers are NULL or lead to what CUDA's manual says of this function.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, reason = "the driver's name")]
            pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::driver::Code {
                $crate::driver::entry::guard(stringify!($name), move || $body)
            }
            $crate::driver::entry::aliases! { $name [$($alias)*] ($($arg: $ty),*) }
        )*

        /// The entry point of this name in this file.
        pub(in $crate::driver) fn address(name: &str) -> Option<*const std::ffi::c_void> {
            $(if name == stringify!($name) $(|| name == stringify!($alias))* {
                return Some($name as *const std::ffi::c_void);
            })*
            None
        }
    };
}

/// The other names of an entry point.
macro_rules! aliases {
    ($name:ident [] $args:tt) => {};
    ($name:ident [$alias:ident $($more:ident)*] ($($arg:ident: $ty:ty),*)) => {
        #[doc = concat!("Another name of [`", stringify!($name), "`].")]
        ///
        /// # Safety
        /// As there.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the driver's name")]
        pub unsafe extern "C" fn $alias($($arg: $ty),*) -> $crate::driver::Code {
            // SAFETY: as this function's caller promises.
            unsafe { $name($($arg),*) }
        }
        $crate::driver::entry::aliases! { $name [$($more)*] ($($arg: $ty),*) }
    };
}

pub(super) use {aliases, entries};

/// Runs the body of an entry point.
pub(super) fn guard(call: &'static str, body: impl FnOnce() -> Result<()>) -> Code {
    let outer = CALL.replace(call);
    let done = if HOST_FUNCTION.get() {
        Err(refuse(Code::NOT_PERMITTED, "a function that a stream runs may not call the driver"))
    } else {
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
            Err(refuse(Code::UNKNOWN, "a defect of the emulator: it panicked, as said above"))
        })
    };
    CALL.set(outer);
    done.err().unwrap_or(Code::SUCCESS)
}

/// Says on stderr why a call gets this code, and hands the code on.
pub(super) fn refuse(code: Code, why: impl std::fmt::Display) -> Code {
    say(format_args!("{}: {why} ({code:?})", CALL.get()));
    code
}

/// One line on stderr.
pub(super) fn say(line: impl std::fmt::Display) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "wikigpt emulator: {line}");
}

/// Runs a function of the program, which may not call the driver meanwhile.
pub(super) fn host_function(call: impl FnOnce()) {
    HOST_FUNCTION.set(true);
    call();
    HOST_FUNCTION.set(false);
}

#[cfg(test)]
mod tests;
