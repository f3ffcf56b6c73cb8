//! What schemas do not say: what the API server refuses all the same, and what these manifests promise to whoever lets
//! them onto a node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::objects::{list, of_kind, text, title};

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// What is wrong with `objects`, each line with `source` before it.
pub(super) fn faults(source: &str, objects: &[Value]) -> Vec<String> {
    let mut faults = Faults { source, found: Vec::new() };
    let Some(daemon_set) = of_kind(objects, "DaemonSet") else {
        faults.expect(false, "there is no DaemonSet");
        return faults.found;
    };
    check_names(&mut faults, objects, daemon_set);
    check_privileges(&mut faults, daemon_set);
    check_mounts(&mut faults, daemon_set);
    faults.found
}

struct Faults<'a> {
    source: &'a str,
    found: Vec<String>,
}

impl Faults<'_> {
    fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.found.push(format!("{}: {otherwise}", self.source));
        }
    }
}

/// What one object calls another by.
fn check_names(faults: &mut Faults<'_>, objects: &[Value], daemon_set: &Value) {
    let namespace = text(daemon_set, "/metadata/namespace");
    for object in objects.iter().filter(|object| object.pointer("/metadata/namespace").is_some()) {
        let own = text(object, "/metadata/namespace");
        faults.expect(own == namespace, &format!("{} is in the namespace {own}", title(object)));
    }
    let selectors = [
        daemon_set.pointer("/spec/selector/matchLabels"),
        of_kind(objects, "Service").and_then(|service| service.pointer("/spec/selector")),
        of_kind(objects, "PodMonitor").and_then(|monitor| monitor.pointer("/spec/selector/matchLabels")),
    ];
    for (label, value) in selectors.into_iter().flatten().filter_map(Value::as_object).flatten() {
        let labels = daemon_set.pointer("/spec/template/metadata/labels");
        faults.expect(
            labels.and_then(|labels| labels.get(label)) == Some(value),
            &format!("{label}={value} selects no pod"),
        );
    }
    let account = text(daemon_set, &format!("{POD}/serviceAccountName"));
    if let Some(made) = of_kind(objects, "ServiceAccount") {
        faults.expect(text(made, "/metadata/name") == account, "the account that is made is not the pod's");
    }
    let settings = of_kind(objects, "ConfigMap").map(|map| text(map, "/metadata/name"));
    let mut mounted = list(daemon_set, &format!("{POD}/volumes")).iter();
    faults.expect(
        mounted.any(|volume| Some(text(volume, "/configMap/name")) == settings),
        "the pod mounts another ConfigMap than that which is made",
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let port = text(daemon_set, &format!("{CONTAINER}/{probe}/httpGet/port"));
        let mut ports = list(daemon_set, &format!("{CONTAINER}/ports")).iter();
        faults.expect(ports.any(|known| text(known, "/name") == port), &format!("{probe} asks at no port"));
    }
}

fn check_privileges(faults: &mut Faults<'_>, daemon_set: &Value) {
    let security = format!("{CONTAINER}/securityContext");
    let flag = |name: &str| daemon_set.pointer(&format!("{security}/{name}")).and_then(Value::as_bool);
    let capabilities = |which: &str| -> Vec<&str> {
        let names = list(daemon_set, &format!("{security}/capabilities/{which}"));
        names.iter().filter_map(Value::as_str).collect()
    };
    let mighty = flag("privileged") == Some(true) || capabilities("add").contains(&"SYS_ADMIN");
    faults.expect(
        flag("allowPrivilegeEscalation") == if mighty { None } else { Some(false) },
        "new privileges can be forbidden without CAP_SYS_ADMIN, and only then",
    );
    if flag("privileged") != Some(true) {
        faults.expect(capabilities("drop") == ["ALL"], "not all capabilities are dropped first");
        let seccomp = text(daemon_set, &format!("{POD}/securityContext/seccompProfile/type"));
        faults.expect(seccomp == "RuntimeDefault", "no system call is forbidden");
    }
    faults.expect(flag("readOnlyRootFilesystem") == Some(true), "its root can be written to");
    let token = daemon_set.pointer(&format!("{POD}/automountServiceAccountToken")).and_then(Value::as_bool);
    let mut variables = list(daemon_set, &format!("{CONTAINER}/env")).iter();
    let asks = variables.any(|variable| text(variable, "/name") == "NETSNOOP_KUBE_API");
    faults.expect(token == Some(asks), "it has a token it does not use, or lacks one");
}

/// A pod whose mounts and volumes do not fit is refused; what is the node's is to be read only, but for the counts.
fn check_mounts(faults: &mut Faults<'_>, daemon_set: &Value) {
    let volumes: BTreeSet<&str> =
        list(daemon_set, &format!("{POD}/volumes")).iter().map(|volume| text(volume, "/name")).collect();
    let mounts = list(daemon_set, &format!("{CONTAINER}/volumeMounts"));
    let mounted: BTreeSet<&str> = mounts.iter().map(|mount| text(mount, "/name")).collect();
    faults.expect(volumes == mounted, &format!("volumes {volumes:?} are mounted as {mounted:?}"));
    for mount in mounts.iter().filter(|mount| text(mount, "/name") != "state") {
        let read_only = mount.pointer("/readOnly") == Some(&Value::Bool(true));
        faults.expect(read_only, &format!("{} can be written to", text(mount, "/mountPath")));
    }
}
