//! Random programs of branches and loops: each lane computes what a model of it computes by itself, though registers share
//! rows; and the warp is whole again at the end.

use std::fmt::Write;

use proptest::prelude::*;
use wikigpt_emulator::program::Class;

use crate::rig::Kernel;

const NARROW: usize = 24;
const WIDE: usize = 6;

/// A statement; numbers are registers.
#[derive(Clone, Debug)]
enum Statement {
    /// `d = a op b`, for the lanes in which bit `bit` of register `of` is set, where there is one.
    Op { op: &'static str, d: usize, a: usize, b: usize, guard: Option<(usize, u32)> },
    /// `d = value`
    Set { d: usize, value: u32 },
    /// A product of 64 bits.
    Widen { d: usize, a: usize, b: usize },
    /// Both halves of 64 bits.
    Narrow { low: usize, high: usize, a: usize },
    /// By a bit of a register.
    If { of: usize, bit: u32, then: Vec<Statement>, or: Vec<Statement> },
    /// `a % 4 + 1` rounds, with a way out in the middle.
    Loop { a: usize, first: Vec<Statement>, of: usize, bit: u32, second: Vec<Statement> },
}

/// A stream of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n) as usize
    }

    fn block(&mut self, depth: u32) -> Vec<Statement> {
        (0..1 + self.below(5)).map(|_| self.statement(depth)).collect()
    }

    fn statement(&mut self, depth: u32) -> Statement {
        let narrow = NARROW as u64;
        let (d, a, b) = (self.below(narrow), self.below(narrow), self.below(narrow));
        let bit = self.below(8) as u32;
        match self.below(if depth == 0 { 7 } else { 11 }) {
            0..=2 => {
                let op = ["add.u32", "mul.lo.u32", "xor.b32"][self.below(3)];
                let guard = (self.below(3) == 0).then(|| (self.below(narrow), bit));
                Statement::Op { op, d, a, b, guard }
            }
            3 => Statement::Set { d, value: self.below(1 << 31) as u32 },
            4 | 5 => Statement::Widen { d: self.below(WIDE as u64), a, b },
            6 => Statement::Narrow { low: d, high: (d + 1) % NARROW, a: self.below(WIDE as u64) },
            7 | 8 => Statement::If { of: a, bit, then: self.block(depth - 1), or: self.block(depth - 1) },
            _ => {
                Statement::Loop { a, first: self.block(depth - 1), of: b, bit, second: self.block(depth - 1) }
            }
        }
    }
}

/// The statements' text.
struct Text {
    text: String,
    labels: usize,
}

impl Text {
    fn line(&mut self, line: std::fmt::Arguments) {
        self.text.write_fmt(line).expect("a string takes all text");
        self.text.push('\n');
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn test(&mut self, of: usize, bit: u32) {
        self.line(format_args!("shr.u32 %t, %x{of}, {bit}; and.b32 %t, %t, 1; setp.ne.u32 %p0, %t, 0;"));
    }

    fn block(&mut self, block: &[Statement]) {
        block.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Op { op, d, a, b, guard } => {
                if let Some((of, bit)) = guard {
                    self.test(*of, *bit);
                }
                let guard = if guard.is_some() { "@%p0 " } else { "" };
                self.line(format_args!("{guard}{op} %x{d}, %x{a}, %x{b};"));
            }
            Statement::Set { d, value } => self.line(format_args!("mov.u32 %x{d}, {value};")),
            Statement::Widen { d, a, b } => self.line(format_args!("mul.wide.u32 %y{d}, %x{a}, %x{b};")),
            Statement::Narrow { low, high, a } => {
                self.line(format_args!("mov.b64 {{%x{low}, %x{high}}}, %y{a};"));
            }
            Statement::If { of, bit, then, or } => {
                let (other, join) = (self.label(), self.label());
                self.test(*of, *bit);
                self.line(format_args!("@!%p0 bra {other};"));
                self.block(then);
                self.line(format_args!("bra.uni {join};\n{other}:"));
                self.block(or);
                self.line(format_args!("{join}:"));
            }
            Statement::Loop { a, first, of, bit, second } => {
                let (head, out) = (self.label(), self.label());
                let count = self.labels;
                self.line(format_args!(".reg .b32 %c{count};\nand.b32 %c{count}, %x{a}, 3;\n{head}:"));
                self.block(first);
                self.test(*of, *bit);
                self.line(format_args!("@%p0 bra {out};"));
                self.block(second);
                self.line(format_args!("setp.ne.u32 %p1, %c{count}, 0; sub.u32 %c{count}, %c{count}, 1;"));
                self.line(format_args!("@%p1 bra {head};\n{out}:"));
            }
        }
    }
}

