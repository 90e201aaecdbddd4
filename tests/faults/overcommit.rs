//! A device that is too small for all that its tenants are promised.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::direct;
use rgpu_system::{Programs, Server, ServerOptions};

use crate::session::Session;
use crate::until;

const DEVICE: &str = "64MiB";
/// Of each tenant, and what a program of it takes.
const PROMISED: i64 = 48;
const TAKEN: i64 = 40;

struct House {
    programs: Programs,
    program: PathBuf,
    watcher: PathBuf,
    server: Server,
    folder: Folder,
}

/// One of the tenants', with the seed of what is in its memory, and where that is.
struct Tenant {
    session: Session,
    seed: usize,
    at: i64,
}

fn token(tenant: usize) -> String {
    format!("token-of-tenant-number-{tenant}")
}

impl House {
    /// `more`: lines of the configuration.
    fn open(more: impl Fn(&Folder) -> String) -> Result<House> {
        let programs = Programs::for_tests()?;
        let folder = Folder::new("rgpu-faults-")?;
        let mut config = more(&folder);
        config += &format!(
            "[placement]\novercommit = 3.0\n[[profile]]\nname = \"most\"\nmemory_mib = {PROMISED}\novercommit = true\n"
        );
        for tenant in 0..3 {
            let token = token(tenant);
            config += &format!(
                "[[tenant]]\nname = \"t{tenant}\"\ntoken = \"{token}\"\nprofile = \"most\"\n"
            );
        }
        let options = ServerOptions {
            config: Some(config),
            environment: vec![("SOFTGPU_MEMORY".into(), DEVICE.into())],
            ..ServerOptions::default()
        };
        Ok(House {
            program: compile(folder.path(), "resident")?,
            watcher: compile(folder.path(), "session")?,
            server: Server::start(&programs, folder.path(), &options)?,
            programs,
            folder,
        })
    }

    fn tenant(&self, number: usize) -> Result<Tenant> {
        let mut place = self.server.client(&self.programs, "shm")?;
        place.retain(|(name, _)| name != "RGPU_TOKEN_FILE");
        place.push(("RGPU_TOKEN".into(), token(number)));
        let mut session = Session::start(&self.program, place)?;
        let seed = number + 1;
        let taken = session.ask(&format!("take {TAKEN} {seed}"))?;
        ensure!(taken[0] == 0, "{taken:?}");
        Ok(Tenant {
            session,
            seed,
            at: taken[1],
        })
    }

    /// One that has the device itself, beside the server.
    fn look(&self) -> Result<Session> {
        let mut place = direct(&self.programs, &self.server.home)?;
        place.push(("SOFTGPU_MEMORY".into(), DEVICE.into()));
        Session::start(&self.watcher, place)
    }
}

impl Tenant {
    fn is_right(&mut self) -> Result<()> {
        let said = self.session.ask(&format!("check {}", self.seed))?;
        ensure!(
            said == [0, self.at],
            "{said:?}, and its memory was at {}",
            self.at
        );
        Ok(())
    }

    /// What is promised is counted, wherever it is.
    fn counts(&mut self) -> Result<()> {
        let said = self.session.ask("memory")?;
        let [result, free, total] = said[..] else {
            anyhow::bail!("{said:?}");
        };
        ensure!(
            result == 0 && total == PROMISED && free <= PROMISED - TAKEN,
            "{said:?}"
        );
        Ok(())
    }
}

/// MiB of the device that are taken.
fn taken(look: &mut Session) -> Result<i64> {
    let said = look.ask("memory")?;
    let [0, free, total] = said[..] else {
        anyhow::bail!("{said:?}");
    };
    Ok(total - free)
}

fn work_in_turns(house: &House) -> Result<()> {
    let mut look = house.look()?;
    let mut tenants = [house.tenant(0)?, house.tenant(1)?];
    for _ in 0..3 {
        for tenant in &mut tenants {
            ensure!(tenant.session.ask("more 2 0")? == [0]);
            tenant.is_right()?;
            tenant.counts()?;
            // Both together would not fit.
            let taken = taken(&mut look)?;
            ensure!((TAKEN..2 * TAKEN).contains(&taken), "{taken} MiB");
        }
    }
    // At the same time.
    for tenant in &mut tenants {
        tenant.session.tell("more 20 30")?;
    }
    for tenant in &mut tenants {
        ensure!(tenant.session.answer("more")? == [0]);
    }
    for tenant in &mut tenants {
        tenant.is_right()?;
    }
    Ok(())
}

#[test]
fn two_tenants_with_most_of_a_device_each_use_it_in_turns() -> Result<()> {
    let house = House::open(|_| String::new())?;
    work_in_turns(&house)
}

#[test]
fn memory_that_has_no_room_in_the_hosts_goes_to_a_folder_and_leaves_nothing_there() -> Result<()> {
    let house = House::open(|folder| {
        let path = folder.path().join("away");
        // It is made before the server looks for it.
        let _ = std::fs::create_dir(&path);
        format!(
            "[overcommit]\nhost_mib = 0\nfolder = \"{}\"\ndisk_mib = 100\n",
            path.display()
        )
    })?;
    work_in_turns(&house)?;
    let left = std::fs::read_dir(house.folder.path().join("away"))?.count();
    ensure!(left == 0, "{left} files");
    Ok(())
}

#[test]
fn one_that_is_killed_while_its_memory_is_away_leaves_nothing_behind() -> Result<()> {
    let house = House::open(|_| "[overcommit]\nhost_mib = 100\n".into())?;
    let mut stays = house.tenant(0)?;
    for _ in 0..4 {
        let goes = house.tenant(1)?;
        // Now the other one's is away.
        stays.is_right()?;
        drop(goes);
        until("it has a worker", || house.server.workers().len() == 1)?;
        stays.is_right()?;
    }
    // Killed while it has the device, too: the one that waits has its memory again.
    let mut goes = house.tenant(1)?;
    goes.is_right()?;
    drop(goes);
    ensure!(stays.session.ask("more 1 0")? == [0]);
    stays.is_right()
}

#[test]
fn memory_that_is_away_outlives_the_daemon() -> Result<()> {
    let mut house = House::open(|_| String::new())?;
    let mut tenants = [house.tenant(0)?, house.tenant(1)?];
    for _ in 0..2 {
        house.server.daemon.kill();
        house.server.start_again()?;
        for tenant in &mut tenants {
            ensure!(tenant.session.ask("more 1 0")? == [0]);
            tenant.is_right()?;
        }
    }
    // What is free is known again: a third one has its place, and the others' memory makes it.
    let mut third = house.tenant(2)?;
    third.is_right()?;
    for tenant in &mut tenants {
        tenant.is_right()?;
    }
    Ok(())
}

#[test]
fn more_than_is_promised_is_refused_at_once() -> Result<()> {
    let house = House::open(|_| String::new())?;
    let mut first = house.tenant(0)?;
    let _second = house.tenant(1)?;
    let more = PROMISED - TAKEN + 2;
    let began = std::time::Instant::now();
    // The program remembers the address that it was told last: none.
    let said = first.session.ask(&format!("take {more} 1"))?;
    ensure!(said[0] == 2 && began.elapsed().as_secs() < 30, "{said:?}");
    Ok(())
}
