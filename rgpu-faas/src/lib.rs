//! Functions that events trigger, each run as a process with a share of a remote GPU.
//!
//! The journal (SQLite) is the truth: whatever stops, at whatever point, a new start reads it and goes on, so that no
//! event is lost and no output is published twice. `state`, `retry`, `precedence`, `fair`, `rate`, `units` and `outputs`' filters are
//! pure; `trigger` notices files, and whatever else happens comes as an `event::Event` to `Service::submit`; `runner` makes
//! processes; `stores` are where inputs come from and outputs go to, `polling` asks them what is new, `schedules` look at the clock;
//! `service` ties them together; `api` speaks HTTP.

use rgpu_beneath as beneath;

pub mod api;
pub mod apply;
pub mod config;
pub mod event;
pub mod fair;
pub mod fdl;
pub mod figures;
pub mod function;
pub mod id;
pub mod journal;
pub mod kubernetes_options;
pub mod outputs;
pub mod payloads;
pub mod polling;
pub mod precedence;
pub mod rate;
pub mod recovery;
pub mod registry;
pub mod results;
pub mod retry;
pub mod runner;
pub mod schedules;
pub mod serve;
pub mod service;
pub mod state;
pub mod stores;
pub mod time;
pub mod trace;
pub mod trigger;
pub mod units;
pub mod upkeep;
pub mod warm;
