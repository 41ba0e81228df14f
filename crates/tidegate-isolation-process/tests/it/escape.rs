//! Attempts to get out, and what they do to a neighbour: from sandboxes on the machine's own programs, and from images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_escape::strain::{SHARED_OUT, WATCHED};
use tidegate_escape::{Place, suite};
use tidegate_instance::RootFs;

use crate::world::World;

fn place(world: &World) -> Place<'_> {
    Place {
        isolation: &world.isolation,
        own_kernel: false,
        bearable: Some(if world.counts_by_kernel("cpu limit") {
            SHARED_OUT
        } else {
            WATCHED
        }),
        state: world.folder.path().join("state"),
        dress: Box::new(|_| {}),
    }
}

pub(crate) async fn every_attempt_is_answered_as_it_is_written_down(world: &World) {
    suite::withstands(&place(world)).await;
}

pub(crate) async fn the_way_out_leads_nowhere_else(world: &World) {
    suite::keeps_the_door(&place(world)).await;
}

pub(crate) async fn the_same_from_an_image(world: &World) {
    let image = image(world);
    let dressed = Place {
        dress: Box::new(move |spec| spec.root = Some(image.clone())),
        ..place(world)
    };
    suite::withstands(&dressed).await;
}

pub(crate) async fn what_one_does_to_itself_its_neighbour_hardly_notices(world: &World) {
    suite::bears(&place(world)).await;
}

/// What attempts use beside the interpreter.
const PROGRAMS: [&str; 8] = ["python3", "env", "id", "sh", "true", "grep", "sleep", "su"];

/// An image with the machine's own Python, and the folders that attempts try to write to.
fn image(world: &World) -> RootFs {
    let layer = world.folder.path().join("image-of-attempts");
    let bin = layer.join("usr/bin");
    for folder in ["bin", "lib", "lib64"] {
        fs::create_dir_all(layer.join("usr").join(folder)).expect("a folder");
    }
    for (link, to) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        std::os::unix::fs::symlink(to, layer.join(link)).expect("a link");
    }
    for folder in ["etc", "run", "var", "home", "layer", "runtime", "tmp"] {
        fs::create_dir(layer.join(folder)).expect("a folder");
    }
    fs::write(layer.join("etc/passwd"), "app:x:1000:1000::/:/bin/sh\n").expect("a file");
    let mut files: Vec<PathBuf> = Vec::new();
    for program in PROGRAMS {
        let from = fs::canonicalize(Path::new("/usr/bin").join(program)).expect("it is installed");
        fs::copy(&from, bin.join(program)).expect("copied");
        files.push(from);
    }
    let library = Command::new("/usr/bin/python3")
        .args(["-Ic", "import os; print(os.path.dirname(os.__file__))"])
        .output()
        .expect("python3 runs");
    let library = String::from_utf8_lossy(&library.stdout).trim().to_owned();
    let within = layer.join(library.trim_start_matches('/'));
    copy_tree(Path::new(&library), &within, &mut files);
    let listed = Command::new("ldd").args(&files).output().expect("ldd runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let is_library = |word: &&str| word.starts_with('/') && !word.ends_with(':');
    for library in listed.split_whitespace().filter(is_library) {
        let to = layer.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("it is in the layer")).expect("a folder");
        fs::copy(library, to).expect("a library");
    }
    RootFs {
        layers: vec![layer],
        user: (1000, 1000),
        workdir: "/".to_owned(),
        read_only: true,
        stop_signal: 15,
    }
}

/// Copies a library without what its own tests and compilers need. Gives back what is compiled.
fn copy_tree(from: &Path, to: &Path, compiled: &mut Vec<PathBuf>) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a library").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = [
            "test",
            "__pycache__",
            "idlelib",
            "lib2to3",
            "ensurepip",
            "site-packages",
        ];
        let name = name.to_string_lossy();
        if skipped.contains(&&*name) || name.starts_with("config-") {
            continue;
        }
        if path.is_dir() {
            copy_tree(&path, &to.join(&*name), compiled);
        } else if path.is_file() {
            fs::copy(&path, to.join(&*name)).expect("copied");
            if path.extension().is_some_and(|e| e == "so") {
                compiled.push(path);
            }
        }
    }
}
