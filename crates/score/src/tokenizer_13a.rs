//! The tokenizer `13a`: that of NIST's `mteval-v13a.pl`, as WMT and sacreBLEU use it.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::text::words;

/// What is put apart from its surroundings, in this order.
static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let rule = |pattern, replacement| (Regex::new(pattern).expect("the pattern is right"), replacement);
    [
        // ASCII's signs, but for ' , - and .
        rule(r"([{-~\[-` -&(-+:-@/])", " $1 "),
        // A period or comma after anything but a digit, and before anything but a digit.
        rule(r"([^0-9])([.,])", "$1 $2 "),
        rule(r"([.,])([^0-9])", " $1 $2"),
        // A dash after a digit.
        rule(r"([0-9])(-)", "$1 $2 "),
    ]
});

/// The tokens of a segment.
pub fn tokenize_13a(segment: &str) -> Vec<String> {
    let mut line = segment.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // In this order: `&amp;lt;` is `<`.
    for (entity, sign) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        if line.contains('&') {
            line = line.replace(entity, sign);
        }
    }
    let mut line = format!(" {line} ");
    for (pattern, replacement) in RULES.iter() {
        if let Cow::Owned(replaced) = pattern.replace_all(&line, *replacement) {
            line = replaced;
        }
    }
    words(&line).map(str::to_owned).collect()
}
