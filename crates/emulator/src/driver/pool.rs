//! Memory pools. Memory comes from the device directly, so a pool is its settings and what it has given out.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::sync::Mutex;

use super::abi::{Handle, In, Out};
use super::device::{Ordinal, check as check_device};
use super::entry::{entries, refuse};
use super::memory::Location;
use super::table::{Object, Table, lock};
use super::{Code, Driver, Result, context, driver};

/// A memory pool.
#[derive(Debug, Default)]
pub(super) struct Pool {
    settings: Mutex<BTreeMap<c_uint, u64>>,
}

impl Object for Pool {
    const WHAT: &'static str = "memory pool";

    fn table(driver: &Driver) -> &Table<Pool> {
        &driver.pools
    }
}

/// The device's own pool, which always exists, and the one that is allocated from.
#[derive(Debug)]
pub(super) struct Chosen {
    default: Handle<Pool>,
    current: Handle<Pool>,
}

impl Chosen {
    /// Makes the device's own pool.
    pub(super) fn new(pools: &Table<Pool>) -> Chosen {
        let default = pools.insert(Pool::default());
        Chosen { default, current: default }
    }
}

/// `CUmemPoolProps`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Properties {
    kind: c_int,
    handles: c_int,
    location: Location,
    security: usize,
    max: usize,
    usage: u16,
    reserved: [u8; 54],
}

/// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`, of 64 bits as those after it; those before are `int`.
const RELEASE_THRESHOLD: c_uint = 4;
const USED_MEM_CURRENT: c_uint = 7;
const LAST: c_uint = 8;

/// Where `cuMemAllocAsync` allocates.
pub(super) fn current(driver: &Driver) -> Handle<Pool> {
    lock(&driver.pool).current
}

/// What to answer for an attribute: what was set, else reuse allowed, nothing kept, and what is given out.
fn attribute(driver: &Driver, handle: Handle<Pool>, pool: &Pool, attribute: c_uint) -> u64 {
    let set = lock(&pool.settings).get(&attribute).copied();
    set.unwrap_or_else(|| match attribute {
        1..=3 => 1,
        RELEASE_THRESHOLD => 0,
        _ => driver.ranges.used_by(handle),
    })
}

fn known(attribute: c_uint) -> Result<()> {
    match attribute {
        1..=LAST => Ok(()),
        _ => Err(refuse(Code::INVALID_VALUE, format_args!("pool attribute {attribute} is not known"))),
    }
}

entries! {
    /// The device's own pool.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle<Pool>>, device: Ordinal) {
        let driver = driver()?;
        check_device(device)?;
        pool.set(lock(&driver.pool).default)
    }

    /// The pool that is allocated from.
    fn cuDeviceGetMemPool(pool: Out<Handle<Pool>>, device: Ordinal) {
        let driver = driver()?;
        check_device(device)?;
        pool.set(lock(&driver.pool).current)
    }

    /// Sets it.
    fn cuDeviceSetMemPool(device: Ordinal, pool: Handle<Pool>) {
        let driver = driver()?;
        check_device(device)?;
        pool.get()?;
        lock(&driver.pool).current = pool;
        Ok(())
    }

    /// Makes a pool.
    fn cuMemPoolCreate(pool: Out<Handle<Pool>>, properties: In<Properties>) {
        let driver = driver()?;
        context::current()?;
        pool.check()?;
        let properties = properties.get()?;
        if properties.kind != 1 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("allocation type {}, expected PINNED (1)", properties.kind)));
        }
        if properties.handles != 0 {
            return Err(refuse(Code::NOT_SUPPORTED, "pools are not shared between processes"));
        }
        if properties.location.kind != 1 || properties.location.id != 0 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("a pool at {:?}, expected device 0", properties.location)));
        }
        pool.set(driver.pools.insert(Pool::default()))
    }

    /// Ends a pool. What it has given out stays.
    fn cuMemPoolDestroy(pool: Handle<Pool>) {
        let driver = driver()?;
        let mut chosen = lock(&driver.pool);
        if pool == chosen.default {
            return Err(refuse(Code::INVALID_VALUE, "the device's own pool cannot be destroyed"));
        }
        driver.pools.remove(pool)?;
        if chosen.current == pool {
            chosen.current = chosen.default;
        }
        Ok(())
    }

    /// Gives back what is not in use: nothing is kept.
    fn cuMemPoolTrimTo(pool: Handle<Pool>, _keep: usize) {
        pool.get().map(|_| ())
    }

    /// An attribute.
    fn cuMemPoolGetAttribute(pool: Handle<Pool>, number: c_uint, value: Out<u8>) {
        let driver = driver()?;
        let found = pool.get()?;
        known(number)?;
        let answer = attribute(driver, pool, &found, number).to_ne_bytes();
        match number {
            // On little-endian hosts, which CUDA's are, the low half comes first.
            0..RELEASE_THRESHOLD => value.fill(answer[..4].iter().copied()),
            _ => value.fill(answer),
        }
    }

    /// Sets an attribute; the counts can only be reset.
    fn cuMemPoolSetAttribute(pool: Handle<Pool>, number: c_uint, value: In<u8>) {
        driver()?;
        let found = pool.get()?;
        known(number)?;
        let mut bytes = [0; 8];
        let len = if number < RELEASE_THRESHOLD { 4 } else { 8 };
        bytes[..len].copy_from_slice(&value.list(len)?);
        let value = u64::from_ne_bytes(bytes);
        match number {
            5 | USED_MEM_CURRENT => Err(refuse(Code::INVALID_VALUE, "what is in use cannot be set")),
            6 | LAST if value != 0 => Err(refuse(Code::INVALID_VALUE, "a highest count can only be set to 0")),
            6 | LAST => Ok(()),
            _ => {
                lock(&found.settings).insert(number, value);
                Ok(())
            }
        }
    }

    /// Who may reach a pool's memory.
    fn cuMemPoolGetAccess(flags: Out<c_int>, pool: Handle<Pool>, location: In<Location>) {
        pool.get()?;
        let location = location.get()?;
        // Readable and writable by the device, not by anybody else.
        flags.set(if location.kind == 1 && location.id == 0 { 3 } else { 0 })
    }

    /// Sets who may reach it: the device always may.
    fn cuMemPoolSetAccess(pool: Handle<Pool>, access: In<[c_int; 3]>, count: usize) {
        pool.get()?;
        for [kind, id, flags] in access.list(count)? {
            if (kind, id, flags) != (1, 0, 3) {
                return Err(refuse(Code::INVALID_DEVICE, "there is one device, which reads and writes its pools"));
            }
        }
        Ok(())
    }
}

/// Refuses what is no pool.
pub(super) fn check(pool: Handle<Pool>) -> Result<()> {
    pool.get().map(|_| ())
}
