//! Layouts, archives, folders.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tidegate_image::{Error, Image, ImageDigest, Source};

use crate::made::{Made, Tar, World, gzip, index, noise};

async fn import(world: &World, source: Source, name: Option<&str>) -> Result<Vec<Image>, Error> {
    let name = name.map(|name| name.parse().unwrap());
    world.images.import(source, name, Arc::new(())).await
}

fn made() -> Made {
    Made::of(&[
        Tar::default().file("lower", &noise(5000)),
        Tar::default().file("upper", b"u"),
    ])
}

fn machine() -> String {
    tidegate_image::Platform::machine().architecture
}

fn pack(folder: &Path, words: &[&str], name: &str) -> std::path::PathBuf {
    let archive = folder.join(name);
    let done = Command::new("tar")
        .arg("-C")
        .arg(folder.join("layout"))
        .arg("-cf")
        .arg(&archive)
        .args(words)
        .arg(".")
        .status();
    assert!(done.unwrap().success());
    archive
}

#[tokio::test]
async fn layouts_come_as_folders_and_archives() {
    let dir = tempfile::tempdir().unwrap();
    let made = made();
    let other = Made::from_parts(made.tars.clone(), made.layers.clone(), &json!({}), "s390x");
    let nested = index(&[(&other.manifest, "s390x"), (&made.manifest, &machine())]).to_string();
    let mut outer = crate::made::descriptor(crate::made::INDEX, nested.as_bytes());
    outer["annotations"] = json!({ "org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "example.com/a:1" });
    let layout = dir.path().join("layout");
    made.lay_out(
        &layout,
        &json!({ "schemaVersion": 2, "manifests": [outer] }),
    );
    std::fs::write(
        layout
            .join("blobs/sha256")
            .join(ImageDigest::of(nested.as_bytes()).hex()),
        &nested,
    )
    .unwrap();

    let plain = pack(dir.path(), &[], "plain.tar");
    let packed = pack(dir.path(), &["-z"], "packed.tar.gz");
    for source in [
        Source::Layout(layout),
        Source::Archive(plain),
        Source::Archive(packed),
    ] {
        let world = World::new();
        let images = import(&world, source, None).await.unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].digest, made.digest());
        assert_eq!(images[0].names, ["example.com/a:1"]);
        assert_eq!(
            world
                .images
                .read(&images[0].digest, "lower", 9999)
                .unwrap()
                .unwrap(),
            noise(5000)
        );
        assert_eq!(world.count("scratch"), 0);
    }
}

