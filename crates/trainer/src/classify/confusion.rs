//! How good predictions are.

use serde::Serialize;

/// How often each label was taken for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    /// By the true label, then by the predicted one.
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Nothing yet, of so many labels.
    pub fn new(labels: usize) -> Confusion {
        Confusion { counts: vec![vec![0; labels]; labels] }
    }

    /// Counts a prediction.
    pub fn add(&mut self, label: usize, predicted: usize) {
        self.counts[label][predicted] += 1;
    }

    /// Texts.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of texts whose label was predicted.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(label, row)| row[label]).sum();
        right as f64 / self.total() as f64
    }

    /// The share of the commonest label: what predicting it always would reach.
    pub fn majority(&self) -> (usize, f64) {
        let rows = self.counts.iter().map(|row| row.iter().sum::<u64>()).enumerate();
        // Of several, the first.
        let (label, count) = rows.rev().max_by_key(|(_, count)| *count).unwrap_or_default();
        (label, count as f64 / self.total() as f64)
    }

    /// The mean over labels of F1 = 2·TP/(2·TP + FP + FN). Labels that neither occur nor are predicted have none and are left
    /// out, as scikit-learn does.
    pub fn macro_f1(&self) -> f64 {
        let f1 = |label: usize| {
            let hits = self.counts[label][label];
            let occurs: u64 = self.counts[label].iter().sum();
            let predicted: u64 = self.counts.iter().map(|row| row[label]).sum();
            (occurs + predicted > 0).then(|| 2.0 * hits as f64 / (occurs + predicted) as f64)
        };
        let all: Vec<f64> = (0..self.counts.len()).filter_map(f1).collect();
        all.iter().sum::<f64>() / all.len() as f64
    }

    /// A table for a person: a row a label, a column a prediction.
    pub fn table(&self, names: &[String]) -> String {
        let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
        let name = widest(&mut names.iter().map(|name| name.chars().count())).max("label".len());
        let cell = widest(&mut self.counts.iter().flatten().map(|count| count.to_string().len())).max(name);
        let row = |name_text: &str, cells: &mut dyn Iterator<Item = String>| {
            let cells: String = cells.map(|text| format!("  {text:>cell$}")).collect();
            format!("  {name_text:<name$}{cells}\n")
        };
        let mut text = row("label", &mut names.iter().cloned());
        for (name, counts) in names.iter().zip(&self.counts) {
            text += &row(name, &mut counts.iter().map(u64::to_string));
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True labels 0 0 0 0 1 1 2, predicted 0 0 0 1 1 0 1.
    fn confusion() -> Confusion {
        let mut confusion = Confusion::new(4);
        for (label, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 1)] {
            confusion.add(label, predicted);
        }
        confusion
    }

    #[test]
    fn figures_are_scikit_learns() {
        let confusion = confusion();
        assert_eq!((confusion.total(), confusion.majority()), (7, (0, 4.0 / 7.0)));
        assert_eq!(confusion.accuracy(), 4.0 / 7.0);
        // f1_score(average=None): 0.75, 0.4, 0.0; the fourth label is nowhere.
        assert!((confusion.macro_f1() - (0.75 + 0.4 + 0.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn a_table_has_a_row_a_label() {
        let names = ["no", "yes", "perhaps", "x"].map(String::from);
        let table = confusion().table(&names);
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["label", "no", "yes", "perhaps", "x"]);
        assert_eq!(lines[1], ["no", "3", "1", "0", "0"]);
        assert_eq!(lines[3], ["perhaps", "0", "1", "0", "0"]);
        assert!(table.lines().all(|line| line.len() == table.lines().next().unwrap().len()), "{table}");
    }
}
