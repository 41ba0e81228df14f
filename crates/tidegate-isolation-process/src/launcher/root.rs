//! An image as a sandbox's root.
//!
//! The held sandbox stands on the base root, which has all that is the same for everyone: `/proc`, devices, the language
//! hosts. From there the layers are mounted over one another with a scratch space on top, what an image cannot bring is
//! hung into the result, and the roots are swapped once more, so that nothing of the base root is left to be seen.
//!
//! Everything that is written goes into one file system in memory with one bound, `/tmp` as much as the rest. An image that
//! may not be written to has the same scratch space on top until its mount points are made, and is then shown read-only.
//!
//! *The image is not trusted.* It may have a link where a folder is expected, and the mounts are made with the launcher's
//! rights in a tree that an attacker has drawn. So every path is resolved by the kernel with the image as its root: a link
//! leads somewhere else in the image, and never out of it.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};
use rustix::process::{Gid, Uid};

use super::layers::{hang, overlay};
use super::sandbox::{MIN_TMP, SHM, swap_root};
use super::{StepError, step};
use crate::protocol::{Payload, Root};
use crate::sys;

/// Where the scratch space is mounted while the image is put together: the base root's own `/tmp`, which nobody sees then.
const PLACE: &str = "/tmp";

/// Files and folders in the scratch space: one for each so many bytes that it may hold, and some in any case, since an
/// empty file takes memory too.
const BYTES_A_FILE: u64 = 4096;
const LEAST_FILES: u64 = 4096;

/// Where secrets are in the base root.
const SECRETS: &str = "/run/secrets";

/// Where functions made for OpenFaaS look for them.
const OPENFAAS_SECRETS: &str = "/var/openfaas/secrets";

/// The base root's folder of language hosts, and where it is inside.
const RUNTIME: &str = "/runtime";

/// What of the base root's every image gets.
const SHOWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How often a path is resolved before that is given up: where one goes up a folder while anything on the machine is mounted
/// or renamed, the kernel cannot vouch for it and asks for another attempt.
const ATTEMPTS: u32 = 10_000;

/// Bytes of an image's list of users that are read.
const MAX_PASSWD: u64 = 1024 * 1024;

/// Puts the image together and makes it the root. `code` is hung at the places that the payload names.
pub(super) fn enter(
    root: &Root,
    payload: &Payload,
    layers: &[OwnedFd],
    code: &[OwnedFd],
    outer_id: u32,
) -> Result<(), StepError> {
    let at = assemble(payload, layers, outer_id)?;
    let image = Image {
        root: &at,
        owner: outer_id,
    };
    // Before anything else is in it, so that what is written lands in the scratch space.
    image.names(&payload.hostname)?;
    if !payload.secrets.is_empty() {
        image.show(SECRETS, SECRETS)?;
        image.show(SECRETS, OPENFAAS_SECRETS)?;
    }
    for (mount, place) in code.iter().zip(&payload.code) {
        step(format!("mount {place}"), image.hang(mount, place))?;
    }
    if root.hosts {
        image.show(RUNTIME, RUNTIME)?;
    }
    // After those, which a link of the image's may have led anywhere: nothing may cover what process 1 looks at.
    for place in SHOWN {
        image.show_at_itself(place, place)?;
    }
    image.show_at_itself("tmp", "/tmp")?;
    step("make the working folder", image.folder(&root.workdir))?;
    if root.read_only {
        step(
            "image read-only",
            sys::detached_mount_set(at.as_fd(), libc::MOUNT_ATTR_RDONLY),
        )?;
    }
    step("enter the image", rustix::process::fchdir(&at))?;
    swap_root()
}

/// Mounts the layers over one another, with a scratch space on top. Gives back the folder; the scratch space becomes the
/// working directory.
fn assemble(payload: &Payload, layers: &[OwnedFd], outer_id: u32) -> Result<OwnedFd, StepError> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let size = payload.tmp.max(MIN_TMP);
    let files = LEAST_FILES + size / BYTES_A_FILE;
    let options = |text: String| CString::new(text).expect("digits hold no zero byte");
    step(
        "mount the scratch space",
        mount(
            c"scratch",
            PLACE,
            c"tmpfs",
            quiet,
            &*options(format!("size={size},nr_inodes={files},mode=0755")),
        ),
    )?;
    step(
        "mount /dev/shm",
        mount(
            c"shm",
            "/dev/shm",
            c"tmpfs",
            quiet,
            &*options(format!(
                "size={},nr_inodes={files},mode=1777",
                SHM.min(size)
            )),
        ),
    )?;
    step("enter the scratch space", rustix::process::chdir(PLACE))?;
    for name in ["upper", "work", "tmp", "root", "l"] {
        step("folders of the scratch space", fs::create_dir(name))?;
    }
    let open = fs::set_permissions("tmp", fs::Permissions::from_mode(0o1777));
    step("folders of the scratch space", open)?;
    // It is what `/` is inside.
    let (uid, gid) = ids(outer_id);
    step("give / away", rustix::fs::chown("upper", uid, gid))?;
    let mut stack = String::new();
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("l/{number}");
        step("place of a layer", fs::create_dir(&name))?;
        step("mount a layer", hang(layer, &*name))?;
        // The kernel wants the highest first.
        stack = if stack.is_empty() {
            name
        } else {
            format!("{name}:{stack}")
        };
    }
    step(
        "mount the image",
        overlay(
            &format!("lowerdir={stack},upperdir=upper,workdir=work"),
            "root",
        ),
    )?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    step(
        "open the image",
        rustix::fs::open("root", flags, Mode::empty()),
    )
}

