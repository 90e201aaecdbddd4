use crate::common::*;
use std::ffi::{CStr, c_char};

const PTX_INPUT: u32 = 1;

const USER: &str = "
.version 7.8
.target sm_70
.address_size 64
.extern .func (.param .b32 r) twice (.param .b32 a);
.extern .global .u32 offset;
.global .u32 mine = 100;
.visible .entry apply(.param .u64 p)
{
    .reg .u64 %p;
    .reg .u32 %v, %o;
    ld.param.u64 %p, [p];
    ld.global.u32 %v, [%p];
    {
        .param .b32 a0;
        .param .b32 r0;
        st.param.b32 [a0], %v;
        call.uni (r0), twice, (a0);
        ld.param.b32 %v, [r0];
    }
    ld.global.u32 %o, [offset];
    add.u32 %v, %v, %o;
    ld.global.u32 %o, [mine];
    add.u32 %v, %v, %o;
    st.global.u32 [%p], %v;
    ret;
}
";

const DEFINER: &str = "
.version 8.0
.target sm_75
.address_size 64
.visible .global .u32 offset = 7;
.global .u32 mine = 1000;
.visible .func (.param .b32 r) twice (.param .b32 a)
{
    .reg .u32 %v, %o;
    ld.param.b32 %v, [a];
    add.u32 %v, %v, %v;
    ld.global.u32 %o, [mine];
    add.u32 %v, %v, %o;
    st.param.b32 [r], %v;
    ret;
}
";

struct Link {
    state: u64,
    errors: Box<[c_char; 400]>,
    _options: Box<[u32; 4]>,
    values: Box<[u64; 4]>,
}

impl Link {
    fn new() -> Link {
        let options = Box::new([3u32, 4, 5, 6]);
        let mut errors = Box::new([0 as c_char; 400]);
        let mut values = Box::new([0, 0, errors.as_mut_ptr() as u64, 400]);
        let state =
            get(|out| cuLinkCreate_v2(4, In::of_slice(&options[..]), Out::of(&mut values[0]), out));
        Link {
            state,
            errors,
            _options: options,
            values,
        }
    }

    fn add(&self, kind: u32, data: &[u8], name: &str) -> u32 {
        let name = text(name);
        cuLinkAddData_v2(
            self.state,
            kind,
            In::of_slice(data).cast(),
            data.len(),
            c(&name),
            0,
            In::null(),
            Out::null(),
        )
    }

    fn complete(&self) -> Result<Vec<u8>, u32> {
        let (mut image, mut size) = (0, 0);
        match cuLinkComplete(self.state, Out::of(&mut image), Out::of(&mut size)) {
            // SAFETY: the image lives as long as the linker.
            0 => Ok(unsafe { std::slice::from_raw_parts(image as *const u8, size) }.to_vec()),
            error => Err(error),
        }
    }

    fn said(&self) -> String {
        // SAFETY: the driver terminates what it writes.
        let said = unsafe { CStr::from_ptr(self.errors.as_ptr()) };
        let said = said.to_string_lossy().into_owned();
        assert_eq!(self.values[3] as usize, said.len());
        said
    }
}

fn run(image: &[u8]) -> u32 {
    let module: u64 = get(|out| cuModuleLoadData(out, In::of_slice(image).cast()));
    let name = text("apply");
    let apply: u64 = get(|out| cuModuleGetFunction(out, module, c(&name)));
    let at = upload(&[5u32]);
    ok(launch(apply, 1, 1, &[at]));
    let result = download::<u32>(at, 1)[0];
    ok(cuModuleUnload(module));
    result
}

