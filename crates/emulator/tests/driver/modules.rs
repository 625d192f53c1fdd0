//! Modules and libraries: images, options, functions, variables.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use crate::api::{self, cu, ok};
use crate::harness::{
    Context, PTX, answer, child, download, function, is_child, launch, module, refused, stderr, upload,
};

fn load(image: &[u8]) -> u32 {
    let mut module = 0;
    let mut image = image.to_vec();
    image.extend([0; 16]);
    cu!(cuModuleLoadData(&mut module, image.as_ptr().cast()))
}

#[test]
fn a_text_is_loaded_run_and_unloaded() {
    let _context = Context::new();
    let module = module(PTX);
    let (mut count, mut functions) = (0, [0; 8]);
    ok!(cuModuleGetFunctionCount(&mut count, module));
    assert_eq!(count, 2);
    ok!(cuModuleEnumerateFunctions(functions.as_mut_ptr(), 8, module));
    let add = function(module, c"add");
    assert_eq!((functions[0], functions[2]), (add, 0));
    let mut other = 0;
    refused(cu!(cuModuleGetFunction(&mut other, module, c"subtract".as_ptr())), api::NOT_FOUND);
    refused(cu!(cuModuleGetFunction(&mut other, module, c"answer".as_ptr())), api::NOT_FOUND);
    refused(cu!(cuModuleGetFunction(&mut other, module, null())), api::INVALID_VALUE);
    refused(cu!(cuModuleGetFunction(&mut other, add, c"add".as_ptr())), api::INVALID_HANDLE);
    let values = upload(&[1_u32, 2, 3, 4, 5]);
    refused(launch(add, 1, 32, &[&values, &4_u32, &10_u32]), 0);
    assert_eq!(download::<u32>(values, 5), [11, 12, 13, 14, 5]);
    ok!(cuModuleUnload(module));
    refused(launch(add, 1, 32, &[&values, &4_u32, &10_u32]), api::INVALID_HANDLE);
    refused(cu!(cuModuleUnload(module)), api::INVALID_HANDLE);
    let mut mode = 0;
    ok!(cuModuleGetLoadingMode(&mut mode));
    assert_eq!(mode, 1);
}

#[test]
fn variables_hold_their_initial_values() {
    let _context = Context::new();
    let module = module(PTX);
    let (address, bytes) = answer(module);
    assert_eq!((bytes, download::<u32>(address, 1)), (4, vec![42]));
    let (mut table, mut size) = (0, 0);
    ok!(cuModuleGetGlobal_v2(&mut table, null_mut(), module, c"table".as_ptr()));
    ok!(cuModuleGetGlobal_v2(null_mut(), &mut size, module, c"table".as_ptr()));
    assert_eq!((size, download::<u8>(table, 6)), (6, vec![1, 2, 3, 4, 0, 0]));
    refused(cu!(cuModuleGetGlobal_v2(&mut table, &mut size, module, c"add".as_ptr())), api::NOT_FOUND);
    // Another load has variables of its own.
    let other = answer(crate::harness::module(PTX)).0;
    ok!(cuMemsetD32_v2(other, 7, 1));
    assert_eq!(download::<u32>(address, 1), [42]);
}

#[test]
fn addresses_among_initial_values_are_those_of_the_variables() {
    let _context = Context::new();
    let module = module(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .global .align 4 .b8 text[4] = {104, 105};\n\
         .visible .global .align 8 .u64 pointer[3] = {generic(text), generic(text)+2, 5};\n\
         .visible .global .align 4 .f32 half = 0f3F000000;\n",
    );
    let (mut pointer, mut half, mut bytes) = (0, 0, 0);
    ok!(cuModuleGetGlobal_v2(&mut pointer, &mut bytes, module, c"pointer".as_ptr()));
    assert_eq!(bytes, 24);
    let [first, second, third] = download::<u64>(pointer, 3)[..] else { panic!("three") };
    assert_eq!((second, third), (first + 2, 5));
    assert_eq!(download::<u8>(first, 4), [104, 105, 0, 0]);
    ok!(cuModuleGetGlobal_v2(&mut half, null_mut(), module, c"half".as_ptr()));
    assert_eq!(download::<f32>(half, 1), [0.5]);
}

