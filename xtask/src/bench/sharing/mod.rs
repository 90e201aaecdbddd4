//! `cargo xtask bench sharing`: what tenants of one device get of it. Device time is judged by kernels of known work that clients have seen end, not
//! by what the server says of itself.

mod alone;
mod broker_killed;
mod cap;
mod four;
mod house;
mod idle;
mod ledger;
mod overcommit;
mod shares;
mod short;
mod weights;

use anyhow::Result;
use rgpu_system::Programs;

use super::area::{Area, Options};
use super::page::Page;
pub use shares::quantile;

/// A new part is a line here, and a function of its own file.
const AREA: Area = Area {
    name: "sharing",
    parts: &[
        ("weights", weights::measure),
        ("cap", cap::measure),
        ("short", short::measure),
        ("alone", alone::measure),
        ("four", four::measure),
        ("ledger", ledger::measure),
        ("broker_killed", broker_killed::measure),
        ("idle", idle::measure),
        ("overcommit", overcommit::measure),
    ],
    page: Page {
        name: "sharing",
        head: include_str!("page.md"),
    },
};

pub fn sharing(programs: &Programs, options: &Options) -> Result<()> {
    AREA.run(programs, options, &[])
}
