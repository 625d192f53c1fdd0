//! WikiText's articles, to which their titles are the shortest summaries.

use std::path::Path;

use super::{Examples, example};
use crate::archive::{WIKITEXT_2, WIKITEXT_103};
use crate::error::Result;
use crate::manifest::Split;
use crate::{text_file, wikitext};

/// Reads a text in WikiText's layout, or a split of the archive. Articles of which nothing but headings is there are left out.
pub fn read(path: &Path, split: Split) -> Result<Examples> {
    let is_archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    let text = if is_archive {
        let large = path.file_name().is_some_and(|name| name.to_string_lossy().contains("103"));
        if large { WIKITEXT_103.read(path, split)? } else { WIKITEXT_2.read(path, split)? }
    } else {
        text_file::read(path)?
    };
    let mut examples = Examples::default();
    let mut left_out = 0;
    for article in wikitext::articles(&text).unwrap_or_default() {
        let (title, body) = title_and_body(&text[article]);
        match example(&body, title) {
            Ok(example) => examples.list.push(example),
            Err(_) => left_out += 1,
        }
    }
    examples.left_out = (left_out > 0).then_some((left_out, "articles without text"));
    Ok(examples)
}

/// An article's title, and its paragraphs without headings, joined by spaces.
fn title_and_body(article: &str) -> (&str, String) {
    let mut title = "";
    let mut body = String::new();
    for line in article.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let heading = line.strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
        match heading {
            Some(heading) if title.is_empty() && !heading.starts_with("= ") => title = heading.trim(),
            Some(_) => {}
            None => {
                if !body.is_empty() {
                    body.push(' ');
                }
                body += line;
            }
        }
    }
    (title, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_no_part_of_an_article() {
        let article = " \n = River Dove = \n \n The Dove is a river . \n \n = = Course = = \n \n It is long . \n = = = Upper = = = \n";
        assert_eq!(title_and_body(article), ("River Dove", "The Dove is a river . It is long .".to_owned()));
        assert_eq!(title_and_body(" = A = \n"), ("A", String::new()));
    }
}
