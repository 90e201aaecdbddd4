//! The clients: what is installed for each, and what pytest is given.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rgpu_system::python;

use super::place::Place;
use crate::workspace_root;

/// What runs and judges the tests.
const PYTEST: &str = "pytest==9.2.0 pytest-timeout==2.4.0 numpy==2.4.6";

pub struct Client {
    pub name: &'static str,
    /// What it is, for a reader of the document.
    pub about: &'static str,
    pub places: &'static [Place],
    /// pip's words.
    pub requirements: &'static str,
    /// Packages whose versions the document names.
    pub named: &'static [&'static str],
    /// What pytest is given, each in a process of its own.
    pub groups: fn(&Environment) -> Result<Vec<String>>,
    pub options: &'static [&'static str],
    /// Folders of shared libraries within the packages.
    pub libraries: &'static [&'static str],
    /// `{packages}` stands for the packages' folder. What begins with `SOFTGPU_` is for whoever loads softgpu.
    pub variables: &'static [(&'static str, &'static str)],
    /// Name and target of the share that passed.
    pub figure: Option<(&'static str, f64)>,
}

pub const CLIENTS: &[Client] = &[
    Client {
        name: "numba",
        about: "numba-cuda's own test suite, as its wheel carries it. PTX by NVVM and nvrtc, linked by the driver: nvJitLink makes \
                machine code and is left out, so link-time optimisation is skipped.",
        places: Place::ALL,
        requirements: "numba-cuda==0.30.4 numba==0.67.0 cuda-bindings==12.9.6 cuda-core==1.2.2 \
                       cuda-toolkit[cccl,cudart,nvcc,nvrtc]==12.9.2 cffi==2.0.0 cloudpickle filecheck==1.0.3 ml_dtypes==0.5.4 \
                       psutil pytest-benchmark scipy",
        named: &[
            "numba-cuda",
            "numba",
            "cuda-bindings",
            "cuda-core",
            "nvidia-cuda-nvcc-cu12",
        ],
        groups: numba,
        // The tests are in a package that another name leads to.
        options: &[
            "-o",
            "consider_namespace_packages=true",
            "--benchmark-disable",
            "--pyargs",
        ],
        libraries: &[],
        variables: &[],
        figure: Some(("softgpu.numba_passed", 0.95)),
    },
    Client {
        name: "tinygrad",
        about: "Every operation of tinygrad's tensor API but `hash`, which takes it minutes to schedule, over its dtypes, beside its own CPU backend (clang). Graphs that its \
                JIT makes, and a training on scikit-learn's digits. Once with its CUDA renderer and nvrtc, once with its PTX renderer.",
        places: Place::ALL,
        requirements: "tinygrad==0.14.0 nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79 scikit-learn==1.9.1",
        named: &["tinygrad", "nvidia-cuda-nvrtc-cu12"],
        groups: ours,
        options: &[],
        libraries: &["nvidia/cuda_nvrtc/lib"],
        variables: &[
            ("CC", "clang-19"),
            ("CUDA_PATH", "{packages}/nvidia/cuda_runtime"),
        ],
        figure: Some(("softgpu.tinygrad_passed", 1.0)),
    },
    Client {
        name: "triton",
        about: "Kernels in Triton's language (`tests/clients/triton`), which it compiles to PTX for sm_80, sm_86, sm_89 and sm_90 with no GPU; \
                a program of the driver API launches them, and numpy says what is right.",
        places: Place::ALL,
        requirements: "triton==3.9.0 ml_dtypes==0.5.4",
        named: &["triton"],
        groups: ours,
        options: &[],
        libraries: &[],
        variables: &[("SOFTGPU_COMPUTE_CAPABILITY", "9.0")],
        figure: None,
    },
    Client {
        name: "cuda",
        about: "CUDA C++ (`tests/clients/cuda`) through pip's nvcc, with and without `-G`, and nvrtc: the language, the math library, \
                half and bfloat16, mma.h, cooperative groups, libcu++, CUB; cuRAND's header beside the same text compiled for the host; every \
                kernel of the PTX that libcurand carries is compiled.",
        places: Place::ALL,
        requirements: "cuda-toolkit[nvcc,cudart,nvrtc,cccl]==13.5.0 nvidia-curand==10.4.5.25 scipy ml_dtypes==0.5.4",
        named: &[
            "nvidia-cuda-nvcc",
            "nvidia-cuda-nvrtc",
            "nvidia-cuda-cccl",
            "nvidia-curand",
        ],
        groups: ours,
        options: &[],
        libraries: &[],
        variables: &[("SOFTGPU_DEVICES", "2")],
        figure: None,
    },
    Client {
        name: "taichi",
        about: "taichi's examples, with windows that are files: what they show on CUDA beside what they show on the CPU.",
        places: Place::ALL,
        requirements: "taichi==1.7.4 matplotlib==3.10.7",
        named: &["taichi"],
        groups: ours,
        options: &[],
        libraries: &[],
        variables: &[],
        figure: None,
    },
    Client {
        name: "cuda_python",
        about: "NVIDIA's cuda-python (`tests/clients/cuda_python`): the driver API and nvrtc as `cuda.bindings` has them, and `cuda.core`'s \
                devices, streams, events, buffers, memory resources, programs, linker, launches and graphs. nvJitLink makes machine code and \
                is left out: the driver links.",
        places: Place::ALL,
        requirements: "cuda-bindings==13.2.0 cuda-core==1.2.2 cuda-toolkit[nvrtc]==13.2.2",
        named: &["cuda-bindings", "cuda-core", "nvidia-cuda-nvrtc"],
        groups: ours,
        options: &[],
        libraries: &[],
        variables: &[("SOFTGPU_DEVICES", "2")],
        figure: None,
    },
    Client {
        name: "monitors",
        about: "What nvitop and gpustat show of the vGPU and its processes, by the NVML of this repository, while programs use it.",
        places: &[Place::Remoted],
        requirements: "nvitop==1.7.2 gpustat==1.1.1",
        named: &["nvitop", "gpustat", "nvidia-ml-py"],
        groups: ours,
        options: &[],
        libraries: &[],
        variables: &[],
        figure: None,
    },
];

