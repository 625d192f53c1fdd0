//! Text that a compiler wrote; `constructs.cu` says how.

use wikigpt_emulator::ptx::ast::{Function, Init, Instruction, Limits, Operand, Source, Statement};

use super::{assert_round_trip, module};

const SM_80: &str = include_str!("constructs_sm_80.ptx");
const SM_90A: &str = include_str!("constructs_sm_90a.ptx");
const SM_100A: &str = include_str!("constructs_sm_100a.ptx");
const NVRTC_12: &str = include_str!("constructs_nvrtc_12_sm_80.ptx");
const DEBUG: &str = include_str!("debug_sm_90a.ptx");

/// All of them.
pub const SAMPLES: [&str; 5] = [SM_80, SM_90A, SM_100A, NVRTC_12, DEBUG];

/// The source of all but the last.
const CONSTRUCTS: &str = include_str!("constructs.cu");

fn kernel<'m, 'a>(functions: &'m [Function<'a>], name: &str) -> &'m Function<'a> {
    let defined = functions.iter().find(|function| function.name == name && function.body.is_some());
    defined.unwrap_or_else(|| panic!("{name} is not defined"))
}

/// All instructions of a body, those of inner scopes too, in order.
fn instructions<'m, 'a>(body: &'m [Statement<'a>], found: &mut Vec<&'m Instruction<'a>>) {
    for statement in body {
        match statement {
            Statement::Instruction(instruction) => found.push(instruction),
            Statement::Block(inner) => instructions(inner, found),
            _ => {}
        }
    }
}

fn all_instructions<'m, 'a>(function: &'m Function<'a>) -> Vec<&'m Instruction<'a>> {
    let mut found = Vec::new();
    instructions(function.body.as_deref().unwrap_or_default(), &mut found);
    found
}

#[test]
fn compiled_code_prints_as_the_same_tree() {
    for text in SAMPLES {
        assert_round_trip(module(text));
    }
}

#[test]
fn every_instruction_of_the_text_is_in_the_tree() {
    for text in SAMPLES {
        let module = module(text);
        let names: Vec<String> = module
            .functions
            .iter()
            .flat_map(all_instructions)
            .map(|instruction| format!("{}.{}", instruction.opcode, instruction.modifiers.join(".")))
            .collect();
        let code = text.split(".section").next().unwrap_or_default();
        let mut found = 0;
        // Beginnings that are parts of no other word.
        for begin in [
            "ld.param.",
            "ld.global",
            "ld.shared.",
            "ld.const.",
            "ld.local.",
            "ld.u",
            "ld.f",
            "st.param.",
            "st.global",
            "st.local.",
            "st.shared.",
            "st.f",
            "st.u",
            "mov.",
            "cvt.",
            "cvta.",
            "setp.",
            "selp.",
            "add.",
            "sub.",
            "mul.",
            "shl.",
            "shr.",
            "call.uni",
            "bra.uni",
            "wgmma.mma_async.",
            "wgmma.fence",
            "wgmma.commit_group",
            "wgmma.wait_group",
            "mbarrier.init.",
            "mbarrier.try_wait.",
            "mbarrier.arrive.",
            "cp.async.bulk.tensor.",
            "barrier.cluster.",
            "setmaxnreg.",
            "elect.",
            "vote.",
            "shfl.",
            "atom.",
            "fence.",
        ] {
            let blank = |before: char| before.is_whitespace() || before == ';';
            let expected = code.match_indices(begin).filter(|(at, _)| code[..*at].ends_with(blank)).count();
            assert_eq!(names.iter().filter(|name| name.starts_with(begin)).count(), expected, "{begin}");
            found += expected;
        }
        assert!(found > names.len() / 2, "{found} of {}", names.len());
        let returns = code.matches("ret;").count();
        assert_eq!(names.iter().filter(|name| *name == "ret.").count(), returns);
    }
}

