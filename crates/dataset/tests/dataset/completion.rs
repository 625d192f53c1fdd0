//! Prompts and completions: from files to tokens.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wikigpt_dataset::completion::{
    self, Encoder, Example, Examples, Keep, Layout, Sequence, Shortened, Template,
};
use wikigpt_dataset::{Split, Tokenizer, TokenizerSpec};

fn write(folder: &Path, name: &str, contents: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    path
}

/// What a file of the given name holds; its error as a sentence.
fn read(name: &str, contents: &str) -> Result<Examples, String> {
    let folder = tempfile::tempdir().unwrap();
    let files = [write(folder.path(), name, contents)];
    let layout = Layout::of(&files).expect("the name tells the layout");
    completion::read(&files, layout, Split::Train).map_err(|error| error.to_string())
}

fn pairs(examples: &Examples) -> Vec<(&str, &str)> {
    examples.list.iter().map(|example| (&*example.prompt, &*example.completion)).collect()
}

#[test]
fn json_lines() {
    let text = "{\"prompt\": \"1 + 1 =\", \"completion\": \"2\", \"note\": 3}\n\n\
                {\"completion\": \"Grün\", \"prompt\": \"green\", \"references\": [\"Grün\", \"grün\"]}\r\n";
    let examples = read("a.jsonl", text).unwrap();
    assert_eq!(pairs(&examples), [("1 + 1 =", "2"), ("green", "Grün")]);
    assert_eq!(examples.list[0].references, ["2"]);
    assert_eq!(examples.list[1].references, ["Grün", "grün"]);

    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let cases = [
        ("{\"prompt\": \"a\"}", "line 2: missing field `completion`"),
        ("{\"prompt\": 1, \"completion\": \"b\"}", "line 2: invalid type"),
        ("{\"prompt\": \"a\", \"completion\": \" \"}", "line 2: an empty completion"),
        ("{\"prompt\": \"\", \"completion\": \"b\"}", "line 2: an empty prompt"),
        ("a\tb", "line 2: expected value"),
        ("{\"prompt\": \"a", "line 2: EOF while parsing a string"),
    ];
    for (line, expected) in cases {
        let error = read("a.jsonl", &format!("{good}{line}\n")).unwrap_err();
        assert!(error.contains("a.jsonl: ") && error.contains(expected), "{line}: {error}");
        assert!(!error.contains("at line 1"), "{error}");
    }
    assert!(read("a.jsonl", "\n \n").unwrap_err().contains("no example"));
}

#[test]
fn two_files_belong_together_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let read = |left: &str, right: &str| {
        let files = [write(folder.path(), "a.en", left), write(folder.path(), "a.de", right)];
        assert_eq!(Layout::of(&files), Some(Layout::Parallel));
        completion::read(&files, Layout::Parallel, Split::Train).map_err(|error| error.to_string())
    };
    assert_eq!(
        pairs(&read("a cat\na dog\n", "eine Katze\r\nein Hund").unwrap()),
        [("a cat", "eine Katze"), ("a dog", "ein Hund")]
    );
    let error = read("a\nb\nc\n", "a\nb\n").unwrap_err();
    assert!(error.contains("a.en: 3 lines") && error.contains("a.de has 2"), "{error}");
    let error = read("a\nb\n", "a\n\n").unwrap_err();
    assert!(error.contains("a.de: line 2: an empty completion"), "{error}");
    let error = read("\nb\n", "a\nb\n").unwrap_err();
    assert!(error.contains("a.en: line 1: an empty prompt"), "{error}");
    assert!(read("", "").unwrap_err().contains("no example"));

    let one = [write(folder.path(), "one", "")];
    assert_eq!(Layout::of(&one), None);
    let error = completion::read(&one, Layout::Parallel, Split::Train).unwrap_err().to_string();
    assert!(error.contains("1 files") && error.contains("takes 2"), "{error}");
}

const QUESTIONS: &str = r#"{"version": "v2.0", "data": [
    {"title": "Lakes", "paragraphs": [{"context": " Lake Mere is deep. ", "qas": [
        {"id": "1", "question": "What is deep? ", "answers": [{"text": "Lake Mere", "answer_start": 1},
            {"text": "Lake Mere", "answer_start": 1}, {"text": "Mere", "answer_start": 6}]},
        {"id": "2", "question": "What is shallow?", "answers": [], "is_impossible": true}]}]},
    {"paragraphs": [{"context": "Tern Hill is high.", "qas": [
        {"id": "3", "question": "What is high?", "answers": [{"text": "Tern Hill", "answer_start": 0}]}]}]}]}"#;

