//! The name of a uid, as the node knows it: from its passwd file, else from its name service by a `getent` process
//! that is never waited for. Until that one has answered, a uid has no name. Nothing is asked of the network here;
//! what `getent` does is the node's own configuration (nsswitch.conf).

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::passwd;
use netsnoop_core::time::Timestamp;
use rustix::fs::{Mode, OFlags, open, openat};

use crate::counters::Counters;
use crate::sinks::getent::Getent;

/// How often the passwd file is looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A passwd file beyond this is not the node's.
const PASSWD_MAX_BYTES: u64 = 16 << 20;

/// Names of users.
#[derive(Debug)]
pub struct UserNames {
    passwd: Option<Passwd>,
    getent: Option<Getent>,
}

#[derive(Debug)]
struct Passwd {
    /// The node's /etc. Held open, because the way to it leads through init's root, which takes a privilege
    /// (man 5 proc_pid_root) that is given up once everything is opened.
    etc: OwnedFd,
    looked: Timestamp,
    version: Option<Version>,
    names: HashMap<u32, Arc<str>>,
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl UserNames {
    /// Names of the node whose proc file system is at `proc_root`.
    pub fn open(proc_root: &Path, counters: Arc<Counters>, now: Timestamp) -> Self {
        let getent = is_own_root(proc_root).then(|| Getent::new("getent", counters));
        Self { passwd: Passwd::open(proc_root, now), getent }
    }

    /// No names: numbers are wanted.
    pub const fn none() -> Self {
        Self { passwd: None, getent: None }
    }

    /// The name of `uid`, if it is known yet.
    pub fn name(&mut self, uid: u32, now: Timestamp) -> Option<Arc<str>> {
        if let Some(passwd) = self.passwd.as_mut() {
            passwd.refresh(now);
            if let Some(name) = passwd.names.get(&uid) {
                return Some(name.clone());
            }
        }
        self.getent.as_mut()?.name(uid, now)
    }

    /// The name of `uid`. Waits a little for the name service if the passwd file does not have it.
    pub fn name_waited(&mut self, uid: u32, now: Timestamp) -> Option<Arc<str>> {
        if let Some(passwd) = self.passwd.as_mut() {
            passwd.refresh(now);
            if let Some(name) = passwd.names.get(&uid) {
                return Some(name.clone());
            }
        }
        self.getent.as_mut()?.names_of(&[uid], now).pop().map(|(_, name)| name)
    }

    /// The names of all these uids. Waits a little for the name service if the passwd file does not have them all.
    pub fn names_of(&mut self, uids: &BTreeSet<u32>, now: Timestamp) -> HashMap<u32, Arc<str>> {
        let mut names = HashMap::new();
        if let Some(passwd) = self.passwd.as_mut() {
            passwd.refresh(now);
            let known = uids.iter().filter_map(|uid| Some((*uid, passwd.names.get(uid)?.clone())));
            names.extend(known);
        }
        let unknown: Vec<u32> = uids.iter().copied().filter(|uid| !names.contains_key(uid)).collect();
        if let Some(getent) = self.getent.as_mut().filter(|_| !unknown.is_empty()) {
            names.extend(getent.names_of(&unknown, now));
        }
        names
    }

    /// The uid of `name`. Waits for the name service if the passwd file does not have it: for the start only.
    pub fn uid_of(&mut self, name: &str, now: Timestamp) -> io::Result<Option<u32>> {
        if let Some(passwd) = self.passwd.as_mut() {
            passwd.refresh(now);
            if let Some((uid, _)) = passwd.names.iter().find(|(_, known)| &***known == name) {
                return Ok(Some(*uid));
            }
        }
        self.getent.as_ref().map_or(Ok(None), |getent| getent.uid_of(name))
    }
}

/// Whether the node's root directory is ours: in a container `getent` would tell the container's users.
fn is_own_root(proc_root: &Path) -> bool {
    match (fs::metadata(proc_root.join("1/root")), fs::metadata("/")) {
        (Ok(theirs), Ok(ours)) => (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
        // Without privileges init's root cannot be seen; the usual /proc is then taken at its word.
        _ => proc_root == Path::new("/proc"),
    }
}

impl Passwd {
    /// Opens the node's: that of its init, else (without the privilege) the one beside the proc file system.
    fn open(proc_root: &Path, now: Timestamp) -> Option<Self> {
        for path in [proc_root.join("1/root/etc"), proc_root.join("../etc")] {
            match open_directory(&path) {
                Ok(etc) => {
                    let mut passwd = Self { etc, looked: now, version: None, names: HashMap::new() };
                    passwd.read();
                    return Some(passwd);
                }
                Err(error) => log::debug!("no user names from {}: {error}", path.display()),
            }
        }
        None
    }

    fn refresh(&mut self, now: Timestamp) {
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.read();
        }
    }

    /// Reads the file if it has changed. One that cannot be read leaves what was known.
    fn read(&mut self) {
        match read_if_changed(&self.etc, self.version) {
            Ok(None) => {}
            Ok(Some((version, text))) => {
                self.names = parse_passwd(&text);
                self.version = Some(version);
            }
            Err(error) => log::debug!("no user names from the node's passwd file: {error}"),
        }
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

impl From<&Metadata> for Version {
    fn from(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
        }
    }
}

fn read_if_changed(etc: &OwnedFd, known: Option<Version>) -> io::Result<Option<(Version, Vec<u8>)>> {
    let file = File::from(openat(etc, "passwd", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let version = Version::from(&file.metadata()?);
    if known == Some(version) {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(PASSWD_MAX_BYTES).read_to_end(&mut text)?;
    Ok(Some((version, text)))
}

/// Reads passwd text (man 5 passwd); of several names of one uid the first is it, as in getpwuid(3).
fn parse_passwd(text: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for (name, uid) in text.split(|byte| *byte == b'\n').filter_map(passwd::decode_line) {
        names.entry(uid).or_insert(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of a made-up node, its proc file system at `proc`.
    fn node(passwd: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        root
    }

    fn names_of(root: &tempfile::TempDir) -> UserNames {
        UserNames::open(&root.path().join("proc"), Arc::default(), second(1))
    }

    fn second(number: u64) -> Timestamp {
        Timestamp::from_nanos(number * 1_000_000_000)
    }

    #[test]
    fn the_first_name_of_a_uid_counts_and_broken_lines_cost_themselves_only() {
        let text = b"root:x:0:0::/:/bin/sh\n#a:x:1:1\n+nis:x:2:2\nno colons\nbad:x:uid:3\n\xff\xfe:x:4:4\ntoor:x:0:0\n\n";
        let names = parse_passwd(text);
        let name = |uid| names.get(&uid).map(|name| &**name);
        assert_eq!((name(0), name(1), name(2), name(3)), (Some("root"), None, None, None));
        assert_eq!(name(4), Some("\u{fffd}\u{fffd}"));
    }

    #[test]
    fn names_are_those_of_the_node_and_follow_its_file() {
        let root = node("alice:x:10001:10001::/:/bin/sh\n");
        let mut names = names_of(&root);
        assert_eq!(names.name(10001, second(1)).as_deref(), Some("alice"));
        assert_eq!(names.name(0, second(1)), None);
        assert_eq!(names.uid_of("alice", second(1)).unwrap(), Some(10001));
        assert_eq!(names.uid_of("root", second(1)).unwrap(), None);

        fs::write(root.path().join("etc/passwd"), "alice:x:10001:1\nbob:x:10002:1\n").unwrap();
        assert_eq!(names.name(10002, second(1)), None, "looked at again only after a second");
        assert_eq!(names.name(10002, second(2)).as_deref(), Some("bob"));

        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        assert_eq!(names.name(10002, second(4)).as_deref(), Some("bob"));
    }

    #[test]
    fn numbers_stay_numbers_when_asked_for() {
        assert_eq!(UserNames::none().name(0, second(1)), None);
    }

    #[test]
    fn another_root_is_not_asked_by_our_getent() {
        assert!(names_of(&node("")).getent.is_none());
    }
}
