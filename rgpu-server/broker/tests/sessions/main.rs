//! The broker with clients and workers: what it must do when either of them behaves badly. The workers are this program too (`worker.rs`),
//! so that they can crash, hang or flood on request; the broker's bytes and processes are real.

mod accounts;
mod admin;
mod adopting;
mod client;
mod daemon;
mod lending;
mod lives;
mod starts;
mod traces;
mod vanishing;
mod vgpus;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

const TESTS: &[(&str, fn())] = &[
    (
        "traces::sessions_are_children_of_their_callers",
        traces::sessions_are_children_of_their_callers,
    ),
    (
        "starts::a_service_manager_is_told",
        starts::a_service_manager_is_told,
    ),
    (
        "admin::each_tenant_sees_its_own",
        admin::each_tenant_sees_its_own,
    ),
    (
        "admin::metrics_tell_what_has_happened",
        admin::metrics_tell_what_has_happened,
    ),
    (
        "admin::a_session_is_ended_from_outside",
        admin::a_session_is_ended_from_outside,
    ),
    (
        "admin::a_lease_lets_its_sessions_in_until_it_ends",
        admin::a_lease_lets_its_sessions_in_until_it_ends,
    ),
    (
        "admin::the_configuration_is_read_again",
        admin::the_configuration_is_read_again,
    ),
    (
        "admin::a_draining_daemon_answers_and_is_not_ready",
        admin::a_draining_daemon_answers_and_is_not_ready,
    ),
    (
        "admin::a_driver_that_fails_makes_the_server_unready",
        admin::a_driver_that_fails_makes_the_server_unready,
    ),
    (
        "starts::what_cannot_start_says_why",
        starts::what_cannot_start_says_why,
    ),
    (
        "starts::the_limit_on_open_files_bounds_what_is_taken",
        starts::the_limit_on_open_files_bounds_what_is_taken,
    ),
    ("starts::socket_files", starts::socket_files),
    (
        "starts::an_idle_daemon_is_small",
        starts::an_idle_daemon_is_small,
    ),
    (
        "starts::a_driver_that_fails_is_told_to_the_client",
        starts::a_driver_that_fails_is_told_to_the_client,
    ),
    ("lives::from_welcome_to_end", lives::from_welcome_to_end),
    (
        "lives::a_crash_is_explained_and_hurts_nobody_else",
        lives::a_crash_is_explained_and_hurts_nobody_else,
    ),
    (
        "lives::a_session_ends_with_its_control_connection",
        lives::a_session_ends_with_its_control_connection,
    ),
    (
        "lives::a_session_has_one_control_connection",
        lives::a_session_has_one_control_connection,
    ),
    (
        "lives::a_place_that_becomes_free_is_waited_for",
        lives::a_place_that_becomes_free_is_waited_for,
    ),
    (
        "lives::programs_of_one_place_run_one_after_another",
        lives::programs_of_one_place_run_one_after_another,
    ),
    (
        "lives::a_worker_that_does_not_listen_is_killed",
        lives::a_worker_that_does_not_listen_is_killed,
    ),
    ("lives::quotas", lives::quotas),
    (
        "lives::only_harmless_variables_reach_the_worker",
        lives::only_harmless_variables_reach_the_worker,
    ),
    ("lives::secrets_are_checked", lives::secrets_are_checked),
    (
        "lives::half_open_connections_do_not_disturb_a_session",
        lives::half_open_connections_do_not_disturb_a_session,
    ),
    (
        "lives::stopping_tells_every_client",
        lives::stopping_tells_every_client,
    ),
    (
        "lending::sessions_of_a_tenant_are_brought_together",
        lending::sessions_of_a_tenant_are_brought_together,
    ),
    (
        "lending::who_does_not_listen_holds_nobody_up",
        lending::who_does_not_listen_holds_nobody_up,
    ),
    (
        "vgpus::a_vgpu_is_placed_on_one_device",
        vgpus::a_vgpu_is_placed_on_one_device,
    ),
    (
        "vgpus::sessions_of_a_group_count_together",
        vgpus::sessions_of_a_group_count_together,
    ),
    (
        "vgpus::what_is_reserved_is_kept_from_those_without_a_profile",
        vgpus::what_is_reserved_is_kept_from_those_without_a_profile,
    ),
    (
        "vgpus::who_waits_is_told_and_served_in_turn",
        vgpus::who_waits_is_told_and_served_in_turn,
    ),
    (
        "vgpus::a_short_wait_is_no_longer_than_it_is_said_to_be",
        vgpus::a_short_wait_is_no_longer_than_it_is_said_to_be,
    ),
    ("vgpus::waiting_is_bounded", vgpus::waiting_is_bounded),
    (
        "vgpus::ten_thousand_connections_of_one_tenant_keep_nobody_else_out",
        vgpus::ten_thousand_connections_of_one_tenant_keep_nobody_else_out,
    ),
    (
        "vgpus::a_reload_is_whole_or_none",
        vgpus::a_reload_is_whole_or_none,
    ),
    (
        "vgpus::tokens_expire_and_are_revoked",
        vgpus::tokens_expire_and_are_revoked,
    ),
    (
        "vgpus::what_no_device_has_is_not_promised",
        vgpus::what_no_device_has_is_not_promised,
    ),
    (
        "vanishing::a_client_without_a_last_word_is_released",
        vanishing::a_client_without_a_last_word_is_released,
    ),
    (
        "accounts::each_session_leaves_a_record",
        accounts::each_session_leaves_a_record,
    ),
    (
        "accounts::a_session_that_is_taken_over_has_one_record",
        accounts::a_session_that_is_taken_over_has_one_record,
    ),
    (
        "accounts::a_killed_daemon_leaves_records_that_the_next_one_closes",
        accounts::a_killed_daemon_leaves_records_that_the_next_one_closes,
    ),
    (
        "accounts::the_administration_shows_them",
        accounts::the_administration_shows_them,
    ),
    (
        "accounts::accounts_that_cannot_be_kept_hurt_nobody",
        accounts::accounts_that_cannot_be_kept_hurt_nobody,
    ),
    (
        "adopting::a_session_goes_on_with_the_next_daemon",
        adopting::a_session_goes_on_with_the_next_daemon,
    ),
    (
        "adopting::what_was_granted_counts_with_the_next_daemon",
        adopting::what_was_granted_counts_with_the_next_daemon,
    ),
    (
        "adopting::who_is_no_worker_of_this_folder_is_not_taken_in",
        adopting::who_is_no_worker_of_this_folder_is_not_taken_in,
    ),
    (
        "adopting::a_worker_of_another_release_counts_and_is_left_alone",
        adopting::a_worker_of_another_release_counts_and_is_left_alone,
    ),
    (
        "adopting::a_folder_has_one_daemon",
        adopting::a_folder_has_one_daemon,
    ),
    (
        "adopting::ended_sessions_leave_nothing_in_the_folder",
        adopting::ended_sessions_leave_nothing_in_the_folder,
    ),
    (
        "lives::draining_lets_sessions_end_and_nobody_in",
        lives::draining_lets_sessions_end_and_nobody_in,
    ),
    ("lives::draining_ends_in_time", lives::draining_ends_in_time),
    (
        "lives::a_second_signal_ends_the_draining",
        lives::a_second_signal_ends_the_draining,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "worker") {
        return worker::main(&arguments);
    }
    let says = |word: &str| arguments.iter().any(|it| it == word);
    // As nextest asks for it, and then for each test alone.
    if says("--list") {
        for (name, _) in TESTS.iter().filter(|_| !says("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    let fits = |name: &str, filter: &str| match says("--exact") {
        true => name == filter,
        false => name.contains(filter),
    };
    let chosen = TESTS
        .iter()
        .filter(|(name, _)| filter.is_none_or(|filter| fits(name, filter)));
    let mut failed = 0;
    for (name, test) in chosen {
        let fine = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if fine { "ok" } else { "FAILED" });
        failed += u32::from(!fine);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
