//! Images that cases put together from the machine's own files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tidegate_instance::RootFs;

use crate::world::World;

/// What of busybox the cases call by name.
const APPLETS: [&str; 20] = [
    "cat", "chmod", "chown", "dd", "env", "grep", "head", "hostname", "httpd", "id", "ls", "mkdir",
    "mount", "mv", "nc", "rm", "sh", "sleep", "sort", "stat",
];

/// A layer of an image that is being made.
pub(crate) struct Layer(pub(crate) PathBuf);

impl Layer {
    pub(crate) fn new(world: &World) -> Self {
        // The same numbers as bundles have: nothing else does.
        let folder = world.bundle(&[("made", "")]);
        fs::remove_file(folder.join("made")).expect("removed");
        Self(folder)
    }

    /// A shell and what goes with it.
    pub(crate) fn base(world: &World) -> Self {
        let layer = Self::new(world);
        fs::create_dir_all(layer.0.join("bin")).expect("a folder");
        fs::copy("/usr/bin/busybox", layer.0.join("bin/busybox")).expect("busybox is installed");
        for applet in APPLETS {
            symlink("busybox", layer.0.join("bin").join(applet)).expect("a link");
        }
        layer.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/home/app:/bin/sh\n",
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the layer")).expect("a folder");
        path
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).expect("a file");
        self
    }

    pub(crate) fn program(self, name: &str, text: &[u8], mode: u32) -> Self {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        self
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        fs::create_dir_all(self.path(name)).expect("a folder");
        self
    }

    pub(crate) fn link(self, name: &str, to: impl AsRef<Path>) -> Self {
        symlink(to, self.path(name)).expect("a link");
        self
    }

    /// Marks what lower layers have here as deleted.
    pub(crate) fn gone(self, name: &str) -> Self {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)
            .expect("a mark");
        self
    }

    /// A folder that hides what lower layers have in it.
    pub(crate) fn opaque(self, name: &str) -> Self {
        let layer = self.folder(name);
        let path = layer.path(name);
        rustix::fs::setxattr(path, "user.overlay.opaque", b"y", XattrFlags::empty())
            .expect("a mark");
        layer
    }

    /// A program of the machine's with the libraries that it names, under another name.
    pub(crate) fn machines(self, program: &str, name: &str) -> Self {
        fs::copy(program, self.path(name)).expect("the program is installed");
        self.libraries(&[program.into()])
    }

    /// The libraries that these name.
    pub(crate) fn libraries(self, programs: &[PathBuf]) -> Self {
        let listed = Command::new("ldd")
            .args(programs)
            .output()
            .expect("ldd runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        // A line with a colon names the program, not what it wants.
        let is_named = |word: &&str| word.starts_with('/') && !word.ends_with(':');
        for library in listed.split_whitespace().filter(is_named) {
            fs::copy(library, self.path(library.trim_start_matches('/'))).expect("a library");
        }
        self
    }
}

pub(crate) fn image(layers: &[&Layer]) -> RootFs {
    RootFs {
        layers: layers.iter().map(|layer| layer.0.clone()).collect(),
        user: (0, 0),
        workdir: "/".to_owned(),
        read_only: false,
        stop_signal: 15,
    }
}