#[test]
fn images_that_are_not_ptx_get_the_drivers_codes() {
    let _context = Context::new();
    refused(load(b"\x7fELF\x02\x01\x01"), api::NO_BINARY_FOR_GPU);
    refused(load(b"hello"), api::INVALID_IMAGE);
    refused(load(b""), api::INVALID_IMAGE);
    refused(load(b"// .version 8.0"), api::INVALID_IMAGE);
    refused(load(b"\xff\xfe\x00"), api::INVALID_IMAGE);
    refused(load(&0xba55_ed50_u32.to_le_bytes()), api::NO_BINARY_FOR_GPU);
    let mut module = 0;
    refused(cu!(cuModuleLoadData(&mut module, null())), api::INVALID_VALUE);
    let text = CString::new(PTX).unwrap();
    refused(cu!(cuModuleLoadData(null_mut(), text.as_ptr().cast())), api::INVALID_VALUE);
    refused(cu!(cuModuleLoad(&mut module, c"/no/such/file.ptx".as_ptr())), api::FILE_NOT_FOUND);
}

#[test]
fn texts_for_other_devices_and_other_versions_get_the_drivers_codes() {
    let _context = Context::new();
    let with = |header: &str| load(PTX.replace(".version 8.0\n.target sm_80", header).as_bytes());
    refused(with(".version 9.0\n.target sm_90a"), 0);
    refused(with(".version 9.0\n.target sm_100"), api::NO_BINARY_FOR_GPU);
    refused(with(".version 99.0\n.target sm_80"), api::UNSUPPORTED_PTX_VERSION);
    refused(load(PTX.replace("add.u32 %r7, %r7, %r2;", "add.u32 %r7, %r7;").as_bytes()), api::INVALID_PTX);
    refused(load(PTX.replace("ret;", "ret").as_bytes()), api::INVALID_PTX);
    refused(load(PTX.replace("[add_p]", "[no_p]").as_bytes()), api::INVALID_PTX);
    // A function that no kernel calls.
    let newer = ".func newer() { .reg .b16 %h; add.rn.bf16 %h, %h, %h; ret; }";
    refused(load(format!("{PTX}\n{newer}").as_bytes()), api::INVALID_PTX);
    refused(load(format!("{}\n{newer}", PTX.replace("sm_80", "sm_90")).as_bytes()), 0);
}

#[test]
fn the_error_log_says_what_ptxas_would() {
    let _context = Context::new();
    let text = CString::new(PTX.replace("add.u32 %r7, %r7, %r2;", "add.u32 %r7, %r99, %r2;")).unwrap();
    let (mut module, mut log, mut info, mut seconds) = (0, [1 as c_char; 256], [1 as c_char; 16], usize::MAX);
    let mut options = [5, 6, 3, 4, 2];
    let mut values: [*mut c_void; 5] = [
        log.as_mut_ptr().cast(),
        256 as *mut c_void,
        info.as_mut_ptr().cast(),
        16 as *mut c_void,
        seconds as *mut c_void,
    ];
    let code = cu!(cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        5,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    refused(code, api::INVALID_PTX);
    // SAFETY: the driver ended it with NUL.
    let said = unsafe { CStr::from_ptr(log.as_ptr()) }.to_str().unwrap();
    let line = PTX.lines().position(|line| line.contains("add.u32 %r7")).unwrap() + 1;
    assert!(said.starts_with(&format!("ptxas application ptx input, line {line}; error   : ")), "{said}");
    assert!(said.contains("%r99") && said.contains("ptxas fatal"), "{said}");
    assert_eq!(values[1] as usize, said.len());
    assert_eq!((info[0], values[3] as usize), (0, 0));
    seconds = values[4] as usize;
    assert_eq!(seconds, 0);
    // A log without room is left alone, and a text that is well leaves an empty one.
    values[1] = null_mut();
    log = [1; 256];
    let code = cu!(cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        2,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    refused(code, api::INVALID_PTX);
    assert_eq!(log, [1; 256]);
    values[1] = 256 as *mut c_void;
    let text = CString::new(PTX).unwrap();
    ok!(cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr()));
    assert_eq!((log[0], values[1] as usize), (0, 0));
    options[0] = 99;
    let code = cu!(cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        1,
        options.as_mut_ptr(),
        values.as_mut_ptr()
    ));
    refused(code, api::INVALID_VALUE);
}

