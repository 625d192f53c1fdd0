//! Tensor maps.

use std::ffi::c_uint;

use super::abi::{In, Out};
use super::context::current;
use super::entry::{entries, refuse};
use super::memory::Address;
use super::{Code, driver};
use crate::tensormap;

/// `CUtensorMap`
type Map = [u8; tensormap::BYTES];

entries! {
    /// Describes a tensor for bulk copies of its boxes.
    fn cuTensorMapEncodeTiled(
        map: Out<Map>,
        data_type: c_uint,
        rank: c_uint,
        address: Address,
        dims: In<u64>,
        strides: In<u64>,
        box_dims: In<c_uint>,
        element_strides: In<c_uint>,
        interleave: c_uint,
        swizzle: c_uint,
        promotion: c_uint,
        fill: c_uint,
    ) {
        let driver = driver()?;
        current()?;
        map.check()?;
        if !driver.device.at_least(9, 0) {
            return Err(refuse(Code::NOT_SUPPORTED, "the device has no tensor maps"));
        }
        if !(1..=5).contains(&rank) {
            return Err(refuse(Code::INVALID_VALUE, format_args!("rank {rank}, expected 1 to 5")));
        }
        if promotion > 3 {
            return Err(refuse(Code::INVALID_VALUE, format_args!("L2 promotion {promotion} is not known")));
        }
        if !map.is_multiple_of(tensormap::ALIGN) {
            return Err(refuse(Code::INVALID_VALUE, "the map's address is not a multiple of 64"));
        }
        let rank = rank as usize;
        let encoded = tensormap::encode(
            data_type,
            address,
            &dims.list(rank)?,
            &strides.list(rank - 1)?,
            &box_dims.list(rank)?,
            &element_strides.list(rank)?,
            interleave,
            swizzle,
            promotion,
            fill,
        );
        map.set(encoded.map_err(|why| refuse(Code::INVALID_VALUE, why))?)
    }

    /// Replaces a map's address.
    fn cuTensorMapReplaceAddress(map: Out<Map>, address: Address) {
        driver()?;
        current()?;
        let found = tensormap::TensorMap::decode(&map.get()?)
            .ok_or_else(|| refuse(Code::INVALID_VALUE, "that is no tensor map"))?;
        let moved = tensormap::TensorMap { address, ..found };
        moved.check().map_err(|why| refuse(Code::INVALID_VALUE, why))?;
        map.set(moved.to_bytes())
    }
}
