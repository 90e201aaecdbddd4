//! C programs of the tests, in `tests/c/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{python, root};

/// Compiles `tests/c/NAME.c` to `folder/NAME`.
pub fn compile(folder: &Path, name: &str) -> Result<PathBuf> {
    let program = folder.join(name);
    gcc(&["-O1", "-ldl", "-lpthread"], name, &program)?;
    Ok(program)
}

/// The same with other arguments, to another place.
pub fn gcc(arguments: &[&str], name: &str, output: &Path) -> Result<()> {
    let source = root().join("tests/c").join(name).with_extension("c");
    let mut command = Command::new("gcc");
    command
        .args(["-std=gnu11", "-Wall", "-Werror", "-o"])
        .arg(output)
        .arg(source)
        .args(arguments);
    python::run(&mut command, "gcc").map(drop)
}
