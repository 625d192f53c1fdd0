//! Steps allocate nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wikigpt_cpu::cpu;
use wikigpt_gpt::{Batch, Config, Generator, Regularize, Sampler, Sampling, Trainer, init};
use wikigpt_ops::reference::Reference;
use wikigpt_ops::{AdamW, Ops, Rounding, Update};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations that a piece of work makes.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One test alone, as the count is the whole process's.
#[test]
fn no_step_allocates() {
    let config =
        Config { n_layer: 2, n_head: 2, n_embd: 8, context: 8, ..Config::preset("tiny", 13).unwrap() };
    let mut trainer = Trainer::new(Reference::new(), &config, 2, 6).unwrap();
    trainer.set_params(&init(&config, 3).unwrap()).unwrap();
    let tokens: Vec<u32> = (0..12).collect();
    let (starts, weights) = ([0, 0, 2, 2, 2, 2, 0, 1, 1, 1, 4, 4], [0.5; 12]);
    let adamw = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        clip: Some(1.0),
        rounding: Rounding::Nearest,
    };
    let mut step = || {
        let regularize = Regularize { dropout: 0.1, seed: 1 };
        trainer.accumulate(Batch::new(&tokens, &tokens), 0.1, regularize, Update::Set).unwrap();
        trainer.accumulate(Batch::new(&tokens, &tokens), 0.1, regularize, Update::Add).unwrap();
        let packed = Batch { starts: Some(&starts), weights: Some(&weights), ..Batch::new(&tokens, &tokens) };
        trainer.accumulate(packed, 0.1, regularize, Update::Add).unwrap();
        trainer.step(adamw).unwrap();
        trainer.forward(Batch::new(&tokens, &tokens)).unwrap();
        trainer.losses().unwrap();
    };
    assert_eq!(allocations(&mut step), 0);

    let mut generator = trainer.generator(3).unwrap();
    assert_ne!(allocations(|| drop(vec![0_u8; 9])), 0);
    assert_eq!(allocations(|| come_and_go(&mut generator)), 0);

    // A backend that keeps scratch has all that it needs once the longest prompt and a step of all slots have been.
    let mut generator = Generator::new(cpu(1).unwrap(), &config, &init(&config, 3).unwrap(), 3).unwrap();
    (0..3).for_each(|slot| generator.prefill(slot, &tokens[..8]).unwrap());
    generator.step(&[(0, 1), (1, 1), (2, 1)]).unwrap();
    assert_eq!(allocations(|| come_and_go(&mut generator)), 0);

    // And once a text has been penalized.
    let sampling =
        Sampling { temperature: 0.9, top_k: Some(9), top_p: Some(0.9), repetition_penalty: 1.2, seed: 1 };
    let mut sampler = Sampler::new(sampling).unwrap();
    generator.draw(1, &mut sampler).unwrap();
    let draws = || {
        for slot in [0, 2] {
            generator.prefill(slot, &tokens[..3]).unwrap();
            let token = generator.draw(slot, &mut sampler).unwrap();
            generator.step(&[(slot, token)]).unwrap();
            generator.draw(slot, &mut sampler).unwrap();
        }
    };
    assert_eq!(allocations(draws), 0);
}

/// Sequences begin, go on beyond the context, split and leave, by themselves and together.
fn come_and_go<O: Ops>(generator: &mut Generator<O>) {
    let prompt = [1, 2, 3, 4, 5, 6, 7, 8];
    generator.prefill(0, &prompt[..2]).unwrap();
    (0..9).for_each(|_| generator.step(&[(0, 1)]).unwrap());
    generator.prefill(2, &prompt[..5]).unwrap();
    (0..9).for_each(|_| generator.step(&[(2, 3), (0, 2)]).unwrap());
    generator.fork(2, 1).unwrap();
    (0..9).for_each(|_| generator.step(&[(1, 3), (0, 2), (2, 4)]).unwrap());
    generator.prefill(0, &prompt).unwrap();
    generator.step(&[(1, 4)]).unwrap();
}
