//! Which container and pod a cgroup path belongs to.
//!
//! The paths are made by the runtime and its cgroup driver; `recorded` holds those that people met.
//! Left out: names of pods and containers, which no path holds.
//!
//! Whoever may make cgroups below its own can give them any name. So what is nearest to the root,
//! where only the host makes cgroups, is believed: the first pod, and the first container in it.

use alloc::string::String;
use alloc::sync::Arc;

use super::split_once;
use crate::process::{Container, Pod};

/// Length of a full container id in hexadecimal digits.
const ID_LENGTH: usize = 64;

/// The container in the text of `/proc/<pid>/cgroup` (man 7 cgroups, "/proc files"). The v2 line
/// counts first; on hybrid systems only a v1 line may have the container.
pub fn decode_cgroup_file(text: &[u8]) -> Option<Container> {
    let paths = || text.split(|byte| *byte == b'\n').filter_map(hierarchy_and_path);
    let unified = paths().filter(|(hierarchy, _)| *hierarchy == b"0");
    let others = paths().filter(|(hierarchy, _)| *hierarchy != b"0");
    unified.chain(others).find_map(|(_, path)| decode_cgroup_path(path))
}

/// The container that owns the cgroup at `path`, seen from the root of its hierarchy.
pub fn decode_cgroup_path(path: &[u8]) -> Option<Container> {
    // A containerd without systemd under a kubelet with it writes `slice:cri-containerd:id`.
    let parts = || path.split(|byte| matches!(byte, b'/' | b':')).filter(|part| !part.is_empty());
    let pod_at = parts().position(|part| pod_uid(part).is_some());
    let first = pod_at.map_or(0, |at| at + 1);
    let parent_of = |at: usize| at.checked_sub(1).and_then(|before| parts().nth(before));
    let (at, id) = parts()
        .enumerate()
        .skip(first)
        .filter_map(|(at, part)| Some((at, container_id(part)?)))
        .find(|(at, id)| !(id.is_bare && parent_of(*at) == Some(b"libpod_parent".as_slice())))?;
    let parent = parent_of(at);
    let pod = pod_at.and_then(|at| parts().nth(at)).and_then(pod_uid);
    Some(Container {
        id: id.digits.into(),
        runtime: id.runtime.or_else(|| parent.and_then(runtime_of_parent)),
        pod: pod.map(|uid| Arc::new(Pod { uid: uid.into(), ..Pod::default() })),
        name: None,
    })
}

fn hierarchy_and_path(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (hierarchy, rest) = split_once(line, b':')?;
    let (_controllers, path) = split_once(rest, b':')?;
    Some((hierarchy, path))
}

struct ContainerId<'a> {
    digits: &'a str,
    runtime: Option<&'static str>,
    /// Whether nothing but the id is in its name. Below Podman's parent that is the id of a pod of its own.
    is_bare: bool,
}

/// `<id>`, `<runtime>-<id>` or `<runtime>-<id>.scope`.
fn container_id(part: &[u8]) -> Option<ContainerId<'_>> {
    let part = core::str::from_utf8(part).ok()?;
    let name = part.strip_suffix(".scope").unwrap_or(part);
    if is_fargate_id(name) {
        return Some(ContainerId { digits: name, runtime: None, is_bare: true });
    }
    let (prefix, digits) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = digits.len() == ID_LENGTH && digits.bytes().all(is_lower_hexadecimal);
    // The monitor process of a container has a cgroup beside it, which is not the container's.
    if !is_id || prefix.contains("conmon") {
        return None;
    }
    let runtime = match prefix {
        "docker" => Some("docker"),
        "cri-containerd" | "nerdctl" => Some("containerd"),
        "crio" => Some("cri-o"),
        "libpod" | "libpod-payload" => Some("podman"),
        _ => None,
    };
    Some(ContainerId { digits, runtime, is_bare: prefix.is_empty() })
}

/// Amazon's Fargate: the task's 32 digits, a hyphen, a decimal number.
fn is_fargate_id(name: &str) -> bool {
    name.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && task.bytes().all(is_lower_hexadecimal)
            && (8..=20).contains(&number.len())
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn runtime_of_parent(part: &[u8]) -> Option<&'static str> {
    match part {
        b"docker" => Some("docker"),
        b"k8s.io" | b"cri-containerd" => Some("containerd"),
        b"crio" => Some("cri-o"),
        _ => None,
    }
}

/// `pod<uid>`, or `kubepods-besteffort-pod<uid with underscores>.slice`.
fn pod_uid(part: &[u8]) -> Option<String> {
    let part = core::str::from_utf8(part).ok()?;
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod").filter(|(before, _)| before.contains("kubepods"))?.1,
    };
    let uid = uid.replace('_', "-");
    is_pod_uid(&uid).then_some(uid)
}

/// A UUID, or the 32 digits without hyphens that the kubelet gives pods from files.
fn is_pod_uid(uid: &str) -> bool {
    let hyphens_fit = match uid.len() {
        32 => !uid.contains('-'),
        36 => uid.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23)),
        _ => false,
    };
    hyphens_fit && uid.bytes().all(|byte| byte == b'-' || is_lower_hexadecimal(byte))
}

