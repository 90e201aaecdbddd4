//! What is kept on disk, and what may become of it there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::{Bed, START, files, sends_weights};

#[test]
fn a_daemon_that_is_started_again_still_has_it() -> Result<()> {
    let bed = Bed::new()?;
    let cache = bed.folder.path().join("cache");
    let place = cache.display().to_string();
    let server = bed.server(&["--cache-dir", &place])?;
    ensure!(sends_weights(&bed.run(&server, &START)?));
    ensure!(!sends_weights(&bed.run(&server, &START)?));
    drop(server);
    ensure!(files(&cache).len() == 1, "{:?}", files(&cache));
    for path in [&cache, &files(&cache)[0]] {
        let mode = fs::metadata(path)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{}: {mode:o}", path.display());
    }
    let server = bed.server(&["--cache-dir", &place])?;
    let stats = bed.run(&server, &START)?;
    ensure!(!sends_weights(&stats) && stats.modules() == 0, "{stats:?}");
    Ok(())
}

#[test]
fn a_damaged_file_is_sent_again_and_the_log_says_so() -> Result<()> {
    let bed = Bed::new()?;
    let cache = bed.folder.path().join("cache");
    let place = cache.display().to_string();
    drop({
        let server = bed.server(&["--cache-dir", &place])?;
        bed.run(&server, &START)?;
        // It is written when the next has used it, at the latest.
        bed.run(&server, &START)?;
        server
    });
    let good = fs::read(&files(&cache)[0])?;
    let mut flipped = good.clone();
    flipped[2 << 20] ^= 1;
    for (at, bad) in [&flipped[..], &good[..good.len() / 2], &[]]
        .into_iter()
        .enumerate()
    {
        let path = files(&cache)[0].clone();
        fs::write(&path, bad)?;
        let server = bed.server(&["--cache-dir", &place])?;
        let stats = bed.run(&server, &START)?;
        ensure!(sends_weights(&stats), "{at}: {stats:?}");
        let said = "content on disk cannot be used, and is sent again";
        ensure!(server.daemon.log_text().contains(said), "{at}: no line");
        ensure!(
            !sends_weights(&bed.run(&server, &START)?),
            "{at}: not kept anew"
        );
        drop(server);
        // The log goes on in the same file.
        fs::write(bed.folder.path().join("rgpud.log"), "")?;
    }
    Ok(())
}

#[test]
fn without_room_on_disk_it_is_kept_in_memory() -> Result<()> {
    let bed = Bed::new()?;
    let cache = bed.folder.path().join("cache");
    let server = bed.server(&["--cache-dir", &cache.display().to_string()])?;
    // As a full disk: nothing can be written.
    fs::remove_dir(&cache)?;
    fs::write(&cache, "no folder any more")?;
    ensure!(sends_weights(&bed.run(&server, &START)?));
    ensure!(!sends_weights(&bed.run(&server, &START)?));
    ensure!(server.daemon.log_text().contains("kept in memory alone"));
    Ok(())
}
