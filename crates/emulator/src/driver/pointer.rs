//! What the driver knows of a pointer.

use std::ffi::{c_int, c_uint};

use super::abi::{In, Out};
use super::context::current;
use super::entry::{entries, refuse};
use super::memory::{Address, Origin, Range};
use super::{Code, Driver, Result, driver};

const CONTEXT: c_uint = 1;
const MEMORY_TYPE: c_uint = 2;
const DEVICE_POINTER: c_uint = 3;
const HOST_POINTER: c_uint = 4;
const P2P_TOKENS: c_uint = 5;
const SYNC_MEMOPS: c_uint = 6;
const BUFFER_ID: c_uint = 7;
const IS_MANAGED: c_uint = 8;
const DEVICE_ORDINAL: c_uint = 9;
const RANGE_START: c_uint = 11;
const RANGE_SIZE: c_uint = 12;
const MAPPED: c_uint = 13;
const ACCESS_FLAGS: c_uint = 16;
const MEMPOOL_HANDLE: c_uint = 17;

/// The bytes of an attribute of an address, as wide as the program expects; `None` where the address has no such thing.
fn attribute(range: Option<&Range>, attribute: c_uint, address: Address) -> Result<Option<Vec<u8>>> {
    let int = |value: c_int| Some(value.to_ne_bytes().to_vec());
    let wide = |value: u64| Some(value.to_ne_bytes().to_vec());
    let flag = |value: bool| Some(vec![u8::from(value)]);
    let value = range.and_then(|range| {
        let on_device = range.origin.on_device();
        match attribute {
            CONTEXT => wide(range.context.number() as u64),
            MEMORY_TYPE => int(if on_device { 2 } else { 1 }),
            DEVICE_POINTER => wide(address),
            HOST_POINTER if !on_device || range.origin == Origin::Managed => wide(address),
            HOST_POINTER => None,
            SYNC_MEMOPS | IS_MANAGED => flag(attribute == IS_MANAGED && range.origin == Origin::Managed),
            BUFFER_ID => wide(range.id),
            DEVICE_ORDINAL => int(0),
            RANGE_START => wide(range.start),
            RANGE_SIZE => wide(range.len),
            MAPPED => flag(true),
            10 | 15 | 21 => flag(false),
            14 => wide(0),
            ACCESS_FLAGS => int(3),
            MEMPOOL_HANDLE => match range.origin {
                Origin::Pool(pool) => wide(pool.number() as u64),
                _ => wide(0),
            },
            18 => wide(range.len),
            19 => wide(range.start),
            20 => wide(range.id),
            _ => None,
        }
    });
    match attribute {
        P2P_TOKENS => Err(refuse(Code::NOT_SUPPORTED, "there are no tokens of peers")),
        1..=21 => Ok(value),
        _ => Err(refuse(Code::INVALID_VALUE, format_args!("pointer attribute {attribute} is not known"))),
    }
}

/// How many bytes a missing attribute's zero takes.
fn width(attribute: c_uint) -> usize {
    match attribute {
        MEMORY_TYPE | DEVICE_ORDINAL | ACCESS_FLAGS => 4,
        SYNC_MEMOPS | IS_MANAGED | MAPPED | 10 | 15 | 21 => 1,
        _ => 8,
    }
}

fn range(driver: &Driver, address: Address) -> Option<Range> {
    driver.ranges.find(address)
}

entries! {
    /// One attribute of a pointer.
    fn cuPointerGetAttribute(value: Out<u8>, number: c_uint, address: Address) {
        let driver = driver()?;
        current()?;
        value.check()?;
        match attribute(range(driver, address).as_ref(), number, address)? {
            Some(bytes) => value.fill(bytes),
            None => Err(refuse(Code::INVALID_VALUE, format_args!("{address:#x} has no pointer attribute {number}"))),
        }
    }

    /// Several attributes of a pointer; what it has not is 0.
    fn cuPointerGetAttributes(count: c_uint, numbers: In<c_uint>, values: In<Out<u8>>, address: Address) {
        let driver = driver()?;
        current()?;
        let range = range(driver, address);
        let numbers = numbers.list(count as usize)?;
        for (number, value) in numbers.into_iter().zip(values.list(count as usize)?) {
            let none = if number == DEVICE_ORDINAL { vec![0xfe, 0xff, 0xff, 0xff] } else { vec![0; width(number)] };
            value.fill(attribute(range.as_ref(), number, address)?.unwrap_or(none))?;
        }
        Ok(())
    }

    /// Sets an attribute: copies are synchronous anyway.
    fn cuPointerSetAttribute(value: In<c_uint>, number: c_uint, address: Address) {
        let driver = driver()?;
        current()?;
        value.get()?;
        match (number, range(driver, address)) {
            (SYNC_MEMOPS, Some(_)) => Ok(()),
            (SYNC_MEMOPS, None) => Err(refuse(Code::INVALID_VALUE, format_args!("{address:#x} is in no allocation"))),
            _ => Err(refuse(Code::INVALID_VALUE, format_args!("pointer attribute {number} cannot be set"))),
        }
    }
}
