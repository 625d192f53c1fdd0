//! Generation over the cache against the whole model run anew for every token.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_cpu::cpu;
use wikigpt_gpt::{Config, Evaluator, Generator, Sampler, Sampling, Trainer, init};
use wikigpt_ops::Ops;
use wikigpt_ops::reference::Reference;

fn config(context: usize) -> Config {
    Config {
        vocab_size: 29,
        context,
        n_layer: 2,
        n_head: 2,
        n_embd: 8,
        bias: true,
        tied: false,
        layernorm_eps: 1e-5,
        labels: Vec::new(),
    }
}

/// Parameters large enough for the likeliest token to change from position to position.
fn params(config: &Config) -> Vec<f32> {
    init(config, 11).unwrap().iter().map(|x| if x.abs() < 0.9 { x * 20.0 } else { *x }).collect()
}

/// The logits after the last of `tokens`, without a cache.
fn uncached(config: &Config, params: &[f32], tokens: &[u32]) -> Vec<f32> {
    let mut model = Evaluator::new(Reference::new(), config, params, 1, tokens.len()).unwrap();
    let logits = model.logits(tokens, None).unwrap();
    logits[(tokens.len() - 1) * config.vocab_size..].to_vec()
}

/// What the model sees of a text: all of it, until the context is full; then the newer half, and so on.
fn window(context: usize, prompt: usize, text: &[u32]) -> &[u32] {
    let mut length = prompt;
    for _ in prompt..text.len() {
        length = if length == context { (context / 2).max(1) } else { length + 1 };
    }
    &text[text.len() - length..]
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32
}

fn greedy() -> Sampler {
    Sampler::new(Sampling::GREEDY).unwrap()
}

#[test]
fn the_cache_changes_nothing_for_three_contexts() {
    for (context, prompt) in [(8, 3), (9, 9), (1, 1), (2, 1)] {
        let config = config(context);
        let params = params(&config);
        let mut generator = Generator::new(Reference::new(), &config, &params, 1).unwrap();
        let mut text: Vec<u32> = (0..prompt as u32).collect();
        generator.prefill(0, &text).unwrap();
        for _ in 0..3 * context {
            let seen = window(context, prompt, &text);
            assert_eq!(generator.window(0), seen.len());
            let expected = uncached(&config, &params, seen);
            for (a, b) in generator.logits(0).unwrap().iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{a} and {b} after {text:?}");
            }
            let token = generator.draw(0, &mut greedy()).unwrap();
            assert_eq!(token, argmax(&expected));
            text.push(token);
            generator.step(&[(0, token)]).unwrap();
        }
        if context > 2 {
            let written: std::collections::BTreeSet<_> = text[prompt..].iter().collect();
            assert!(written.len() > 3, "a text of one token proves nothing: {text:?}");
        }
    }
}

/// What a sequence is alone: the tokens that it writes after its prompt, and the logits before each.
fn alone<O: Ops + 'static>(
    ops: O,
    config: &Config,
    params: &[f32],
    prompt: &[u32],
    len: usize,
) -> Vec<(u32, Vec<f32>)> {
    let mut generator = Generator::new(ops, config, params, 1).unwrap();
    generator.prefill(0, prompt).unwrap();
    let mut written = Vec::new();
    for _ in 0..len {
        let logits = generator.logits(0).unwrap().to_vec();
        let token = generator.draw(0, &mut greedy()).unwrap();
        assert_eq!(token, argmax(&logits));
        written.push((token, logits));
        generator.step(&[(0, token)]).unwrap();
    }
    written
}

