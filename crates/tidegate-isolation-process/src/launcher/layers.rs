//! The layers of an image, opened for one sandbox.
//!
//! On the disk everything in a layer belongs to the server, and all that run an image share its layers. Inside, everything
//! has to belong to the one user that there is, whose number outside is another in every sandbox. So each layer is opened
//! as a mount of its own with its ids mapped to that number, and the file system over them (see `root`) shows and copies
//! files as the sandbox's own. An ordinary user's sandboxes have his own id, and nothing is mapped.
//!
//! A map is a user namespace, and making one takes a process. Numbers are used again, so the maps are kept by number.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::base::Base;
use super::{Launcher, StepError, ids, step};
use crate::report::{Report, State};
use crate::sys;

/// Most layers of one image: what the tools that make images allow, and one of ours.
pub(super) const MAX_LAYERS: usize = 128;

/// Maps that are kept, a descriptor each: more sandboxes with an image at once than most machines run.
const MAX_MAPS: usize = 256;

/// The report's entry about images.
const REPORT: &str = "images";

/// Maps of ids by seat.
#[derive(Default)]
pub(super) struct Maps(HashMap<u32, OwnedFd>);

impl Launcher {
    /// Opens layers for the sandbox in this seat.
    pub(super) fn layers(
        &mut self,
        seat: u32,
        folders: &[PathBuf],
    ) -> Result<Vec<OwnedFd>, StepError> {
        if folders.len() > MAX_LAYERS {
            let many = io::Error::from_raw_os_error(libc::E2BIG);
            let count = folders.len();
            return step(
                format!("{count} layers, of which at most {MAX_LAYERS} are mounted"),
                Err(many),
            );
        }
        let outer = self.entered.foreign_id(self.setup.uid_base, seat);
        let Some(outer) = outer.filter(|_| !folders.is_empty()) else {
            return folders.iter().map(|folder| open(folder, None)).collect();
        };
        let Self { maps, .. } = self;
        let made;
        let ids = if let Some(ids) = maps.0.get(&seat) {
            ids
        } else {
            let ids = ids::map_to(outer)?;
            if maps.0.len() < MAX_MAPS {
                maps.0.entry(seat).or_insert(ids)
            } else {
                made = ids;
                &made
            }
        };
        let ids = Some(ids.as_fd());
        folders.iter().map(|folder| open(folder, ids)).collect()
    }
}

/// A layer as a mount that hangs nowhere yet. Where the file system maps no ids its files show as nobody's, and what the
/// image does not let everyone read is not read.
fn open(folder: &Path, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StepError> {
    let mount = step("open a layer", copy(folder))?;
    if let Some(ids) = ids
        && let Err(error) = sys::detached_mount_map(mount.as_fd(), ids)
        && error.raw_os_error() != Some(libc::EINVAL)
    {
        return step("map the ids of a layer", Err(error));
    }
    Ok(mount)
}

fn copy(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(open_tree(CWD, folder, flags)?)
}

/// Says whether images can be mounted, by mounting one of two empty layers. `id` is one that a sandbox would have, where
/// that is not the server's own.
pub(super) fn note(base: &Base, state_dir: &Path, id: Option<u32>, report: &mut Report) {
    let ids = id.map(ids::map_to).transpose();
    let tried = match &ids {
        Ok(Some(ids)) => attempt(base, state_dir, Some(ids.as_fd())),
        Ok(None) => attempt(base, state_dir, None),
        Err(StepError { errno, .. }) => Err(io::Error::from_raw_os_error(*errno)),
    };
    let Err(error) = tried else {
        return report.note(
            REPORT,
            State::Ok,
            "their layers are mounted one over another",
        );
    };
    if id.is_some() && attempt(base, state_dir, None).is_ok() {
        return report.note(
            REPORT,
            State::Degraded,
            format!(
                "what an image lets its root alone read cannot be read: the file system of {} maps no ids ({error})",
                state_dir.display()
            ),
        );
    }
    report.note(
        REPORT,
        State::Missing,
        format!("the kernel mounts no overlay here ({error}); functions run without, on the machine's own files"),
    );
}

/// Mounts an image in a process of its own, whose mounts go with it.
fn attempt(base: &Base, state_dir: &Path, ids: Option<BorrowedFd<'_>>) -> io::Result<()> {
    sys::attempt(libc::CLONE_NEWNS, || {
        // As a layer, the folder tells what its file system can; the base root's empty folder is where it happens.
        let layer = copy(state_dir)?;
        if let Some(ids) = ids {
            sys::detached_mount_map(layer.as_fd(), ids)?;
        }
        let at = base.root.join("tmp");
        mount(c"try", &at, c"tmpfs", MountFlags::empty(), c"size=64k")?;
        rustix::process::chdir(&at)?;
        for name in ["upper", "work", "root", "l", "l/0"] {
            fs::create_dir(name)?;
        }
        hang(&layer, "l/0")?;
        overlay("lowerdir=l/0,upperdir=upper,workdir=work", "root")?;
        // A file that is written and one that is deleted, since that is what a mount may still refuse.
        fs::write("root/tried", "")?;
        fs::remove_file("root/tried")
    })
}

/// Hangs a mount that hangs nowhere yet.
pub(super) fn hang(mount: &OwnedFd, at: impl rustix::path::Arg) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", CWD, at, flags)?)
}

/// Mounts layers over one another. `userxattr`: what marks a folder as hiding what is below it is an attribute that an
/// ordinary user may set, and so it is the same for everyone. The rest is what the kernel may have been built to do
/// otherwise, and which layers that are shared must not have.
pub(super) fn overlay(layers: &str, at: impl rustix::path::Arg) -> io::Result<()> {
    const NAME: &CStr = c"image";
    let options = format!("{layers},userxattr,index=off");
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount(NAME, at, c"overlay", flags, &*options)?)
}
