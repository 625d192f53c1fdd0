//! CSV and TSV.

use std::path::Path;

use csv::StringRecord;

use super::labels::{Label, listed};
use super::{Column, Example, Reading};
use crate::error::{Error, Result};

/// The examples of a table whose fields stand between delimiters.
pub fn read(path: &Path, text: &str, delimiter: u8, quotes: bool, reading: &Reading) -> Result<Vec<Example>> {
    // Rows of different lengths are refused here, with better words.
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quotes)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    let (mut places, mut lines) = (None, Lines { text: text.as_bytes(), at: 0, line: 1 });
    let mut first: Option<(u64, usize)> = None;
    let mut examples = Vec::new();
    while next(path, &mut reader, &mut record)? {
        let row = record.position().map_or(0, csv::Position::byte) as usize;
        let line = lines.of(row);
        // The reader takes the end of the file for the end of such a field.
        if quotes
            && reader.position().byte() as usize >= text.len()
            && let Some(opened) = unclosed(&text.as_bytes()[row..], delimiter)
        {
            return Err(Error::at_line(
                path,
                lines.of(row + opened),
                "a quote opens a field and is never closed",
            ));
        }
        let (first_line, width) = *first.get_or_insert((line, record.len()));
        if record.len() != width {
            let (found, delimiter) = (record.len(), if delimiter == b',' { "commas" } else { "tabs" });
            let quote = if quotes {
                format!("; {delimiter} inside a field must stand between quotes")
            } else {
                String::new()
            };
            let message = format!("{found} fields, but line {first_line} has {width}{quote}");
            return Err(Error::at_line(path, line, message));
        }
        let [text_at, label_at] = match places {
            Some(places) => places,
            None => {
                let found = columns(path, &record, reading)?;
                places = Some(found);
                if reading.header {
                    continue;
                }
                found
            }
        };
        let (text, label) = (&record[text_at], record[label_at].trim());
        if text.trim().is_empty() {
            return Err(Error::at_line(
                path,
                line,
                format_args!("the text (column {}) is empty", text_at + 1),
            ));
        }
        if label.is_empty() {
            return Err(Error::at_line(
                path,
                line,
                format_args!("the label (column {}) is empty", label_at + 1),
            ));
        }
        examples.push(Example { text: text.to_owned(), label: Label::of(label), line });
    }
    Ok(examples)
}

/// Counts lines on the way through a text.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of what follows a place, which is not before the last one asked for. The reader's own count does not take the
    /// ends of lines with it that stand before a row.
    fn of(&mut self, place: usize) -> u64 {
        let ends = self.text[place..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &self.text[self.at..place + ends];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = place + ends;
        self.line
    }
}

fn next(path: &Path, reader: &mut csv::Reader<&[u8]>, record: &mut StringRecord) -> Result<bool> {
    reader.read_record(record).map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        Error::at_line(path, line, format_args!("not a row of a table: {error}"))
    })
}

/// Where text and label stand, by the first row: a header, or not.
fn columns(path: &Path, first: &StringRecord, reading: &Reading) -> Result<[usize; 2]> {
    let names: Vec<&str> = first.iter().map(str::trim).collect();
    let find = |(column, flag): (Column, &str)| {
        match column {
        Column::Number(number) if (1..=first.len()).contains(&number) => Ok(number - 1),
        Column::Number(number) => {
            Err(Error::file(path, format!("{flag} {number}: its columns are 1 to {}", first.len())))
        }
        Column::Name(name) if !reading.header => Err(Error::file(
            path,
            format!("{flag} '{name}': without a header, columns go by number"),
        )),
        Column::Name(name) => names.iter().position(|found| *found == name).ok_or_else(|| {
            let message = format!(
                "it has no column '{name}'; its columns are {}: choose one by {flag}, or say --no-header if the first \
                 line is no header",
                listed(&names)
            );
            Error::file(path, message)
        }),
    }
    };
    let [text, label] = reading.columns(reading.header);
    Ok([find((text, "--text-column"))?, find((label, "--label-column"))?])
}

