//! A call is one entry: an invented function is added to a copy of the call table, the code is generated, and a program calls it from
//! client to worker, with no other edit.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::c::gcc;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::{Daemon, Programs, root};

const ENTRY: &str = r#"//! A function that CUDA does not have.

unsafe extern "C" {
    #[op(0x7f01, waits = "a test reads the answer", no_context)]
    fn cuInvented(a: u32, #[out] b: u64);
}
"#;

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| what.to_owned())?;
    ensure!(
        output.status.success(),
        "{what}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Copies the files that git knows; one that is the same is left alone, so that the next run builds little.
fn copy_sources(to: &Path) -> Result<()> {
    let list = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z"])
        .output()
        .context("git ls-files")?;
    ensure!(list.status.success(), "git ls-files failed");
    for name in list
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = std::str::from_utf8(name)?;
        let Ok(content) = std::fs::read(root().join(name)) else {
            continue;
        };
        let target = to.join(name);
        if std::fs::read(&target).is_ok_and(|have| have == content) {
            continue;
        }
        std::fs::create_dir_all(target.parent().context("a file's folder")?)?;
        std::fs::write(&target, content)?;
    }
    Ok(())
}

#[test]
fn an_entry_in_the_table_is_all_that_a_call_needs() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-one-entry-")?;
    let work = root().join("target/one-entry");
    let copy = work.join("src");
    copy_sources(&copy)?;
    std::fs::write(copy.join("rgpu-proto/api/invented.rs"), ENTRY)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut generate = Command::new(&cargo);
    generate
        .current_dir(root())
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--",
            "codegen",
            "--root",
        ])
        .arg(&copy);
    run(&mut generate, "codegen")?;
    let built = work.join("target");
    let mut build = Command::new(&cargo);
    build
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", &built)
        .args(["build", "--quiet", "-p", "rgpu-shim-cuda", "-p", "rgpud"]);
    run(&mut build, "the build of the copy")?;

    let driver = folder.path().join("libinvented.so");
    let softgpu = programs.softgpu_lib();
    let search = format!("-L{}", softgpu.display());
    let place = format!("-Wl,-rpath,{}", softgpu.display());
    let link = [
        "-shared",
        "-fPIC",
        "-Wl,--no-as-needed",
        &search,
        &place,
        "-l:libcuda.so.1",
    ];
    gcc(&link, "invented", &driver)?;
    let client: PathBuf = folder.path().join("client");
    gcc(&["-ldl"], "call_invented", &client)?;
    let library = folder.path().join("lib");
    std::fs::create_dir_all(&library)?;
    std::os::unix::fs::symlink(
        built.join("debug/librgpu_cuda.so"),
        library.join("libcuda.so.1"),
    )?;
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-the-one-entry-test")?;

    let socket = format!("unix://{}", folder.path().join("rgpud.sock").display());
    let mut rgpud = Command::new(built.join("debug/rgpud"));
    clean(&mut rgpud)
        .env("SOFTGPU_HOME", folder.path())
        .arg("--driver")
        .arg(&driver)
        // What the driver is linked with.
        .arg("--worker-files")
        .arg(&softgpu)
        .args(["--listen", &socket, "--token-file"])
        .arg(&token);
    let _server = Daemon::start("rgpud", rgpud, &folder.path().join("rgpud.log"))?;
    let mut program = Command::new(&client);
    let output = clean(&mut program)
        .env("LD_LIBRARY_PATH", &library)
        .env("RGPU_SERVERS", &socket)
        .env("RGPU_TOKEN_FILE", &token)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text == "init 0\ngood 0 22\nbad 999\nnull 1\n",
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
