//! Real sandboxes on this machine, as root and as an ordinary user.
//!
//! The binary runs its cases itself, since it plays three parts: the harness, the same harness as another user, and a
//! server that gets killed. A word on the command line picks the cases whose names contain it.

// The harness speaks on standard output, as the one it stands in for does.
#![allow(clippy::print_stdout)]

mod contain;
mod escape;
mod image;
mod job;
mod languages;
mod life;
mod network;
mod node;
mod per_call;
mod python;
mod roots;
mod server;
mod tools;
mod walls;
mod world;

use std::path::Path;
use std::process::ExitCode;

use tidegate_escape::suite::{self, PART};
use world::World;

macro_rules! cases {
    ($($module:ident: $($case:ident),* $(,)?;)*) => {
        fn run_cases(world: &World, filter: &str) -> (usize, Vec<String>) {
            let mut ran = 0;
            let mut failed = Vec::new();
            $($(
                let name = concat!(stringify!($module), "::", stringify!($case));
                if name.contains(filter) {
                    ran += 1;
                    if !world.run(name, $module::$case(world)) {
                        failed.push(name.to_owned());
                    }
                }
            )*)*
            (ran, failed)
        }
    };
}

cases! {
    walls:
        the_report_says_what_this_machine_permits,
        the_process_has_no_rights,
        nothing_of_the_machine_is_seen,
        instances_do_not_see_each_other,
        secrets_are_there_for_their_function_alone,
        the_network_is_the_loopback_device,
        bad_system_calls_are_refused_and_programs_still_run,
        the_init_can_neither_be_killed_nor_traced,
        the_second_fence_stands_where_the_kernel_has_it;
    per_call:
        a_script_answers_with_its_exit_code,
        ten_mebibytes_go_through_unchanged,
        what_cannot_be_run_is_explained,
        grandchildren_are_gone_when_the_call_is_over,
        standard_error_is_attributed_to_the_call,
        a_dropped_call_is_killed_and_the_instance_lives,
        streams_can_be_opened_by_name,
        a_command_is_found_as_a_shell_would_find_it,
        many_run_at_once_and_end_each_alone,
        standard_error_can_go_with_standard_output;
    server:
        a_server_on_its_port_is_called,
        a_server_on_the_machines_network_is_called,
        a_server_that_ends_early_is_quoted,
        a_server_that_does_not_listen_is_not_ready,
        drain_lets_it_finish,
        a_crash_is_told,
        a_command_with_a_port_of_its_own_is_called_there;
    contain:
        a_fork_bomb_stays_in_its_box,
        a_memory_hog_dies_alone,
        a_server_over_its_memory_is_told_so,
        the_limit_that_ended_a_run_is_told_and_logged,
        endless_output_is_bounded,
        a_full_tmp_is_an_error_for_its_writer;
    python:
        a_handler_answers_and_its_lines_are_attributed,
        a_busy_handler_is_cancelled_and_lives_on,
        an_import_error_is_the_codes_fault_with_its_trace,
        the_host_process_has_no_rights,
        a_killed_zygote_is_replaced_and_its_children_live,
        drain_ends_a_host;
    job:
        it_has_the_walls_of_an_instance,
        secrets_of_its_own_are_where_an_instance_has_them,
        folders_are_there_and_what_is_written_is_the_servers,
        what_is_written_is_the_servers_at_once,
        folders_go_back_and_forth_where_ids_cannot_be_mapped,
        what_cannot_be_run_is_told,
        there_is_no_network_but_through_the_door,
        time_is_limited,
        memory_is_limited,
        disk_is_limited,
        processes_are_limited,
        what_is_left_ends_with_the_tool,
        a_dropped_job_is_ended,
        a_flood_of_output_is_bounded;
    tools:
        the_tools_of_every_language_run,
        go_compiles,
        java_compiles,
        c_and_rust_compile,
        git_commits_and_clones,
        a_tool_fetches_through_the_proxy_what_it_may,
        real_registries_are_reached_when_asked_for;
    languages:
        every_language_is_listed_with_its_version_or_how_to_get_it,
        a_layer_is_read_only_beside_the_code,
        python_packages_of_a_layer_are_imported,
        a_python_server_is_run_by_its_interpreter,
        a_python_program_is_run_once_a_call,
        an_unknown_runtime_is_refused,
        ruby_and_php_handlers_answer_behind_the_walls,
        a_php_script_is_served,
        what_a_host_cannot_load_is_quoted,
        java_handlers_answer_behind_the_walls,
        a_node_program_finds_the_packages_of_a_layer;
    node:
        a_handler_answers_and_its_lines_are_attributed,
        packages_of_a_layer_are_found_by_require_and_by_import,
        what_cannot_be_loaded_is_quoted_with_file_and_line,
        secrets_and_the_environment_are_the_functions_own,
        the_process_has_no_rights,
        one_that_waited_is_taken_and_replaced,
        two_functions_never_share_a_process,
        a_cancelled_call_is_told_and_the_instance_lives_on,
        drain_ends_a_host,
        a_memory_hog_dies_alone,
        a_server_of_its_own_is_run,
        the_machines_network_is_there_when_asked_for;
    escape:
        every_attempt_is_answered_as_it_is_written_down,
        the_way_out_leads_nowhere_else,
        the_same_from_an_image,
        what_one_does_to_itself_its_neighbour_hardly_notices;
    roots:
        an_image_is_all_that_is_seen,
        higher_layers_cover_and_delete,
        what_is_written_is_bounded_and_gone_with_the_instance,
        a_read_only_image_refuses_writes,
        user_workdir_and_environment_are_the_images,
        the_images_root_has_no_rights,
        a_setuid_program_has_no_effect,
        what_cannot_be_run_is_explained,
        links_in_an_image_lead_nowhere_else,
        nothing_covers_what_process_1_looks_at,
        layers_on_a_file_system_that_maps_no_ids_are_read,
        a_tree_that_cannot_be_a_root_is_refused,
        a_server_of_an_image_is_called_and_stopped_by_its_signal,
        an_image_reaches_the_network_as_the_machines_files_do,
        code_is_hung_into_an_image,
        python_and_node_of_an_image_run_our_hosts,
        every_other_language_runs_on_the_interpreter_of_an_image,
        a_runtime_that_an_image_lacks_is_named;
    network:
        connections_come_to_the_outlet_with_the_address_that_was_meant,
        what_is_no_connection_is_refused_at_once,
        every_kind_of_program_has_it,
        a_connection_ends_with_its_instance,
        without_anybody_to_judge_there_is_none,
        the_machines_network_asks_whom_the_machine_asks;
    life:
        fifty_starts_at_once,
        a_dropped_start_leaves_nothing,
        dropping_the_handle_ends_the_instance,
        kill_takes_everything,
        a_killed_server_leaves_nothing,
        shutdown_ends_everything,
        weaker_than_the_minimum_is_refused,
        the_watchdog_holds_memory_without_control_groups;
}

fn main() -> ExitCode {
    if std::env::var(PART).as_deref() == Ok("server") {
        return life::be_a_server();
    }
    let filter = std::env::args().nth(1).unwrap_or_default();
    let cases = |filter: &str| {
        let world = World::new();
        let told = run_cases(&world, filter);
        world.end();
        told
    };
    suite::as_both_users(&filter, cases, |folder| {
        let sources = folder.join("java");
        std::fs::create_dir(&sources).expect("a folder");
        let host =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/java/dev/tidegate/host");
        for file in std::fs::read_dir(host).expect("the Java host").flatten() {
            std::fs::copy(file.path(), sources.join(file.file_name())).expect("copied");
        }
        let launcher = suite::copied(&world::launcher(), folder, "launcher");
        vec![(world::LAUNCHER, launcher), (languages::SOURCES, sources)]
    })
}