#[test]
fn a_kernel_that_is_not_emulated_spoils_no_other() {
    const TEST: &str = "modules::a_kernel_that_is_not_emulated_spoils_no_other";
    if !is_child() {
        let text = stderr(&child(TEST, &[]));
        assert!(text.contains("cuModuleGetFunction: poke: PTX line "), "{text}");
        assert!(text.contains("(CUDA_ERROR_NOT_SUPPORTED)"), "{text}");
        return;
    }
    let _context = Context::new();
    let module = module(&PTX.replace("mov.u32 %r1, 1;", "frobnicate.sync.u32 %r1, 1;"));
    let (add, mut poke) = (function(module, c"add"), 0);
    refused(cu!(cuModuleGetFunction(&mut poke, module, c"poke".as_ptr())), api::NOT_SUPPORTED);
    let values = upload(&[1_u32]);
    refused(launch(add, 1, 1, &[&values, &1_u32, &1_u32]), 0);
    assert_eq!(download::<u32>(values, 1), [2]);
}

/// A fat binary as `nvcc -fatbin` lays it out, with parts of kind, architecture, flags and content.
fn fatbin(parts: &[(u16, u32, u64, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, architecture, flags, content) in parts {
        let mut header = Vec::new();
        header.extend(kind.to_le_bytes());
        header.extend(0x101_u16.to_le_bytes());
        header.extend(64_u32.to_le_bytes());
        header.extend((content.len() as u64).to_le_bytes());
        header.extend([0; 12]);
        header.extend(architecture.to_le_bytes());
        header.extend([0; 8]);
        header.extend(flags.to_le_bytes());
        header.extend([0; 16]);
        assert_eq!(header.len(), 64);
        body.extend(header);
        body.extend(*content);
    }
    let mut image = Vec::new();
    image.extend(0xba55_ed50_u32.to_le_bytes());
    image.extend(1_u16.to_le_bytes());
    image.extend(16_u16.to_le_bytes());
    image.extend((body.len() as u64).to_le_bytes());
    image.extend(body);
    image
}

#[test]
fn a_fat_binarys_ptx_is_found() {
    let _context = Context::new();
    let newer = PTX.replace("answer = 42", "answer = 43");
    let [old, new] = [PTX, &newer].map(|text| [text.as_bytes(), &[0; 4]].concat());
    let image = fatbin(&[
        (2, 90, 0, b"\x7fELF"),
        (1, 80, 0x11, &old),
        (1, 90, 0x11, &new),
        (1, 100, 0x2011, b"packed"),
    ]);
    let mut module = 0;
    ok!(cuModuleLoadFatBinary(&mut module, image.as_ptr().cast()));
    assert_eq!(download::<u32>(answer(module).0, 1), [43]);
    // What a host object holds points to it.
    let wrapper = [0x1_4662_43b1_u64, image.as_ptr() as u64, 0];
    ok!(cuModuleLoadData(&mut module, wrapper.as_ptr().cast()));
    assert_eq!(download::<u32>(answer(module).0, 1), [43]);
    refused(load(&fatbin(&[(1, 90, 0x2011, b"packed")])), api::NO_BINARY_FOR_GPU);
    refused(load(&fatbin(&[(2, 90, 0, b"\x7fELF")])), api::NO_BINARY_FOR_GPU);
    let folder = std::env::temp_dir().join(format!("wikigpt-emulator-{}.fatbin", std::process::id()));
    std::fs::write(&folder, &image).unwrap();
    let path = CString::new(folder.to_str().unwrap()).unwrap();
    ok!(cuModuleLoad(&mut module, path.as_ptr()));
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(download::<u32>(answer(module).0, 1), [43]);
}

#[test]
fn functions_have_attributes_names_and_parameters() {
    let _context = Context::new();
    let text = PTX.replace(".param .u32 add_amount)\n{", ".param .u32 add_amount)\n.maxntid 256, 2, 1\n.maxnreg 40\n{\n.shared .align 4 .b8 room[1000];\n.local .align 8 .b8 depot[24];\n.reg .b64 %depot;\nmov.u64 %depot, depot;\nmov.u64 %depot, room;");
    let module = module(&text);
    let add = function(module, c"add");
    let attribute = |number: u32| {
        let mut value = i32::MIN;
        ok!(cuFuncGetAttribute(&mut value, number, add));
        value
    };
    assert_eq!((attribute(0), attribute(1), attribute(2), attribute(4)), (512, 1000, 0, 40));
    assert!(attribute(3) >= 24);
    assert_eq!((attribute(5), attribute(6), attribute(7)), (80, 90, 0));
    assert_eq!((attribute(8), attribute(9), attribute(10)), (49152 - 1000, -1, 0));
    assert_eq!([11, 12, 13, 14, 15].map(attribute), [0; 5]);
    let mut value = 0;
    refused(cu!(cuFuncGetAttribute(&mut value, 16, add)), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 8, 232_448 - 1000));
    assert_eq!(attribute(8), 232_448 - 1000);
    refused(cu!(cuFuncSetAttribute(add, 8, 232_448 - 999)), api::INVALID_VALUE);
    refused(cu!(cuFuncSetAttribute(add, 8, -1)), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 9, 100));
    refused(cu!(cuFuncSetAttribute(add, 9, 101)), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 14, 1));
    refused(cu!(cuFuncSetAttribute(add, 14, 2)), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 15, 2));
    refused(cu!(cuFuncSetAttribute(add, 15, 3)), api::INVALID_VALUE);
    ok!(cuFuncSetAttribute(add, 11, 2));
    refused(cu!(cuFuncSetAttribute(add, 12, 17)), api::INVALID_VALUE);
    refused(cu!(cuFuncSetAttribute(add, 0, 1)), api::INVALID_VALUE);
    assert_eq!([9, 14, 15, 11].map(attribute), [100, 1, 2, 2]);
    ok!(cuFuncSetCacheConfig(add, 1));
    refused(cu!(cuFuncSetCacheConfig(add, 4)), api::INVALID_VALUE);
    ok!(cuFuncSetSharedMemConfig(add, 1));
    let (mut of, mut state, mut name) = (0, 7, null());
    ok!(cuFuncGetModule(&mut of, add));
    assert_eq!(of, module);
    ok!(cuFuncIsLoaded(&mut state, add));
    assert_eq!(state, 1);
    ok!(cuFuncLoad(add));
    ok!(cuFuncGetName(&mut name, add));
    // SAFETY: a text of the driver's, whose function lives.
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"add");
    let (mut offset, mut size) = (7, 7);
    for (index, expected) in [(0, 8), (8, 4), (12, 4)].into_iter().enumerate() {
        ok!(cuFuncGetParamInfo(add, index, &mut offset, &mut size));
        assert_eq!((offset, size), expected);
    }
    ok!(cuFuncGetParamInfo(add, 1, &mut offset, null_mut()));
    refused(cu!(cuFuncGetParamInfo(add, 3, &mut offset, &mut size)), api::INVALID_VALUE);
    refused(cu!(cuFuncGetAttribute(&mut value, 0, module)), api::INVALID_HANDLE);
}