/// A client's packages, installed.
pub struct Environment {
    pub python: PathBuf,
    pub packages: PathBuf,
    named: &'static [&'static str],
    name: &'static str,
}

impl Environment {
    pub fn make(client: &Client) -> Result<Environment> {
        let requirements = format!("{PYTEST} {}", client.requirements);
        let python = python::environment(&format!("{}-venv", client.name), &requirements)?;
        let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let packages = python::run(Command::new(&python).args(["-c", script]), "python")?;
        Ok(Environment {
            python,
            packages: packages.into(),
            named: client.named,
            name: client.name,
        })
    }

    /// `numba-cuda 0.30.4, …`
    pub fn versions(&self) -> Result<String> {
        let script = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))";
        let mut command = Command::new(&self.python);
        command.args(["-c", script]).args(self.named);
        python::run(&mut command, "python")
    }
}

/// Files of tests within a folder, sorted.
fn tests_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("test_") && name.ends_with(".py") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The tests of this repository for the client.
fn ours(environment: &Environment) -> Result<Vec<String>> {
    let files = tests_in(
        &workspace_root()
            .join("tests/clients")
            .join(environment.name),
    )?;
    Ok(files
        .iter()
        .map(|file| file.display().to_string())
        .collect())
}

/// The modules of the suite, by the name under which Python finds them.
fn numba(environment: &Environment) -> Result<Vec<String>> {
    let suite = environment.packages.join("numba_cuda/numba/cuda/tests");
    let mut modules = Vec::new();
    let folders = std::fs::read_dir(&suite).with_context(|| suite.display().to_string())?;
    for folder in folders {
        let folder = folder?.path();
        // cudasim's are for the simulator, which needs no driver.
        if !folder.is_dir() || folder.ends_with("cudasim") {
            continue;
        }
        for file in tests_in(&folder)? {
            let part = |path: &Path| {
                path.file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            modules.push(format!(
                "numba.cuda.tests.{}.{}",
                part(&folder),
                part(&file)
            ));
        }
    }
    modules.sort();
    Ok(modules)
}

impl Client {
    /// A test's name for people: without the folder, with the group.
    pub fn label(&self, group: &str, test: &str) -> String {
        let group = Path::new(group)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let group = group.strip_prefix("numba.cuda.tests.").unwrap_or(&group);
        let test = test.split_once("::").map_or(test, |(_, test)| test);
        format!("{}::{test}", group.trim_end_matches(".py"))
    }

    /// What pytest is given for the one test that has this label.
    pub fn target(&self, group: &str, label: &str) -> String {
        let test = label.split_once("::").map_or(label, |(_, test)| test);
        format!("{group}::{test}")
    }
}
