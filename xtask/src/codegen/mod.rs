//! From the call table to code: one entry there is wire types, client stub, exported symbol, server dispatch and a line of the
//! coverage page.

mod client;
pub mod coverage;
mod ctype;
pub mod cudart;
mod emit;
mod kubelet;
mod nvml;
mod proto;
pub mod released;
mod server;
mod shim;
#[path = "../../../softgpu/driver/codegen.rs"]
mod softgpu;
pub mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use table::Table;

/// Every generated file with its text, by path from the root.
pub fn generate(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let table = Table::read(root)?;
    released::check(&table, &released::read(root)?)?;
    let mut files = vec![
        ("rgpu-proto/src/gen/calls.rs", proto::generate(&table)?),
        ("rgpu-client/src/gen/send.rs", client::send(&table)?),
        ("rgpu-client/src/gen/stubs.rs", client::stubs(&table)?),
        ("shim/cuda/src/gen/exports.rs", shim::exports(&table)?),
        (
            "rgpu-server/worker/src/gen/driver.rs",
            server::driver(&table)?,
        ),
        (
            "rgpu-server/worker/src/gen/dispatch.rs",
            server::dispatch(&table)?,
        ),
        ("docs/cuda-coverage.md", coverage::page(&table)),
        (
            "softgpu/driver/src/gen/unsupported.rs",
            softgpu_unsupported(root, &table)?,
        ),
        ("shim/nvml/src/gen/unsupported.rs", nvml_unsupported(root)?),
    ];
    let (runtime, driver) = (cudart::Row::read(root)?, cudart::functions(root)?);
    let calls = sources(&root.join("shim/cudart/src"))?;
    let exported = sources(&root.join("softgpu/driver/src/exports"))?;
    files.extend([
        (
            "shim/cudart/src/gen/driver.rs",
            cudart::driver(&runtime, &driver, &calls)?,
        ),
        (
            "shim/cudart-12/src/gen/exports.rs",
            cudart::exports(&runtime, "12", &driver)?,
        ),
        (
            "shim/cudart-13/src/gen/exports.rs",
            cudart::exports(&runtime, "13", &driver)?,
        ),
        (
            "shim/cudart-12/src/gen/exports.map",
            cudart::version_script(&runtime, "12"),
        ),
        (
            "shim/cudart-13/src/gen/exports.map",
            cudart::version_script(&runtime, "13"),
        ),
        (
            "docs/cudart-coverage.md",
            cudart::page(&runtime, &known_to_drivers(&table, &exported)),
        ),
    ]);
    for (package, text) in kubelet::modules(root)? {
        let path = match package {
            "v1" => "rgpu-k8s/src/gen/v1.rs",
            _ => "rgpu-k8s/src/gen/v1beta1.rs",
        };
        files.push((path, text));
    }
    files.sort_by_key(|(path, _)| *path);
    Ok(files
        .into_iter()
        .map(|(path, text)| (PathBuf::from(path), text))
        .collect())
}

/// What softgpu's driver does not serve, by its own generator.
fn softgpu_unsupported(root: &Path, table: &Table) -> Result<String> {
    let sources = sources(&root.join("softgpu/driver/src/exports"))?;
    let tsv = read(&root.join("rgpu-proto/api/cuda_functions.tsv"))?;
    let versions = read(&root.join("rgpu-proto/api/cuda_functions_versions.tsv"))?;
    let reasons = table.refusals().into_iter();
    let reasons = reasons
        .map(|(name, refusal)| (name, (refusal.code.as_str(), refusal.reason.as_str())))
        .collect();
    emit::rustfmt(&softgpu::unsupported(&tsv, &versions, &sources, &reasons))
}

/// The functions of cuda.h that the remoting serves, or softgpu.
fn known_to_drivers<'a>(table: &'a Table, exported: &'a [String]) -> BTreeSet<&'a str> {
    let softgpu = exported.iter().flat_map(|text| {
        let heads = text.split("pub extern \"C\" fn ").skip(1);
        heads.filter_map(|head| head.split(['(', '<']).next())
    });
    let remoting = table.spellings().into_iter().map(|(name, _)| name);
    softgpu.chain(remoting).collect()
}

/// What the NVML shim does not serve.
fn nvml_unsupported(root: &Path) -> Result<String> {
    let tsv = read(&root.join("shim/nvml/api/nvml_functions.tsv"))?;
    let sources = sources(&root.join("shim/nvml/src/exports"))?;
    emit::rustfmt(&nvml::unsupported(&tsv, &sources))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

/// The Rust files of a folder, in an order that does not depend on the system.
fn sources(folder: &Path) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(read(&path)?);
        }
    }
    sources.sort();
    Ok(sources)
}

/// Writes what has changed; returns the files that were not fresh.
pub fn write(root: &Path) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (path, text) in generate(root)? {
        let target = root.join(&path);
        if std::fs::read_to_string(&target).is_ok_and(|old| old == text) {
            continue;
        }
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&target, text).with_context(|| format!("{}", target.display()))?;
        stale.push(path);
    }
    Ok(stale)
}

/// The generated files that differ from what the table says.
pub fn stale(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(generate(root)?
        .into_iter()
        .filter(|(path, text)| {
            !std::fs::read_to_string(root.join(path)).is_ok_and(|old| old == *text)
        })
        .map(|(path, _)| path)
        .collect())
}
