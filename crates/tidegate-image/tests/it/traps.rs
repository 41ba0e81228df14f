//! Layers that a stranger made.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::Arc;

use tidegate_image::{Credentials, Error, Image};

use crate::fake::Fake;
use crate::made::{Made, Tar, World, noise};

async fn pull(world: &World, made: &Made) -> Result<Image, Error> {
    let fake = Fake::serving(&[made]).await;
    world
        .images
        .pull(
            &fake.reference("trap"),
            &Credentials::Anonymous,
            Arc::new(()),
        )
        .await
}

/// That the layer is refused, for the entry, and nothing is left of it.
async fn check(tar: Tar, entry: &str, why: &str) {
    let world = World::new();
    let outside = world.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let fine = Tar::default().file("fine", b"fine");
    let error = pull(&world, &Made::of(&[fine, tar])).await.unwrap_err();
    match &error {
        Error::Unsafe {
            entry: found,
            why: because,
            ..
        } => {
            assert_eq!((found.as_str(), *because), (entry, why));
        }
        other => panic!("{entry}: {other}"),
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    std::fs::remove_dir(outside).unwrap();
    world.assert_bare();
}

#[tokio::test]
async fn names_that_lead_out_are_refused() {
    let file = |name: &str| Tar::default().file(name, b"x");
    check(file("../outside/x"), "../outside/x", "goes up by ..").await;
    check(
        file("a/../../../outside/x"),
        "a/../../../outside/x",
        "goes up by ..",
    )
    .await;
    check(file("/../outside/x"), "/../outside/x", "goes up by ..").await;
    check(file("a/.wh..."), "a/.wh...", "takes away what cannot be").await;
    check(file(".wh."), ".wh.", "takes away what cannot be").await;
    check(
        file(&"a/".repeat(300)),
        &"a/".repeat(100),
        "is nested deeper than 256 folders",
    )
    .await;
    let long = "n".repeat(256);
    check(
        file(&long),
        &long[..200],
        "has a name longer than 255 bytes",
    )
    .await;
    let path = format!("{}x", "abcdefghi/".repeat(420));
    check(
        file(&path),
        &path[..200],
        "has a path longer than 4095 bytes",
    )
    .await;
}

/// As builders of images out of a single program write them.
#[tokio::test]
async fn names_that_begin_with_a_slash_begin_at_the_layers_root() {
    let world = World::new();
    let tar = Tar::default()
        .folder("/app/")
        .file("/app/file", b"inside")
        .hardlink("//app/same", "/app/file");
    let image = pull(&world, &Made::of(&[tar])).await.unwrap();
    for path in ["app/file", "app/same"] {
        let read = world.images.read(&image.digest, path, 100).unwrap();
        assert_eq!(read.as_deref(), Some(&b"inside"[..]), "{path}");
    }
}

#[tokio::test]
async fn links_are_never_written_through() {
    for target in ["../../../../outside", "/", "inside", "."] {
        let link = || Tar::default().folder("inside").symlink("link", target);
        let through = "goes through a link";
        check(link().file("link/x", b"x"), "link/x", through).await;
        check(link().folder("link/d"), "link/d", through).await;
        check(link().file("link/a/b/x", b"x"), "link/a/b/x", through).await;
        check(link().symlink("link/l", "x"), "link/l", through).await;
        check(link().file("link/.wh.x", b""), "link/.wh.x", through).await;
        check(
            link().file("link/.wh..wh..opq", b""),
            "link/.wh..wh..opq",
            through,
        )
        .await;
        check(
            link().hardlink("h", "link/x"),
            "h",
            "is a hard link through a link",
        )
        .await;
    }
    check(
        Tar::default().file("f", b"x").file("f/x", b"x"),
        "f/x",
        "goes through what is no folder",
    )
    .await;
}

#[tokio::test]
async fn hard_links_stay_in_the_layer() {
    let hardlink = |target: &str| Tar::default().folder("d").hardlink("h", target);
    let lost = "is a hard link to what is not in the layer";
    // In the layer, whatever the machine has.
    check(hardlink("/etc/passwd"), "h", lost).await;
    check(hardlink("../x"), "h", "goes up by ..").await;
    check(hardlink("fine"), "h", lost).await;
    check(hardlink("d"), "h", lost).await;
    check(hardlink("./"), "h", "is a hard link to a folder").await;
    check(hardlink("h"), "h", "is a hard link to itself").await;
}

#[tokio::test]
async fn a_file_in_the_place_of_a_link_is_a_file() {
    let world = World::new();
    let outside = world.folder.path().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let tar = Tar::default()
        .symlink("passwd", outside.to_str().unwrap())
        .file("passwd", b"inside")
        .symlink("dir", "/")
        .folder("dir/")
        .file("dir/x", b"inside")
        .folder("empty")
        .file("empty", b"a file now");
    let image = pull(&world, &Made::of(&[tar])).await.unwrap();
    let layer = &world.images.layers(&image.digest).unwrap()[1];
    assert_eq!(std::fs::read(layer.join("passwd")).unwrap(), b"inside");
    assert!(
        std::fs::symlink_metadata(layer.join("passwd"))
            .unwrap()
            .is_file()
    );
    assert!(
        std::fs::symlink_metadata(layer.join("dir"))
            .unwrap()
            .is_dir()
    );
    assert_eq!(std::fs::read(layer.join("empty")).unwrap(), b"a file now");
    assert_eq!(std::fs::read(&outside).unwrap(), b"untouched");
    let taken = Tar::default().file("d/x", b"x").file("d", b"x");
    check(
        taken,
        "d",
        "would take the place of a folder that is not empty",
    )
    .await;
}

#[tokio::test]
async fn rights_and_devices_are_left_out() {
    let world = World::new();
    let tar = Tar::default()
        .entry("./", b'5', 0o000, "", b"")
        .entry("bin/", b'5', 0o500, "", b"")
        .entry("tmp", b'5', 0o1777, "", b"")
        .entry("bin/su", b'0', 0o6755, "", b"x")
        .hardlink("bin/su2", "bin/su")
        .entry("dev/sda", b'4', 0o666, "", b"")
        .entry("dev/null", b'3', 0o666, "", b"")
        .entry("dev/pipe", b'6', 0o666, "", b"");
    let image = pull(&world, &Made::of(&[tar])).await.unwrap();
    let layer = &world.images.layers(&image.digest).unwrap()[1];
    let mode = |path: &str| {
        std::fs::metadata(layer.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode("."), 0o755);
    assert_eq!(mode("bin/su"), 0o755);
    assert_eq!(mode("bin"), 0o700);
    assert_eq!(mode("tmp"), 0o1777);
    let su = std::fs::metadata(layer.join("bin/su")).unwrap();
    assert_eq!((su.nlink(), su.mtime()), (2, 0o14_000_000_000));
    assert_eq!(su.uid(), rustix::process::geteuid().as_raw());
    assert!(!layer.join("dev").exists());
}

#[tokio::test]
async fn bombs_are_put_out() {
    let zeros = vec![0; 40 << 20];
    let large = Made::of(&[
        Tar::default().file("a", &zeros[..30 << 20]),
        Tar::default().file("b", &zeros),
    ]);
    let world = World::with(|settings| settings.max_image_bytes = 60 << 20);
    let error = pull(&world, &large).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit, .. } if limit == 60 << 20),
        "{error}"
    );
    world.assert_bare();

    // No entry says so, but there is no end to it: zeros after the end of the tar.
    let mut endless = Tar::default().file("a", b"x").bytes();
    endless.extend(&zeros);
    let layer = crate::made::gzip(&endless);
    let made = Made::from_parts(vec![endless], vec![layer], &serde_json::json!({}), &arch());
    let world = World::with(|settings| {
        settings.max_image_bytes = 1 << 20;
        settings.max_entries = 100;
    });
    let error = pull(&world, &made).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    world.assert_bare();

    let many = (0..200).fold(Tar::default(), |tar, n| tar.file(&format!("{n}"), b""));
    let deep = Tar::default().folder(&"d/".repeat(200));
    for tar in [many, deep] {
        let world = World::with(|settings| settings.max_entries = 150);
        let error = pull(&world, &Made::of(&[tar])).await.unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit: 150, .. }),
            "{error}"
        );
        world.assert_bare();
    }

    let layers = vec![Tar::default(); 6];
    let world = World::with(|settings| settings.max_layers = 5);
    let error = pull(&world, &Made::of(&layers)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                limit: 5,
                unit: "layers",
                ..
            }
        ),
        "{error}"
    );
    world.assert_bare();
}

