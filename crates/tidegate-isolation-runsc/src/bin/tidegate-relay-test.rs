//! A program that is a relay and nothing else, for tests.

fn main() {
    if tidegate_isolation_runsc::is_relay() {
        tidegate_isolation_runsc::relay_main();
    }
    std::process::exit(2);
}