/// Sequences of different lengths in slots: each begins at its own step, in the slot that is free then, and leaves when it is as
/// long as it is to be. Every one of them writes what it writes alone.
fn in_company<O: Ops + 'static>(make: impl Fn() -> O, config: &Config, tolerance: f32) {
    const SLOTS: usize = 3;
    let params = params(config);
    // Prompts, at what step they come, and how many tokens they are to write; some outgrow the context.
    let requests: [(&[u32], usize, usize); 7] = [
        (&[1, 2, 3, 4], 0, 9),
        (&[5], 0, 3),
        (&[6, 7, 8, 9, 10, 11], 2, 14),
        (&[12, 13], 4, 1),
        (&[1, 2, 3, 4], 5, 6),
        (&[28, 0, 28], 9, 20),
        (&[20, 21, 22, 23, 24], 9, 2),
    ];
    let expected: Vec<_> =
        requests.iter().map(|(prompt, _, len)| alone(make(), config, &params, prompt, *len)).collect();
    let mut generator = Generator::new(make(), config, &params, SLOTS).unwrap();
    // Which request each slot has, and how many tokens it has written.
    let mut busy: [Option<(usize, usize)>; SLOTS] = [None; SLOTS];
    let (mut waiting, mut done, mut most) = (0, 0, 0);
    // What a slot of the last pass would write next.
    let check = |generator: &mut Generator<O>, slot: usize, (request, written): (usize, usize)| {
        let (token, logits) = &expected[request][written];
        for (got, want) in generator.logits(slot).unwrap().iter().zip(logits) {
            assert!((got - want).abs() <= tolerance, "request {request}, token {written}: {got} and {want}");
        }
        assert_eq!(
            generator.draw(slot, &mut greedy()).unwrap(),
            *token,
            "request {request}, token {written}"
        );
    };
    let mut stepped = Vec::new();
    for step in 0..100 {
        for slot in stepped {
            check(&mut generator, slot, busy[slot].unwrap());
        }
        while waiting < requests.len() && requests[waiting].1 <= step {
            let Some(slot) = busy.iter().rposition(Option::is_none) else { break };
            generator.prefill(slot, requests[waiting].0).unwrap();
            busy[slot] = Some((waiting, 0));
            check(&mut generator, slot, (waiting, 0));
            waiting += 1;
        }
        let mut next = Vec::new();
        for (slot, held) in busy.iter_mut().enumerate() {
            let Some((request, written)) = held else { continue };
            let token = &expected[*request][*written].0;
            *written += 1;
            if *written == requests[*request].2 {
                (*held, done) = (None, done + 1);
            } else {
                next.push((slot, *token));
            }
        }
        most = most.max(next.len());
        // Now and then in another order.
        if step % 2 == 1 {
            next.reverse();
        }
        generator.step(&next).unwrap();
        stepped = next.iter().map(|(slot, _)| *slot).collect();
    }
    assert_eq!((done, most), (requests.len(), SLOTS));
}

#[test]
fn sequences_come_and_go_as_if_alone() {
    in_company(Reference::new, &config(8), 0.0);
}

/// The CPU multiplies one row in another order than several.
#[test]
fn sequences_come_and_go_as_if_alone_on_the_cpu() {
    in_company(|| cpu(2).unwrap(), &config(8), 1e-3);
}

#[test]
fn a_fork_goes_its_own_way() {
    let config = config(8);
    let params = params(&config);
    let mut generator = Generator::new(Reference::new(), &config, &params, 3).unwrap();
    generator.prefill(2, &[3, 4, 5, 17, 18]).unwrap();
    generator.step(&[(2, 6)]).unwrap();
    generator.prefill(0, &[1; 7]).unwrap();
    generator.fork(2, 0).unwrap();
    assert_eq!(generator.window(0), 6);
    let error = generator.logits(2).unwrap_err().to_string();
    assert!(error.contains("the last prompt or step was not slot 2's"), "{error}");
    generator.fork(2, 2).unwrap();
    // Beyond the context, where tokens from before the fork are computed anew.
    let texts = [[7, 8, 9, 10, 11, 12], [9, 9, 1, 2, 20, 21]];
    let mut single = Generator::new(Reference::new(), &config, &params, 1).unwrap();
    for step in 0..6 {
        generator.step(&[(0, texts[0][step]), (2, texts[1][step])]).unwrap();
        for (slot, text) in [(0, texts[0]), (2, texts[1])] {
            single.prefill(0, &[3, 4, 5, 17, 18]).unwrap();
            single.step(&[(0, 6)]).unwrap();
            text[..=step].iter().for_each(|token| single.step(&[(0, *token)]).unwrap());
            assert_eq!(
                generator.logits(slot).unwrap(),
                single.logits(0).unwrap(),
                "slot {slot} after {step}"
            );
        }
    }
}

