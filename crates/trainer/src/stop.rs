//! Strings at which a text stops.

/// Watches a text that comes in pieces for strings at which it ends, so that no part of one is ever shown.
///
/// Of several strings the one counts whose end comes first; of several that end together, the longest. So what is shown is the
/// same in whatever pieces the text comes.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    strings: Vec<String>,
    /// The end of the text so far that may be the beginning of one of them.
    held: String,
    found: bool,
}

impl Stops {
    /// Watches for some strings; empty ones stop nothing.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Stops {
        let strings = strings.into_iter().filter(|string| !string.is_empty()).collect();
        Stops { strings, held: String::new(), found: false }
    }

    /// Takes a piece; returns the text that is known now to stand before any of the strings.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        let starts = self.strings.iter().filter_map(|string| {
            let start = self.held.find(string.as_str())?;
            Some((start + string.len(), start))
        });
        if let Some((_, start)) = starts.min() {
            self.found = true;
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |at: &usize| self.strings.iter().any(|string| string.starts_with(&self.held[*at..]));
        let kept = self.held.char_indices().map(|(at, _)| at).find(may_begin).unwrap_or(self.held.len());
        let held = self.held.split_off(kept);
        std::mem::replace(&mut self.held, held)
    }

    /// Whether the text has come to one of the strings: nothing comes any more.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The end: what was held back is no such string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is shown of a text that comes in pieces, and whether it was stopped.
    fn shown<'a>(strings: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let mut stops = Stops::new(strings.iter().map(|string| (*string).to_owned()));
        let mut text: String = pieces.into_iter().map(|piece| stops.push(piece)).collect();
        text += &stops.finish();
        (text, stops.found())
    }

    #[test]
    fn a_text_ends_before_a_stop() {
        assert_eq!(shown(&["\n\n"], ["one\n", "two\n", "\nthree"]), ("one\ntwo".into(), true));
        assert_eq!(shown(&["END"], ["an EN", "d and EN"]), ("an ENd and EN".into(), false));
        assert_eq!(shown(&["aab"], ["aa", "aa", "b!"]), ("aa".into(), true));
        assert_eq!(shown(&["é"], ["caf", "é", "s"]), ("caf".into(), true));
        assert_eq!(shown(&["", "x"], ["", "y", "xz"]), ("y".into(), true));
        assert_eq!(shown(&[], ["all", " of it"]), ("all of it".into(), false));
    }

    #[test]
    fn the_first_to_end_counts_and_of_those_the_longest() {
        assert_eq!(shown(&["abcd", "bc"], ["abcd"]), ("a".into(), true));
        assert_eq!(shown(&["abcd", "bc"], ["a", "b", "c", "d"]), ("a".into(), true));
        assert_eq!(shown(&["c", "abc"], ["ab", "c"]), (String::new(), true));
    }

    /// By definition: the shortest beginning of the text that ends in one of the strings.
    fn defined(strings: &[&str], text: &str) -> (String, bool) {
        for (end, _) in text.char_indices().skip(1).chain([(text.len(), ' ')]) {
            let ending = strings.iter().filter(|string| text[..end].ends_with(**string));
            if let Some(longest) = ending.map(|string| string.len()).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_make_no_difference(
            strings in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abé]{0,3}", 0..12),
        ) {
            let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(shown(&strings, pieces.iter().copied()), defined(&strings, &pieces.concat()));
        }
    }
}
