//! Which kernels a device is given.

use crate::{Device, Error, Precision};

/// A family of kernels, by the instructions that it multiplies with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Plain arithmetic in f32: any device, and what a reader starts with.
    Simt,
    /// Tensor cores by `mma.sync`, fed by `cp.async` and `ldmatrix`: bf16 from compute capability 8.0 on.
    Ampere,
}

impl Tier {
    /// Its name, as that of the files.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Simt => "simt",
            Tier::Ampere => "ampere",
        }
    }

    /// Why a device is given it.
    pub fn why(self) -> &'static str {
        match self {
            Tier::Simt => "as f32 is computed without tensor cores",
            Tier::Ampere => "on tensor cores (mma.sync)",
        }
    }
}

impl Device {
    /// The kernels for a precision.
    ///
    /// # Errors
    /// [`Error::NoBf16`].
    pub fn tier(&self, precision: Precision) -> Result<Tier, Error> {
        match precision {
            Precision::F32 => Ok(Tier::Simt),
            Precision::Bf16 if self.capability >= (8, 0) => Ok(Tier::Ampere),
            Precision::Bf16 => {
                let Device { ordinal, name, capability, .. } = self.clone();
                Err(Error::NoBf16 { ordinal, name, capability })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_needs_ampere() {
        let device =
            |capability| Device { ordinal: 1, name: "Old".into(), capability, memory: 0, multiprocessors: 1 };
        assert_eq!(device((7, 5)).tier(Precision::F32).unwrap(), Tier::Simt);
        assert_eq!(device((9, 0)).tier(Precision::Bf16).unwrap(), Tier::Ampere);
        let error = device((7, 5)).tier(Precision::Bf16).unwrap_err().to_string();
        assert_eq!(
            error,
            "cuda:1 (Old) is of compute capability 7.5, and bf16 needs 8.0 or later: use --precision f32"
        );
    }
}