/// What one lane computes.
struct Model {
    narrow: [u32; NARROW],
    wide: [u64; WIDE],
}

impl Model {
    fn block(&mut self, block: &[Statement]) {
        block.iter().for_each(|statement| self.statement(statement));
    }

    fn holds(&self, of: usize, bit: u32) -> bool {
        self.narrow[of] >> bit & 1 == 1
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Op { op, d, a, b, guard } => {
                if guard.is_none_or(|(of, bit)| self.holds(of, bit)) {
                    let (a, b) = (self.narrow[*a], self.narrow[*b]);
                    self.narrow[*d] = match *op {
                        "add.u32" => a.wrapping_add(b),
                        "mul.lo.u32" => a.wrapping_mul(b),
                        _ => a ^ b,
                    };
                }
            }
            Statement::Set { d, value } => self.narrow[*d] = *value,
            Statement::Widen { d, a, b } => {
                self.wide[*d] = u64::from(self.narrow[*a]) * u64::from(self.narrow[*b]);
            }
            Statement::Narrow { low, high, a } => {
                self.narrow[*low] = self.wide[*a] as u32;
                self.narrow[*high] = (self.wide[*a] >> 32) as u32;
            }
            Statement::If { of, bit, then, or } => {
                let block = if self.holds(*of, *bit) { then } else { or };
                self.block(block);
            }
            Statement::Loop { a, first, of, bit, second } => {
                for _ in 0..=self.narrow[*a] & 3 {
                    self.block(first);
                    if self.holds(*of, *bit) {
                        break;
                    }
                    self.block(second);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_programs_compute_what_each_lane_would_alone(seed: u64) {
        let program = Random(seed).block(3);
        let mut text = Text { text: String::new(), labels: 0 };
        text.line(format_args!(
            ".reg .b32 %x<{NARROW}>, %t; .reg .b64 %y<{WIDE}>;
             mul.lo.u32 %x0, %tid, 2654435761; xor.b32 %x1, %x0, %tid; mov.u32 %x2, %tid;"
        ));
        text.block(&program);
        text.line(format_args!("add.f64 %w0, %w0, %w0; mov.u32 %t, 0;"));
        // Half of the registers are looked at: what the others held at the end is of no use to anybody.
        for register in 0..NARROW / 2 {
            text.line(format_args!("mad.lo.u32 %t, %t, 31, %x{register};"));
        }
        text.line(format_args!("st.global.u32 [%own], %t;"));
        let run = Kernel::new(&text.text).threads(40).run();
        for lane in 0..40u32 {
            let mut model = Model { narrow: [0; NARROW], wide: [0; WIDE] };
            model.narrow[0] = lane.wrapping_mul(2654435761);
            model.narrow[1] = model.narrow[0] ^ lane;
            model.narrow[2] = lane;
            model.block(&program);
            let expected = model.narrow[..NARROW / 2].iter().fold(0u32, |sum, x| sum.wrapping_mul(31).wrapping_add(*x));
            prop_assert_eq!(run.words[lane as usize], expected, "lane {} of\n{}", lane, text.text);
        }
        prop_assert_eq!((run.warps(Class::Double), run.lanes(Class::Double)), (2, 40), "{}", text.text);
    }
}
