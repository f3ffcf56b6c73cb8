//! Where container runtimes listen, and what is spoken there.
//!
//! Left out: runtimes without a socket of their own (Podman without its service), whose containers keep their ids.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Of runtimes and of the distributions that put them elsewhere: containerd, k3s and RKE2, k0s, MicroK8s, CRI-O,
/// cri-dockerd, Docker, Podman.
const USUAL: [&str; 8] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
];
/// Where users' own runtimes listen, below a directory for each user.
const OF_USERS: &str = "/run/user";
const USUAL_OF_A_USER: [&str; 2] = ["docker.sock", "podman/podman.sock"];
/// Most users' directories that are looked into.
const USERS_MAX: usize = 1024;

/// Which sockets are asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RuntimeSockets {
    /// Those in the usual places.
    #[default]
    Usual,
    /// These; none of them if empty.
    Only(Vec<PathBuf>),
}

/// What is spoken on a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Api {
    /// Kubernetes' Container Runtime Interface.
    Cri,
    /// Docker's, which Podman speaks too.
    Docker(&'static str),
}

impl Api {
    /// By the name that a socket has wherever it is.
    pub(super) fn of(socket: &Path) -> Self {
        match socket.file_name().and_then(|name| name.to_str()) {
            Some("docker.sock") => Self::Docker("docker"),
            Some("podman.sock") => Self::Docker("podman"),
            _ => Self::Cri,
        }
    }
}

impl RuntimeSockets {
    /// Those that are to be asked now: in the usual places what is there, else all that were named.
    pub(super) fn find(&self) -> Vec<PathBuf> {
        match self {
            Self::Only(sockets) => sockets.clone(),
            Self::Usual => {
                let usual = USUAL.iter().map(PathBuf::from);
                usual.chain(of_users(Path::new(OF_USERS))).filter(|path| is_socket(path)).collect()
            }
        }
    }
}

/// Where nobody is logged in there is no such directory, and a runtime that may not be seen is none to us.
fn of_users(directory: &Path) -> Vec<PathBuf> {
    let Ok(users) = fs::read_dir(directory) else { return Vec::new() };
    let users = users.take(USERS_MAX).flatten().map(|user| user.path());
    users.flat_map(|user| USUAL_OF_A_USER.map(|socket| user.join(socket))).collect()
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_name_tells_what_is_spoken() {
        for (path, expected) in [
            ("/run/k3s/containerd/containerd.sock", Api::Cri),
            ("/run/cri-dockerd.sock", Api::Cri),
            ("/var/run/docker.sock", Api::Docker("docker")),
            ("/run/user/1000/podman/podman.sock", Api::Docker("podman")),
        ] {
            assert_eq!(Api::of(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn users_runtimes_are_looked_for_and_only_sockets_count() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir_all(run.path().join("1000/podman")).unwrap();
        let socket = run.path().join("1000/podman/podman.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::write(run.path().join("1000/docker.sock"), "").unwrap();
        let found: Vec<_> = of_users(run.path()).into_iter().filter(|path| is_socket(path)).collect();
        assert_eq!(found, [socket]);
        let named = RuntimeSockets::Only(vec!["/nowhere".into()]);
        assert_eq!(named.find(), [Path::new("/nowhere")]);
    }
}
