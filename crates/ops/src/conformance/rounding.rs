//! How master weights become parameters.

use super::check::Verdict;
use super::data::Precision;
use super::memory::ok;
use crate::constants::stochastic_bits;
use crate::{Act, AdamW, Grad, Ops, Rounding, Slot, Stat, Tag};

/// Elements of the allocation, and the part that is updated: it begins and ends inside a block of random words.
const LEN: usize = 200;
const PART: std::ops::Range<usize> = 5..187;
const SEED: u64 = 0x1234_5678_9abc_def0;
const STEP: u64 = 7;

/// Rounds the same master weights both ways, and holds every parameter's bits to the definition.
pub(super) fn master(ops: &mut impl Ops) -> Verdict {
    let narrow = ops.act_bytes() == 2;
    let precision = Precision::of(ops, Tag::Act);
    for rounding in [Rounding::Nearest, Rounding::Stochastic { seed: SEED }] {
        let (params, master) = updated(ops, rounding)?;
        for (i, (param, master)) in params.iter().zip(&master).enumerate() {
            let random = stochastic_bits(SEED, STEP, (PART.start + i) as u64);
            let expected = match rounding {
                Rounding::Stochastic { .. } if narrow => {
                    f32::from_bits((master.to_bits() + random) & 0xffff_0000)
                }
                _ => precision.round(*master),
            };
            if param.to_bits() != expected.to_bits() {
                return Err(format!(
                    "{rounding:?}: params[{i}] is {param:e}, expected {expected:e} from {master:e}"
                ));
            }
        }
    }
    Ok(())
}

/// Parameters and master weights after an update.
fn updated(ops: &mut impl Ops, rounding: Rounding) -> Result<(Vec<f32>, Vec<f32>), String> {
    let params: Slot<Act> = ok(ops.alloc(LEN))?;
    let [master, m, v]: [Slot<Stat>; 3] = [ok(ops.alloc(LEN))?, ok(ops.alloc(LEN))?, ok(ops.alloc(LEN))?];
    let (grads, norm): (Slot<Grad>, Slot<Stat>) = (ok(ops.alloc(LEN))?, ok(ops.alloc(1))?);
    // Numbers of all sizes and signs, few of which bf16 can hold.
    let weights: Vec<f32> =
        (0..LEN).map(|i| (0.731 + i as f32).sin() * 10_f32.powi(i as i32 % 9 - 4)).collect();
    ok(ops.upload(master, &weights))?;
    ok(ops.upload(grads, &vec![0.5; LEN]))?;
    ok(ops.upload(norm, &[1.0]))?;
    let constants = AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: STEP,
        clip: None,
        rounding,
    };
    let [master_part, m_part, v_part] = [master, m, v].map(|slot| slot.slice(PART));
    ok(ops.adamw(params.slice(PART), Some(master_part), m_part, v_part, grads.slice(PART), norm, constants))?;
    let mut rounded = vec![0.0; PART.len()];
    let mut exact = vec![0.0; PART.len()];
    ok(ops.download(&mut rounded, params.slice(PART)))?;
    ok(ops.download(&mut exact, master_part))?;
    ok(ops.free(params))?;
    ok(ops.free(grads))?;
    for slot in [master, m, v, norm] {
        ok(ops.free(slot))?;
    }
    Ok((rounded, exact))
}