#[test]
fn squad() {
    let examples = read("squad.json", QUESTIONS).unwrap();
    assert_eq!(examples.left_out, Some((1, "questions without an answer")));
    assert_eq!(
        pairs(&examples),
        [
            ("Lake Mere is deep.\nQuestion: What is deep?", "Lake Mere"),
            ("Tern Hill is high.\nQuestion: What is high?", "Tern Hill"),
        ]
    );
    assert_eq!(examples.list[0].references, ["Lake Mere", "Mere"]);
    let groups: Vec<_> = examples.list.iter().map(|example| example.group.as_deref().unwrap()).collect();
    assert_eq!(groups, ["Lakes", "article 2"]);
    let error = read("squad.json", "{\"data\": [{}]}").unwrap_err();
    assert!(error.contains("not in the layout of SQuAD: missing field `paragraphs` at line 1"), "{error}");
    let none = r#"{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}"#;
    assert!(read("squad.json", none).unwrap_err().contains("1 were left out (questions without an answer)"));
}

#[test]
fn titles_of_articles() {
    let text = " \n = River Dove = \n \n It is a river . \n \n = = Course = = \n \n It is long . \n \n = Empty = \n \n = Ely = \n \n A city . \n";
    let examples = read("wiki.train.tokens", text).unwrap();
    assert_eq!(pairs(&examples), [("It is a river . It is long .", "River Dove"), ("A city .", "Ely")]);
    assert_eq!(examples.left_out, Some((1, "articles without text")));
    assert!(read("wiki.train.tokens", "no titles\n").unwrap_err().contains("no example"));
}

#[test]
fn groups_are_held_out_whole() {
    let example = |number: usize| Example {
        prompt: number.to_string(),
        group: Some(format!("group {}", number % 5)),
        ..Example::default()
    };
    let all: Vec<Example> = (0..50).map(example).collect();
    let mut chosen = Vec::new();
    for seed in 0..20 {
        let (train, valid) = completion::hold_out(all.clone(), 0.2, seed);
        assert_eq!((train.len(), valid.len()), (40, 10));
        assert!(valid.iter().all(|example| example.group == valid[0].group));
        assert_eq!(completion::hold_out(all.clone(), 0.2, seed), (train, valid.clone()), "a seed repeats");
        if !chosen.contains(&valid[0].group) {
            chosen.push(valid[0].group.clone());
        }
    }
    assert!(chosen.len() > 2, "seeds differ: {chosen:?}");
    let single = |share| {
        let alone: Vec<Example> =
            all.iter().map(|example| Example { group: None, ..example.clone() }).collect();
        completion::hold_out(alone, share, 1).1.len()
    };
    assert_eq!([0.0, 0.001, 0.3, 1.0].map(single), [0, 1, 15, 49]);
}

fn bytes() -> Tokenizer {
    Tokenizer::build(&TokenizerSpec::Bytes, "").unwrap()
}

fn template(written: &str) -> Template {
    written.parse().unwrap()
}

#[test]
fn templates() {
    let parts = |written: &str| {
        let template = template(written);
        [template.before(), template.between(), template.lead()].map(str::to_owned)
    };
    assert_eq!(parts("translate"), ["", "\nTranslation:", " "]);
    assert_eq!(parts("Q: {prompt}\\nA:  {completion}"), ["Q: ", "\nA:", "  "]);
    assert_eq!(parts("{prompt} = "), ["", " =", " "]);
    assert_eq!(parts("{prompt}"), ["", "", ""]);
    for name in Template::names() {
        assert_eq!(template(name).to_string(), name);
    }
    let wrong = [
        ("translat", "no {prompt}"),
        ("{prompt} {completion}.", "ends the text"),
        ("{completion} {prompt}", "once, in this order"),
        ("{prompt} {prompt}", "once, in this order"),
    ];
    for (written, expected) in wrong {
        let error = written.parse::<Template>().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("summarise"), "{error}");
    }
}

