//! The parser of PTX: text to syntax tree, and back.

mod errors;
mod grammar;
mod numbers;
mod properties;
mod samples;

use wikigpt_emulator::ptx::ast::{Function, Instruction, Module, Operand, Statement, Variable};
use wikigpt_emulator::ptx::{Error, parse};

/// Parses what must be PTX.
fn module(text: &str) -> Module<'_> {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Declarations behind the header that every module needs.
fn with_header(declarations: &str) -> String {
    format!(".version 8.0\n.target sm_90a\n.address_size 64\n{declarations}")
}

/// Statements in a kernel; they begin at line 5.
fn in_kernel(statements: &str) -> String {
    with_header(&format!(".entry k() {{\n{statements}\n}}\n"))
}

/// The error of a text that must not parse.
fn error(text: &str) -> Error {
    match parse(text) {
        Err(error) => error,
        Ok(module) => panic!("parsed:\n{module}"),
    }
}

fn variable(declaration: &str, test: impl FnOnce(&Variable)) {
    let text = with_header(declaration);
    test(&module(&text).variables[0]);
}

fn function(declaration: &str, test: impl FnOnce(&Function)) {
    let text = with_header(declaration);
    test(&module(&text).functions[0]);
}

fn body(statements: &str, test: impl FnOnce(&[Statement])) {
    let text = in_kernel(statements);
    let module = module(&text);
    test(module.functions[0].body.as_deref().expect("the kernel has a body"));
}

fn instruction(statement: &str, test: impl FnOnce(&Instruction)) {
    body(statement, |body| match body {
        [Statement::Instruction(instruction)] => test(instruction),
        other => panic!("expected one instruction, found {other:?}"),
    });
}

fn operands(statement: &str, test: impl FnOnce(&[Operand])) {
    instruction(statement, |instruction| test(&instruction.operands));
}

/// The tree with all lines of the PTX text 0, since printing moves them.
fn without_lines(mut module: Module<'_>) -> Module<'_> {
    for variable in &mut module.variables {
        variable.line = 0;
    }
    for function in &mut module.functions {
        function.line = 0;
        for variable in function.returns.iter_mut().chain(&mut function.params) {
            variable.line = 0;
        }
        clear_lines(function.body.iter_mut().flatten());
    }
    module
}

fn clear_lines<'a, 't: 'a>(statements: impl Iterator<Item = &'a mut Statement<'t>>) {
    for statement in statements {
        match statement {
            Statement::Variable(variable) => variable.line = 0,
            Statement::Label(_, line) => *line = 0,
            Statement::Instruction(instruction) => instruction.line = 0,
            Statement::Block(inner) => clear_lines(inner.iter_mut()),
            Statement::CallPrototype(prototype) => {
                for variable in prototype.returns.iter_mut().chain(&mut prototype.params) {
                    variable.line = 0;
                }
            }
            Statement::Registers { .. } | Statement::BranchTargets(..) | Statement::CallTargets(..) => {}
        }
    }
}

/// Prints and parses again: the tree must stay, and its second print must be the first.
fn assert_round_trip(module: Module) {
    let printed = module.to_string();
    let again = match parse(&printed) {
        Ok(again) => again,
        Err(error) => panic!("{error}, in what was printed:\n{printed}"),
    };
    assert_eq!(printed, again.to_string());
    // Compared as text, since no NaN equals itself; the prints above hold their bits.
    assert_eq!(format!("{:?}", without_lines(module)), format!("{:?}", without_lines(again)));
}
