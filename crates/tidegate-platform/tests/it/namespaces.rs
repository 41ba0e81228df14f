//! Namespaces with labels and annotations.

use std::collections::BTreeMap;

use tidegate_platform::{Error, StoreError};

use crate::world::World;

fn words(words: &[(&str, &str)]) -> BTreeMap<String, String> {
    let words = words.iter();
    words
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_namespace_keeps_what_it_was_given_until_it_is_given_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let platform = &world.platform;
    let (labels, notes) = (words(&[("team", "a")]), words(&[("note", "any text")]));
    let made = platform.make_namespace("dev", &labels, &notes).await;
    assert_eq!(made.unwrap().label("team"), Some("a"));
    let again = platform.make_namespace("dev", &labels, &notes).await;
    let is_taken = |made: Result<_, Error>| {
        matches!(made, Err(Error::Store(StoreError::AlreadyExists { .. })))
    };
    assert!(is_taken(again));
    // Making it in the other way leaves it as it is.
    platform.create_namespace("dev").await.unwrap();
    let found = platform.namespace("dev").await.unwrap();
    assert_eq!(found.annotation("note"), Some("any text"));
    let other = words(&[("team", "b")]);
    let changed = platform
        .describe_namespace("dev", &other, &words(&[]))
        .await;
    let changed = changed.unwrap();
    assert_eq!(changed.label("team"), Some("b"));
    assert_eq!(changed.annotation("note"), None);
    // The default one is there without anybody's doing, and can be described.
    let default = platform.make_namespace("default", &labels, &notes).await;
    assert!(is_taken(default));
    assert_eq!(
        platform.namespace("default").await.unwrap().label("team"),
        None
    );
    let described = platform
        .describe_namespace("default", &labels, &notes)
        .await;
    assert_eq!(described.unwrap().label("team"), Some("a"));
    world.end().await;
}

#[tokio::test]
async fn one_that_is_not_there_or_cannot_be_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let platform = &world.platform;
    let none = words(&[]);
    for name in ["absent", "Not One", ""] {
        let found = platform.namespace(name).await;
        assert!(matches!(found, Err(Error::NotFound(_))), "{found:?}");
        let changed = platform.describe_namespace(name, &none, &none).await;
        assert!(matches!(changed, Err(Error::NotFound(_))), "{changed:?}");
        let required = platform.require_namespace(name).await;
        assert!(matches!(required, Err(Error::NotFound(_))), "{required:?}");
    }
    let made = platform.make_namespace("Not One", &none, &none).await;
    assert!(matches!(made, Err(Error::Invalid(_))), "{made:?}");
    let labelled = platform
        .make_namespace("dev", &words(&[("a b", "c")]), &none)
        .await;
    assert!(labelled.is_err(), "{labelled:?}");
    world.end().await;
}
