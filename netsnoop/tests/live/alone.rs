//! The static netsnoop in a root that has nothing else but /proc: what an image built from nothing is, or a container of
//! somebody else's that one looks into.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::watch::Watch;
use crate::lab::{Lab, netsnoop, settle, skip};
use crate::owners::{TABLES, TABLES_OR_LISTENER};

/// A root with netsnoop and an empty folder for /proc.
struct Root(TempDir);

impl Root {
    /// `None`, and says so, if netsnoop does not run there: it then needs libraries.
    fn new(lab: &Lab, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("proc")).unwrap();
        fs::copy(netsnoop(), folder.path().join("netsnoop")).unwrap();
        let root = Self(folder);
        let output = root.command(lab, &[]).arg("--version").output().unwrap();
        // The kernel says so of a program whose loader is missing (man 2 execve, ENOENT).
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if complaint.contains("No such file or directory") {
            skip(test, "this netsnoop is not static; `cargo xtask test` builds one where it can");
            return None;
        }
        assert!(output.status.success(), "{complaint}");
        Some(root)
    }

    /// netsnoop in there and in the node's network, with more options of `unshare`.
    fn command(&self, lab: &Lab, options: &[&str]) -> Command {
        let mut command = lab.node.command(Path::new("unshare"));
        // Its mounts are its own, and gone with it.
        command.arg("--mount").arg("--root").arg(self.0.path()).arg("--mount-proc").args(options);
        command.arg("/netsnoop");
        command
    }
}

#[test]
fn a_list_needs_no_more_than_proc() {
    let name = "alone::a_list_needs_no_more_than_proc";
    let Some(lab) = Lab::new(name) else { return };
    let Some(root) = Root::new(&lab, name) else { return };
    let server = lab.server().serve(&format!("serve tcp {}", lab.server.v4(8084)));
    let truth = server.wait_for("listen");
    let list = |options: &[&str], words: &str| {
        Watch::spawn(root.command(&lab, options).arg("list").args(words.split_whitespace())).wait()
    };
    for way in ["--via sock_diag", "--via proc", ""] {
        let ended = list(&[], &format!("-tl -o jsonl --netns {} {way}", truth.netns));
        assert!(ended.status.success(), "{way}: {}", ended.complaint());
        let [line] = &*ended.stdout else { panic!("{way}: {:#?} {}", ended.stdout, ended.complaint()) };
        let socket: Value = serde_json::from_str(line).unwrap();
        let holder = &socket["holders"][0];
        assert_eq!(holder["process"]["pid"], truth.pid, "{way}: {line}");
        // No file there tells the user's name.
        assert_eq!(holder["user"], serde_json::json!({"id": truth.uid}), "{way}: {line}");
    }
    let ended = list(&[], "--via iterator");
    assert_eq!(ended.status.code(), Some(77), "{}", ended.complaint());
    assert!(ended.complaint().contains("/sys/kernel/btf/vmlinux"), "{}", ended.complaint());
    let ended = list(&["--setuid", "10001", "--setgid", "10001"], "-t");
    assert!(ended.status.success() && ended.complaint().contains("not seen: "), "{}", ended.complaint());
}

#[test]
fn a_connection_is_watched_with_no_more_than_proc() {
    let name = "alone::a_connection_is_watched_with_no_more_than_proc";
    let Some(lab) = Lab::new(name) else { return };
    let Some(root) = Root::new(&lab, name) else { return };
    let address = lab.server.v4(8085);
    let server = lab.server().serve(&format!("serve tcp {address}"));
    let words = ["watch", "-o", "jsonl", &settle(), "-i", "any", "tcp"];
    let watch = Watch::spawn(root.command(&lab, &[]).args(words));
    assert!(watch.is_ready(), "netsnoop does not start");
    let talker = lab.client().start(&format!("connect hold {address}"));
    let client = talker.wait_for("connect");
    let record = watch.wait_for("the connection", |record| {
        Some(record.client.endpoint()) == client.local && record.is_answered()
    });
    record.client.must_be(&client, &TABLES);
    record.server.must_be_server(&server.wait_for("accept"), &TABLES_OR_LISTENER);
    assert!(watch.stop().status.success());
}
