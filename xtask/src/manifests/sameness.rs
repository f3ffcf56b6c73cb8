//! The chart makes what kustomize makes: but for the labels that mark whose an object is, they are the same.

use serde_json::Value;

use super::objects::{self, text};

/// Marks of the one or the other, which say nothing of what an object does.
const MARKS: [&str; 5] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "checksum/config",
];
/// Where marks are.
const MARKED: [&str; 7] = [
    "/metadata/labels",
    "/metadata/annotations",
    "/spec/selector",
    "/spec/selector/matchLabels",
    "/spec/template/metadata/labels",
    "/spec/template/metadata/annotations",
    "/data",
];
/// Lists of things with names, whose order means nothing.
const UNORDERED: [&str; 3] = [
    "/spec/template/spec/volumes",
    "/spec/template/spec/containers/0/volumeMounts",
    "/spec/template/spec/containers/0/env",
];

/// Where `chart` differs from `kustomize`, each line with `source` before it.
pub(super) fn faults(source: &str, kustomize: &[Value], chart: &[Value]) -> Vec<String> {
    let (ours, theirs) = (plain(kustomize), plain(chart));
    let mut faults = Vec::new();
    for object in &ours {
        let twin = theirs.iter().find(|other| text(other, "/kind") == text(object, "/kind"));
        match twin {
            None => faults.push(format!("{source}: the chart makes no {}", objects::title(object))),
            Some(twin) => {
                differences(object, twin, &mut format!("{source}: {}", text(object, "/kind")), &mut faults)
            }
        }
    }
    if theirs.len() > ours.len() {
        faults.push(format!("{source}: the chart makes {} objects, kustomize {}", theirs.len(), ours.len()));
    }
    faults
}

/// Without marks. The namespace is made by `helm install --create-namespace`.
fn plain(objects: &[Value]) -> Vec<Value> {
    let own = objects.iter().filter(|object| text(object, "/kind") != "Namespace");
    own.cloned().map(without_marks).collect()
}

fn without_marks(mut object: Value) -> Value {
    for map in MARKED {
        if let Some(map) = object.pointer_mut(map).and_then(Value::as_object_mut) {
            map.retain(|key, _| !MARKS.contains(&key.as_str()));
        }
    }
    // What had only marks.
    for of in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = object.pointer_mut(of).and_then(Value::as_object_mut) {
            metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
        }
    }
    for things in UNORDERED {
        if let Some(things) = object.pointer_mut(things).and_then(Value::as_array_mut) {
            things.sort_by(|a, b| text(a, "/name").cmp(text(b, "/name")));
        }
    }
    name_by_hash(&mut object);
    read_settings(&mut object);
    object
}

/// kustomize names a ConfigMap by a hash of what is in it, the chart by its release.
fn name_by_hash(object: &mut Value) {
    let is_settings = text(object, "/kind") == "ConfigMap";
    let settings = object.pointer_mut("/metadata/name").filter(|_| is_settings);
    if let Some(name) = settings {
        *name = "netsnoop".into();
    }
    let volumes = object.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
    for name in volumes.into_iter().flatten().filter_map(|volume| volume.pointer_mut("/configMap/name")) {
        *name = "netsnoop".into();
    }
}

/// The agent's file counts as what it says, not by its letters.
fn read_settings(object: &mut Value) {
    if let Some(text) = object.pointer_mut("/data/netsnoop.yaml")
        && let Some(meant) = text.as_str().and_then(|text| objects::read(text).ok())
    {
        *text = meant.into();
    }
}

fn differences(ours: &Value, theirs: &Value, place: &mut String, faults: &mut Vec<String>) {
    let length = place.len();
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                place.push('/');
                place.push_str(key);
                let [ours, theirs] = [ours, theirs].map(|map| map.get(key).unwrap_or(&Value::Null));
                differences(ours, theirs, place, faults);
                place.truncate(length);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                place.push_str(&format!("/{index}"));
                differences(ours, theirs, place, faults);
                place.truncate(length);
            }
        }
        _ if ours == theirs => {}
        _ => faults.push(format!("{place} is {ours} by kustomize and {theirs} by the chart")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::faults;

    #[test]
    fn marks_and_order_are_no_difference_and_all_else_is() {
        let ours = json!({"kind": "DaemonSet", "metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec":
            {"hostPID": true, "volumes": [{"name": "x"}, {"name": "c", "configMap": {"name": "netsnoop-hash"}}]}}}});
        let theirs = json!({"kind": "DaemonSet", "metadata": {"labels": {"a": "b", "helm.sh/chart": "c"},
            "annotations": {"checksum/config": "d"}}, "spec": {"template": {"spec":
            {"hostPID": true, "volumes": [{"name": "c", "configMap": {"name": "netsnoop"}}, {"name": "x"}]}}}});
        let of = |ours: &serde_json::Value, theirs: &serde_json::Value| {
            faults("t", std::slice::from_ref(ours), std::slice::from_ref(theirs))
        };
        assert_eq!(of(&ours, &theirs), Vec::<String>::new());
        let mut other = theirs;
        other["spec"]["template"]["spec"]["hostPID"] = false.into();
        other["metadata"]["labels"]["e"] = "f".into();
        assert_eq!(
            of(&ours, &other),
            [
                "t: DaemonSet/metadata/labels/e is null by kustomize and \"f\" by the chart",
                "t: DaemonSet/spec/template/spec/hostPID is true by kustomize and false by the chart",
            ]
        );
        let service = json!({"kind": "Service", "metadata": {"name": "n"}});
        assert_eq!(of(&service, &other), ["t: the chart makes no Service n"]);
    }
}