#[test]
fn inputs_use_each_other() {
    let _program = Program::new();
    let link = Link::new();
    ok(link.add(PTX_INPUT, USER.as_bytes(), "user.ptx"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("definer.ptx");
    std::fs::write(&path, DEFINER).unwrap();
    let file = text(path.to_str().unwrap());
    ok(cuLinkAddFile_v2(
        link.state,
        PTX_INPUT,
        c(&file),
        0,
        In::null(),
        Out::null(),
    ));
    let image = link.complete().unwrap();
    assert_eq!(link.complete().unwrap(), image);
    assert_eq!(link.add(PTX_INPUT, USER.as_bytes(), "late"), INVALID_VALUE);
    // The copy serves after the linker is gone, and as an input.
    let second = Link::new();
    ok(second.add(0, &image, "linked"));
    let again = second.complete().unwrap();
    for state in [link.state, second.state] {
        ok(cuLinkDestroy(state));
        assert_eq!(cuLinkDestroy(state), INVALID_HANDLE);
    }
    assert_eq!(run(&image), 2 * 5 + 1000 + 7 + 100);
    assert_eq!(run(&again), 2 * 5 + 1000 + 7 + 100);
    // It is an ELF file, whose headers say where it ends: after the section with the names.
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let names = word(0x28) + 2 * 64;
    assert_eq!(word(names + 0x18) + word(names + 0x20), image.len());
    assert_eq!(&image[..4], b"\x7fELF");
    // Damage is found.
    let mut cut = image.clone();
    cut[256 + 8] = 0xff;
    assert_eq!(
        cuModuleLoadData(Out::of(&mut 0), In::of_slice(&cut).cast()),
        200
    );
}

#[test]
fn errors_are_in_the_log() {
    let _program = Program::new();
    let link = Link::new();
    let broken = USER.replace("add.u32", "add.u32 %nothing,");
    assert_eq!(
        link.add(PTX_INPUT, broken.as_bytes(), "broken.ptx"),
        INVALID_PTX
    );
    assert!(
        link.said().contains("broken.ptx: line 22"),
        "{}",
        link.said()
    );
    ok(link.add(PTX_INPUT, USER.as_bytes(), "user.ptx"));
    assert_eq!(link.complete(), Err(999));
    assert!(
        link.said()
            .contains("undefined reference to `twice` in `apply`"),
        "{}",
        link.said()
    );
    ok(link.add(PTX_INPUT, DEFINER.as_bytes(), "definer.ptx"));
    ok(link.add(PTX_INPUT, DEFINER.as_bytes(), "definer again"));
    assert_eq!(link.complete(), Err(999));
    assert!(link.said().contains("more than once"), "{}", link.said());
    assert_eq!(link.add(0, b"\x7fELF\x02\x01", "cubin"), 209);
    assert_eq!(link.add(3, b"no object", "object"), 209);
    ok(link.add(4, b"!<arch>\n", "libnothing.a"));
    assert_eq!(link.add(5, b"BC", "bitcode"), 200);
    assert_eq!(link.add(9, b"x", "unknown"), INVALID_VALUE);
    assert_eq!(link.add(2, b"\x50\xed\x55\xba", "short"), 200);
    ok(cuLinkDestroy(link.state));
    assert_eq!(link.add(PTX_INPUT, b".", "gone"), INVALID_HANDLE);
}

/// An object's fat binary, in the middle of other bytes.
#[test]
fn objects_have_fat_binaries() {
    let _program = Program::new();
    let mut payload = DEFINER.as_bytes().to_vec();
    payload.push(0);
    payload.resize(payload.len().next_multiple_of(8), 0);
    let mut object = b"!<arch>\nsome header ".to_vec();
    object.extend_from_slice(&0xba55_ed50u32.to_le_bytes());
    object.extend_from_slice(&[1, 0, 16, 0]);
    object.extend_from_slice(&(64 + payload.len() as u64).to_le_bytes());
    let mut entry = [0u8; 64];
    entry[0..4].copy_from_slice(&[1, 0, 1, 1]);
    entry[4] = 64;
    entry[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    entry[28] = 75;
    object.extend_from_slice(&entry);
    object.extend_from_slice(&payload);
    object.extend_from_slice(b"the end");
    let link = Link::new();
    ok(link.add(4, &object, "libdefiner.a"));
    ok(link.add(PTX_INPUT, USER.as_bytes(), "user.ptx"));
    assert_eq!(run(&link.complete().unwrap()), 2 * 5 + 1000 + 7 + 100);
    ok(cuLinkDestroy(link.state));
}