/// Where a quote stands that opens a field of the last row and is not closed.
fn unclosed(row: &[u8], delimiter: u8) -> Option<usize> {
    let mut opened = None;
    let mut begins = true;
    let mut at = 0;
    while at < row.len() {
        let byte = row[at];
        match opened {
            None if byte == b'"' && begins => opened = Some(at),
            None => begins = byte == delimiter || byte == b'\n' || byte == b'\r',
            Some(_) if byte == b'"' && row.get(at + 1) == Some(&b'"') => at += 1,
            Some(_) if byte == b'"' => (opened, begins) = (None, false),
            Some(_) => {}
        }
        at += 1;
    }
    opened
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str, delimiter: u8, reading: &Reading) -> std::result::Result<Vec<Example>, String> {
        read(Path::new("t.csv"), text, delimiter, delimiter == b',', reading)
            .map_err(|error| error.to_string())
    }

    fn csv(text: &str) -> std::result::Result<Vec<Example>, String> {
        table(text, b',', &Reading::default())
    }

    #[test]
    fn fields_between_quotes_hold_anything() {
        let examples =
            csv("label,text\r\n1,\"two\nlines, a comma and \"\"quotes\"\"\"\r\n\r\n 0 ,plain\r\n").unwrap();
        let expected = [("two\nlines, a comma and \"quotes\"", 1, 2), ("plain", 0, 5)];
        assert_eq!(examples.len(), 2);
        for (example, (text, label, line)) in examples.iter().zip(expected) {
            assert_eq!((&*example.text, &example.label, example.line), (text, &Label::Number(label), line));
        }
    }

    #[test]
    fn columns_go_by_name_or_number() {
        let by = |text: &str, label: &str, header| Reading {
            text: Some(text.parse().unwrap()),
            label: Some(label.parse().unwrap()),
            header,
            ..Reading::default()
        };
        let rows = "id,review,stars\n7,good,5\n";
        for reading in [by("review", "stars", true), by("2", "3", true), by("review", "3", true)] {
            let examples = table(rows, b',', &reading).unwrap();
            assert_eq!((&*examples[0].text, &examples[0].label), ("good", &Label::Number(5)));
            assert_eq!(examples[0].line, 2);
        }
        assert_eq!(table(rows, b',', &by("2", "3", false)).unwrap().len(), 2);
        let plain = Reading { header: false, ..Reading::default() };
        assert_eq!(table("it says \"no\"\t0\n", b'\t', &plain).unwrap()[0].text, "it says \"no\"");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let cases = [
            ("text,label\na,1\nb\n", "line 3: 1 fields, but line 1 has 2"),
            ("text,label\na,b,1\n", "line 2: 3 fields, but line 1 has 2; commas inside a field"),
            ("text,label\n\"a\n\",1\n  ,1\n", "line 4: the text (column 1) is empty"),
            ("text,label\na,\n", "line 2: the label (column 2) is empty"),
            ("text,label\na,1\nb,0\n\"c,1\nd,1\n", "line 4: a quote opens a field and is never closed"),
            ("text,label\na,\"1\n", "line 2: a quote opens"),
            ("sentence,label\na,1\n", "no column 'text'; its columns are 'sentence', 'label'"),
        ];
        for (text, expected) in cases {
            let error = csv(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let reading = Reading { header: false, text: Some(Column::Number(3)), ..Reading::default() };
        assert!(
            table("a,1\n", b',', &reading).unwrap_err().contains("--text-column 3: its columns are 1 to 2")
        );
        let reading = Reading { header: false, label: Some(Column::Name("y".into())), ..Reading::default() };
        assert!(table("a,1\n", b',', &reading).unwrap_err().contains("go by number"));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(rows in prop::collection::vec(("[ -~\n\r\"é,]{0,12}[a-z\",\n]", 0_i64..9), 1..6)) {
            prop_assume!(rows.iter().all(|(text, _)| !text.trim().is_empty()));
            let mut text = "text,label\n".to_owned();
            for (field, label) in &rows {
                text += &format!("\"{}\",{label}\n", field.replace('"', "\"\""));
            }
            let found = csv(&text).unwrap();
            let found: Vec<_> = found.into_iter().map(|example| (example.text, example.label)).collect();
            let expected: Vec<_> = rows.into_iter().map(|(text, label)| (text, Label::Number(label))).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_table_makes_it_panic(text in "[a\"\n\r,\t1é]{0,40}", header: bool, quotes: bool) {
            let reading = Reading { header, ..Reading::default() };
            let _ = read(Path::new("t.csv"), &text, b',', quotes, &reading);
        }
    }
}