#[tokio::test]
async fn several_images_keep_their_own_names() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (made(), Made::of(&[Tar::default().file("two", b"2")]));
    let mut list = index(&[(&one.manifest, &machine()), (&two.manifest, &machine())]);
    list["manifests"][0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "a:1" });
    list["manifests"][1]["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    one.lay_out(dir.path(), &list);
    two.lay_out(dir.path(), &list);
    let world = World::new();
    let source = || Source::Layout(dir.path().to_owned());
    let error = import(&world, source(), Some("b")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    world.assert_bare();
    let images = import(&world, source(), None).await.unwrap();
    assert_eq!(images[0].names, ["docker.io/library/a:1"]);
    assert_eq!(images[1].names, [""; 0], "a tag alone names nothing");
}

#[tokio::test]
async fn archives_of_docker_save_are_read() {
    let made = made();
    let config = format!("{}.json", ImageDigest::of(&made.config).hex());
    let list = json!([{ "Config": config, "RepoTags": ["a:1", "example.com/b:2"], "Layers": ["0/layer.tar", "1/layer.tar"] }]);
    let archive = |lower: Vec<u8>| {
        Tar::default()
            .folder("0/")
            .file("kept/layer.tar", &lower)
            // As older versions write a layer that is there twice.
            .symlink("0/layer.tar", "../kept/layer.tar")
            .file("1/layer.tar", &made.tars[1])
            .file(&config, &made.config)
            .file("manifest.json", list.to_string().as_bytes())
            .bytes()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved.tar");
    let mut digests = Vec::new();
    for content in [
        archive(made.tars[0].clone()),
        gzip(&archive(made.tars[0].clone())),
        crate::made::zstd(&archive(made.tars[0].clone())),
    ] {
        std::fs::write(&path, content).unwrap();
        let world = World::new();
        let images = import(&world, Source::Archive(path.clone()), None)
            .await
            .unwrap();
        assert_eq!(
            images[0].names,
            ["docker.io/library/a:1", "example.com/b:2"]
        );
        assert_eq!(images[0].config.cmd, ["/bin/hello"]);
        assert_eq!(
            world
                .images
                .read(&images[0].digest, "upper", 9)
                .unwrap()
                .unwrap(),
            b"u"
        );
        digests.push(images[0].digest.clone());
        // Nothing depends on where it came from after a restart.
        assert_eq!(world.again().images.list().unwrap().len(), 1);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);

    // A layer that is not the one of the configuration.
    std::fs::write(&path, archive(made.tars[1].clone())).unwrap();
    let world = World::new();
    let error = import(&world, Source::Archive(path.clone()), Some("c"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    world.assert_bare();
}

#[tokio::test]
async fn a_folder_is_an_image_of_one_layer() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/hello"), "#!/bin/sh").unwrap();
    std::fs::hard_link(root.join("bin/hello"), root.join("bin/hi")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", root.join("link")).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    std::fs::create_dir(root.join("d".repeat(120))).unwrap();
    std::fs::write(root.join(&long), "x").unwrap();
    let world = World::new();
    let source = || Source::Folder(root.clone());
    let images = import(&world, source(), Some("mine:1")).await.unwrap();
    let image = &images[0];
    assert_eq!(image.names, ["docker.io/library/mine:1"]);
    assert!(image.config.entrypoint.is_empty() && image.config.cmd.is_empty());
    assert_eq!(image.config.architecture, machine());
    assert_eq!(image.layers.len(), 1);
    let layer = &world.images.layers(&image.digest).unwrap()[1];
    assert_eq!(
        std::fs::read_link(layer.join("link")).unwrap(),
        Path::new("/etc/shadow")
    );
    assert_eq!(std::fs::read(layer.join("bin/hi")).unwrap(), b"#!/bin/sh");
    assert!(layer.join(&long).is_file());
    assert_eq!(
        import(&world, source(), None).await.unwrap()[0].digest,
        image.digest
    );
    assert_eq!(world.images.read(&image.digest, "link", 9).unwrap(), None);

    let small = World::with(|settings| settings.max_image_bytes = 2000);
    let error = import(&small, source(), None).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    small.assert_bare();
}

#[tokio::test]
async fn bad_sources_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let made = made();
    let list = index(&[(&made.manifest, &machine())]);
    let blob = |content: &[u8]| {
        dir.path()
            .join("blobs/sha256")
            .join(ImageDigest::of(content).hex())
    };
    let source = || Source::Layout(dir.path().to_owned());
    let world = World::new();

    made.lay_out(dir.path(), &list);
    std::fs::write(blob(&made.layers[1]), gzip(b"")).unwrap();
    let error = import(&world, source(), None).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    world.assert_bare();

    made.lay_out(dir.path(), &list);
    std::fs::write(blob(&made.config), &made.manifest).unwrap();
    let error = import(&world, source(), None).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");

    made.lay_out(dir.path(), &list);
    std::fs::remove_file(blob(&made.layers[0])).unwrap();
    let error = import(&world, source(), None).await.unwrap_err();
    assert!(
        error.to_string().contains("it lacks blobs/sha256/"),
        "{error}"
    );

    let other = Made::from_parts(made.tars.clone(), made.layers.clone(), &json!({}), "s390x");
    other.lay_out(dir.path(), &index(&[(&other.manifest, "s390x")]));
    let error = import(&world, source(), None).await.unwrap_err();
    assert!(matches!(error, Error::Architecture { .. }), "{error}");

    std::fs::write(dir.path().join("junk.tar"), noise(5000)).unwrap();
    let junk = Source::Archive(dir.path().join("junk.tar"));
    let error = import(&world, junk, None).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    let nothing = Source::Archive(dir.path().join("none.tar"));
    assert!(matches!(
        import(&world, nothing, None).await,
        Err(Error::Io { .. })
    ));
    let empty = tempfile::tempdir().unwrap();
    let empty = Source::Layout(empty.path().to_owned());
    assert!(matches!(
        import(&world, empty, None).await,
        Err(Error::Invalid { .. })
    ));
    world.assert_bare();
}

/// Whoever asks for a digest has it verified, or gets nothing.
#[tokio::test]
async fn no_image_is_called_by_another_digest() {
    let dir = tempfile::tempdir().unwrap();
    let made = made();
    let other = ImageDigest::of(b"another");
    let mut list = index(&[(&made.manifest, &machine())]);
    list["manifests"][0]["annotations"] =
        json!({ "org.opencontainers.image.ref.name": format!("example.com/a@{other}") });
    made.lay_out(dir.path(), &list);
    let source = || Source::Layout(dir.path().to_owned());
    let world = World::new();
    let named = format!("example.com/a@{other}");
    let error = import(&world, source(), Some(&named)).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    world.assert_bare();
    let images = import(&world, source(), None).await.unwrap();
    assert_eq!(images[0].names, [""; 0]);
    let own = format!("example.com/a@{}", made.digest());
    let images = import(&world, source(), Some(&own)).await.unwrap();
    assert_eq!(images[0].names, [own]);
}

#[tokio::test]
async fn a_list_names_nothing_beside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, made().config).unwrap();
    let folder = dir.path().join("saved");
    std::fs::create_dir(&folder).unwrap();
    for name in ["../outside", outside.to_str().unwrap()] {
        let list = json!([{ "Config": name, "Layers": [] }]);
        std::fs::write(folder.join("manifest.json"), list.to_string()).unwrap();
        let world = World::new();
        let error = import(&world, Source::Layout(folder.clone()), None).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("not below it"), "{error}");
    }
}
