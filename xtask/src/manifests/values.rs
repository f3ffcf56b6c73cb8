//! The chart's values: what each is for, by its schema; that each does what it says, by a case for each; that wrong ones are
//! refused; and the table of them in the chart's README.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// One value set, and what must come of it.
pub(super) struct Case {
    /// The values, as YAML.
    pub(super) values: &'static str,
    /// The kind of the object it shows in.
    pub(super) kind: &'static str,
    /// Where it shows.
    pub(super) at: &'static str,
    /// What is there then, as JSON; `null` if nothing.
    pub(super) is: &'static str,
}

const fn case(values: &'static str, kind: &'static str, at: &'static str, is: &'static str) -> Case {
    Case { values, kind, at, is }
}

const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Where a value shows that shows in the container.
pub(super) fn place(case: &Case) -> String {
    case.at.replace("CONTAINER", CONTAINER).replace("POD", "/spec/template/spec")
}

/// A folder of the node for one more thing; to be written it need not be here.
const EXTRA_VOLUME: &str = "{extraVolumes: [{name: files, hostPath: {path: /var/lib/n}}],\
    extraVolumeMounts: [{name: files, mountPath: /var/lib/n, readOnly: true}]}";

/// Each value that is documented has one, at least.
pub(super) const CASES: [Case; 45] = [
    case("{global: {a: 1}}", "DaemonSet", "/metadata/name", "\"netsnoop\""),
    case("{nameOverride: snoop}", "DaemonSet", "/metadata/labels/app.kubernetes.io~1name", "\"snoop\""),
    case("{fullnameOverride: snoop}", "DaemonSet", "/metadata/name", "\"snoop\""),
    case("{image: {repository: r.example/n}}", "DaemonSet", "CONTAINER/image", "\"r.example/n:0.1.0\""),
    case("{image: {tag: next}}", "DaemonSet", "CONTAINER/image", "\"localhost/netsnoop:next\""),
    case(
        "{image: {tag: next, digest: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}}",
        "DaemonSet",
        "CONTAINER/image",
        "\"localhost/netsnoop:next@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
    ),
    case("{image: {pullPolicy: Always}}", "DaemonSet", "CONTAINER/imagePullPolicy", "\"Always\""),
    case("{imagePullSecrets: [{name: s}]}", "DaemonSet", "POD/imagePullSecrets", "[{\"name\": \"s\"}]"),
    case(
        "{config: {services: [{name: redis, ports: [6379]}]}}",
        "ConfigMap",
        "/data/netsnoop.yaml",
        "\"services:\\n- name: redis\\n  ports:\\n  - 6379\\n\"",
    ),
    case("{privileges: least}", "DaemonSet", "CONTAINER/securityContext/allowPrivilegeEscalation", "false"),
    case("{privileges: privileged}", "DaemonSet", "CONTAINER/securityContext/privileged", "true"),
    case(
        "{privileges: privileged}",
        "DaemonSet",
        "POD/securityContext/seccompProfile/type",
        "\"Unconfined\"",
    ),
    case("{runtimeDirectories: []}", "DaemonSet", "POD/volumes/2/name", "\"container-logs\""),
    case(
        "{runtimeDirectories: [/run/k3s/containerd, /run/k0s]}",
        "DaemonSet",
        "POD/volumes/2",
        "{\"name\": \"run-k3s-containerd\", \"hostPath\": {\"path\": \"/run/k3s/containerd\"}}",
    ),
    case("{kubeletLogs: false}", "DaemonSet", "POD/volumes/3", "null"),
    case("{kubeApi: {enabled: true}}", "DaemonSet", "CONTAINER/env/3/name", "\"NETSNOOP_KUBE_API\""),
    case("{kubeApi: {enabled: true}}", "ClusterRoleBinding", "/subjects/0/name", "\"netsnoop\""),
    case("{listen: {address: 127.0.0.1}}", "DaemonSet", "CONTAINER/env/2/value", "\"[127.0.0.1]:9774\""),
    case(
        "{listen: {address: 127.0.0.1}}",
        "DaemonSet",
        "CONTAINER/livenessProbe/httpGet/host",
        "\"127.0.0.1\"",
    ),
    case("{listen: {address: '::'}}", "DaemonSet", "CONTAINER/env/2/value", "\"[::]:9774\""),
    case("{listen: {port: 9000}}", "DaemonSet", "CONTAINER/ports/0/containerPort", "9000"),
    case("{listen: {port: 9000}}", "Service", "/spec/ports/0/port", "9000"),
    case("{state: {hostPath: /var/lib/n}}", "DaemonSet", "POD/volumes/5/hostPath/path", "\"/var/lib/n\""),
    case("{extraArgs: [--settle, 1s]}", "DaemonSet", "CONTAINER/args/4", "\"1s\""),
    case("{extraEnv: [{name: A, value: b}]}", "DaemonSet", "CONTAINER/env/3/value", "\"b\""),
    case(EXTRA_VOLUME, "DaemonSet", "CONTAINER/volumeMounts/5/mountPath", "\"/var/lib/n\""),
    case(EXTRA_VOLUME, "DaemonSet", "POD/volumes/5/hostPath/path", "\"/var/lib/n\""),
    case("{service: {enabled: false}}", "Service", "/kind", "null"),
    case("{podMonitor: {enabled: true}}", "PodMonitor", "/spec/podMetricsEndpoints/0/port", "\"metrics\""),
    case(
        "{podMonitor: {enabled: true, interval: 1m}}",
        "PodMonitor",
        "/spec/podMetricsEndpoints/0/interval",
        "\"1m\"",
    ),
    case("{podMonitor: {enabled: true, labels: {a: b}}}", "PodMonitor", "/metadata/labels/a", "\"b\""),
    case(
        "{openshift: {enabled: true}}",
        "SecurityContextConstraints",
        "/users/0",
        "\"system:serviceaccount:netsnoop:netsnoop\"",
    ),
    case("{openshift: {enabled: true}}", "DaemonSet", "POD/volumes/2/hostPath/path", "\"/run/crio\""),
    case("{serviceAccount: {create: false}}", "DaemonSet", "POD/serviceAccountName", "\"default\""),
    case("{serviceAccount: {name: other}}", "ServiceAccount", "/metadata/name", "\"other\""),
    case("{serviceAccount: {annotations: {a: b}}}", "ServiceAccount", "/metadata/annotations/a", "\"b\""),
    case("{seLinuxType: spc_t}", "DaemonSet", "POD/securityContext/seLinuxOptions/type", "\"spc_t\""),
    case(
        "{resources: {requests: {cpu: 1}, limits: {cpu: 2}}}",
        "DaemonSet",
        "CONTAINER/resources",
        "{\"requests\": {\"cpu\": 1, \"memory\": \"128Mi\"}, \"limits\": {\"cpu\": 2, \"memory\": \"256Mi\"}}",
    ),
    case("{priorityClassName: ''}", "DaemonSet", "POD/priorityClassName", "null"),
    case("{nodeSelector: {pool: a}}", "DaemonSet", "POD/nodeSelector/pool", "\"a\""),
    case("{tolerations: []}", "DaemonSet", "POD/tolerations", "null"),
    case("{affinity: {nodeAffinity: {}}}", "DaemonSet", "POD/affinity", "{\"nodeAffinity\": {}}"),
    case("{maxUnavailable: 3}", "DaemonSet", "/spec/updateStrategy/rollingUpdate/maxUnavailable", "3"),
    case("{podAnnotations: {a: b}}", "DaemonSet", "/spec/template/metadata/annotations/a", "\"b\""),
    case("{podLabels: {a: b}}", "DaemonSet", "/spec/template/metadata/labels/a", "\"b\""),
];