/// A prompt longer than the pieces it goes through the model in.
#[test]
fn a_long_prompt_is_computed_in_pieces() {
    let config = config(300);
    let params = params(&config);
    let prompt: Vec<u32> = (0..290_u32).map(|i| i * i % 29).collect();
    let mut generator = Generator::new(Reference::new(), &config, &params, 1).unwrap();
    generator.prefill(0, &prompt).unwrap();
    for (a, b) in generator.logits(0).unwrap().iter().zip(uncached(&config, &params, &prompt)) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

/// A prompt that comes in pieces, with steps of another sequence in between, against the same in one: both write the same, and what
/// stands beside it too.
fn piece_by_piece<O: Ops + 'static>(make: impl Fn() -> O, tolerance: f32) {
    let config = config(150);
    let params = params(&config);
    let prompt: Vec<u32> = (0..145_u32).map(|i| i * i % 29).collect();
    // Some outgrow the context.
    let expected = alone(make(), &config, &params, &prompt, 12);
    let beside = alone(make(), &config, &params, &[7, 8, 9], 40);
    let close = |got: &[f32], want: &[f32], what: &str| {
        let differs = got.iter().zip(want).find(|(got, want)| (*got - *want).abs() > tolerance);
        assert_eq!(differs, None, "{what}");
    };
    for pieces in [&[64, 64, 17][..], &[1, 144], &[128, 17], &[130, 15], &[3, 140, 1, 1], &[29; 5]] {
        let mut generator = Generator::new(make(), &config, &params, 2).unwrap();
        generator.prefill(0, &[7, 8, 9]).unwrap();
        // What was in the slot before is forgotten.
        generator.prefill(1, &[5; 150]).unwrap();
        let mut other = beside.iter();
        let mut step = |generator: &mut Generator<O>, next: &[(usize, u32)]| {
            let (token, _) = other.next().unwrap();
            generator.step(&[&[(0, *token)], next].concat()).unwrap();
            let (_, logits) = other.as_slice().first().unwrap();
            close(generator.logits(0).unwrap(), logits, "what stands beside");
        };
        let mut read = 0;
        for piece in pieces {
            let tokens = &prompt[read..read + piece];
            if read == 0 {
                generator.prefill(1, tokens).unwrap();
            } else {
                generator.extend(1, tokens).unwrap();
            }
            read += piece;
            assert_eq!(generator.window(1), read);
            assert_eq!(generator.attention(1).unwrap().len(), read);
            if read < prompt.len() {
                step(&mut generator, &[]);
            }
        }
        assert_eq!(read, prompt.len());
        for (token, logits) in &expected {
            close(generator.logits(1).unwrap(), logits, &format!("{pieces:?}"));
            assert_eq!(generator.draw(1, &mut greedy()).unwrap(), *token, "{pieces:?}");
            step(&mut generator, &[(1, *token)]);
        }
    }
}

#[test]
fn a_prompt_may_come_in_pieces() {
    piece_by_piece(Reference::new, 0.0);
}

#[test]
fn a_prompt_may_come_in_pieces_on_the_cpu() {
    piece_by_piece(|| cpu(2).unwrap(), 1e-3);
}

#[test]
fn a_trainer_lends_its_parameters() {
    let config = config(8);
    let params = params(&config);
    let mut trainer = Trainer::new(Reference::new(), &config, 1, 4).unwrap();
    trainer.set_params(&params).unwrap();
    let mut own = Generator::new(Reference::new(), &config, &params, 1).unwrap();
    own.prefill(0, &[4, 5]).unwrap();
    for _ in 0..2 {
        let mut lent = trainer.generator(1).unwrap();
        lent.prefill(0, &[4, 5]).unwrap();
        assert_eq!(lent.logits(0).unwrap(), own.logits(0).unwrap());
    }
    assert_eq!(trainer.params().unwrap(), params);
}

