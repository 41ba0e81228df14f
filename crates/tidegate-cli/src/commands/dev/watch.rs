//! Told that files changed.
//!
//! What is told here is only that it is worth looking: whether anything that matters has changed is decided by packing the
//! code again, whose digest leaves out what the ignore rules do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Config, Event, EventKind, PollWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long nothing may change before it is looked at: editors write a file in several steps, some milliseconds apart.
const QUIET: Duration = Duration::from_millis(50);

/// How long it is waited for quiet at most.
const MOST: Duration = Duration::from_millis(500);

/// How often is looked where the system does not tell.
const POLL: Duration = Duration::from_millis(500);

/// Folders in which much changes and nothing matters.
const NOISE: [&str; 4] = [".git", "node_modules", "__pycache__", ".venv"];

/// Watches files until dropped.
pub(super) struct Watch {
    changed: mpsc::Receiver<()>,
    /// Whether the system tells of changes, or they are looked for.
    pub(super) polls: bool,
    _watcher: Box<dyn Watcher + Send>,
}

impl Watch {
    /// Begins to watch a file or everything in a folder.
    pub(super) fn begin(path: &Path) -> notify::Result<Self> {
        let path = path.canonicalize().map_err(notify::Error::io)?;
        // A file is replaced rather than written by many editors, so it is its folder that tells.
        let (root, mode, only) = if path.is_dir() {
            (path, RecursiveMode::Recursive, None)
        } else {
            let folder = path.parent().map(Path::to_owned).unwrap_or_default();
            (folder, RecursiveMode::NonRecursive, Some(path))
        };
        match native(&root, mode, only.clone()) {
            Ok(watch) => Ok(watch),
            Err(_) => polling(&root, mode, only),
        }
    }

    /// Waits for a change, and then for quiet.
    pub(super) async fn changed(&mut self) {
        if self.changed.recv().await.is_none() {
            return std::future::pending().await;
        }
        let quiet = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changed.recv()).await {}
        };
        // Whatever still changes then will be told again.
        let _ = tokio::time::timeout(MOST, quiet).await;
    }
}

fn native(root: &Path, mode: RecursiveMode, only: Option<PathBuf>) -> notify::Result<Watch> {
    let (tell, changed) = teller(root.to_owned(), only);
    let mut watcher = notify::recommended_watcher(tell)?;
    watcher.watch(root, mode)?;
    Ok(Watch {
        changed,
        polls: false,
        _watcher: Box::new(watcher),
    })
}

fn polling(root: &Path, mode: RecursiveMode, only: Option<PathBuf>) -> notify::Result<Watch> {
    let (tell, changed) = teller(root.to_owned(), only);
    // By their contents: times are compared in whole seconds, which is longer than it takes to save a file twice.
    let config = Config::default()
        .with_poll_interval(POLL)
        .with_compare_contents(true);
    let mut watcher = PollWatcher::new(tell, config)?;
    watcher.watch(root, mode)?;
    Ok(Watch {
        changed,
        polls: true,
        _watcher: Box::new(watcher),
    })
}

/// The end that tells and the end that is told. One message is as good as many, so there is room for one.
fn teller(
    root: PathBuf,
    only: Option<PathBuf>,
) -> (
    impl FnMut(notify::Result<Event>) + Send + 'static,
    mpsc::Receiver<()>,
) {
    let (sender, receiver) = mpsc::channel(1);
    let tell = move |event: notify::Result<Event>| {
        // An error means that something was missed, which is worth a look.
        let matters = match &event {
            Ok(event) => matters(event, &root, only.as_deref()),
            Err(_) => true,
        };
        if matters {
            let _ = sender.try_send(());
        }
    };
    (tell, receiver)
}

fn matters(event: &Event, root: &Path, only: Option<&Path>) -> bool {
    // Packing reads the files, and is not to be its own reason.
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.need_rescan()
        || event.paths.is_empty()
        || event.paths.iter().any(|path| match only {
            Some(only) => path == only,
            None => {
                let inside = path.strip_prefix(root).unwrap_or(path);
                !inside
                    .components()
                    .any(|c| NOISE.iter().any(|noise| c.as_os_str() == *noise))
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a change may take to be told here, on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn told(watch: &mut Watch) -> bool {
        tokio::time::timeout(PATIENCE, watch.changed())
            .await
            .is_ok()
    }

    fn block(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work);
    }

    #[test]
    fn changes_are_told_whichever_way_they_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("inner")).unwrap();
        std::fs::write(root.join("inner/a.py"), "1").unwrap();
        for begin in [native, polling] {
            block(async {
                let mut watch = begin(&root, RecursiveMode::Recursive, None).unwrap();
                std::fs::write(root.join("inner/a.py"), "22").unwrap();
                assert!(told(&mut watch).await);
                std::fs::remove_file(root.join("inner/a.py")).unwrap();
                assert!(told(&mut watch).await);
                std::fs::write(root.join("inner/a.py"), "1").unwrap();
                assert!(told(&mut watch).await);
            });
        }
    }

    #[test]
    fn a_replaced_file_is_still_watched_and_its_neighbours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.py");
        std::fs::write(&file, "1").unwrap();
        block(async {
            let mut watch = Watch::begin(&file).unwrap();
            assert!(!watch.polls);
            for _ in 0..2 {
                std::fs::write(dir.path().join("new"), "2").unwrap();
                std::fs::rename(dir.path().join("new"), &file).unwrap();
                assert!(told(&mut watch).await);
            }
        });
        let root = dir.path();
        let event = |name: &str| Event::new(EventKind::Any).add_path(root.join(name));
        assert!(matters(&event("x/a.py"), root, None));
        assert!(!matters(&event("node_modules/x/a.js"), root, None));
        assert!(!matters(&event("b.py"), root, Some(&file)));
        let read = Event::new(EventKind::Access(notify::event::AccessKind::Any));
        assert!(!matters(&read.add_path(file), root, None));
    }
}