/// Wrong values, and what helm says of them.
pub(super) const WRONG: [(&str, &str); 26] = [
    ("{privileges: root}", "/privileges"),
    ("{imagee: {repository: a}}", "imagee"),
    ("{image: {repositry: a}}", "repositry"),
    ("{image: {repository: ''}}", "/image/repository"),
    ("{image: {repository: 'r.example/n@sha256:ab'}}", "/image/repository"),
    ("{image: {tag: 'sha256:ab'}}", "/image/tag"),
    ("{image: {digest: 'sha256:ab'}}", "/image/digest"),
    ("{nameOverride: Snoop}", "/nameOverride"),
    ("{listen: null}", "'listen'"),
    ("{image: {pullPolicy: Sometimes}}", "/image/pullPolicy"),
    ("{imagePullSecrets: [secret]}", "/imagePullSecrets/0"),
    ("{config: 'services: []'}", "/config"),
    ("{runtimeDirectories: [run/containerd]}", "/runtimeDirectories/0"),
    ("{runtimeDirectories: /run/containerd}", "/runtimeDirectories"),
    ("{kubeletLogs: 'yes'}", "/kubeletLogs"),
    ("{listen: {port: 0}}", "/listen/port"),
    ("{listen: {address: node}}", "/listen/address"),
    ("{state: {hostPath: lib}}", "/state/hostPath"),
    ("{podMonitor: {interval: often}}", "/podMonitor/interval"),
    ("{maxUnavailable: ten}", "/maxUnavailable"),
    // The API server refuses it: no node could be updated.
    ("{maxUnavailable: 0}", "/maxUnavailable"),
    ("{maxUnavailable: 0%}", "/maxUnavailable"),
    ("{podLabels: {a: 1}}", "/podLabels/a"),
    // What is the chart's own: twice it is no YAML, and otherwise said no pod is selected.
    ("{podLabels: {app.kubernetes.io/name: a}}", "/podLabels/app.kubernetes.io"),
    ("{podAnnotations: {checksum/config: a}}", "/podAnnotations/checksum"),
    ("{extraVolumeMounts: [{name: files}]}", "/extraVolumeMounts/0"),
];

