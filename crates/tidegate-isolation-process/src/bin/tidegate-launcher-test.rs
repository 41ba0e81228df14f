//! A program that is a launcher and nothing else: the tests' and the bench's, since their own binary is a test harness.

fn main() {
    if tidegate_isolation_process::is_launcher() {
        tidegate_isolation_process::launcher_main();
    }
    std::process::exit(2);
}
