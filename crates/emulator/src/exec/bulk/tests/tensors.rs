//! Copies of boxes, against an index formula of their own.

use super::super::POISON;
use super::rig::{BARRIER, DATA, Rig, contents, pattern};
use crate::tensormap;

/// A tensor and its box, as the driver's call takes them.
#[derive(Clone)]
struct Tensor {
    data_type: u32,
    element: usize,
    dims: Vec<u64>,
    strides: Vec<u64>,
    box_dims: Vec<u32>,
    element_strides: Vec<u32>,
    swizzle: u32,
    fill: u32,
}

impl Tensor {
    fn new(data_type: u32, element: usize, dims: &[u64], strides: &[u64], box_dims: &[u32]) -> Tensor {
        Tensor {
            data_type,
            element,
            dims: dims.to_vec(),
            strides: strides.to_vec(),
            box_dims: box_dims.to_vec(),
            element_strides: vec![1; dims.len()],
            swizzle: 0,
            fill: 0,
        }
    }

    fn encode(&self, address: u64) -> [u8; 128] {
        let Tensor { data_type, dims, strides, box_dims, element_strides, swizzle, fill, .. } = self;
        tensormap::encode(
            *data_type,
            address,
            dims,
            strides,
            box_dims,
            element_strides,
            0,
            *swizzle,
            0,
            *fill,
        )
        .expect("valid")
    }

    /// Bytes from the first element to the last.
    fn len(&self) -> usize {
        let last: u64 =
            self.dims[1..].iter().zip(&self.strides).map(|(dim, stride)| (dim - 1) * stride).sum();
        last as usize + self.dims[0] as usize * self.element
    }

    fn extent(&self, i: usize) -> usize {
        if i == 0 {
            self.box_dims[0] as usize
        } else {
            self.box_dims[i].div_ceil(self.element_strides[i]) as usize
        }
    }

    fn elements(&self) -> usize {
        (0..self.dims.len()).map(|i| self.extent(i)).product()
    }

    /// Of each element of the box: where it lies from the start of shared memory, and where from the tensor's first, if in bounds.
    fn places(&self, coordinates: &[i32], shared: usize) -> Vec<(usize, Option<usize>)> {
        let span = [0, 32, 64, 128][self.swizzle as usize];
        (0..self.elements())
            .map(|element| {
                let (mut rest, mut global, mut inside, mut row, mut rows) = (element, 0i64, true, 0, 1);
                let column = rest % self.extent(0);
                for (i, coordinate) in coordinates.iter().enumerate() {
                    let b = rest % self.extent(i);
                    rest /= self.extent(i);
                    let step = if i == 0 { 1 } else { self.element_strides[i] as i64 };
                    let x = i64::from(*coordinate) + b as i64 * step;
                    inside &= x >= 0 && x < self.dims[i] as i64;
                    global += x * if i == 0 { self.element as i64 } else { self.strides[i - 1] as i64 };
                    if i > 0 {
                        row += b * rows;
                        rows *= self.extent(i);
                    }
                }
                let pitch = (self.extent(0) * self.element).max(span);
                let at = shared + row * pitch + column * self.element;
                // 16-byte chunk c of 128-byte line l of shared memory goes to c xor l, in the low bits that the span has.
                let (line, chunk) = (at / 128, at / 16 % 8);
                let mask = [0, 1, 3, 7][self.swizzle as usize];
                let chunk = chunk & !mask | (chunk ^ line) & mask;
                (line * 128 + chunk * 16 + at % 16, inside.then_some(global as usize))
            })
            .collect()
    }

    fn rig(&self) -> (Rig, std::sync::Arc<crate::memory::Allocation>) {
        let mut rig = Rig::new(1);
        let allocation = rig.allocate(&pattern(self.len()));
        rig.params = [&[0; 64][..], &self.encode(allocation.base)].concat();
        rig.set("map", 0x7200_0000_0000 + 64).set("dst", u64::from(DATA)).set("src", u64::from(DATA));
        rig.set("bar", u64::from(BARRIER));
        (rig, allocation)
    }

