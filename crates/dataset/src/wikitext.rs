//! The layout of WikiText (Merity et al. 2016), and how its words are counted.
//!
//! Each line starts and ends with a space; a blank line is one space. ` = Title = ` between blank lines opens an article,
//! ` = = Section = = ` a section.

use std::ops::Range;

/// Whether a line (without its line end) has the form of an article's title.
fn is_title(line: &str) -> bool {
    let inner = line.strip_prefix(" = ").and_then(|rest| rest.strip_suffix(" = "));
    inner.is_some_and(|title| !title.is_empty() && !title.starts_with("= "))
}

/// Where the articles of a text are; `None` if it has no titles. What stands before the first title belongs to the first
/// article, so the articles together are the whole text.
///
/// A title stands between blank lines: paragraphs may look like one (` = Played , W = `).
pub(crate) fn articles(text: &str) -> Option<Vec<Range<usize>>> {
    let mut starts = Vec::new();
    let mut lines = text.split_inclusive('\n').peekable();
    let (mut position, mut blank_before) = (0, true);
    while let Some(line) = lines.next() {
        let blank_after = lines.peek().is_none_or(|next| next.trim().is_empty());
        let bare = line.strip_suffix('\n').unwrap_or(line);
        if blank_before && blank_after && is_title(bare) {
            starts.push(position);
        }
        blank_before = bare.trim().is_empty();
        position += line.len();
    }
    *starts.first_mut()? = 0;
    let ends = starts[1..].iter().copied().chain([text.len()]);
    Some(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
}

/// Words as the literature on WikiText counts them: what white space separates, and one `<eos>` for each line.
///
/// Word perplexity is exp(nats / words) with this denominator, whatever the tokens are.
pub(crate) fn count_words(text: &str) -> u64 {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    (text.split_whitespace().count() + lines) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_start_at_titles_between_blank_lines() {
        let text = " \n = One = \n \n Text . \n = Wins ; L = \n \n = = Section = = \n \n = Played , W = \n More . \n \n = Two = \n \n \n";
        let found = articles(text).unwrap();
        let articles: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(articles.concat(), text);
        assert_eq!(articles.len(), 2);
        assert!(articles[0].starts_with(" \n = One = "), "{articles:?}");
        assert!(articles[1].starts_with(" = Two = "), "{articles:?}");
        assert_eq!(super::articles("no titles\nhere\n"), None);
        assert_eq!(super::articles(""), None);
        assert_eq!(super::articles(" = A = ").unwrap().len(), 1);
    }

    #[test]
    fn titles() {
        for title in [" = A = ", " = Ceratopsia = ", " = A = B = "] {
            assert!(is_title(title), "{title}");
        }
        for other in [" = = A = = ", " = = = A = = = ", "= A =", " = ", " =  = ", " = A =", " A = ", " \n"] {
            assert!(!is_title(other), "{other}");
        }
    }

    #[test]
    fn words_and_line_ends_count() {
        assert_eq!(count_words(" = A = \n \n b  c \n"), 3 + 2 + 3);
        assert_eq!(count_words("no line end"), 3);
        assert_eq!(count_words(""), 0);
    }
}
