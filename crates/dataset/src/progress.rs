//! How far preparing has come.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Is told what preparing does and how far it is, in bytes.
pub trait Progress {
    /// A task begins; its size may not be known.
    fn begin(&mut self, task: &str, total: Option<u64>);
    /// So many bytes more are done.
    fn advance(&mut self, bytes: u64);
    /// The task is done, or has failed.
    fn end(&mut self);
    /// Something that the user should know, in one sentence.
    fn note(&mut self, text: &str);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

/// A bar on stderr, which is not drawn where stderr is no terminal; notes are printed anyway.
#[derive(Debug, Default)]
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Progress for Bar {
    fn begin(&mut self, task: &str, total: Option<u64>) {
        self.end();
        let template = match total {
            Some(_) => "{msg:<24} {wide_bar} {bytes:>10} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{msg:<24} {spinner} {bytes}, {bytes_per_sec}",
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let style = ProgressStyle::with_template(template).expect("the template is right");
        let bar = bar.with_style(style).with_message(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        let print = || eprintln!("note: {text}");
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}
