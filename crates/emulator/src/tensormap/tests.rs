use super::*;

/// The arguments of `encode`, so that a test changes one.
#[derive(Clone)]
struct Arguments {
    data_type: u32,
    address: u64,
    dims: Vec<u64>,
    strides: Vec<u64>,
    box_dims: Vec<u32>,
    element_strides: Vec<u32>,
    interleave: u32,
    swizzle: u32,
    l2_promotion: u32,
    fill: u32,
}

impl Arguments {
    /// A tensor of bf16 with a box of 64 × 128 elements.
    fn matrix() -> Arguments {
        Arguments {
            data_type: 9,
            address: 0x7300_0000_0000,
            dims: vec![768, 1024],
            strides: vec![1536],
            box_dims: vec![64, 128],
            element_strides: vec![1, 1],
            interleave: 0,
            swizzle: 3,
            l2_promotion: 2,
            fill: 0,
        }
    }

    /// A tensor of rank 3 whose channels come in slices of 32 bytes.
    fn interleaved() -> Arguments {
        Arguments {
            dims: vec![64, 16, 16],
            strides: vec![256, 4096],
            box_dims: vec![16, 8, 8],
            element_strides: vec![1, 2, 1],
            interleave: 2,
            swizzle: 1,
            ..Arguments::matrix()
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Arguments)) -> Arguments {
        change(&mut self);
        self
    }

    fn encode(&self) -> Result<[u8; BYTES], String> {
        encode(
            self.data_type,
            self.address,
            &self.dims,
            &self.strides,
            &self.box_dims,
            &self.element_strides,
            self.interleave,
            self.swizzle,
            self.l2_promotion,
            self.fill,
        )
    }
}

