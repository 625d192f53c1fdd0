//! Text of one split, and where its documents are.

use std::ops::Range;

use crate::wikitext;

/// A split's text, whole, with its documents: WikiText's articles, or whole files.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    documents: Vec<Range<usize>>,
}

impl Text {
    /// Appends a file: its articles if it is in WikiText's layout, else one document.
    pub fn push_file(&mut self, text: String) {
        let start = self.text.len();
        match wikitext::articles(&text) {
            Some(articles) => {
                self.documents.extend(articles.into_iter().map(|a| start + a.start..start + a.end))
            }
            None if text.is_empty() => {}
            None => self.documents.push(start..start + text.len()),
        }
        // A corpus in one file may be large: it is taken, not copied.
        if start == 0 {
            self.text = text;
        } else {
            self.text += &text;
        }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The documents, which together are the whole text.
    pub fn documents(&self) -> impl Iterator<Item = &str> {
        self.documents.iter().map(|range| &self.text[range.clone()])
    }

    /// Words as the literature on WikiText counts them.
    pub fn words(&self) -> u64 {
        wikitext::count_words(&self.text)
    }

    /// Cuts off about `fraction` of the text at its end: between two documents if it has several, else between two lines,
    /// two words or two characters, whichever is there. Neither part is empty unless the fraction or the text asks for it.
    pub fn split(self, fraction: f64) -> (Text, Text) {
        let target = self.text.len() - (self.text.len() as f64 * fraction) as usize;
        if target == self.text.len() && fraction == 0.0 {
            return (self, Text::default());
        }
        let nearest = |places: &mut dyn Iterator<Item = usize>| {
            let inside = places.filter(|at| (1..self.text.len()).contains(at));
            inside.min_by_key(|at| at.abs_diff(target))
        };
        // Files that are not in WikiText's layout are single documents: only articles are kept whole.
        let articles = self.documents.len() > 1 && wikitext::articles(&self.text).is_some();
        let at = articles
            .then(|| nearest(&mut self.documents.iter().map(|document| document.start)))
            .flatten()
            .or_else(|| nearest(&mut self.text.match_indices('\n').map(|(at, _)| at + 1)))
            .or_else(|| nearest(&mut self.text.match_indices(' ').map(|(at, _)| at + 1)))
            .or_else(|| nearest(&mut self.text.char_indices().map(|(at, _)| at)));
        let Some(at) = at else { return (self, Text::default()) };
        let train = self.documents.iter().map(|d| d.start..d.end.min(at)).filter(|d| !d.is_empty()).collect();
        let valid = self
            .documents
            .iter()
            .map(|d| d.start.max(at) - at..d.end.max(at) - at)
            .filter(|d| !d.is_empty())
            .collect();
        let mut text = self.text;
        let rest = text.split_off(at);
        (Text { text, documents: train }, Text { text: rest, documents: valid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, fraction: f64) -> (String, String) {
        let mut whole = Text::default();
        whole.push_file(text.to_owned());
        let (train, valid) = whole.split(fraction);
        assert_eq!(train.documents().collect::<String>(), train.text);
        assert_eq!(valid.documents().collect::<String>(), valid.text);
        assert_eq!(train.text.clone() + &valid.text, text);
        (train.text, valid.text)
    }

    #[test]
    fn the_end_is_held_back_at_the_best_place() {
        let articles = " \n = A = \n \n text \n \n = B = \n \n text \n \n = C = \n \n text \n";
        assert!(parts(articles, 0.4).1.starts_with(" = C = "));
        assert!(parts(articles, 0.01).1.starts_with(" = C = "), "one article at least");
        assert!(parts(articles, 0.99).0.starts_with(" \n = A = "), "one article at least");
        assert_eq!(parts("a\nb\nc\nd\n", 0.5).1, "c\nd\n");
        assert_eq!(parts("one two three four", 0.5).1, "three four");
        assert_eq!(parts("ééé", 0.3).1, "é");
        assert_eq!(parts("é", 0.5).1, "", "nothing to cut");
        assert_eq!(parts("a\nb\n", 0.0).1, "");
        assert_eq!(parts("", 0.5), (String::new(), String::new()));
    }

    #[test]
    fn several_files_are_several_documents() {
        let mut text = Text::default();
        text.push_file("one\n".to_owned());
        text.push_file(String::new());
        text.push_file("two\nthree\n".to_owned());
        assert_eq!(text.documents().collect::<Vec<_>>(), ["one\n", "two\nthree\n"]);
        let (train, valid) = text.split(0.3);
        assert_eq!(train.documents().collect::<Vec<_>>(), ["one\n", "two\n"]);
        assert_eq!(valid.documents().collect::<Vec<_>>(), ["three\n"]);
    }
}