fn ids(outer_id: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(outer_id)), Some(Gid::from_raw(outer_id)))
}

/// An image that is mounted and not yet the root.
struct Image<'a> {
    root: &'a OwnedFd,
    /// To whom belongs what is made in it.
    owner: u32,
}

impl Image<'_> {
    /// Shows a folder of the base root's, with what is mounted in it.
    fn show(&self, from: &str, at: &str) -> Result<(), StepError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let shown = open_tree(CWD, from, flags)
            .map_err(io::Error::from)
            .and_then(|mount| self.hang(&mount, at));
        step(format!("mount {at}"), shown)
    }

    /// The same where no link of the image's may be in the way, even one that leads to somewhere inside: process 1 looks
    /// here for what is in use, and the code could put another folder in the place of a link.
    fn show_at_itself(&self, from: &str, at: &str) -> Result<(), StepError> {
        let name = at.trim_start_matches('/');
        let unlinked = match rustix::fs::statat(self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                rustix::fs::unlinkat(self.root, name, AtFlags::empty())
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        };
        step(format!("make {at}"), unlinked)?;
        self.show(from, at)
    }

    fn hang(&self, mount: &OwnedFd, at: &str) -> io::Result<()> {
        let at = self.folder(at)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(mount, "", &at, "", flags)?)
    }

    /// A path inside, whatever links there are on its way.
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = match path.trim_start_matches('/') {
            "" => ".",
            path => path,
        };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 1..ATTEMPTS {
            match rustix::fs::openat2(self.root, path, flags, Mode::empty(), inside) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                other => return other,
            }
        }
        rustix::fs::openat2(self.root, path, flags, Mode::empty(), inside)
    }

    /// A folder inside, made with those above it where there is none. A link to nowhere gives way to it.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let mut way = String::new();
        let mut folder = self.open("/", flags)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            way.push('/');
            way.push_str(name);
            folder = match self.open(&way, flags) {
                Err(Errno::NOENT) => {
                    self.make(folder.as_fd(), name)?;
                    self.open(&way, flags)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    fn make(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        match rustix::fs::mkdirat(folder, name, mode) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
                rustix::fs::mkdirat(folder, name, mode)?;
            }
            other => other?,
        }
        let (uid, gid) = ids(self.owner);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(folder, name, uid, gid, flags)?)
    }

    /// What the machine and the network are called: the base root's files in the place of the image's.
    fn names(&self, hostname: &str) -> Result<(), StepError> {
        let etc = step("open /etc", self.folder("/etc"))?;
        let copied = |name: &str| {
            step(
                format!("read /etc/{name}"),
                fs::read(format!("/etc/{name}")),
            )
        };
        let mut hosts = copied("hosts")?;
        hosts.extend_from_slice(format!("127.0.0.1 {hostname}\n").as_bytes());
        for (name, text) in [
            ("hostname", format!("{hostname}\n").into_bytes()),
            ("hosts", hosts),
            ("resolv.conf", copied("resolv.conf")?),
        ] {
            let put = self.put(etc.as_fd(), name, &text);
            step(format!("write /etc/{name}"), put)?;
        }
        Ok(())
    }

    fn put(&self, folder: BorrowedFd<'_>, name: &str, text: &[u8]) -> io::Result<()> {
        // A link, perhaps, to wherever: it is not followed but goes.
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
        let (uid, gid) = ids(self.owner);
        rustix::fs::fchown(&file, uid, gid)?;
        fs::File::from(file).write_all(text)
    }
}

/// The home of a user, as the image's list of users has it. Read from inside the image and without any rights.
pub(super) fn home(user: u32) -> String {
    passwd()
        .ok()
        .and_then(|list| home_in(&list, user))
        .unwrap_or_else(|| "/".to_owned())
}

fn passwd() -> io::Result<String> {
    // It may be anything, a pipe among others.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open("/etc/passwd", flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_PASSWD).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn home_in(list: &str, user: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number = fields.nth(2)?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (number == user && home.starts_with('/')).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_number() {
        let list = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:100:101::/home/app:/bin/sh\nodd:x:7:7:::\n";
        assert_eq!(home_in(list, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(list, 100).as_deref(), Some("/home/app"));
        assert_eq!(home_in(list, 7), None);
        assert_eq!(home_in(list, 1000), None);
    }
}
