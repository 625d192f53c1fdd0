//! Many texts at once, and beam search, against one text at a time and against all texts there are.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

use std::ops::ControlFlow;

use wikigpt_gpt::{Beam, Config, Evaluator, Found, Generator, Job, Sampler, Sampling, init, write};
use wikigpt_ops::reference::Reference;

fn config(vocab_size: usize) -> Config {
    Config { n_layer: 1, n_head: 2, n_embd: 8, context: 8, ..Config::preset("tiny", vocab_size).unwrap() }
}

/// Parameters large enough for the likeliest token to change from position to position.
fn params(config: &Config) -> Vec<f32> {
    init(config, 11).unwrap().iter().map(|x| if x.abs() < 0.9 { x * 20.0 } else { *x }).collect()
}

fn generator(config: &Config, slots: usize) -> Generator<'static, Reference> {
    Generator::new(Reference::new(), config, &params(config), slots).unwrap()
}

#[test]
fn jobs_write_what_each_writes_alone() {
    let config = config(29);
    let job = |prompt: &[u32], most, seed| Job {
        prompt: prompt.to_vec(),
        sampling: Sampling { temperature: 1.0, repetition_penalty: 1.3, seed, ..Sampling::GREEDY },
        most,
    };
    let jobs = [
        job(&[1, 2, 3], 5, 1),
        job(&[4], 12, 2),
        job(&[5, 6], 0, 3),
        job(&[1, 2, 3], 7, 4),
        job(&[7; 8], 3, 5),
        job(&[9], 1, 6),
    ];
    let alone = |job: &Job| -> Vec<u32> {
        let (mut generator, mut sampler) = (generator(&config, 1), Sampler::new(job.sampling).unwrap());
        generator.prefill(0, &job.prompt).unwrap();
        let draw = |_| {
            let token = generator.draw(0, &mut sampler).unwrap();
            generator.step(&[(0, token)]).unwrap();
            token
        };
        (0..job.most).map(draw).collect()
    };
    let mut expected: Vec<Vec<u32>> = jobs.iter().map(alone).collect();
    // One ends sooner, as who reads it wants.
    expected[1].truncate(4);
    for slots in [1, 2, 3, 9] {
        let mut written = vec![Vec::new(); jobs.len()];
        write(&mut generator(&config, slots), jobs.clone(), |job, token| {
            written[job].push(token);
            if job == 1 && written[job].len() == 4 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
        assert_eq!(written, expected, "{slots} slots");
    }
}

#[test]
fn a_job_that_cannot_be_done_is_refused() {
    let config = config(29);
    let job = Job { prompt: vec![1], sampling: Sampling::GREEDY, most: 2 };
    let refused = [
        (Job { prompt: vec![], ..job.clone() }, "at least one token"),
        (Job { prompt: vec![29], ..job.clone() }, "not in the model's vocabulary"),
        (Job { sampling: Sampling { top_k: Some(0), ..Sampling::GREEDY }, ..job.clone() }, "top-k"),
    ];
    for (job, word) in refused {
        let error = write(&mut generator(&config, 2), [job], |_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// log p of the tokens that follow a prompt, by the whole model.
fn log_probability(config: &Config, prompt: &[u32], tokens: &[u32]) -> f64 {
    let text = [prompt, tokens].concat();
    let mut model = Evaluator::new(Reference::new(), config, &params(config), 1, text.len()).unwrap();
    let logits = model.logits(&text, None).unwrap();
    let rows = logits.chunks_exact(config.vocab_size).skip(prompt.len() - 1);
    let p = |(row, token): (&[f32], &u32)| {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        f64::from(row[*token as usize]) - sum.ln()
    };
    rows.zip(tokens).map(p).sum()
}

/// Every text of up to `most` tokens that ends as a beam lets it end, with its score; the best first.
fn every_text(config: &Config, prompt: &[u32], beam: Beam) -> Vec<Found> {
    let mut all = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(tokens) = open.pop() {
        let ended = tokens.last().copied() == beam.end && beam.end.is_some();
        if ended || tokens.len() == beam.most {
            let log_probability = log_probability(config, prompt, &tokens);
            let score = log_probability / (tokens.len() as f64).powf(beam.length_penalty);
            all.push(Found { tokens, log_probability, score });
            continue;
        }
        open.extend((0..config.vocab_size as u32).map(|token| [&tokens[..], &[token]].concat()));
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all
}

#[track_caller]
fn assert_same(got: &[Found], want: &[Found]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.tokens, want.tokens, "{got:?} and {want:?}");
        assert!((got.log_probability - want.log_probability).abs() < 1e-4, "{got:?} and {want:?}");
        assert!((got.score - want.score).abs() < 1e-4, "{got:?} and {want:?}");
    }
}

#[test]
fn a_beam_as_wide_as_all_texts_finds_the_best_of_all() {
    let config = config(5);
    for length_penalty in [0.0, 1.0, 2.0] {
        for end in [None, Some(2)] {
            // At most 5³ texts run at once.
            let beam = Beam { width: 125, most: 3, end, length_penalty };
            let found = beam.search(&mut generator(&config, 125), &[1, 3]).unwrap();
            assert_same(&found, &every_text(&config, &[1, 3], beam));
        }
    }
}

#[test]
fn a_beam_of_one_is_greedy_and_wider_ones_do_better() {
    let config = config(29);
    let mut likeliest = f64::NEG_INFINITY;
    for width in [1, 2, 4, 8] {
        let beam = Beam { width, most: 6, end: None, length_penalty: 1.0 };
        let found = beam.search(&mut generator(&config, 9), &[4, 5]).unwrap();
        assert_eq!(found.len(), width);
        for found in &found {
            let p = log_probability(&config, &[4, 5], &found.tokens);
            assert!((found.log_probability - p).abs() < 1e-4, "{found:?}: {p}");
        }
        if width == 1 {
            let mut greedy = Vec::new();
            let job = Job { prompt: vec![4, 5], sampling: Sampling::GREEDY, most: 6 };
            write(&mut generator(&config, 1), [job], |_, token| {
                greedy.push(token);
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(found[0].tokens, greedy);
        }
        assert!(found[0].log_probability >= likeliest - 1e-6);
        likeliest = found[0].log_probability;
    }
}

#[test]
fn a_search_that_cannot_be_done_is_refused() {
    let config = config(5);
    let beam = Beam { width: 2, most: 3, end: None, length_penalty: 1.0 };
    let refused = [
        (Beam { width: 0, ..beam }, "at least 1"),
        (Beam { width: 3, ..beam }, "a beam of 3 needs as many slots, and there are 2"),
        (Beam { length_penalty: f64::NAN, ..beam }, "length penalty"),
    ];
    for (beam, word) in refused {
        let error = beam.search(&mut generator(&config, 2), &[1]).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
