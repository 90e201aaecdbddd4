use crate::common::*;
use std::ffi::c_char;

#[test]
fn functions_and_variables_by_name() {
    let program = Program::new();
    let missing = text("missing");
    assert_eq!(
        cuModuleGetFunction(Out::of(&mut 0), program.module, c(&missing)),
        NOT_FOUND
    );
    let count = get(|out| cuModuleGetFunctionCount(out, program.module));
    let mut functions = vec![0u64; count as usize];
    ok(cuModuleEnumerateFunctions(
        Out::of(&mut functions[0]),
        count,
        program.module,
    ));
    let names: Vec<String> = functions
        .iter()
        .map(|&function| {
            let mut name: *const c_char = std::ptr::null();
            ok(cuFuncGetName(Out::of(&mut name), function));
            assert_eq!(get(|out| cuFuncGetModule(out, function)), program.module);
            // SAFETY: the name lives as long as the module.
            unsafe { std::ffi::CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert!(
        names.contains(&"add".to_owned()) && names.contains(&"meet".to_owned()),
        "{names:?}"
    );
    let at = names.iter().position(|name| name == "add").unwrap();
    assert_eq!(functions[at], program.function("add"));

    let counter = text("counter");
    let (mut address, mut size) = (0, 0);
    ok(cuModuleGetGlobal_v2(
        Out::of(&mut address),
        Out::of(&mut size),
        program.module,
        c(&counter),
    ));
    assert_eq!(size, 4);
    ok(launch(program.function("count"), 3, 32, &[]));
    assert_eq!(download::<u32>(address, 1), [7 + 96]);
    assert_eq!(
        cuModuleGetGlobal_v2(Out::null(), Out::null(), program.module, c(&missing)),
        NOT_FOUND
    );
}

#[test]
fn attributes_and_occupancy() {
    let program = Program::new();
    let bounded = program.function("bounded");
    let attribute = |which| get(|out| cuFuncGetAttribute(out, which, bounded));
    assert_eq!(
        (attribute(0), attribute(1), attribute(5), attribute(6)),
        (64, 0, 78, 86)
    );
    assert_eq!(
        cuFuncGetAttribute(Out::of(&mut 0), 99, bounded),
        INVALID_VALUE
    );
    assert_eq!(
        get(|out| cuOccupancyMaxActiveBlocksPerMultiprocessor(out, bounded, 65, 0)),
        0
    );
    let blocks = get(|out| cuOccupancyMaxActiveBlocksPerMultiprocessor(out, bounded, 64, 0));
    assert_eq!(blocks, 16);
    let (mut grid, mut block) = (0, 0);
    ok(cuOccupancyMaxPotentialBlockSize(
        Out::of(&mut grid),
        Out::of(&mut block),
        bounded,
        None,
        0,
        0,
    ));
    assert!(grid > 0 && block > 0 && block <= 64);
}

#[test]
fn bad_images_say_why() {
    let _program = Program::new();
    let broken = text(
        ".version 7.8\n.target sm_70\n.address_size 64\n.visible .entry k() { bogus.u32 %r1; }\n",
    );
    let mut log = [1 as c_char; 200];
    let options = [5u32, 6];
    let mut values = [log.as_mut_ptr() as u64, 200];
    let result = cuModuleLoadDataEx(
        Out::of(&mut 0),
        c(&broken).cast(),
        2,
        In::of_slice(&options),
        Out::of(&mut values[0]),
    );
    assert_eq!(result, INVALID_PTX);
    // SAFETY: the driver terminates what it writes.
    let said = unsafe { std::ffi::CStr::from_ptr(log.as_ptr()) }
        .to_str()
        .unwrap();
    assert!(said.contains("line 4"), "{said}");
    assert_eq!(values[1] as usize, said.len());

    let newer = text(".version 8.0\n.target sm_90\n.address_size 64\n");
    assert_eq!(
        cuModuleLoadData(Out::of(&mut 0), c(&newer).cast()),
        INVALID_PTX
    );
    let elf = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    assert_eq!(
        cuModuleLoadData(Out::of(&mut 0), In::of_slice(&elf).cast()),
        209
    );
    assert_eq!(cuModuleLoadData(Out::of(&mut 0), In::null()), INVALID_VALUE);
    let file = text("/does/not/exist.ptx");
    assert_eq!(cuModuleLoad(Out::of(&mut 0), c(&file)), 301);
}

/// A container with one PTX entry, uncompressed, and nvcc's wrapper around it.
#[test]
fn fat_binaries_and_files() {
    let _program = Program::new();
    let mut payload = PTX.as_bytes().to_vec();
    payload.push(0);
    payload.resize(payload.len().next_multiple_of(8), 0);
    let mut entry = vec![0u8; 64];
    entry[0..2].copy_from_slice(&1u16.to_le_bytes());
    entry[2..4].copy_from_slice(&0x101u16.to_le_bytes());
    entry[4..8].copy_from_slice(&64u32.to_le_bytes());
    entry[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    entry[28..32].copy_from_slice(&70u32.to_le_bytes());
    let mut container = Vec::new();
    container.extend_from_slice(&0xba55_ed50u32.to_le_bytes());
    container.extend_from_slice(&1u16.to_le_bytes());
    container.extend_from_slice(&16u16.to_le_bytes());
    container.extend_from_slice(&((entry.len() + payload.len()) as u64).to_le_bytes());
    container.extend_from_slice(&entry);
    container.extend_from_slice(&payload);
    let module: u64 = get(|out| cuModuleLoadData(out, In::of_slice(&container).cast()));
    assert!(get(|out| cuModuleGetFunctionCount(out, module)) > 5);
    ok(cuModuleUnload(module));
    assert_eq!(cuModuleUnload(module), INVALID_HANDLE);
    let wrapper = [0x0000_0001_4662_43b1u64, container.as_ptr() as u64, 0];
    let module: u64 = get(|out| cuModuleLoadFatBinary(out, In::of_slice(&wrapper).cast()));
    ok(cuModuleUnload(module));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels.ptx");
    std::fs::write(&path, PTX).unwrap();
    let path = text(path.to_str().unwrap());
    let module: u64 = get(|out| cuModuleLoad(out, c(&path)));
    ok(cuModuleUnload(module));
}

/// Two kernels of 60 registers of 64 bits each, one with a bound.
fn limited() -> String {
    let kernel = |name: &str, bound: &str| {
        let sums: String = (2..60)
            .map(|at| format!("    add.u64 %r{at}, %r{}, %r{};\n", at - 1, at / 2))
            .collect();
        format!(
            ".visible .entry {name}(.param .u64 out) {bound}
{{
    .reg .b64 %r<60>;
    ld.param.u64 %r0, [out];
    mov.u64 %r1, 1;
{sums}    st.global.u64 [%r0], %r59;
    ret;
}}
"
        )
    };
    format!(
        ".version 7.0\n.target sm_70\n.address_size 64\n.const .align 4 .b8 table[80];\n{}{}",
        kernel("free", ""),
        kernel("bound", ".maxnreg 24")
    )
}

#[test]
fn registers_are_what_a_program_limits_them_to() {
    let _context = Program::new();
    let image = text(&limited());
    let attribute = |module: u64, kernel: &str, which: u32| {
        let function = get(|out| cuModuleGetFunction(out, module, c(&text(kernel))));
        get::<i32>(|out| cuFuncGetAttribute(out, which, function))
    };
    let (constants, registers) = (2, 4);
    let module = get(|out| cuModuleLoadData(out, c(&image).cast()));
    assert_eq!(attribute(module, "free", registers), 64);
    assert_eq!(attribute(module, "bound", registers), 24);
    assert_eq!(attribute(module, "free", constants), 80);
    // CU_JIT_MAX_REGISTERS, when a module is loaded and when one is linked.
    let (option, mut most) = ([0u32], [38u64]);
    let loaded = get(|out| {
        let values = Out::of(&mut most[0]);
        cuModuleLoadDataEx(out, c(&image).cast(), 1, In::of_slice(&option), values)
    });
    assert_eq!(attribute(loaded, "free", registers), 38);
    assert_eq!(attribute(loaded, "bound", registers), 24);
    let state = get(|out| cuLinkCreate_v2(1, In::of_slice(&option), Out::of(&mut most[0]), out));
    let bytes = image.as_bytes_with_nul();
    ok(cuLinkAddData_v2(
        state,
        1,
        In::of_slice(bytes).cast(),
        bytes.len(),
        In::null(),
        0,
        In::null(),
        Out::null(),
    ));
    let (mut at, mut size) = (0u64, 0usize);
    ok(cuLinkComplete(state, Out::of(&mut at), Out::of(&mut size)));
    // SAFETY: the linker gave the address of so many bytes.
    let linked = unsafe { In::<u8>::at(at) };
    let linked = get(|out| cuModuleLoadData(out, linked.cast()));
    assert_eq!(attribute(linked, "free", registers), 38);
    ok(cuLinkDestroy(state));
}