/// The text of an example's prompt and completion, as a model of a context sees them.
fn encoded(
    template: &Template,
    keep: Keep,
    prompt: &str,
    completion: &str,
    context: usize,
) -> ([String; 2], Shortened) {
    let tokenizer = bytes();
    let mut encoder = Encoder::new(&tokenizer, template, keep).unwrap();
    let example = Example { prompt: prompt.into(), completion: completion.into(), ..Example::default() };
    let (sequence, whole) = encoder.example(&example, context).unwrap();
    assert!(sequence.positions() <= context);
    assert_eq!(whole, encoder.shortened == Shortened::default());
    let text = |ids: &[u32]| String::from_utf8(tokenizer.decode(ids)).unwrap();
    let Sequence { tokens, prompt } = sequence;
    ([text(&tokens[..prompt]), text(&tokens[prompt..])], encoder.shortened)
}

#[test]
fn what_is_too_long_loses_its_prompts_beginning_first() {
    let template = template("<{prompt}> {completion}");
    let parts = |keep, context| {
        let (parts, shortened) = encoded(&template, keep, "abcdef", "xyz", context);
        (parts, (shortened.prompts, shortened.completions))
    };
    let [end, start] = [Keep::End, Keep::Start];
    let text = |prompt: &str, completion: &str| [prompt.to_owned(), completion.to_owned()];
    assert_eq!(parts(end, 99), (text("<abcdef>", " xyz\n"), (0, 0)));
    // 8 and 5 tokens: 12 positions.
    assert_eq!(parts(end, 12), (text("<abcdef>", " xyz\n"), (0, 0)));
    assert_eq!(parts(end, 11), (text("<bcdef>", " xyz\n"), (1, 0)));
    assert_eq!(parts(start, 11), (text("<abcde>", " xyz\n"), (1, 0)));
    assert_eq!(parts(end, 7), (text("<f>", " xyz\n"), (1, 0)));
    assert_eq!(parts(end, 6), (text("<f>", " xyz"), (1, 1)), "the end of text is lost first");
    assert_eq!(parts(end, 3), (text("<f>", " "), (1, 1)));

    let tokenizer = bytes();
    let mut encoder = Encoder::new(&tokenizer, &template, end).unwrap();
    let example = Example { prompt: "abc".into(), completion: "x".into(), ..Example::default() };
    let error = encoder.example(&example, 2).unwrap_err().to_string();
    assert!(error.contains("leaves no room"), "{error}");
    assert_eq!(encoder.prompt("abc", 4).unwrap(), b"<bc>".map(u32::from));
    assert!(encoder.prompt("abc", 2).unwrap_err().to_string().contains("leaves no room"));
}

#[test]
fn a_completion_ends_in_the_end_of_text() {
    let text = "the cat sat on the mat and the cat ate ".repeat(20);
    let tokenizer = Tokenizer::build(&TokenizerSpec::Bpe(265), &text).unwrap();
    let template = template("{prompt}:");
    let mut encoder = Encoder::new(&tokenizer, &template, Keep::End).unwrap();
    let example = Example { prompt: "the cat".into(), completion: "the mat".into(), ..Example::default() };
    let (sequence, whole) = encoder.example(&example, 100).unwrap();
    assert!(whole);
    assert_eq!(sequence.tokens.last(), Some(&tokenizer.end_of_text().unwrap()));
    assert_eq!(encoder.end(), tokenizer.end_of_text().unwrap());
    // What is generated from begins as what is learned from.
    assert_eq!(encoder.prompt("the cat", 100).unwrap(), sequence.tokens[..sequence.prompt]);
}

proptest! {
    #[test]
    fn a_sequence_never_is_too_long_and_always_learns_something(
        prompt in "\\PC{1,30}", completion in "\\PC{1,30}", context in 3..60_usize, keep_start: bool
    ) {
        let keep = if keep_start { Keep::Start } else { Keep::End };
        let tokenizer = bytes();
        let template = template("<{prompt}>");
        let mut encoder = Encoder::new(&tokenizer, &template, keep).unwrap();
        let example = Example { prompt, completion, ..Example::default() };
        let (sequence, whole) = encoder.example(&example, context).unwrap();
        prop_assert!(sequence.positions() <= context);
        prop_assert!((1..sequence.tokens.len()).contains(&sequence.prompt));
        let all = example.prompt.len() + example.completion.len() + 3;
        prop_assert_eq!(whole, all <= context + 1);
        prop_assert_eq!(sequence.tokens.len(), all.min(context + 1));
    }

    #[test]
    fn no_file_makes_it_panic(text in "\\PC{0,80}|(\\{\"prompt\": \"a\", \"completion\": \"b\"\\}\n){0,3}[ -~]{0,40}") {
        for name in ["a.jsonl", "a.json", "a.tokens"] {
            let _ = read(name, &text);
        }
    }
}