/// A value that may be set: its name with dots, and what it is for.
pub(super) struct Documented {
    /// Its name.
    pub(super) name: String,
    /// What it is for; empty if nobody said.
    pub(super) meaning: String,
}

/// All values of a schema, in its order of names.
pub(super) fn documented(schema: &Value) -> Vec<Documented> {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, prefix: &str, found: &mut Vec<Documented>) {
    for (name, about) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        if about["properties"].is_object() {
            collect(about, &format!("{name}."), found);
        } else {
            let meaning = about["description"].as_str().unwrap_or_default().to_owned();
            found.push(Documented { name, meaning });
        }
    }
}

/// Documented values that no case sets, and those nobody explained.
pub(super) fn untested(schema: &Value) -> Result<Vec<String>> {
    let mut set = BTreeSet::new();
    for case in &CASES {
        let values: Value = serde_saphyr::from_str(case.values)
            .with_context(|| format!("reading the case {}", case.values))?;
        names(&values, schema, "", &mut set);
    }
    let faults = documented(schema).into_iter().flat_map(|value| {
        let untold = value.meaning.is_empty().then(|| format!("{} has no description", value.name));
        let unset = (!set.contains(&value.name)).then(|| format!("no case sets {}", value.name));
        [untold, unset]
    });
    Ok(faults.flatten().collect())
}

fn names(values: &Value, schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (key, value) in values.as_object().into_iter().flatten() {
        let (name, about) = (format!("{prefix}{key}"), &schema["properties"][key]);
        if about["properties"].is_object() {
            names(value, about, &format!("{name}."), found);
        } else {
            found.insert(name);
        }
    }
}

/// The table for people.
pub(super) fn table(schema: &Value, defaults: &Value) -> String {
    let mut table = "\n| value | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for value in documented(schema) {
        let pointer = format!("/{}", value.name.replace('.', "/"));
        // What has no default is not for people to set.
        let Some(default) = defaults.pointer(&pointer) else { continue };
        table.push_str(&format!("| `{}` | `{}` | {} |\n", value.name, shown(default), value.meaning));
    }
    table.push('\n');
    table
}

/// As in YAML on one line, as far as our defaults go.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("{{{}}}", pairs(map)),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::String(text) if text.is_empty() => "''".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pairs(map: &Map<String, Value>) -> String {
    map.iter().map(|(key, value)| format!("{key}: {}", shown(value))).collect::<Vec<_>>().join(", ")
}
