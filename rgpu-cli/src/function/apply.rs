//! Functions: made, shown, removed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use rgpu_faas::function::{self, Function};
use rgpu_faas::{apply as definition, service};
use rgpu_http::{Method, Request, encoded};
use serde_json::{Value, json};

use super::progress::Progress;
use super::target::json as parsed;
use super::words::{cell, plain, table};
use super::{Asking, Output};

/// The functions of a file. What is wrong is said with line and column.
fn read(file: &Path) -> Result<Vec<Function>> {
    let absolute = std::path::absolute(file)?;
    let text = service::read_definition(&absolute)?;
    let functions = function::parse(&text, &file.display().to_string(), absolute.parent())?;
    for function in &functions {
        for warning in &function.warnings {
            eprintln!("{}: {}: {warning}", file.display(), function.name);
        }
    }
    Ok(functions)
}

pub fn check(files: &[PathBuf], output: Output) -> Result<ExitCode> {
    let mut is_good = true;
    let mut all = Vec::new();
    for file in files {
        match read(file) {
            Ok(functions) => all.extend(functions),
            Err(error) => {
                eprintln!("{error:#}");
                is_good = false;
            }
        }
    }
    match output {
        Output::Json => print(&pretty(&json!(all))?)?,
        Output::Text => {
            let lines: String = all
                .iter()
                .map(|it| format!("{}: fine\n", it.name))
                .collect();
            print(&lines)?
        }
    };
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// All files are read before anything is changed.
pub fn apply(asking: &Asking, files: &[PathBuf], show_tokens: bool) -> Result<ExitCode> {
    let client = asking.target.client()?;
    let mut functions = Vec::new();
    for file in files {
        for mut function in read(file)? {
            definition::inline_script(&mut function)?;
            let is_twice = functions
                .iter()
                .any(|it: &Function| it.name == function.name);
            ensure!(
                !is_twice,
                "{}: {} is defined twice",
                file.display(),
                function.name
            );
            functions.push(function);
        }
    }
    let progress = Progress::new("");
    let mut answers = Vec::new();
    for function in &functions {
        progress.say(format!("applying {}", function.name));
        let request = Request::new(Method::POST, "/system/services")
            .kind("application/yaml")
            .body(definition::definition(function));
        let answer = client.ask(request).and_then(|answer| parsed(&answer));
        let answer = answer.with_context(|| function.name.clone());
        if answer.is_err() {
            progress.end();
        }
        let answer = answer?;
        if asking.output == Output::Text {
            progress.line(&format!("{} applied", function.name));
            if let (true, Some(token)) = (show_tokens, answer["tokens"][&function.name].as_str()) {
                print(&format!("{} {}\n", function.name, plain(token)))?;
            }
        }
        answers.push(match show_tokens {
            true => answer,
            false => without_tokens(answer),
        });
    }
    progress.end();
    if asking.output == Output::Json {
        print(&pretty(&json!(answers))?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn without_tokens(mut answer: Value) -> Value {
    if let Value::Object(fields) = &mut answer {
        fields.remove("tokens");
    }
    answer
}

pub fn list(asking: &Asking) -> Result<ExitCode> {
    let functions = asking.target.client()?.get("/system/services")?;
    if asking.output == Output::Json {
        return print(&pretty(&functions)?);
    }
    let heading = ["name", "version", "owner", "input", "output"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for function in functions.as_array().context("the answer is no list")? {
        let folders = |field: &str| {
            let channels = function[field].as_array().into_iter().flatten();
            let paths: Vec<String> = channels.map(|it| cell(&it["path"])).collect();
            paths.join(",")
        };
        let version = match &function["version"] {
            Value::Null => "file".into(),
            version => cell(version),
        };
        lines.push(vec![
            cell(&function["name"]),
            version,
            cell(&function["owner"]),
            folders("input"),
            folders("output"),
        ]);
    }
    print(&table(&lines))
}

pub fn get(asking: &Asking, name: &str) -> Result<ExitCode> {
    let path = format!("/system/services/{}", encoded(name));
    print(&pretty(&asking.target.client()?.get(&path)?)?)
}

pub fn delete(asking: &Asking, names: &[String]) -> Result<ExitCode> {
    let client = asking.target.client()?;
    for name in names {
        let path = format!("/system/services/{}", encoded(name));
        client
            .ask(Request::new(Method::DELETE, path))
            .with_context(|| name.clone())?;
        if asking.output == Output::Text {
            eprintln!("{name} deleted");
        }
    }
    if asking.output == Output::Json {
        print(&pretty(&json!({ "deleted": names }))?)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn versions(asking: &Asking, name: &str, restore: Option<u32>) -> Result<ExitCode> {
    let client = asking.target.client()?;
    let path = format!("/system/services/{}/versions", encoded(name));
    if let Some(version) = restore {
        let function = client.post(&format!("{path}/{version}/restore"))?;
        if asking.output == Output::Json {
            return print(&pretty(&function)?);
        }
        eprintln!(
            "{name}: version {version} is the newest again, as {}",
            cell(&function["version"])
        );
        return Ok(ExitCode::SUCCESS);
    }
    let answer = client.get(&path)?;
    if asking.output == Output::Json {
        return print(&pretty(&answer)?);
    }
    let mut lines = vec![["version", "", "since", "by"].map(str::to_owned).to_vec()];
    for version in answer["versions"].as_array().into_iter().flatten() {
        let current = match version["current"].as_bool() {
            Some(true) => "current",
            _ => "",
        };
        lines.push(vec![
            cell(&version["version"]),
            current.to_owned(),
            super::jobs::ago(&version["time"]),
            cell(&version["owner"]),
        ]);
    }
    print(&table(&lines))
}

pub fn pretty(value: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// On stdout.
pub fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