const fn is_lower_hexadecimal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const ID2: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "5ba8ffd4-0e0c-4d0c-9d3a-6e3b1b9a1c22";
    const UNDERSCORED: &str = "5ba8ffd4_0e0c_4d0c_9d3a_6e3b1b9a1c22";
    const STATIC_UID: &str = "ea4a1e1e0c4d0c9d3a6e3b1b9a1c2233";

    /// `{id}`, `{id2}`, `{uid}`, `{_uid}` and `{static}` in `path` stand for the constants above.
    fn check(path: &str, runtime: Option<&str>, pod: Option<&str>) {
        let path = path
            .replace("{id}", ID)
            .replace("{id2}", ID2)
            .replace("{uid}", UID)
            .replace("{_uid}", UNDERSCORED)
            .replace("{static}", STATIC_UID);
        let container = decode_cgroup_path(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(&*container.id, ID, "{path}");
        assert_eq!(container.runtime, runtime, "{path}");
        assert_eq!(container.pod.as_ref().map(|pod| &*pod.uid), pod, "{path}");
    }

    #[test]
    fn docker_podman_and_others_without_pods() {
        check("/docker/{id}", Some("docker"), None);
        check("/system.slice/docker-{id}.scope", Some("docker"), None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope",
            Some("docker"),
            None,
        );
        check("/docker/{id}/system.slice/nginx.service", Some("docker"), None);
        check("/docker/{id}/docker/{id2}", Some("docker"), None);
        check("/../../docker/{id}", Some("docker"), None);
        check("/machine.slice/libpod-{id}.scope/container", Some("podman"), None);
        check("/machine.slice/libpod-{id}.scope", Some("podman"), None);
        check("/libpod_parent/libpod-{id}", Some("podman"), None);
        check("/libpod_parent/{id2}/libpod-{id}", Some("podman"), None);
        check("/user.slice/user-1000.slice/user@1000.service/libpod-payload-{id}", Some("podman"), None);
        check("/system.slice/nerdctl-{id}.scope", Some("containerd"), None);
        check("/k8s.io/{id}", Some("containerd"), None);
        check("/default/{id}", None, None);
        check("/ecs/cluster/9781c248-0edd-4cdb-9a93-f63cb662a5d3/{id}", None, None);
        check("/system.slice/other-{id}.scope", None, None);
    }

    #[test]
    fn pods_under_either_driver() {
        check("/kubepods/besteffort/pod{uid}/{id}", None, Some(UID));
        check("/kubepods/burstable/pod{uid}/crio-{id}", Some("cri-o"), Some(UID));
        check("/kubepods/pod{uid}/{id}", None, Some(UID));
        check("/kubepods/burstable/pod{static}/{id}", None, Some(STATIC_UID));
        check("/kubepods/burstable/pod{uid}/{id}/docker/{id2}", None, Some(UID));
        check("/kubepods/burstable/pod{uid}/{id}/kubepods/pod{static}/{id2}", None, Some(UID));
        for (scope, runtime) in
            [("cri-containerd", "containerd"), ("crio", "cri-o"), ("docker", "docker"), ("libpod", "podman")]
        {
            let scope = format!("{scope}-{{id}}.scope");
            check(
                &format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{{_uid}}.slice/{scope}"
                ),
                Some(runtime),
                Some(UID),
            );
            check(&format!("/kubepods.slice/kubepods-pod{{_uid}}.slice/{scope}"), Some(runtime), Some(UID));
            check(
                &format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{{static}}.slice/{scope}/container"
                ),
                Some(runtime),
                Some(STATIC_UID),
            );
        }
        check(
            "/system.slice/containerd.service/kubepods-besteffort-pod{_uid}.slice:cri-containerd:{id}",
            Some("containerd"),
            Some(UID),
        );
        // k3s and kind put the kubelet itself into a container.
        check("/docker/{id2}/kubepods/besteffort/pod{uid}/{id}", None, Some(UID));
        check(
            "/docker/{id2}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{_uid}.slice/cri-containerd-{id}.scope",
            Some("containerd"),
            Some(UID),
        );
        check("/system.slice/k3s.service/kubepods/burstable/pod{uid}/{id}", None, Some(UID));
    }

    #[test]
    fn fargate_tasks() {
        let id = "ea4a1e1e0c4d0c9d3a6e3b1b9a1c2233-2531612879";
        let container =
            decode_cgroup_path(format!("/ecs/ea4a1e1e0c4d0c9d3a6e3b1b9a1c2233/{id}").as_bytes()).unwrap();
        assert_eq!(&*container.id, id);
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "/",
            "",
            "/init.scope",
            "/user.slice/user-0.slice/session-1.scope",
            "/system.slice/ssh.service",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/system.slice/crio-conmon-{ID}.scope"),
            &format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice"),
            &format!("/libpod_parent/{ID}/conmon"),
            &format!("/docker/{}", &ID[1..]),
            &format!("/docker/{}", ID.to_uppercase()),
            "/kubepods/besteffort/podcast/x",
        ] {
            assert_eq!(decode_cgroup_path(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn the_unified_line_counts_first_and_a_hybrid_system_falls_back() {
        let text = format!("12:pids:/docker/{ID2}\n1:name=systemd:/docker/{ID2}\n0::/docker/{ID}\n");
        assert_eq!(&*decode_cgroup_file(text.as_bytes()).unwrap().id, ID);
        let text = format!("4:memory:/docker/{ID}\n0::/\n");
        assert_eq!(&*decode_cgroup_file(text.as_bytes()).unwrap().id, ID);
        assert_eq!(decode_cgroup_file(b"0::/\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(container) = decode_cgroup_file(&text) {
                prop_assert!(text.windows(container.id.len()).any(|part| part == container.id.as_bytes()));
            }
        }

        #[test]
        fn a_cut_path_gives_nothing_or_the_same(cut in 0..200_usize) {
            let path = format!("/kubepods/besteffort/pod{UID}/{ID}/child");
            let whole = decode_cgroup_path(path.as_bytes());
            let found = decode_cgroup_path(&path.as_bytes()[..cut.min(path.len())]);
            prop_assert!(found.is_none() || found == whole);
        }
    }
}