    /// Loads a box and compares all of shared memory.
    fn check_load(&self, coordinates: &[i32]) {
        const TEXT: [&str; 5] = [
            "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [dst], [map, {c0}], [bar]",
            "cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]",
            "cp.async.bulk.tensor.3d.tile.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1,c2}], [bar]",
            "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1,c2,c3}], [bar]",
            "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1,c2,c3,c4}], [bar]",
        ];
        let (mut rig, _allocation) = self.rig();
        rig.expect((self.elements() * self.element) as u32);
        set_coordinates(&mut rig, coordinates);
        let before = rig.cluster.blocks[0].shared.clone();
        rig.go(TEXT[coordinates.len() - 1]);
        let source = pattern(self.len());
        let (mut poisoned, mut expected, mut loaded) = (before.clone(), before, 0);
        for (shared, global) in self.places(coordinates, DATA as usize) {
            for byte in 0..self.element {
                poisoned[shared + byte] = POISON;
                expected[shared + byte] = global.map_or(0, |global| source[global + byte]);
                loaded += u64::from(global.is_some());
            }
        }
        assert!(rig.cluster.blocks[0].shared == poisoned, "in flight, at {coordinates:?}");
        rig.finish();
        // The mbarrier's own bytes have changed.
        expected[BARRIER as usize..][..8].copy_from_slice(rig.shared(0, BARRIER, 8));
        let differing = rig.cluster.blocks[0]
            .shared
            .iter()
            .zip(&expected)
            .position(|(found, expected)| found != expected);
        assert_eq!(differing, None, "at {coordinates:?}");
        assert_eq!(rig.phase(0), 1, "the whole box counts, at {coordinates:?}");
        assert_eq!(rig.cluster.counters.bulk_load_bytes, loaded, "at {coordinates:?}");
    }

    /// Stores a box and compares all of the tensor.
    fn check_store(&self, coordinates: &[i32]) {
        const TEXT: [&str; 5] = [
            "cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [map, {c0}], [src]",
            "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [map, {c0,c1}], [src]",
            "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group.L2::cache_hint [map, {c0,c1,c2}], [src], policy",
            "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [map, {c0,c1,c2,c3}], [src]",
            "cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [map, {c0,c1,c2,c3,c4}], [src]",
        ];
        let (mut rig, allocation) = self.rig();
        let len = rig.cluster.blocks[0].shared.len() - DATA as usize;
        let source: Vec<u8> = pattern(len).iter().map(|byte| byte ^ 0x55).collect();
        rig.put(0, DATA, &source);
        set_coordinates(&mut rig, coordinates);
        rig.go(TEXT[coordinates.len() - 1]);
        rig.go("cp.async.bulk.commit_group");
        let (mut poisoned, mut expected) = (pattern(self.len()), pattern(self.len()));
        for (shared, global) in self.places(coordinates, DATA as usize) {
            let Some(global) = global else { continue };
            for byte in 0..self.element {
                poisoned[global + byte] = POISON;
                expected[global + byte] = source[shared + byte - DATA as usize];
            }
        }
        assert!(contents(&allocation) == poisoned, "in flight, at {coordinates:?}");
        rig.finish();
        assert!(contents(&allocation) == expected, "at {coordinates:?}");
    }
}

fn set_coordinates(rig: &mut Rig, coordinates: &[i32]) {
    for (name, coordinate) in ["c0", "c1", "c2", "c3", "c4"].iter().zip(coordinates) {
        rig.set(name, u64::from(*coordinate as u32));
    }
}

