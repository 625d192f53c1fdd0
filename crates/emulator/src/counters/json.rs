//! The line of a launch in the file of counters.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Counters, SECTOR};
use crate::exec::Launch;
use crate::program::Class;

impl Counters {
    /// The counts of a launch as one JSON object, without a line's end.
    pub fn json(&self, launch: &Launch) -> String {
        let mut object = Object::default();
        object.number("launch", launch.number);
        object.text("kernel", &launch.program.name);
        object.list("grid", &launch.grid);
        object.list("block", &launch.threads);
        object.list("cluster", &launch.cluster);
        object.number("static_shared_bytes", launch.program.shared_bytes.into());
        object.number("dynamic_shared_bytes", launch.dynamic_shared.into());
        object.classes("warp_instructions", &self.warp_instructions);
        object.classes("lane_instructions", &self.lane_instructions);
        let (loaded, stored) = (self.global_loaded.len(), self.global_stored.len());
        object.number("global_load_bytes", self.global_load_bytes);
        object.number("global_load_requests", self.global_load_requests);
        object.number("global_load_sectors", self.global_load_sectors);
        object.ratio("global_load_sectors_per_request", self.global_load_sectors, self.global_load_requests);
        object.number("global_load_distinct_sectors", loaded);
        object.number("global_store_bytes", self.global_store_bytes);
        object.number("global_store_requests", self.global_store_requests);
        object.number("global_store_sectors", self.global_store_sectors);
        object.ratio(
            "global_store_sectors_per_request",
            self.global_store_sectors,
            self.global_store_requests,
        );
        object.number("global_store_distinct_sectors", stored);
        object.number("dram_floor_bytes", (loaded + stored) * SECTOR);
        object.number("local_load_bytes", self.local_load_bytes);
        object.number("local_store_bytes", self.local_store_bytes);
        object.number("shared_load_bytes", self.shared_load_bytes);
        object.number("shared_store_bytes", self.shared_store_bytes);
        object.number("shared_requests", self.shared_requests);
        object.number("shared_wavefronts", self.shared_wavefronts);
        object.number("shared_conflicts", self.shared_conflicts);
        object.number("tensor_flops", self.tensor_flops);
        object.number("special_operations", self.special_operations);
        object.number("atomics", self.atomics);
        object.number("barriers", self.barriers);
        object.number("copy_bytes", self.copy_bytes);
        object.number("bulk_load_bytes", self.bulk_load_bytes);
        object.number("bulk_store_bytes", self.bulk_store_bytes);
        object.end()
    }

    /// Appends the line of a launch to a file, whole, whoever else appends to it.
    ///
    /// # Errors
    /// Where the file cannot be opened or written.
    pub fn append(&self, launch: &Launch, file: &Path) -> io::Result<()> {
        static TURN: Mutex<()> = Mutex::new(());
        let mut line = self.json(launch);
        line.push('\n');
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // One write in append mode: lines of several processes do not mix either.
        OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
    }
}

/// A JSON object that is being written.
#[derive(Default)]
struct Object {
    text: String,
}

impl Object {
    fn key(&mut self, name: &str) -> &mut String {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        quote(&mut self.text, name);
        self.text.push(':');
        &mut self.text
    }

    fn number(&mut self, name: &str, value: u64) {
        let text = self.key(name);
        text.push_str(&value.to_string());
    }

    fn ratio(&mut self, name: &str, of: u64, to: u64) {
        let ratio = if to == 0 { 0.0 } else { of as f64 / to as f64 };
        let text = self.key(name);
        let _ = write!(text, "{ratio}");
    }

    fn text(&mut self, name: &str, value: &str) {
        quote(self.key(name), value);
    }

    fn list(&mut self, name: &str, values: &[u32; 3]) {
        let [x, y, z] = values;
        let _ = write!(self.key(name), "[{x},{y},{z}]");
    }

    fn classes(&mut self, name: &str, counts: &[u64]) {
        let mut inner = Object::default();
        for ((_, class), count) in Class::ALL.iter().zip(counts) {
            inner.number(class, *count);
        }
        let inner = inner.end();
        self.key(name).push_str(&inner);
    }

    fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
