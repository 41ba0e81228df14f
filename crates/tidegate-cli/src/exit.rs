//! What the exit code says.

use std::process::ExitCode;

/// Done; also when whoever read the output closed it.
pub const OK: u8 = 0;
/// The operation failed: a function that failed, something that is not there, a server that refused.
pub const FAILED: u8 = 1;
/// The command was wrong: an unknown flag, a quantity that is none, a path that cannot be deployed.
pub const USAGE: u8 = 2;
/// The server cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// A mistake of Tidegate's own, or an answer that is no Tidegate server's.
pub const UNEXPECTED: u8 = 4;

/// The same in words, for the end of the help page.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  the operation failed: the function failed, something is not there, the server refused
  2  the command was wrong
  3  the server cannot be reached
  4  a mistake of Tidegate's own, or an answer that is no Tidegate server's

Environment:
  TIDEGATE_URL        the server, as --url
  TIDEGATE_TOKEN      the key, as --token
  TIDEGATE_NAMESPACE  the namespace, as --namespace
  NO_COLOR            no colour, as --color never";

pub(crate) fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
