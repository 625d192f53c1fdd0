//! The kernels' sources, embedded: an installed program needs no checkout.

use crate::nvrtc::Header;

/// One file under `kernels/`, which is compiled as a program of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its path under `kernels/`.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
}

macro_rules! sources {
    ($($constant:ident = $path:literal;)*) => {
        $(
            #[doc = concat!("`kernels/", $path, "`.")]
            pub const $constant: Source =
                Source { name: $path, text: include_str!(concat!("../../../kernels/", $path)) };
        )*
        /// Every program.
        pub const ALL: &[Source] = &[$($constant),*];
    };
}

sources! {
    ADAMW = "adamw.cu";
    ATTENTION = "attention/simt.cu";
    ATTENTION_AMPERE = "attention/ampere.cu";
    BIAS = "bias.cu";
    CROSS_ENTROPY = "cross_entropy.cu";
    DROPOUT = "dropout.cu";
    EMBEDDING = "embedding.cu";
    GELU = "gelu.cu";
    LAYERNORM = "layernorm.cu";
    MATMUL = "matmul/simt.cu";
    MATMUL_AMPERE = "matmul/ampere.cu";
    REDUCE = "reduce.cu";
    RESIDUAL = "residual.cu";
    SOFTMAX = "softmax.cu";
    UNFUSED = "attention/unfused.cu";
}

macro_rules! headers {
    ($($path:literal),* $(,)?) => {
        /// What programs include.
        pub const HEADERS: &[Header] =
            &[$(Header { name: $path, text: include_str!(concat!("../../../kernels/", $path)) }),*];
    };
}

headers!(
    "attention/head.cuh",
    "lib/columns.cuh",
    "lib/elementwise.cuh",
    "lib/fragments.cuh",
    "lib/gelu.cuh",
    "lib/math.cuh",
    "lib/matrix.cuh",
    "lib/philox.cuh",
    "lib/ptx.cuh",
    "lib/reduce.cuh",
    "lib/rows.cuh",
    "lib/tile.cuh",
    "lib/tile_mma.cuh",
    "lib/types.cuh",
    "matmul/products.cuh"
);
