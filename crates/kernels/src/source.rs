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

impl Source {
    /// Whether it has to do with gradients of parameters: only then is it specialised on what they are stored in.
    pub fn uses_grad(self) -> bool {
        let uses = [ADAMW, BIAS, EMBEDDING, LAYERNORM, MATMUL, MATMUL_AMPERE, REDUCE];
        uses.iter().any(|source| source.name == self.name)
    }
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
    ATTENTION_DECODE = "attention/decode.cu";
    BIAS = "bias.cu";
    CROSS_ENTROPY = "cross_entropy.cu";
    DROPOUT = "dropout.cu";
    EMBEDDING = "embedding.cu";
    GELU = "gelu.cu";
    LAYERNORM = "layernorm.cu";
    MATMUL = "matmul/simt.cu";
    MATMUL_AMPERE = "matmul/ampere.cu";
    PEAK = "peak.cu";
    REDUCE = "reduce.cu";
    RESIDUAL = "residual.cu";
    SAMPLE = "sample.cu";
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
    "attention/cache.cuh",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a source and all that it includes hold, but for the file that defines the types.
    fn whole(text: &str) -> String {
        let included = HEADERS.iter().filter(|header| header.name != "lib/types.cuh");
        let included = included.filter(|header| text.contains(&format!("#include \"{}\"", header.name)));
        included.fold(text.to_owned(), |sum, header| sum + &whole(header.text))
    }

    #[test]
    fn sources_that_name_gradients_of_parameters_are_specialised_on_them() {
        for source in ALL {
            let names = whole(source.text).contains("Grad");
            assert_eq!(names, source.uses_grad(), "{}", source.name);
        }
    }
}
