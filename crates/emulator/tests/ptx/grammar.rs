//! One test per construct.

use wikigpt_emulator::ptx::Type;
use wikigpt_emulator::ptx::ast::{Init, Instruction, Limits, Linkage, Operand, Source, Space, Statement};

use super::{body, function, instruction, module, operands, variable, with_header};

fn name(name: &str) -> Operand<'_> {
    Operand::Name(name, 0)
}

fn at<'a>(base: &'a str, offset: i64) -> Operand<'a> {
    Operand::Address { base: Box::new(name(base)), offset, coordinates: Vec::new() }
}

fn sources(statements: &[Statement], found: &mut Vec<Option<Source>>) {
    for statement in statements {
        match statement {
            Statement::Instruction(instruction) => found.push(instruction.source),
            Statement::Block(inner) => sources(inner, found),
            _ => {}
        }
    }
}

#[test]
fn a_module_begins_with_version_target_and_address_size() {
    let module = module(".version 9.0\n.target sm_90a, debug\n.address_size 64\n");
    assert_eq!(module.version, (9, 0));
    assert_eq!(module.target, ["sm_90a", "debug"]);
}

#[test]
fn comments_and_blanks_stand_anywhere() {
    let text = "// first\n/* second\n /* */.version\t8.0\r\n.target/**/sm_80 // é\n.global/* * / */.u32 x;";
    assert_eq!(module(text).variables[0].name, "x");
    assert_eq!(module(text).variables[0].line, 5);
}