/// One of each rank, with element sizes from 1 to 8.
fn tensors() -> [Tensor; 5] {
    [
        Tensor::new(4, 8, &[100], &[], &[32]),
        Tensor::new(9, 2, &[50, 20], &[112], &[24, 7]),
        Tensor::new(7, 4, &[12, 9, 6], &[64, 576], &[8, 4, 3]),
        Tensor::new(0, 1, &[40, 5, 4, 3], &[48, 240, 960], &[16, 3, 2, 2]),
        Tensor::new(6, 2, &[16, 5, 4, 3, 3], &[32, 160, 640, 1920], &[8, 3, 2, 2, 2]),
    ]
}

#[test]
fn a_box_of_every_rank_is_loaded_inside_and_over_every_edge() {
    for tensor in tensors() {
        let rank = tensor.dims.len();
        tensor.check_load(&vec![0; rank]);
        tensor.check_load(&vec![1; rank]);
        for i in 0..rank {
            let mut below = vec![0; rank];
            below[i] = -1;
            tensor.check_load(&below);
            below[i] = -3;
            tensor.check_load(&below);
            let mut above = vec![0; rank];
            above[i] = tensor.dims[i] as i32 - 2;
            tensor.check_load(&above);
        }
        tensor.check_load(&vec![-1; rank]);
        tensor.check_load(&vec![2; rank]);
    }
}

#[test]
fn a_box_outside_its_tensor_is_all_zeros_and_counts_as_whole() {
    for tensor in tensors() {
        for coordinate in [-1000, 1000, i32::MIN, i32::MAX] {
            tensor.check_load(&vec![coordinate; tensor.dims.len()]);
        }
    }
}

#[test]
fn a_box_of_every_rank_is_stored_and_elements_past_the_edge_skipped() {
    for tensor in tensors() {
        let rank = tensor.dims.len();
        tensor.check_store(&vec![0; rank]);
        tensor.check_store(&vec![1; rank]);
        for i in 0..rank {
            let mut above = vec![0; rank];
            above[i] = tensor.dims[i] as i32 - 1;
            tensor.check_store(&above);
        }
        tensor.check_store(&vec![1000; rank]);
    }
}

#[test]
fn element_strides_skip_elements_but_not_along_the_innermost_dimension() {
    let mut tensor = Tensor::new(7, 4, &[16, 40, 9], &[64, 2560], &[8, 7, 5]);
    tensor.element_strides = vec![5, 3, 2];
    for coordinates in [[0, 0, 0], [4, 1, 2], [-2, -3, -1], [12, 30, 6]] {
        tensor.check_load(&coordinates);
        tensor.check_store(&coordinates.map(|coordinate: i32| coordinate.max(0)));
    }
}

#[test]
fn rows_of_a_box_may_be_wider_than_the_tensor() {
    // Padding in shared memory, none in global: 72 of 64 columns.
    let tensor = Tensor::new(9, 2, &[64, 16, 2], &[256, 128], &[72, 8, 1]);
    tensor.check_load(&[0, 0, 0]);
    tensor.check_load(&[0, 12, 1]);
    tensor.check_store(&[0, 4, 1]);
}

#[test]
fn every_swizzle_and_width_of_box_lands_where_the_formula_says() {
    for (swizzle, span) in [(0, 256), (1, 32), (2, 64), (3, 128)] {
        for row in (16..=span).step_by(16) {
            let mut tensor = Tensor::new(9, 2, &[256, 64], &[512], &[row / 2, 19]);
            tensor.swizzle = swizzle;
            tensor.check_load(&[0, 0]);
            tensor.check_load(&[3, 50]);
            tensor.check_load(&[-3, -5]);
            tensor.check_store(&[5, 2]);
        }
    }
}