fn arch() -> String {
    tidegate_image::Platform::machine().architecture
}

#[tokio::test]
async fn damaged_layers_are_refused() {
    let tar = Tar::default().file("f", &noise(100_000)).bytes();
    let whole = crate::made::gzip(&tar);
    let mut flipped = whole.clone();
    flipped[50_000] ^= 1;
    for layer in [
        &whole[..whole.len() - 5000],
        &flipped,
        b"no archive at all",
        b"",
    ] {
        let made = Made::from_parts(
            vec![tar.clone()],
            vec![layer.to_vec()],
            &serde_json::json!({}),
            &arch(),
        );
        let world = World::new();
        let error = pull(&world, &made).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. } | Error::Digest { .. }),
            "{error}"
        );
        world.assert_bare();
    }
    // A layer that is fine, and not the one that the configuration means.
    let other = Tar::default().file("f", b"another").bytes();
    let made = Made::from_parts(
        vec![tar],
        vec![crate::made::gzip(&other)],
        &serde_json::json!({}),
        &arch(),
    );
    let world = World::new();
    let error = pull(&world, &made).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    world.assert_bare();
}

/// The layers, as the kernel puts them together, and as `Images::read` does.
#[tokio::test]
async fn what_layers_take_away_is_gone_in_an_overlay() {
    let lower = Tar::default()
        .file("etc/gone", b"x")
        .file("etc/kept", b"kept")
        .file("etc/over", b"old")
        .file("opaque/hidden", b"x")
        .file("swap/hidden", b"x")
        .file("back/hidden", b"x")
        .file("gone/deep/x", b"x")
        .file(".wh.first", b"");
    let upper = Tar::default()
        .file("etc/.wh.gone", b"")
        .file("etc/over", b"new")
        .file("opaque/shown", b"shown")
        .file("opaque/.wh..wh..opq", b"")
        // Taken away and made anew, in both orders.
        .file(".wh.swap", b"")
        .file("swap/shown", b"shown")
        .file("back/shown", b"shown")
        .file(".wh.back", b"")
        .file("etc/.wh.over", b"")
        .file(".wh.gone", b"")
        .file("etc/.wh..wh.plnk", b"");
    let world = World::new();
    let image = pull(&world, &Made::of(&[lower, upper])).await.unwrap();
    let layers = world.images.layers(&image.digest).unwrap();
    assert_eq!(layers.len(), 3);
    let device = std::fs::symlink_metadata(layers[2].join("etc/gone")).unwrap();
    assert!(device.file_type().is_char_device() && device.rdev() == 0);
    let expected = "back/shown etc/kept etc/over opaque/shown swap/shown";
    for path in expected.split(' ') {
        assert!(
            world
                .images
                .read(&image.digest, path, 99)
                .unwrap()
                .is_some(),
            "{path}"
        );
    }
    for path in [
        "etc/gone",
        "opaque/hidden",
        "swap/hidden",
        "back/hidden",
        "gone/deep/x",
        "first",
    ] {
        assert_eq!(
            world.images.read(&image.digest, path, 99).unwrap(),
            None,
            "{path}"
        );
    }
    let lowerdir: Vec<String> = layers
        .iter()
        .rev()
        .map(|it| it.display().to_string())
        .collect();
    let script = format!(
        "mount -t overlay overlay -o userxattr,lowerdir={} {mount} && cd {mount} && find . -type f -o -type c | sort | xargs",
        lowerdir.join(":"),
        mount = world.folder.path().join("scratch").display(),
    );
    let done = Command::new("unshare")
        .args(["-Urm", "sh", "-ec", &script])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let found = String::from_utf8(done.stdout).unwrap().replace("./", "");
    assert_eq!(found.trim(), expected);
}

#[tokio::test]
async fn a_layer_that_hides_everything_is_the_lowest() {
    let world = World::new();
    let lower = Tar::default().file("hidden", b"x");
    let upper = Tar::default().file("shown", b"x").file(".wh..wh..opq", b"");
    let image = pull(&world, &Made::of(&[lower, upper])).await.unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(world.images.layers(&image.digest).unwrap().len(), 2);
    assert_eq!(world.images.read(&image.digest, "hidden", 9).unwrap(), None);
    assert!(
        world
            .images
            .read(&image.digest, "shown", 9)
            .unwrap()
            .is_some()
    );
}
