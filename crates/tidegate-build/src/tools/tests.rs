use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn paths(folders: &[PathBuf], home: &Path) -> ToolPaths {
    ToolPaths {
        folders: folders.to_vec(),
        home: Some(home.to_owned()),
        ..ToolPaths::default()
    }
}

#[test]
fn a_missing_tool_says_how_to_get_it_and_is_found_once_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let bin = root.join("opt/bin");
    let tools = Tools::find(paths(std::slice::from_ref(&bin), &root.join("home")));
    assert_eq!(
        tools.get(ToolName::Ruby).unwrap_err().to_string(),
        "ruby is not installed; in Debian and Ubuntu: apt install ruby"
    );
    script(&bin.join("ruby"), "#!/bin/sh\necho ruby 9.1.2\n");
    let tool = tools.get(ToolName::Ruby).unwrap();
    assert_eq!(tool.version, "9.1.2");
    assert_eq!(tool.folders, [root.join("opt")]);
}

#[test]
fn a_home_folder_is_never_shown_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    let bin = home.join("bin");
    script(&bin.join("node"), "#!/bin/sh\necho v30.0.0\n");
    let tools = Tools::find(paths(std::slice::from_ref(&bin), &home));
    assert_eq!(tools.get(ToolName::Node).unwrap().folders, [bin]);
}

#[test]
fn shims_are_resolved_or_passed_by() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    let chain = home.join(".rustup/toolchains/one");
    script(
        &home.join(".cargo/bin/rustc"),
        &format!("#!/bin/sh\necho {}\n", chain.display()),
    );
    script(
        &home.join(".cargo/bin/cargo"),
        "#!/bin/sh\necho a proxy\nexit 1\n",
    );
    script(&chain.join("bin/cargo"), "#!/bin/sh\necho cargo 7.8.9\n");
    let get = |name: &str| match name {
        "HOME" => Some(home.clone().into()),
        "PATH" => Some(OsString::from("/x/shims:/y/bin:relative")),
        _ => None,
    };
    let mut paths = ToolPaths::from_env(get);
    assert!(paths.folders.contains(&PathBuf::from("/y/bin")));
    assert!(!paths.folders.contains(&PathBuf::from("/x/shims")));
    assert!(!paths.folders.contains(&PathBuf::from("relative")));
    paths.folders = vec![home.join(".cargo/bin")];
    let cargo = Tools::find(paths).get(ToolName::Cargo).unwrap();
    assert_eq!(cargo.program, chain.join("bin/cargo"));
    assert_eq!(cargo.folders, [chain]);
    assert_eq!(cargo.version, "7.8.9");
}
