//! What the set-up cannot put into `.cache/`: a C compiler, and a Python that makes virtual environments. Looked for before
//! anything is built, so that nobody waits for minutes to be told.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use rgpu_system::python;

use crate::progress::step;

struct Need {
    what: &'static str,
    /// Debian's.
    package: &'static str,
    there: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "gcc",
        package: "gcc libc6-dev",
        there: || succeeds(Path::new("gcc"), &["--version"]),
    },
    Need {
        what: "Python of at least 3.11",
        package: "python3",
        there: || python::system().is_ok(),
    },
    Need {
        what: "Python's venv and ensurepip",
        package: "python3-venv",
        there: || {
            python::system()
                .is_ok_and(|python| succeeds(&python, &["-c", "import venv, ensurepip"]))
        },
    },
];

const CXX: Need = Need {
    what: "g++",
    package: "g++",
    there: || succeeds(Path::new("g++"), &["--version"]),
};

/// What `bench softgpu` measures against.
const RIVALS: &[Need] = &[
    CXX,
    Need {
        what: "OpenCL's headers and loader",
        package: "ocl-icd-opencl-dev",
        there: || {
            let link = "echo '#include <CL/cl.h>\nint main() { return clFinish(0) == 0; }' | gcc -x c - -o /dev/null -lOpenCL";
            succeeds(Path::new("sh"), &["-c", link])
        },
    },
    Need {
        what: "PoCL",
        package: "pocl-opencl-icd",
        there: || Path::new("/etc/OpenCL/vendors/pocl.icd").exists(),
    },
];

/// What `clients` needs beside its Python packages.
const CLIENTS: &[Need] = &[
    CXX,
    Need {
        // Older ones have no arithmetic of bf16.
        what: "clang 19",
        package: "clang-19",
        there: || succeeds(Path::new("clang-19"), &["--version"]),
    },
];

/// What `test` needs beside: the web page's tests run in a real browser, and functions' in sandboxes.
const TESTS: &[Need] = &[
    Need {
        what: "Chromium",
        package: "chromium",
        there: || {
            let places = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
            places.iter().any(|place| Path::new(place).is_file())
        },
    },
    Need {
        what: "bubblewrap",
        package: "bubblewrap",
        there: || succeeds(Path::new("bwrap"), &["--version"]),
    },
];

fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

pub fn install() -> Result<()> {
    get(NEEDS)
}

pub fn install_rivals() -> Result<()> {
    get(RIVALS)
}

pub fn install_for_tests() -> Result<()> {
    get(TESTS)
}

pub fn install_for_clients() -> Result<()> {
    get(CLIENTS)
}

/// Installs what is missing where that is possible: as root on Debian and its kin. Elsewhere says what to install.
fn get(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|need| need.package.split(' '))
        .collect();
    let by_hand = format!(
        "not on this machine: {}; on Debian: apt install {}",
        names.join(", "),
        packages.join(" ")
    );
    let root = rustix::process::geteuid().is_root();
    if !root || !succeeds(Path::new("apt-get"), &["--version"]) {
        bail!("{by_hand}");
    }
    step(&format!("apt-get install {}", packages.join(" ")), |_| {
        apt(&["update", "--quiet"])?;
        let mut install = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
        install.extend(&packages);
        apt(&install)
    })?;
    if !missing.iter().all(|need| (need.there)()) {
        bail!("{by_hand} (which was tried, and has not helped)");
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    python::run(&mut command, "apt-get failed").map(|_| ())
}
