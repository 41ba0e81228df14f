//! Attempts to get out, and what they do to a neighbour.

use tidegate_escape::{Place, Tally, attempts, strain};

use crate::world::World;

/// Picks attempts and strains whose names contain it.
const FILTER: &str = "TIDEGATE_TEST_ATTEMPT";

fn filter() -> String {
    std::env::var(FILTER).unwrap_or_default()
}

fn place(world: &World) -> Place<'_> {
    Place {
        isolation: &world.isolation,
        own_kernel: false,
        cpu_held: world.counts_by_kernel("cpu limit"),
        state: world.folder.path().join("state"),
        dress: Box::new(|_| {}),
    }
}

pub(crate) async fn every_attempt_is_answered_as_it_is_written_down(world: &World) {
    let (place, filter) = (place(world), filter());
    let tally = attempts(&place, &filter, |name, answer, expected| {
        let word = if expected { "held" } else { "HOLE" };
        println!("  {word} {name}: {answer}");
    });
    check(&tally.await.expect("the ground is laid out"));
}

pub(crate) async fn what_one_does_to_itself_its_neighbour_hardly_notices(world: &World) {
    let (place, filter) = (place(world), filter());
    let tally = strain::all(&place, &filter, |noticed, held| {
        println!(
            "  {} {}: {}; a neighbour's p99 {:?} and then {:?}, {:.2} times, {} calls",
            if held { "held" } else { "HOLE" },
            noticed.name,
            noticed.answer,
            noticed.quiet,
            noticed.under,
            noticed.factor(),
            noticed.calls,
        );
    });
    check(&tally.await.expect("the ground is laid out"));
}

fn check(tally: &Tally) {
    println!("  {} made, {} holes", tally.made, tally.holes.len());
    assert!(tally.holes.is_empty(), "{:#?}", tally.holes);
}
