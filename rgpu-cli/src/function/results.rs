//! A call's result: one file, or several in a zip file, put where the caller wants them.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write, copy};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use rgpu_http::{Request, Stream, encoded};
use zip::ZipArchive;

use super::target::Client;
use super::words::plain;

/// Longer ones are not shown in a terminal, in bytes.
const MAX_SHOWN: u64 = 256 << 10;

/// Writes it; the files' names. `is_shown`: to stdout, if there is no `out`.
pub fn fetch(client: &Client, id: &str, out: Option<&Path>, is_shown: bool) -> Result<Vec<String>> {
    let request = Request::get(format!("/jobs/{}/result", encoded(id)));
    let mut stream = client.open(request.accept("application/octet-stream"))?;
    let Some(name) = name(&stream) else {
        // There is the log instead, which has been shown.
        return Ok(Vec::new());
    };
    let count = stream.headers.get("x-result-files");
    let is_zip = count.is_some_and(|count| count != "1");
    let Some(out) = out else {
        if is_shown {
            ensure!(
                !is_zip,
                "the result of job {id} has several files: give --out FOLDER"
            );
            show(stream, id)?;
        }
        return Ok(Vec::new());
    };
    if is_zip {
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        return unpack(&mut stream, out);
    }
    let is_folder = out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/");
    let path = match is_folder {
        true => {
            fs::create_dir_all(out)?;
            out.join(name)
        }
        false => out.to_owned(),
    };
    write(&mut stream, &path)?;
    Ok(vec![path.display().to_string()])
}

fn show(mut stream: Stream, id: &str) -> Result<()> {
    let mut out = io::stdout();
    let kind = stream.headers.get("content-type");
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if !out.is_terminal() {
        copy(&mut stream, &mut out)?;
        return Ok(());
    }
    let is_text = kind.starts_with("text/") || kind == "application/json";
    let mut bytes = Vec::new();
    if is_text {
        stream
            .by_ref()
            .take(MAX_SHOWN + 1)
            .read_to_end(&mut bytes)?;
    }
    if !is_text || bytes.len() as u64 > MAX_SHOWN {
        bail!(
            "the result of job {id} is no short text ({kind}): give --out FILE, or send it to a program"
        );
    }
    writeln!(
        out,
        "{}",
        plain(&String::from_utf8_lossy(&bytes)).trim_end()
    )?;
    Ok(())
}

/// What the server calls the one file; None if there is none. Never more than a name in a folder.
fn name(stream: &Stream) -> Option<String> {
    let header = stream.headers.get("content-disposition")?.to_str().ok()?;
    Some(file_name(header).unwrap_or_else(|| "result".into()))
}

/// RFC 8187, as the runner writes it.
fn file_name(header: &str) -> Option<String> {
    let (_, encoded) = header.split_once("filename*=UTF-8''")?;
    let encoded = encoded.split(';').next()?.trim();
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    let is_plain = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control);
    is_plain.then_some(name)
}

/// All of it or nothing: under another name first.
fn write(from: &mut dyn Read, path: &Path) -> Result<()> {
    let name = path.file_name().context("the result's file has no name")?;
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let written = (|| -> io::Result<()> {
        let mut file = File::create_new(&part)?;
        copy(from, &mut file)?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| path.display().to_string())
}

/// Takes a zip file's files into a folder, none of them out of it.
fn unpack(from: &mut dyn Read, folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(format!(".results.{}.zip", std::process::id()));
    let unpacked = (|| -> Result<Vec<String>> {
        write(from, &path)?;
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let mut zip = ZipArchive::new(file).context("the result is no zip file")?;
        let mut names = Vec::new();
        let mut total = 0;
        for number in 0..zip.len() {
            let entry = zip.by_index(number)?;
            let name = entry.name()?.into_owned();
            ensure!(
                is_plain(&name),
                "the result has a file of the name {name:?}, which is not written"
            );
            // They are not compressed, so they have no more bytes than the whole.
            total = entry.size().saturating_add(total);
            ensure!(
                total <= length,
                "the result's files have more bytes than it has itself"
            );
            let target = folder.join(name);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let size = entry.size();
            write(&mut entry.take(size), &target)?;
            names.push(target.display().to_string());
        }
        Ok(names)
    })();
    let _ = fs::remove_file(&path);
    unpacked
}

/// Whether a path is names alone, and a file's.
fn is_plain(path: &str) -> bool {
    let is_name = |part| matches!(part, Component::Normal(_));
    let is_odd = path.is_empty() || path.ends_with('/') || path.chars().any(char::is_control);
    !is_odd && Path::new(path).components().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    #[test]
    fn a_name_is_a_name_in_a_folder() {
        let name = |text: &str| file_name(&format!("attachment; filename*=UTF-8''{text}"));
        assert_eq!(name("a%20b.json").as_deref(), Some("a b.json"));
        assert_eq!(name("%C3%A9").as_deref(), Some("é"));
        for odd in [
            "", "..", ".bashrc", "a%2Fb", "%0A", "%ff", "%4", "%zz", "%2e%2e",
        ] {
            assert_eq!(name(odd), None, "{odd}");
        }
        assert_eq!(file_name("attachment; filename=\"x\""), None);
    }

    fn zip(names: &[&str]) -> Vec<u8> {
        let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for name in names {
            zip.start_file(*name, stored).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn a_zip_file_is_taken_apart_below_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let bytes = zip(&["a.txt", "sub/b.txt"]);
        let names = unpack(&mut &bytes[..], &out).unwrap();
        assert_eq!(names.len(), 2);
        assert_eq!(
            fs::read_to_string(out.join("sub/b.txt")).unwrap(),
            "sub/b.txt"
        );
        for odd in ["../x", "/etc/x", "a/../../x", "a/../b", "./b", "a\nb"] {
            let bytes = zip(&[odd]);
            let error = unpack(&mut &bytes[..], &out).unwrap_err().to_string();
            assert!(error.contains("not written"), "{error}");
        }
        assert!(unpack(&mut &b"no zip"[..], &out).is_err());
        let left: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(!folder.path().join("x").exists());
    }
}