#[test]
fn bad_prompts_are_one_clear_sentence() {
    let config = config(8);
    let mut generator = Generator::new(Reference::new(), &config, &params(&config), 2).unwrap();
    let errors = [
        (generator.step(&[(0, 1)]), "in slot 0: prefill comes first"),
        (generator.fork(1, 0), "in slot 1: prefill comes first"),
        (generator.extend(1, &[1]), "in slot 1: prefill comes first"),
        (generator.prefill(0, &[]), "a prompt needs at least one token"),
        (generator.prefill(2, &[1]), "there is no slot 2: there are 2 (0 to 1)"),
        (generator.prefill(0, &[0; 9]), "a prompt of 9 tokens is longer than the model's context of 8"),
        (generator.prefill(0, &[1, 29]), "token 29 is not in the model's vocabulary of 29 tokens"),
    ];
    for (result, expected) in errors {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    generator.prefill(0, &[1, 2]).unwrap();
    let logits = generator.logits(0).unwrap().to_vec();
    let errors: [(&[(usize, u32)], &str); 4] = [
        (&[(0, 3), (1, 3)], "in slot 1: prefill comes first"),
        (&[(0, 3), (0, 4)], "slot 0 is named twice in a step"),
        (&[(0, 3), (2, 4)], "there is no slot 2"),
        (&[(0, 29)], "token 29 is not in the model's vocabulary"),
    ];
    for (next, expected) in errors {
        let message = generator.step(next).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let errors: [(usize, &[u32], &str); 4] = [
        (2, &[1], "there is no slot 2"),
        (0, &[], "at least one token"),
        (0, &[0; 7], "a prompt of 9 tokens is longer than the model's context of 8"),
        (0, &[29], "token 29 is not in the model's vocabulary"),
    ];
    for (slot, tokens, expected) in errors {
        let message = generator.extend(slot, tokens).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // Nothing has changed.
    generator.step(&[]).unwrap();
    assert_eq!((generator.window(0), generator.logits(0).unwrap()), (2, &logits[..]));
    for slot in [1, 7] {
        let error = generator.draw(slot, &mut greedy()).unwrap_err().to_string();
        assert_eq!(error, format!("the last prompt or step was not slot {slot}'s"));
    }
    let error = Generator::new(Reference::new(), &config, &[0.0], 1).err().unwrap().to_string();
    assert!(error.contains("the parameters must hold"), "{error}");
}

/// The rule on the host: what `draw` has to find on the backend, whatever it has there of the texts.
fn penalized(logits: &[f32], text: &[u32], penalty: f32) -> u32 {
    let mut logits = logits.to_vec();
    for token in text.iter().collect::<std::collections::BTreeSet<_>>() {
        let x = &mut logits[*token as usize];
        *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
    }
    argmax(&logits)
}

/// Tokens count as held that are given: prompts, drawn tokens, others than were drawn, those drawn and not given not; beyond the context,
/// in forks, and in slots that are used again.
#[test]
fn the_penalty_is_for_what_a_text_holds() {
    let config = config(8);
    let mut generator = Generator::new(Reference::new(), &config, &params(&config), 3).unwrap();
    let penal =
        |penalty: f64| Sampler::new(Sampling { repetition_penalty: penalty, ..Sampling::GREEDY }).unwrap();
    let mut texts: [Vec<u32>; 3] = [vec![3, 4, 5, 3], vec![7], vec![1, 2]];
    let mut changed = 0;
    let mut check = |generator: &mut Generator<Reference>, slot: usize, text: &[u32]| {
        let logits = generator.logits(slot).unwrap().to_vec();
        let expected = penalized(&logits, text, 3.0);
        changed += usize::from(expected != argmax(&logits));
        assert_eq!(generator.draw(slot, &mut penal(3.0)).unwrap(), expected, "slot {slot}: {text:?}");
        expected
    };
    for (slot, text) in texts.iter().enumerate() {
        generator.prefill(slot, text).unwrap();
        check(&mut generator, slot, text);
        check(&mut generator, slot, text);
    }
    let mut next: Vec<(usize, u32)> = vec![(2, 9), (0, 10), (1, 11)];
    for step in 0..14 {
        generator.step(&next).unwrap();
        next.iter().for_each(|(slot, token)| texts[*slot].push(*token));
        // With and without a penalty in one draw; the plain ones leave nothing behind.
        let (mut plain, mut penalty) = (greedy(), penal(3.0));
        let mut samplers = [(0, &mut penalty), (1, &mut plain)];
        let drawn = generator.draw_each(&mut samplers).unwrap();
        assert_eq!(*drawn[1].as_ref().unwrap(), argmax(generator.logits(1).unwrap()));
        let mut tokens: Vec<u32> = (0..3).map(|slot| check(&mut generator, slot, &texts[slot])).collect();
        assert_eq!(*drawn[0].as_ref().unwrap(), tokens[0]);
        if step % 4 == 3 {
            tokens[step % 3] = step as u32;
        }
        next = [1, 2, 0].into_iter().map(|slot| (slot, tokens[slot])).collect();
        if step == 6 {
            generator.fork(1, 0).unwrap();
            texts[0] = texts[1].clone();
        }
        if step == 9 {
            texts[2] = vec![20, 21];
            generator.prefill(2, &texts[2]).unwrap();
            check(&mut generator, 2, &[20, 21]);
        }
    }
    assert!(changed > 10, "{changed}: a penalty that changes nothing proves nothing");
}

/// Draws that were not gone on with, of all kinds in one pass, penalize nothing that comes after them.
#[test]
fn a_pass_may_be_drawn_from_again() {
    let config = config(8);
    let mut generator = Generator::new(Reference::new(), &config, &params(&config), 2).unwrap();
    let sampling = Sampling { repetition_penalty: 3.0, ..Sampling::GREEDY };
    let penal = || Sampler::new(sampling).unwrap();
    let mut any = Sampler::new(Sampling { temperature: 50.0, ..sampling }).unwrap();
    let (mut told, mut stale) = (0, 0);
    for token in 0..290 {
        let mut text = vec![token % 29];
        for slot in 0..2 {
            generator.prefill(slot, &text).unwrap();
        }
        generator.step(&[(0, 5), (1, 6)]).unwrap();
        text.push(6);
        let logits = generator.logits(1).unwrap().to_vec();
        let (first, plain) = (penalized(&logits, &text, 3.0), argmax(&logits));
        told += usize::from(penalized(&logits, &[&text[..], &[first]].concat(), 3.0) != first);
        assert_eq!(generator.draw(1, &mut penal()).unwrap(), first);
        assert_eq!(generator.draw(1, &mut greedy()).unwrap(), plain);
        assert_eq!(generator.draw(1, &mut penal()).unwrap(), first, "after a draw without a penalty");
        // The other slot's draw is of the plain token here, which is the one that is gone on with.
        let other = generator.draw(1, &mut any).unwrap();
        generator.draw(0, &mut penal()).unwrap();
        generator.step(&[(0, 5), (1, plain)]).unwrap();
        text.push(plain);
        let logits = generator.logits(1).unwrap().to_vec();
        let second = penalized(&logits, &text, 3.0);
        stale += usize::from(penalized(&logits, &[&text[..], &[other]].concat(), 3.0) != second);
        assert_eq!(generator.draw(1, &mut penal()).unwrap(), second, "after another slot's draw");
    }
    assert!(told > 0 && stale > 0, "{told} and {stale}: texts that tell nothing");
}

#[test]
fn logits_that_nothing_can_be_drawn_from_are_named() {
    let config = config(8);
    for (wrong, sentence) in [
        (f32::NAN, "the logit of token 3 is NaN: the model's weights are damaged or diverged"),
        (f32::INFINITY, "is inf: the model's weights are damaged or diverged"),
        (f32::NEG_INFINITY, "there is no token to draw: no logit is finite"),
    ] {
        let mut params = params(&config);
        // The final norm gives its bias alone: 1 in the first channel, so that a token's logit is its head's first weight.
        let layout = wikigpt_gpt::Layout::new(&config).unwrap();
        params[layout.ln_f.weight.clone()].fill(0.0);
        let bias = layout.ln_f.bias.clone().unwrap();
        params[bias.clone()].fill(0.0);
        params[bias.start] = 1.0;
        let head = layout.head.clone().unwrap();
        let tokens = if wrong == f32::NEG_INFINITY { 0..29 } else { 3..4 };
        for token in tokens {
            params[head.start + token * config.n_embd] = wrong;
        }
        let mut generator = Generator::new(Reference::new(), &config, &params, 1).unwrap();
        generator.prefill(0, &[1, 2]).unwrap();
        let error = generator.draw(0, &mut greedy()).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
}
