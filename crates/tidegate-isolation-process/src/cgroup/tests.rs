//! The three layouts as trees of plain files. What a real kernel adds (files that appear with a folder, refusals) is
//! tested by starting sandboxes.

use super::group::Reading;
use super::*;

const V1: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
const V2: &str = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID: &str = "\
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

struct Fake {
    root: tempfile::TempDir,
}

impl Fake {
    fn new(mountinfo: &str, own: &str, dirs: &[&str], files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), mountinfo).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), own).unwrap();
        for dir in dirs {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for (file, text) in files {
            fs::write(root.path().join(file), text).unwrap();
        }
        Self { root }
    }

    fn tree(&self, ours: &[u32]) -> (Tree, Vec<(Controller, String)>) {
        let found = Found::discover(self.root.path()).unwrap();
        Tree::make(&found, self.root.path(), 77, ours)
    }

    fn read(&self, path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

const LIMITS: GroupLimits = GroupLimits {
    memory: 64 << 20,
    cpu_milli: 500,
    pids: 33,
};

#[test]
fn version_1_gets_a_folder_a_hierarchy() {
    let fake = Fake::new(
        V1,
        "3:memory:/user\n2:cpu,cpuacct:/\n4:pids:/user/pids\n0::/\n",
        &[
            "sys/fs/cgroup/memory/user",
            "sys/fs/cgroup/cpu,cpuacct",
            "sys/fs/cgroup/pids/user/pids",
        ],
        &[],
    );
    let (mut tree, refused) = fake.tree(&[]);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(Controller::ALL.into_iter().all(|c| tree.has(c)));
    let group = tree.group().unwrap();
    group.limit(LIMITS).unwrap();
    let dirs = group.dirs();
    assert_eq!(dirs.len(), 3);
    let find = |part: &str| {
        dirs.iter()
            .find(|d| d.to_str().unwrap().contains(part))
            .unwrap()
    };
    let memory = find("memory/user/tidegate/77-");
    assert_eq!(
        fake.read(&memory.join("memory.limit_in_bytes")),
        (64 << 20).to_string()
    );
    assert_eq!(
        fake.read(&find("cpu,cpuacct").join("cpu.cfs_quota_us")),
        "50000"
    );
    assert_eq!(fake.read(&find("pids/user/pids").join("pids.max")), "33");

    fs::write(
        memory.join("memory.oom_control"),
        "under_oom 0\noom_kill 2\n",
    )
    .unwrap();
    fs::write(memory.join("memory.max_usage_in_bytes"), "4096\n").unwrap();
    fs::write(memory.join("memory.usage_in_bytes"), "1024\n").unwrap();
    fs::write(find("cpu,cpuacct").join("cpuacct.usage"), "5000000\n").unwrap();
    fs::write(find("pids/user").join("pids.events"), "max 7\n").unwrap();
    assert_eq!(
        read(&dirs),
        Reading {
            memory: Some(1024),
            memory_peak: Some(4096),
            cpu_us: Some(5000),
            oom_kills: 2,
            fork_refusals: 7
        }
    );
}

#[test]
fn version_2_hands_controllers_down_and_moves_the_server_to_a_leaf_first() {
    let own = "sys/fs/cgroup/user.slice/app";
    let fake = Fake::new(
        V2,
        "0::/user.slice/app\n",
        &[own],
        &[
            (
                &format!("{own}/cgroup.controllers"),
                "cpuset cpu io memory pids\n",
            ),
            (&format!("{own}/cgroup.subtree_control"), ""),
            (&format!("{own}/cgroup.procs"), "77\n78\n"),
        ],
    );
    let (mut tree, refused) = fake.tree(&[77, 78]);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(tree.accounts_cpu());
    let own = fake.root.path().join(own);
    assert_eq!(fake.read(&own.join("tidegate-server/cgroup.procs")), "78");
    assert_eq!(
        fake.read(&own.join("cgroup.subtree_control")),
        "+memory +cpu +pids"
    );
    assert_eq!(
        fake.read(&own.join("tidegate/cgroup.subtree_control")),
        "+memory +cpu +pids"
    );
    let group = tree.group().unwrap();
    let dir = group.dirs().remove(0);
    fs::write(dir.join("memory.swap.max"), "max").unwrap();
    group.limit(LIMITS).unwrap();
    for (file, value) in [
        ("memory.max", (64 << 20).to_string()),
        ("memory.swap.max", "0".to_owned()),
        ("memory.oom.group", "1".to_owned()),
        ("cpu.max", "50000 100000".to_owned()),
        ("pids.max", "33".to_owned()),
    ] {
        assert_eq!(fake.read(&dir.join(file)), value, "{file}");
    }
    fs::write(
        dir.join("memory.events"),
        "low 0\noom 1\noom_kill 1\noom_group_kill 1\n",
    )
    .unwrap();
    fs::write(dir.join("memory.current"), "10\n").unwrap();
    fs::write(dir.join("memory.peak"), "20\n").unwrap();
    fs::write(dir.join("cpu.stat"), "usage_usec 30\nuser_usec 20\n").unwrap();
    fs::write(dir.join("pids.events"), "max 0\n").unwrap();
    assert_eq!(
        read(&[dir]),
        Reading {
            memory: Some(10),
            memory_peak: Some(20),
            cpu_us: Some(30),
            oom_kills: 1,
            fork_refusals: 0
        }
    );
}

#[test]
fn version_2_with_a_stranger_in_the_group_is_refused_with_the_way_out() {
    let fake = Fake::new(
        V2,
        "0::/\n",
        &["sys/fs/cgroup"],
        &[
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
            ("sys/fs/cgroup/cgroup.subtree_control", ""),
            ("sys/fs/cgroup/cgroup.procs", "77\n99\n"),
        ],
    );
    let (tree, refused) = fake.tree(&[77]);
    assert!(!tree.has(Controller::Memory));
    assert_eq!(refused.len(), 3);
    assert!(refused[0].1.contains("process 99") && refused[0].1.contains("Delegate=yes"));
}

#[test]
fn a_hybrid_layout_takes_each_controller_where_it_is() {
    let fake = Fake::new(
        HYBRID,
        "2:memory:/a\n3:cpu:/\n0::/\n",
        &[
            "sys/fs/cgroup/memory/a",
            "sys/fs/cgroup/cpu",
            "sys/fs/cgroup/unified",
        ],
        &[
            ("sys/fs/cgroup/unified/cgroup.controllers", "pids\n"),
            ("sys/fs/cgroup/unified/cgroup.subtree_control", "pids\n"),
        ],
    );
    let (mut tree, refused) = fake.tree(&[]);
    assert_eq!(
        refused.iter().map(|r| r.0).collect::<Vec<_>>(),
        [Controller::CpuAccount]
    );
    let group = tree.group().unwrap();
    group.limit(LIMITS).unwrap();
    assert_eq!(group.dirs().len(), 3);
    assert!(
        group
            .dirs()
            .iter()
            .any(|d| d.join("pids.max").exists() && d.to_str().unwrap().contains("unified"))
    );
}

#[test]
fn leftovers_of_dead_servers_go_and_those_of_living_ones_stay() {
    let fake = Fake::new(
        V1,
        "3:memory:/\n2:cpu,cpuacct:/\n4:pids:/\n",
        &[
            "sys/fs/cgroup/memory/tidegate/4000001-abc/3",
            "sys/fs/cgroup/memory/tidegate/55-abc/3",
            "sys/fs/cgroup/memory/tidegate/notes",
            "sys/fs/cgroup/cpu,cpuacct",
            "sys/fs/cgroup/pids",
            "proc/55",
        ],
        &[],
    );
    let (tree, _) = fake.tree(&[]);
    let base = fake.root.path().join("sys/fs/cgroup/memory/tidegate");
    assert!(!base.join("4000001-abc").exists());
    assert!(base.join("55-abc/3").exists() && base.join("notes").exists());
    tree.remove();
    assert_eq!(fs::read_dir(&base).unwrap().count(), 2);
}

#[test]
fn a_container_sees_its_group_as_the_root() {
    let fake = Fake::new(
        "32 30 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        "3:memory:/docker/abc\n",
        &["sys/fs/cgroup/memory"],
        &[],
    );
    let found = Found::discover(fake.root.path()).unwrap();
    assert_eq!(
        found.places[0].dir,
        fake.root.path().join("sys/fs/cgroup/memory/")
    );
    assert_eq!(found.absent.len(), 3);
}
