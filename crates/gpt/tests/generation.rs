//! Generation over the cache against the whole model run anew for every token.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use wikigpt_gpt::{Config, Evaluator, Generator, Sampler, Sampling, Trainer, init};
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

fn argmax(logits: &[f32]) -> u32 {
    Sampler::new(Sampling::GREEDY).unwrap().sample(logits).unwrap()
}

#[test]
fn the_cache_changes_nothing_for_three_contexts() {
    for (context, prompt) in [(8, 3), (9, 9), (1, 1), (2, 1)] {
        let config = config(context);
        let params = params(&config);
        let mut generator = Generator::new(Reference::new(), &config, &params, 1).unwrap();
        let mut text: Vec<u32> = (0..prompt as u32).collect();
        generator.prefill(&text).unwrap();
        for _ in 0..3 * context {
            let seen = window(context, prompt, &text);
            assert_eq!(generator.window(), seen.len());
            let expected = uncached(&config, &params, seen);
            for (a, b) in generator.logits().iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{a} and {b} after {text:?}");
            }
            let token = argmax(generator.logits());
            assert_eq!(token, argmax(&expected));
            text.push(token);
            generator.step(&[token]).unwrap();
        }
        if context > 2 {
            let written: std::collections::BTreeSet<_> = text[prompt..].iter().collect();
            assert!(written.len() > 3, "a text of one token proves nothing: {text:?}");
        }
    }
}

#[test]
fn rows_of_a_batch_do_not_see_each_other() {
    let config = config(6);
    let params = params(&config);
    let prompts = [[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]];
    let mut batch = Generator::new(Reference::new(), &config, &params, 3).unwrap();
    batch.prefill(prompts.as_flattened()).unwrap();
    let mut singles = prompts.map(|prompt| {
        let mut single = Generator::new(Reference::new(), &config, &params, 1).unwrap();
        single.prefill(&prompt).unwrap();
        single
    });
    for step in 0..8 {
        let mut tokens = [0; 3];
        for (row, single) in singles.iter_mut().enumerate() {
            assert_eq!(&batch.logits()[row * 29..][..29], single.logits());
            tokens[row] = (argmax(single.logits()) + row as u32 * step) % 29;
            single.step(&tokens[row..=row]).unwrap();
        }
        batch.step(&tokens).unwrap();
    }
}

/// A prompt longer than the pieces it goes through the model in.
#[test]
fn a_long_prompt_is_computed_in_pieces() {
    let config = config(300);
    let params = params(&config);
    let prompt: Vec<u32> = (0..290_u32).map(|i| i * i % 29).collect();
    let mut generator = Generator::new(Reference::new(), &config, &params, 1).unwrap();
    generator.prefill(&prompt).unwrap();
    for (a, b) in generator.logits().iter().zip(uncached(&config, &params, &prompt)) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn a_trainer_lends_its_parameters() {
    let config = config(8);
    let params = params(&config);
    let mut trainer = Trainer::new(Reference::new(), &config, 1, 4).unwrap();
    trainer.set_params(&params).unwrap();
    let mut own = Generator::new(Reference::new(), &config, &params, 1).unwrap();
    own.prefill(&[4, 5]).unwrap();
    for _ in 0..2 {
        let mut lent = trainer.generator(1).unwrap();
        lent.prefill(&[4, 5]).unwrap();
        assert_eq!(lent.logits(), own.logits());
    }
    assert_eq!(trainer.params().unwrap(), params);
}

#[test]
fn bad_prompts_are_one_clear_sentence() {
    let config = config(8);
    let mut generator = Generator::new(Reference::new(), &config, &params(&config), 2).unwrap();
    let errors = [
        (generator.step(&[1, 2]), "prefill comes first"),
        (generator.prefill(&[]), "0 tokens are not 2 prompts of one length"),
        (generator.prefill(&[1, 2, 3]), "3 tokens are not 2 prompts of one length"),
        (generator.prefill(&[0; 18]), "a prompt of 9 tokens is longer than the model's context of 8"),
        (generator.prefill(&[1, 29]), "token 29 is not in the model's vocabulary of 29 tokens"),
    ];
    for (result, expected) in errors {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    generator.prefill(&[1, 2]).unwrap();
    let message = generator.step(&[1]).unwrap_err().to_string();
    assert!(message.contains("one token for each of 2 sequences, got 1"), "{message}");
    let error = Generator::new(Reference::new(), &config, &[0.0], 1).err().unwrap().to_string();
    assert!(error.contains("the parameters must hold"), "{error}");
}
