//! The DaemonSet of `deploy/kustomize/base`, as a kubelet asks a container runtime for one of its pods: read from the
//! manifest, so that what is tried is what is handed out.
//!
//! Left out: probes, which tests make themselves, priority and tolerations, which are the scheduler's.

use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode, YamlOwned};

use super::cri::{
    Capabilities, ContainerConfig, ContainerSecurity, KeyValue, LinuxContainerConfig, Mount, Name,
    NamespaceOptions, Number, OF_THE_CONTAINER, OF_THE_NODE, OF_THE_POD, Resources, SecurityProfile,
};

/// What every container may not see or not write unless it is privileged:
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/pkg/securitycontext/util.go#L187-L219>.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What differs from one node to the next.
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: &'a str,
    /// Folders that stand for those of the node that the manifest names.
    pub(crate) folders: &'a [(&'a str, &'a Path)],
    /// The ConfigMap's files.
    pub(crate) config: &'a Path,
}

/// The manifest.
pub(crate) struct DaemonSet {
    pod: YamlOwned,
}

impl DaemonSet {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(base().join("daemonset.yaml")).unwrap();
        let mut documents = YamlOwned::load_from_str(&text).unwrap();
        assert_eq!(documents.len(), 1);
        Self { pod: documents.remove(0)["spec"]["template"]["spec"].clone() }
    }

    /// The agent's file.
    pub(crate) fn settings() -> String {
        fs::read_to_string(base().join("netsnoop.yaml")).unwrap()
    }

    /// The name of the image.
    pub(crate) fn image(&self) -> &str {
        text(&self.container()["image"])
    }

    /// The pod's namespaces, for the sandbox and for each container.
    pub(crate) fn namespaces(&self) -> NamespaceOptions {
        let of = |key: &str, otherwise| {
            let is_host = self.pod.as_mapping_get(key).is_some_and(|host| host.as_bool().unwrap());
            if is_host { OF_THE_NODE } else { otherwise }
        };
        NamespaceOptions { network: of("hostNetwork", OF_THE_POD), pid: of("hostPID", OF_THE_CONTAINER) }
    }

    /// The container, as it is on a node.
    pub(crate) fn container_on(&self, node: &Node) -> ContainerConfig {
        let container = self.container();
        assert!(container.as_mapping_get("command").is_none(), "the image says what is started");
        let limit = text(&container["resources"]["limits"]["memory"]);
        let limit: i64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        ContainerConfig {
            metadata: Some(Name { name: text(&container["name"]).into() }),
            image: Some(Name { name: self.image().into() }),
            args: texts(&container["args"]),
            envs: variables(&container["env"], node),
            mounts: list(&container["volumeMounts"]).iter().map(|mount| self.mount(mount, node)).collect(),
            log_path: "netsnoop.log".into(),
            linux: Some(LinuxContainerConfig {
                resources: Some(Resources { memory_limit_in_bytes: limit << 20 }),
                security_context: Some(self.security()),
            }),
            ..ContainerConfig::default()
        }
    }

    fn container(&self) -> &YamlOwned {
        let containers = list(&self.pod["containers"]);
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    fn security(&self) -> ContainerSecurity {
        let (pod, container) = (&self.pod["securityContext"], &self.container()["securityContext"]);
        let number = |key: &str| Some(Number { value: pod[key].as_integer().unwrap() });
        let profile = |key: &str| {
            let profile_type = match text(&pod[key]["type"]) {
                "RuntimeDefault" => 0,
                "Unconfined" => 1,
                other => panic!("the profile {other}"),
            };
            Some(SecurityProfile { profile_type })
        };
        let is = |key: &str| container.as_mapping_get(key).map(|answer| answer.as_bool().unwrap());
        ContainerSecurity {
            capabilities: Some(Capabilities {
                add: texts(&container["capabilities"]["add"]),
                drop: texts(&container["capabilities"]["drop"]),
            }),
            privileged: is("privileged").unwrap_or(false),
            namespace_options: Some(self.namespaces()),
            run_as_user: number("runAsUser"),
            run_as_group: number("runAsGroup"),
            readonly_rootfs: is("readOnlyRootFilesystem").unwrap_or(false),
            no_new_privs: is("allowPrivilegeEscalation") == Some(false),
            masked_paths: MASKED.map(Into::into).into(),
            readonly_paths: READ_ONLY.map(Into::into).into(),
            seccomp: profile("seccompProfile"),
            apparmor: profile("appArmorProfile"),
        }
    }

    fn mount(&self, mount: &YamlOwned, node: &Node) -> Mount {
        let name = text(&mount["name"]);
        let volume = list(&self.pod["volumes"]).iter().find(|volume| text(&volume["name"]) == name).unwrap();
        let host_path = match volume.as_mapping_get("hostPath") {
            Some(host) => {
                let path = text(&host["path"]);
                let stand_in = node.folders.iter().find(|(known, _)| *known == path);
                stand_in.map_or_else(|| Path::new(path), |(_, folder)| folder)
            }
            None => {
                assert!(volume.as_mapping_get("configMap").is_some(), "the volume {name}");
                node.config
            }
        };
        let propagation = match mount.as_mapping_get("mountPropagation").map(text) {
            None => 0,
            Some("HostToContainer") => 1,
            Some(other) => panic!("the propagation {other}"),
        };
        Mount {
            container_path: text(&mount["mountPath"]).into(),
            host_path: host_path.to_str().unwrap().into(),
            readonly: mount.as_mapping_get("readOnly").is_some_and(|answer| answer.as_bool().unwrap()),
            propagation,
        }
    }
}

fn base() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/base"))
}

/// Values that refer to earlier ones, as `$(NAME)`, get them.
fn variables(listed: &YamlOwned, node: &Node) -> Vec<KeyValue> {
    let mut known: Vec<KeyValue> = Vec::new();
    for variable in list(listed) {
        let value = match variable.as_mapping_get("value") {
            Some(value) => known.iter().fold(text(value).to_owned(), |value, known| {
                value.replace(&format!("$({})", known.key), &known.value)
            }),
            None => match text(&variable["valueFrom"]["fieldRef"]["fieldPath"]) {
                "spec.nodeName" => node.name.into(),
                "status.hostIP" => node.address.into(),
                other => panic!("the field {other}"),
            },
        };
        known.push(KeyValue { key: text(&variable["name"]).into(), value });
    }
    known
}

fn text(node: &YamlOwned) -> &str {
    node.as_str().unwrap()
}

fn list(node: &YamlOwned) -> &[YamlOwned] {
    node.as_sequence().unwrap()
}

fn texts(node: &YamlOwned) -> Vec<String> {
    list(node).iter().map(|entry| text(entry).to_owned()).collect()
}
