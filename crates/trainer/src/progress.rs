//! What a person sees while a run goes on: a bar with an ETA on a terminal, and a steady line per log interval.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{metrics, output};

/// Reports a run's progress on stderr.
pub struct Progress {
    bar: ProgressBar,
    steps: u64,
    log_every: u64,
    started: Instant,
    first: u64,
}

impl Progress {
    /// For a run that goes from step `first` to step `steps`.
    pub fn new(first: u64, steps: u64, log_every: u64) -> Self {
        let bar = ProgressBar::new(steps).with_position(first);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} ETA {eta} {msg}");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        if !stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.reset_eta();
        Progress { bar, steps, log_every, started: Instant::now(), first }
    }

    /// Reports a finished step.
    pub fn step(&self, line: &metrics::Train) {
        self.bar.set_position(line.step + 1);
        self.bar.set_message(format!("loss {:.4}", line.loss));
        let last = line.step + 1 == self.steps;
        if self.log_every > 0 && (line.step.is_multiple_of(self.log_every) || last) {
            self.say(&self.line(line));
        }
    }

    /// Reports a validation.
    pub fn valid(&self, line: &metrics::Valid) {
        let (step, loss) = (line.step, line.loss);
        let mut text = format!("step {step:>6}/{} | valid loss {loss:.6}", self.steps);
        if line.scores.is_empty() {
            text += &format!(" | perplexity {:.2}", loss.exp());
        }
        for (name, score) in &line.scores {
            text += &format!(" | {name} {score:.4}");
        }
        self.say(&text);
    }

    /// Prints a line above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    fn line(&self, line: &metrics::Train) -> String {
        let done = line.step + 1 - self.first;
        let left = self.started.elapsed().as_secs_f64() / done as f64 * (self.steps - line.step - 1) as f64;
        format!(
            "step {:>6}/{} | loss {:.6} | lr {:.2e} | norm {:.4} | {:.2} ms | {} tok/s | {} left",
            line.step,
            self.steps,
            line.loss,
            line.lr,
            line.grad_norm,
            line.step_ms,
            thousands(line.tokens_per_second as u64),
            duration(left),
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration as a person says it: `59 s`, `2 min 5 s`, `3 h 20 min`.
pub fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs_f64().round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A number of bytes as a person says it: `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([59.4, 125.0, 12_000.0].map(duration), ["59 s", "2 min 5 s", "3 h 20 min"]);
        assert_eq!([1023, 1536, 3 << 30].map(bytes), ["1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(duration(f64::NAN), "0 s");
    }
}
