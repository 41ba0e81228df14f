//! The Python host, through its zygote.
use crate::world::World;
pub(crate) async fn a_handler_answers_and_its_lines_are_attributed(_: &World) {}
pub(crate) async fn a_busy_handler_is_cancelled_and_lives_on(_: &World) {}
pub(crate) async fn an_import_error_is_the_codes_fault_with_its_trace(_: &World) {}
pub(crate) async fn the_host_process_has_no_rights(_: &World) {}
pub(crate) async fn a_killed_zygote_is_replaced_and_its_children_live(_: &World) {}
pub(crate) async fn drain_ends_a_host(_: &World) {}