#[test]
fn each_constraint_of_encode_violated_alone_is_named() {
    let matrix = || Arguments::matrix();
    let interleaved = || Arguments::interleaved();
    let cases = [
        (matrix().with(|a| a.data_type = 13), "data type 13"),
        (matrix().with(|a| a.dims = vec![]), "rank 0"),
        (matrix().with(|a| a.dims = vec![8; 6]), "rank 6"),
        (matrix().with(|a| a.strides = vec![]), "do not go with rank 2"),
        (matrix().with(|a| a.box_dims = vec![64]), "do not go with rank 2"),
        (matrix().with(|a| a.element_strides = vec![1; 3]), "do not go with rank 2"),
        (matrix().with(|a| (a.interleave, a.swizzle) = (1, 0)), "below 3"),
        (matrix().with(|a| a.address += 8), "global address"),
        (interleaved().with(|a| a.address += 16), "no multiple of 32"),
        (matrix().with(|a| a.dims[1] = 0), "dimension 1 of 0 elements"),
        (matrix().with(|a| a.dims[0] = (1 << 32) + 1), "dimension 0 of 4294967297"),
        (matrix().with(|a| a.strides[0] = 1544), "stride of dimension 1, 1544"),
        (matrix().with(|a| a.strides[0] = 1 << 40), "below 2^40"),
        (interleaved().with(|a| a.strides[1] = 4112), "stride of dimension 2, 4112"),
        (matrix().with(|a| a.box_dims[1] = 0), "dimension 1 of the box, 0"),
        (matrix().with(|a| a.box_dims[1] = 257), "dimension 1 of the box, 257"),
        (matrix().with(|a| a.box_dims[0] = 4), "8 bytes, is no multiple of 16"),
        (matrix().with(|a| a.element_strides[1] = 0), "element stride of dimension 1, 0"),
        (matrix().with(|a| a.element_strides[1] = 9), "element stride of dimension 1, 9"),
        (interleaved().with(|a| a.element_strides[0] = 9), "element stride of dimension 0, 9"),
        (matrix().with(|a| a.swizzle = 4), "swizzle 4"),
        (matrix().with(|a| a.box_dims[0] = 72), "144 bytes, is more than its swizzle of 128"),
        (matrix().with(|a| a.swizzle = 2), "128 bytes, is more than its swizzle of 64"),
        (matrix().with(|a| (a.swizzle, a.box_dims[0]) = (1, 24)), "48 bytes, is more than its swizzle of 32"),
        (interleaved().with(|a| a.swizzle = 0), "needs a swizzle of 32"),
        (matrix().with(|a| a.interleave = 3), "interleave 3"),
        (matrix().with(|a| a.l2_promotion = 4), "L2 promotion 4"),
        (matrix().with(|a| a.fill = 2), "fill for what is out of bounds 2"),
        (matrix().with(|a| (a.data_type, a.fill) = (1, 1)), "cannot be NaN"),
    ];
    assert!(matrix().encode().is_ok() && interleaved().encode().is_ok());
    for (arguments, expected) in cases {
        let error = arguments.encode().expect_err(expected);
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn values_at_the_edges_of_the_constraints_are_accepted() {
    let matrix = || Arguments::matrix();
    let cases = [
        matrix().with(|a| a.dims = vec![1 << 32, 1]),
        matrix().with(|a| a.strides[0] = (1 << 40) - 16),
        matrix().with(|a| (a.box_dims, a.swizzle) = (vec![256, 256], 0)),
        matrix().with(|a| a.box_dims = vec![8, 1]),
        matrix().with(|a| a.element_strides = vec![99, 8]),
        matrix().with(|a| a.fill = 1),
        // Strides need not grow: dimensions may be listed in any order.
        matrix().with(|a| {
            a.dims = vec![64, 1024, 12];
            a.strides = vec![1536, 128];
            a.box_dims = vec![64, 128, 1];
            a.element_strides = vec![1; 3];
        }),
    ];
    for arguments in cases {
        assert_eq!(arguments.encode().map(drop), Ok(()));
    }
}

#[test]
fn a_map_is_decoded_to_what_was_encoded() {
    let arguments = Arguments::interleaved().with(|a| {
        a.dims = vec![1 << 32, 3, 5, 7, 11];
        a.strides = vec![1 << 39, 64, 96, 128];
        a.box_dims = vec![256, 1, 2, 3, 4];
        a.element_strides = vec![1, 2, 3, 4, 8];
    });
    let map = TensorMap::decode(&arguments.encode().expect("valid")).expect("a map");
    let expected = TensorMap {
        ty: DataType::Bf16,
        rank: 5,
        address: 0x7300_0000_0000,
        dims: [1 << 32, 3, 5, 7, 11],
        strides: [1 << 39, 64, 96, 128],
        box_dims: [256, 1, 2, 3, 4],
        element_strides: [1, 2, 3, 4, 8],
        interleave: Interleave::Bytes32,
        swizzle: Swizzle::Bytes32,
        l2_promotion: 2,
        fill: Fill::Zeros,
    };
    assert_eq!(map, expected);
}

#[test]
fn a_map_with_any_bit_flipped_is_none() {
    let bytes = Arguments::matrix().encode().expect("valid");
    for bit in 0..BYTES * 8 {
        let mut garbage = bytes;
        garbage[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(TensorMap::decode(&garbage), None, "bit {bit}");
    }
    assert_eq!(TensorMap::decode(&[0; BYTES]), None);
}

#[test]
fn element_sizes_are_those_of_the_driver_s_enumeration() {
    let sizes: Vec<u32> = DataType::ALL.iter().map(|ty| ty.bytes()).collect();
    // UINT8, UINT16, UINT32, INT32, UINT64, INT64, FLOAT16, FLOAT32, FLOAT64, BFLOAT16, FLOAT32_FTZ, TFLOAT32, TFLOAT32_FTZ
    assert_eq!(sizes, [1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4]);
}

#[test]
fn replaced_fields_make_the_map_that_encode_makes() {
    let mut map = TensorMap::BLANK;
    let fields = [
        (Field::GlobalAddress, 0x7300_0000_0000),
        (Field::Rank, 1),
        (Field::BoxDim(0), 64),
        (Field::BoxDim(1), 128),
        (Field::GlobalDim(0), 768),
        (Field::GlobalDim(1), 1024),
        (Field::GlobalStride(0), 1536),
        (Field::ElementStride(0), 1),
        (Field::ElementStride(1), 1),
        (Field::ElementType, 6),
        (Field::InterleaveLayout, 0),
        (Field::SwizzleMode, 3),
        (Field::FillMode, 0),
    ];
    for (field, value) in fields {
        assert_eq!(map.replace(field, value), Ok(()), "{field:?}");
    }
    let encoded = Arguments::matrix().with(|a| (a.data_type, a.l2_promotion) = (6, 0)).encode();
    assert_eq!(encoded, Ok(map.to_bytes()));
    for (field, value) in [
        (Field::Rank, 5),
        (Field::BoxDim(0), 257),
        (Field::ElementStride(0), 0),
        (Field::ElementType, 8),
        (Field::GlobalStride(4), 16),
        (Field::SwizzleMode, 4),
        (Field::FillMode, 1 << 40),
    ] {
        assert!(map.replace(field, value).is_err(), "{field:?} {value}");
    }
    assert_eq!(encoded, Ok(map.to_bytes()), "what is refused changes nothing");
}

#[test]
fn a_swizzle_crosses_the_chunk_with_the_row_as_the_programming_guide_draws_it() {
    for (swizzle, chunks) in [(Swizzle::Bytes32, 2), (Swizzle::Bytes64, 4), (Swizzle::Bytes128, 8)] {
        for address in 0..4096 {
            let (row, chunk) = (address / 128, address % (16 * chunks) / 16);
            let moved = address - chunk * 16 + (chunk ^ (row % chunks)) * 16;
            assert_eq!(swizzle.apply(address), moved, "{swizzle:?} {address}");
        }
    }
    assert!((0..4096).all(|address| Swizzle::None.apply(address) == address));
}