#[test]
fn files_sections_pragmas_and_aliases_stand_between_functions() {
    let text = with_header(
        ".file 1 \"a \\\"b\\\" \\\\\", 123, 456\n.file 2 \"c\"\n\
         .section .debug_str\n{\nL: .b8 104,101,0\n.b32 L-L\n{ .b64 $L__tmp1 }\n}\n\
         .pragma \"nounroll\", \"x\";\n.func f();\n.alias g, f;\n.section\t.debug_loc { }\n",
    );
    let module = module(&text);
    assert_eq!(module.files, [(1, r#"a \"b\" \\"#.to_owned()), (2, "c".to_owned())]);
    assert_eq!(module.aliases, [("g", "f")]);
    assert_eq!(module.functions.len(), 1);
}

#[test]
fn variables_have_space_linkage_alignment_type_and_length() {
    variable(".visible .global .align 16 .b8 $str$1[24];", |variable| {
        assert_eq!((variable.space, variable.linkage, variable.align), (Space::Global, Linkage::Visible, 16));
        assert_eq!((variable.ty, variable.vector, variable.name), (Type::B8, 1, "$str$1"));
        assert_eq!((variable.len, variable.line), (Some(24), 4));
        assert!(variable.init.is_empty());
    });
    variable(".extern .shared .align 128 .b8 dyn[];", |variable| {
        assert_eq!(
            (variable.space, variable.linkage, variable.len),
            (Space::Shared, Linkage::Extern, Some(0))
        );
    });
    variable(".weak .const .f64 c;", |variable| {
        assert_eq!((variable.space, variable.linkage, variable.align), (Space::Const, Linkage::Weak, 8));
        assert_eq!(variable.len, None);
    });
    variable(".common .global .attribute(.managed, .unified(19, 95)) .v4 .f32 v[2][3];", |variable| {
        assert_eq!((variable.linkage, variable.vector, variable.align), (Linkage::Common, 4, 16));
        assert_eq!(variable.len, Some(6));
    });
    let text = with_header(".global .u32 a, b[2*4], c = 3;");
    let names: Vec<_> =
        module(&text).variables.iter().map(|variable| (variable.name, variable.len)).collect();
    assert_eq!(names, [("a", None), ("b", Some(8)), ("c", None)]);
}

#[test]
fn initial_values_are_bits_of_the_variables_type() {
    for (declaration, values) in [
        (".global .u32 x = 7;", vec![7]),
        (".global .u8 x = 300;", vec![44]),
        (".global .s16 x = -1;", vec![0xffff]),
        (".global .b64 x = -1;", vec![u64::MAX]),
        (".global .f32 x = 0f3FC00000;", vec![0x3fc0_0000]),
        (".global .f32 x = -1.5;", vec![0xbfc0_0000]),
        (".global .f64 x = 0f3FC00000;", vec![1.5_f64.to_bits()]),
        (".global .f64 x = 0.1;", vec![0.1_f64.to_bits()]),
        (".global .b32 x = 0f3FC00000;", vec![0x3fc0_0000]),
        (".global .b64 x = 1.5;", vec![1.5_f64.to_bits()]),
        (".const .u32 x[4] = {1, 2, (1 << 4) + 1};", vec![1, 2, 17]),
        (".const .u32 x[4] = {};", vec![]),
        (".const .u32 x[2][3] = {{1}, {2, 3}};", vec![1, 0, 0, 2, 3]),
        (".const .u32 x[2][2][2] = {{{}, {1}}, {{2, 3}}};", vec![0, 0, 1, 0, 2, 3]),
        (".const .v2 .u32 x = {1, 2};", vec![1, 2]),
        (".const .v2 .u32 x[3] = {{1}, {2, 3}};", vec![1, 0, 2, 3]),
    ] {
        let values: Vec<_> = values.into_iter().map(Init::Bits).collect();
        variable(declaration, |variable| assert_eq!(variable.init, values, "{declaration}"));
    }
}

#[test]
fn an_open_array_is_as_long_as_its_initial_values() {
    for (declaration, len) in [
        (".global .u32 x[] = {1, 2, 3};", 3),
        (".global .u32 x[][2] = {{1, 2}, {3}};", 4),
        (".global .v4 .u32 x[] = {{1}, {2}};", 2),
    ] {
        variable(declaration, |variable| assert_eq!(variable.len, Some(len), "{declaration}"));
    }
}

#[test]
fn initial_values_may_be_addresses_or_their_bytes() {
    let address = |offset, generic, byte| Init::Address { name: "h", offset, generic, byte };
    variable(".global .u64 g[] = {1, h, generic(h), h+4, generic(h)+8, generic(h)+-8};", |variable| {
        let expected = [
            Init::Bits(1),
            address(0, false, None),
            address(0, true, None),
            address(4, false, None),
            address(8, true, None),
            address(-8, true, None),
        ];
        assert_eq!(variable.init, expected);
    });
    variable(
        ".global .u8 g[] = {1, 0XFF(generic(h)+4), 0xFF00(h), 0xFF00000000000000(generic(h)), (0xFF)};",
        |variable| {
            let expected = [
                Init::Bits(1),
                address(4, true, Some(0)),
                address(0, false, Some(1)),
                address(0, true, Some(7)),
                Init::Bits(0xff),
            ];
            assert_eq!(variable.init, expected);
        },
    );
}

#[test]
fn parameters_keep_their_alignment_whatever_they_point_to() {
    let declaration = ".visible .entry k(\n.param .u64 .ptr .global .align 1 a, .param .align 8 .b8 b[24],\n\
                       .param .u64 .ptr .align 16 c, .param .u64 .ptr d)\n{ ret; }";
    function(declaration, |function| {
        assert!(function.entry);
        assert_eq!((function.name, function.linkage, function.line), ("k", Linkage::Visible, 4));
        let params: Vec<_> =
            function.params.iter().map(|param| (param.name, param.align, param.len, param.line)).collect();
        assert_eq!(params, [("a", 8, None, 5), ("b", 8, Some(24), 5), ("c", 8, None, 6), ("d", 8, None, 6)]);
        assert!(function.params.iter().all(|param| param.space == Space::Param));
    });
}

#[test]
fn functions_are_declared_or_defined_with_what_they_return() {
    function(".extern .func (.param .b32 r) vprintf\n(\n.param .b64 a,\n.param .b64 b\n)\n;", |function| {
        assert!(!function.entry && function.body.is_none());
        assert_eq!(
            (function.linkage, function.returns[0].name, function.params.len()),
            (Linkage::Extern, "r", 2)
        );
    });
    function(".func f .noreturn .abi_preserve 4 { trap; }", |function| {
        assert!(function.params.is_empty() && function.returns.is_empty());
        assert_eq!(function.body.as_ref().map(Vec::len), Some(1));
    });
    function(".weak .func f() { }", |function| assert_eq!(function.linkage, Linkage::Weak));
}

#[test]
fn performance_directives_have_one_to_three_numbers() {
    function(
        ".entry k() .maxntid 256 .minnctapersm 2 .maxnreg 128 .pragma \"nounroll\"; .maxnctapersm 4 { ret; }",
        |function| {
            let expected = Limits {
                max_threads: Some([256, 1, 1]),
                min_blocks_per_sm: Some(2),
                max_registers: Some(128),
                ..Limits::default()
            };
            assert_eq!(function.limits, expected);
        },
    );
    function(
        ".entry k .maxntid 32, 4\n.reqntid 8, 4, 2\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n.maxclusterrank 8\n{ }",
        |function| {
            let expected = Limits {
                max_threads: Some([32, 4, 1]),
                required_threads: Some([8, 4, 2]),
                explicit_cluster: true,
                required_cluster: Some([2, 1, 1]),
                max_cluster: Some(8),
                ..Limits::default()
            };
            assert_eq!(function.limits, expected);
        },
    );
}

#[test]
fn registers_are_single_or_a_range() {
    body(".reg .b32 %r<5>, x, %SP<1>;\n.reg .pred p;", |body| {
        let expected = [
            Statement::Registers {
                ty: Type::B32,
                names: vec![("%r", Some(5)), ("x", None), ("%SP", Some(1))],
            },
            Statement::Registers { ty: Type::Pred, names: vec![("p", None)] },
        ];
        assert_eq!(body, expected);
    });
}

#[test]
fn scopes_nest_and_hold_variables_and_labels() {
    let text = "{ // callseq 0, 0\n.param .b32 param0;\n.shared .align 4 .b8 s[16], t[4];\n{ L: M: ret; }\n}";
    body(text, |body| {
        let [Statement::Block(outer)] = body else { panic!("{body:?}") };
        let [
            Statement::Variable(param),
            Statement::Variable(s),
            Statement::Variable(t),
            Statement::Block(inner),
        ] = &outer[..]
        else {
            panic!("{outer:?}")
        };
        assert_eq!((param.space, s.space, t.space), (Space::Param, Space::Shared, Space::Shared));
        assert_eq!((s.len, t.len, t.align), (Some(16), Some(4), 4));
        let [Statement::Label("L", 8), Statement::Label("M", 8), Statement::Instruction(ret)] = &inner[..]
        else {
            panic!("{inner:?}")
        };
        assert_eq!((ret.opcode, ret.line), ("ret", 8));
    });
}

#[test]
fn guards_are_names_perhaps_negated() {
    instruction("@%p1 bra $L__BB0_2;", |instruction| {
        assert_eq!(instruction.guard, Some(("%p1", false)));
        assert_eq!(instruction.operands, [name("$L__BB0_2")]);
    });
    instruction("@!p bra.uni L;", |instruction| {
        assert_eq!(instruction.guard, Some(("p", true)));
        assert_eq!((instruction.opcode, &instruction.modifiers[..]), ("bra", &["uni"][..]));
    });
}

#[test]
fn modifiers_keep_their_colons_and_digits() {
    instruction(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint \
         [%r1], [%rd1, {%r2, -64}], [%r3], %rd2;",
        |instruction| {
            let expected = [
                "async",
                "bulk",
                "tensor",
                "2d",
                "shared::cluster",
                "global",
                "tile",
                "mbarrier::complete_tx::bytes",
                "L2::cache_hint",
            ];
            assert_eq!(instruction.modifiers, expected);
            let map = Operand::Address {
                base: Box::new(name("%rd1")),
                offset: 0,
                coordinates: vec![name("%r2"), Operand::Int(-64_i64 as u64)],
            };
            assert_eq!(instruction.operands, [at("%r1", 0), map, at("%r3", 0), name("%rd2")]);
        },
    );
    instruction("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {a,b,c,_}, [d+4].unified;", |instruction| {
        assert_eq!(
            instruction.modifiers,
            ["global", "nc", "L1::no_allocate", "L2::128B", "v4", "u32", "unified"]
        );
        assert_eq!(
            instruction.operands[0],
            Operand::Vector(vec![name("a"), name("b"), name("c"), Operand::Sink])
        );
    });
    instruction("add .s32 a, b, 1;", |instruction| assert_eq!(instruction.modifiers, ["s32"]));
}

#[test]
fn special_registers_keep_their_component() {
    operands("mov.u32 %r1, %tid.x;", |operands| assert_eq!(operands, [name("%r1"), name("%tid.x")]));
    operands("mov.v4.u32 {a,b,c,d}, %ctaid;", |operands| assert_eq!(operands[1], name("%ctaid")));
    operands("mov.u32 a, WARP_SZ;", |operands| assert_eq!(operands[1], Operand::Int(32)));
}

#[test]
fn addresses_have_a_base_and_an_offset() {
    for (text, expected) in [
        ("[%rd1]", at("%rd1", 0)),
        ("[%rd1+52]", at("%rd1", 52)),
        ("[%rd1+-4]", at("%rd1", -4)),
        ("[%rd1+4*2]", at("%rd1", 8)),
        ("[table+(4+4)]", at("table", 8)),
        ("[param0+0]", at("param0", 0)),
        ("[16]", Operand::Address { base: Box::new(Operand::Int(16)), offset: 0, coordinates: Vec::new() }),
    ] {
        operands(&format!("ld.u32 a, {text};"), |operands| assert_eq!(operands[1], expected, "{text}"));
    }
    operands("mov.u64 a, table+8;", |operands| assert_eq!(operands[1], Operand::Name("table", 8)));
}

#[test]
fn predicates_come_in_pairs_and_negated() {
    operands("setp.eq.and.s32 %p1|%p2, a, 2, !%p3;", |operands| {
        assert_eq!(operands[0], Operand::Pair(Box::new(name("%p1")), Box::new(name("%p2"))));
        assert_eq!(operands[2..], [Operand::Int(2), Operand::Not("%p3")]);
    });
    operands("elect.sync _|q, 0xffffffff;", |operands| {
        assert_eq!(operands[0], Operand::Pair(Box::new(Operand::Sink), Box::new(name("q"))));
    });
    operands("shfl.sync.bfly.b32 r|_, a, 1, 31, -1;", |operands| {
        assert_eq!(operands[0], Operand::Pair(Box::new(name("r")), Box::new(Operand::Sink)));
    });
    operands("mbarrier.arrive.shared::cta.b64 _, [a], !1;", |operands| {
        assert_eq!(operands[..], [Operand::Sink, at("a", 0), Operand::Int(0)]);
    });
}

#[test]
fn calls_have_lists_of_results_and_arguments() {
    let list = |names: &[&'static str]| Operand::List(names.iter().map(|text| name(text)).collect());
    operands("call.uni (retval0),\nf,\n(\nparam0,\nparam1\n)\n;", |operands| {
        assert_eq!(operands, [list(&["retval0"]), name("f"), list(&["param0", "param1"])]);
    });
    operands("call (r), %rd1, (a), prototype_0;", |operands| {
        assert_eq!(operands, [list(&["r"]), name("%rd1"), list(&["a"]), name("prototype_0")]);
    });
    operands("call f;", |operands| assert_eq!(operands, [name("f")]));
    operands("call f, ();", |operands| assert_eq!(operands, [name("f"), list(&[])]));
    operands("call f, (a, 5, 0f3F800000);", |operands| {
        let arguments = vec![name("a"), Operand::Int(5), Operand::F32(0x3f80_0000)];
        assert_eq!(operands, [name("f"), Operand::List(arguments)]);
    });
}

#[test]
fn prototypes_and_tables_have_names() {
    let text = "prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _, .param .align 8 .b8 _[24]) .noreturn;\n\
                none: .callprototype _;\nT: .branchtargets L1, L2;\nF: .calltargets f, g;";
    body(text, |body| {
        let [Statement::CallPrototype(prototype), Statement::CallPrototype(none), targets, functions] = body
        else {
            panic!("{body:?}")
        };
        assert_eq!((prototype.name, prototype.returns.len(), prototype.params.len()), ("prototype_0", 1, 2));
        assert_eq!((prototype.params[1].name, prototype.params[1].len), ("_", Some(24)));
        assert!(none.returns.is_empty() && none.params.is_empty());
        assert_eq!(*targets, Statement::BranchTargets("T", vec!["L1", "L2"]));
        assert_eq!(*functions, Statement::CallTargets("F", vec!["f", "g"]));
    });
}

#[test]
fn loc_holds_until_the_next_and_ends_with_its_function() {
    let text = with_header(
        ".func f() {\nret;\n.loc 1 20 5\nret;\n{\nret;\n\
         .loc\t2 134 3, function_name $L__info_string0+12, inlined_at 1 48 5\nret;\n}\n.pragma \"nounroll\";\nret;\n}\n\
         .func g() {\nret;\n}\n",
    );
    let module = module(&text);
    let mut found = Vec::new();
    for function in &module.functions {
        sources(function.body.as_deref().unwrap_or_default(), &mut found);
    }
    let first = Some(Source { file: 1, line: 20, inlined_at: None });
    let second = Some(Source { file: 2, line: 134, inlined_at: Some((1, 48)) });
    assert_eq!(found, [None, first, first, second, second, None]);
}

#[test]
fn an_instruction_prints_as_it_was_written() {
    for text in [
        "@!%p1 ld.global.v2.f32 {%f1, _}, [%rd1+-8]",
        "setp.lt.and.f32 %p1|_, %f1, 0f7F800000, !%p2",
        "add.f64 %fd1, %fd2, 0dBFF8000000000000",
        "cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%rd1, {%r1}], [%r2]",
        "call.uni (retval0), f, (param0, -5)",
        "ret",
    ] {
        instruction(&format!("{text};"), |instruction: &Instruction| {
            assert_eq!(instruction.to_string(), text)
        });
    }
}