#[test]
fn a_swizzle_counts_lines_from_the_start_of_shared_memory() {
    // The same box, 128 bytes further: its chunks change places otherwise.
    let mut tensor = Tensor::new(9, 2, &[64, 8], &[128], &[64, 8]);
    tensor.swizzle = 3;
    const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]";
    for at in [DATA, DATA + 128, DATA + 3 * 128] {
        let (mut rig, _allocation) = tensor.rig();
        rig.expect(1024);
        rig.set("dst", u64::from(at)).set("c0", 0).set("c1", 0);
        rig.go(LOAD);
        rig.finish();
        for (shared, global) in tensor.places(&[0, 0], at as usize) {
            let global = global.expect("inside");
            assert_eq!(rig.shared(0, shared as u32, 2), &pattern(tensor.len())[global..global + 2]);
        }
    }
}

#[test]
fn a_map_in_global_memory_is_read_when_the_copy_is_issued() {
    let tensor = Tensor::new(7, 4, &[64], &[], &[16]);
    let (mut rig, allocation) = tensor.rig();
    let map = rig.allocate(&tensor.encode(allocation.base));
    rig.expect(64);
    rig.set("map", map.base).set("c0", 4);
    rig.go("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0}], [bar]");
    map.write(0, &[0; 128]);
    rig.finish();
    assert_eq!(rig.shared(0, DATA, 64), &pattern(256)[16..80]);
}

#[test]
fn a_multicast_box_reaches_all_listed_blocks_swizzled() {
    const TEXT: &str = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint [dst], [map, {c0,c1}], [bar], mask, policy";
    let mut tensor = Tensor::new(9, 2, &[64, 30], &[128], &[64, 16]);
    tensor.swizzle = 3;
    let mut rig = Rig::new(4);
    let allocation = rig.allocate(&pattern(tensor.len()));
    rig.params = tensor.encode(allocation.base).to_vec();
    rig.expect(2048);
    rig.set("map", 0x7200_0000_0000)
        .set("dst", u64::from(DATA))
        .set("bar", u64::from(BARRIER))
        .set("mask", 0b1011);
    set_coordinates(&mut rig, &[0, 20]);
    rig.go(TEXT);
    rig.finish();
    for block in 0..4 {
        let listed = block != 2;
        assert_eq!(rig.phase(block), u64::from(listed));
        for (shared, global) in tensor.places(&[0, 20], DATA as usize) {
            let source =
                global.map_or([0; 2], |at| [pattern(tensor.len())[at], pattern(tensor.len())[at + 1]]);
            let expected = if listed { source } else { [0; 2] };
            assert_eq!(rig.shared(block, shared as u32, 2), expected);
        }
    }
}

#[test]
fn a_tensor_past_its_allocation_is_a_fault_only_where_it_is_touched() {
    let tensor = Tensor::new(7, 4, &[16, 8], &[64], &[16, 2]);
    let (mut rig, _) = tensor.rig();
    let short = rig.allocate(&[0; 256]);
    rig.params = [&[0; 64][..], &tensor.encode(short.base)].concat();
    rig.expect(256);
    const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]";
    set_coordinates(&mut rig, &[0, 2]);
    rig.go(LOAD);
    set_coordinates(&mut rig, &[0, 3]);
    let fault = rig.fault(LOAD);
    assert!(
        fault.message.contains("192 bytes behind the tensor's first, outside the 256 bytes"),
        "{}",
        fault.message
    );
}

#[test]
fn a_box_farther_away_than_addresses_reach_is_a_fault() {
    let mut rig = Rig::new(1);
    let allocation = rig.allocate(&[0; 256]);
    let strides = [(1 << 40) - 16];
    rig.params =
        tensormap::encode(7, allocation.base, &[16, 1 << 32], &strides, &[16, 2], &[1, 1], 0, 0, 0, 0)
            .expect("valid")
            .to_vec();
    rig.expect(128);
    rig.set("map", 0x7200_0000_0000).set("dst", u64::from(DATA)).set("bar", u64::from(BARRIER));
    set_coordinates(&mut rig, &[0, i32::MAX - 1]);
    let fault = rig.fault("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [dst], [map, {c0,c1}], [bar]");
    assert!(fault.message.contains("outside the 256 bytes"), "{}", fault.message);
}
