//! Names, sharing, removing, and what a crash leaves.

use tidegate_image::{Error, Image, Pruned, Reference};

use crate::fake::Fake;
use crate::made::{Made, Tar, World};

async fn pull(world: &World, made: &Made, name: &str) -> (Image, Reference) {
    let fake = Fake::serving(&[made]).await;
    let name = fake.reference(name);
    let image = world.pull(&name).await.unwrap();
    (image, name)
}

fn two() -> (Made, Made) {
    let base = Tar::default().file("base", &[1; 1000]);
    let one = Made::of(&[base.clone(), Tar::default().file("one", &[1; 10])]);
    let two = Made::of(&[base, Tar::default().file("two", &[2; 20])]);
    (one, two)
}

#[tokio::test]
async fn names_are_kept_and_moved() {
    let world = World::new();
    let (one, two) = two();
    let (first, name) = pull(&world, &one, "a:1").await;
    let alias: Reference = "functions/alpine".parse().unwrap();
    world.images.alias(&alias, &first.digest).unwrap();
    let world = world.again();
    assert_eq!(world.images.resolve(&alias), Some(first.digest.clone()));
    assert_eq!(world.images.resolve(&name), Some(first.digest.clone()));
    assert_eq!(
        world.images.resolve(&name.at(&first.digest)),
        Some(first.digest.clone())
    );
    assert_eq!(
        world.images.get(&first.digest).unwrap().names,
        [name.to_string(), alias.to_string()]
    );
    // The same name for another image.
    let (second, _) = pull(&world, &two, "b:1").await;
    world.images.alias(&alias, &second.digest).unwrap();
    assert_eq!(world.images.resolve(&alias), Some(second.digest.clone()));
    assert!(world.images.remove(&alias).await.unwrap());
    assert!(!world.images.remove(&alias).await.unwrap());
    let world = world.again();
    assert_eq!(world.images.resolve(&alias), None);
    assert_eq!(world.images.list().unwrap().len(), 2);
    let nothing = tidegate_image::ImageDigest::of(b"");
    assert!(matches!(
        world.images.alias(&alias, &nothing),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        world.images.get(&nothing),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        world.images.layers(&nothing),
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn layers_are_shared_and_pruned_with_the_last_image() {
    let world = World::new();
    let (one, two) = two();
    let (first, _) = pull(&world, &one, "a").await;
    let (second, _) = pull(&world, &two, "b").await;
    assert_eq!(first.layers[0], second.layers[0]);
    assert_eq!((first.size, second.size), (1010, 1020));
    assert_eq!(world.count("layers"), 3);
    assert_eq!(
        world.images.prune(&|_| true).await.unwrap(),
        Pruned::default()
    );
    let pruned = world
        .images
        .prune(&|digest| *digest == second.digest)
        .await
        .unwrap();
    assert_eq!(
        (pruned.images, pruned.layers, pruned.bytes),
        (vec![first.digest], 1, 10)
    );
    assert_eq!(
        (
            world.count("layers"),
            world.count("images"),
            world.count("names")
        ),
        (2, 1, 1)
    );
    for layer in world.images.layers(&second.digest).unwrap() {
        assert!(layer.is_dir());
    }
    let world = world.again();
    assert_eq!(world.images.prune(&|_| false).await.unwrap().layers, 2);
    world.assert_bare();
}

/// Whatever was being done when the process ended.
#[tokio::test]
async fn half_made_things_are_thrown_away() {
    let world = World::new();
    let (one, two) = two();
    let (first, _) = pull(&world, &one, "a").await;
    let (second, name) = pull(&world, &two, "b").await;
    let folder = world.folder.path().to_owned();
    std::fs::create_dir_all(folder.join("scratch/half/fs/deep")).unwrap();
    std::fs::write(folder.join("scratch/half/fs/deep/file"), "x").unwrap();
    // An image whose layer was lost, and a manifest that is damaged.
    let lost = &second.layers[1].diff_id;
    std::fs::remove_file(folder.join("layers").join(lost.hex()).join("layer.json")).unwrap();
    let world = world.again();
    assert_eq!(world.count("scratch"), 0);
    assert_eq!(world.images.list().unwrap().len(), 1);
    assert_eq!(world.images.resolve(&name), None);
    assert_eq!(world.count("names"), 1);
    let manifest = folder
        .join("images")
        .join(first.digest.hex())
        .join("manifest.json");
    std::fs::write(manifest, "{}").unwrap();
    let world = world.again();
    assert_eq!(world.images.list().unwrap(), []);
    // And it can be had again.
    pull(&world, &one, "a").await;
    pull(&world, &two, "b").await;
    assert_eq!(world.images.list().unwrap().len(), 2);
}

#[tokio::test]
async fn users_are_read_out_of_the_layers() {
    let world = World::new();
    let made = Made::of(&[
        Tar::default().file("etc/passwd", b"app:x:100:101::/home/app:/bin/sh\n"),
        Tar::default().file("etc/group", b"www:x:33:\n"),
    ]);
    let (image, _) = pull(&world, &made, "a").await;
    assert_eq!(
        world.images.user(&image.digest, "app:www").unwrap(),
        (100, 33)
    );
    assert_eq!(world.images.user(&image.digest, "").unwrap(), (0, 0));
    assert!(matches!(
        world.images.user(&image.digest, "none"),
        Err(Error::User { .. })
    ));
}