#[test]
fn every_line_of_code_is_found_through_loc() {
    let module = module(SM_90A);
    assert_eq!(module.files[0], (1, "constructs.cu".to_owned()));
    let switch = all_instructions(kernel(&module.functions, "many_ways"));
    let mut cases = 0;
    for (number, line) in (1..).zip(CONSTRUCTS.lines()).filter(|(_, line)| line.contains("case ")) {
        let comes_from =
            |source: Source| source.inlined_at.unwrap_or((source.file, source.line)) == (1, number);
        assert!(switch.iter().filter_map(|instruction| instruction.source).any(comes_from), "{line}");
        cases += 1;
    }
    assert_eq!(cases, 12);
    // An intrinsic inlined from a header leads to the line that calls it.
    let shuffle = all_instructions(kernel(&module.functions, "local_and_shared"))
        .into_iter()
        .find(|instruction| instruction.opcode == "shfl" && instruction.modifiers[1] == "up")
        .expect("the kernel shuffles");
    let Some(Source { file, inlined_at: Some((1, line)), .. }) = shuffle.source else {
        panic!("{:?}", shuffle.source)
    };
    assert!(module.files.contains(&(file, "include/sm_30_intrinsics.hpp".to_owned())));
    let called = CONSTRUCTS.lines().nth(line as usize - 1).unwrap_or_default();
    assert!(called.contains("__shfl_up_sync"), "{called}");
}

#[test]
fn all_styles_of_text_declare_the_same() {
    for text in [SM_80, SM_90A, SM_100A, NVRTC_12] {
        let module = module(text);
        let entries: Vec<_> =
            module.functions.iter().filter(|function| function.entry).map(|function| function.name).collect();
        let mut expected = vec!["by_value", "halves", "indirect", "local_and_shared", "many_ways", "says"];
        if text == SM_90A {
            expected.insert(2, "hopper");
        }
        let mut sorted = entries.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);

        let variable = |name: &str| {
            let found = module.variables.iter().find(|variable| variable.name == name);
            found.unwrap_or_else(|| panic!("{name} is not declared"))
        };
        // 1, -2.5, 0 and 1e-3 as bytes; the fifth is left out.
        let table: Vec<_> = [1.0_f32, -2.5, 0.0, 1e-3].iter().flat_map(|value| value.to_le_bytes()).collect();
        let table: Vec<_> = table.into_iter().map(|byte| Init::Bits(byte.into())).collect();
        assert_eq!((variable("table").len, &variable("table").init), (Some(20), &table));
        let address = |name, offset, generic| Init::Address { name, offset, generic, byte: None };
        assert_eq!(variable("middle").init, [address("grid", 24, true)]);
        assert_eq!(
            variable("functions").init,
            [address("_Z5twicef", 0, false), address("_Z6squaref", 0, false)]
        );
        assert_eq!(variable("dynamic").len, Some(0));

        let limits =
            Limits { max_threads: Some([256, 1, 1]), min_blocks_per_sm: Some(2), ..Limits::default() };
        assert_eq!(kernel(&module.functions, "local_and_shared").limits, limits);
        let params: Vec<_> = kernel(&module.functions, "by_value")
            .params
            .iter()
            .map(|param| (param.align, param.len))
            .collect();
        assert_eq!(params, [(8, None), (8, Some(24))]);

        let calls = all_instructions(kernel(&module.functions, "indirect"));
        let call = calls.iter().find(|instruction| instruction.opcode == "call").expect("it calls");
        let [
            Operand::List(returned),
            Operand::Name(pointer, 0),
            Operand::List(passed),
            Operand::Name(prototype, 0),
        ] = &call.operands[..]
        else {
            panic!("{call}")
        };
        assert!(
            returned.len() == 1
                && passed.len() == 1
                && pointer.starts_with("%rd")
                && *prototype == "prototype_0"
        );
    }
}

#[test]
fn a_kernel_for_hopper_keeps_its_directives_and_inline_assembly() {
    let module = module(SM_90A);
    let kernel = kernel(&module.functions, "hopper");
    let limits = Limits {
        max_threads: Some([384, 1, 1]),
        min_blocks_per_sm: Some(1),
        explicit_cluster: true,
        required_cluster: Some([2, 1, 1]),
        ..Limits::default()
    };
    assert_eq!(kernel.limits, limits);
    assert_eq!((kernel.params[0].align, kernel.params[0].len), (64, Some(128)));
    let all = all_instructions(kernel);
    let copy = all.iter().find(|instruction| instruction.opcode == "cp").expect("it copies a tile");
    let [
        Operand::Address { .. },
        Operand::Address { coordinates, .. },
        Operand::Address { .. },
        Operand::Name(..),
    ] = &copy.operands[..]
    else {
        panic!("{copy}")
    };
    assert_eq!(coordinates.len(), 2);
    let product =
        all.iter().find(|instruction| instruction.modifiers.contains(&"mma_async")).expect("it multiplies");
    assert!(matches!(&product.operands[..], [Operand::Vector(d), ..] if d.len() == 4));
    assert_eq!(
        product.operands[3..],
        [Operand::Name("p", 0), Operand::Int(1), Operand::Int(1), Operand::Int(0), Operand::Int(0)]
    );
}