#[test]
fn a_library_runs_in_every_context() {
    let context = Context::new();
    let (text, mut library, mut kernel, mut count, mut kernels) =
        (CString::new(PTX).unwrap(), 0, 0, 0, [0; 4]);
    let code = text.as_ptr().cast();
    ok!(cuLibraryLoadData(&mut library, code, null_mut(), null_mut(), 0, null_mut(), null_mut(), 0));
    ok!(cuLibraryGetKernel(&mut kernel, library, c"add".as_ptr()));
    ok!(cuLibraryGetKernelCount(&mut count, library));
    assert_eq!(count, 2);
    ok!(cuLibraryEnumerateKernels(kernels.as_mut_ptr(), 4, library));
    assert_eq!((kernels[0], kernels[2]), (kernel, 0));
    let (mut function, mut of, mut name, mut value) = (0, 0, null(), 0);
    ok!(cuKernelGetFunction(&mut function, kernel));
    ok!(cuKernelGetLibrary(&mut of, kernel));
    assert_eq!(of, library);
    ok!(cuKernelGetName(&mut name, kernel));
    // SAFETY: a text of the driver's, whose kernel lives.
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"add");
    ok!(cuKernelGetAttribute(&mut value, 0, kernel, 0));
    assert_eq!(value, 1024);
    ok!(cuKernelSetAttribute(8, 100_000, kernel, 0));
    ok!(cuKernelGetAttribute(&mut value, 8, kernel, 0));
    assert_eq!(value, 100_000);
    ok!(cuKernelSetCacheConfig(kernel, 0, 0));
    let (mut offset, mut size, mut address, mut bytes) = (0, 0, 0, 0);
    ok!(cuKernelGetParamInfo(kernel, 2, &mut offset, &mut size));
    assert_eq!((offset, size), (12, 4));
    ok!(cuLibraryGetGlobal(&mut address, &mut bytes, library, c"answer".as_ptr()));
    assert_eq!((bytes, download::<u32>(address, 1)), (4, vec![42]));
    for launched in [function, kernel] {
        let values = upload(&[1_u32]);
        refused(launch(launched, 1, 1, &[&values, &1_u32, &1_u32]), 0);
        assert_eq!(download::<u32>(values, 1), [2]);
    }
    ok!(cuCtxDestroy_v2(context.0));
    let _other = Context::new();
    let values = upload(&[1_u32]);
    refused(launch(kernel, 1, 1, &[&values, &1_u32, &1_u32]), 0);
    assert_eq!(download::<u32>(values, 1), [2]);
    refused(cu!(cuLibraryGetKernel(&mut kernels[0], library, c"sub".as_ptr())), api::NOT_FOUND);
    refused(cu!(cuLibraryGetManaged(&mut address, &mut bytes, library, c"answer".as_ptr())), api::NOT_FOUND);
    let mut unified = null_mut();
    refused(cu!(cuLibraryGetUnifiedFunction(&mut unified, library, c"add".as_ptr())), api::NOT_FOUND);
    refused(cu!(cuLibraryGetModule(&mut of, library)), api::NOT_SUPPORTED);
    refused(cu!(cuFuncGetModule(&mut of, function)), api::INVALID_HANDLE);
    let add = crate::harness::function(module(PTX), c"add");
    refused(cu!(cuKernelGetLibrary(&mut of, add)), api::INVALID_HANDLE);
    ok!(cuLibraryUnload(library));
    refused(cu!(cuLibraryUnload(library)), api::INVALID_HANDLE);
    refused(launch(kernel, 1, 1, &[&values, &1_u32, &1_u32]), api::INVALID_HANDLE);
    let (mut option, missing) = (2, c"/no/such/file.ptx".as_ptr());
    refused(
        cu!(cuLibraryLoadData(&mut library, code, null_mut(), null_mut(), 0, &mut option, null_mut(), 1)),
        api::INVALID_VALUE,
    );
    refused(
        cu!(cuLibraryLoadFromFile(
            &mut library,
            missing,
            null_mut(),
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            0
        )),
        api::FILE_NOT_FOUND,
    );
}
