//! Objects against the schemas of Kubernetes, which refuse unknown fields here, and against what two kinds of other makers
//! demand.
//!
//! Of those two no schema can be had where this runs, so only what is written here is held: the fields used, and of
//! SecurityContextConstraints those that its definition requires.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use super::objects::{text, title};
use super::tools::Tools;

/// The first version that has all fields, as Chart.yaml says, and the newest that the schemas know.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// Where the schemas say that they are.
const DEFINITIONS: &str = "https://kubernetes.io/api/_definitions.json";

/// The schemas of all [`VERSIONS`], read once: they are long.
pub(super) struct Schemas {
    versions: Vec<Version>,
}

struct Version {
    name: &'static str,
    folder: PathBuf,
    registry: Registry<'static>,
    /// By kind.
    validators: RefCell<BTreeMap<String, Rc<Validator>>>,
}

impl Schemas {
    /// Reads them.
    pub(super) fn read(tools: &Tools) -> Result<Self> {
        Ok(Self {
            versions: VERSIONS.into_iter().map(|name| Version::read(tools, name)).collect::<Result<_>>()?,
        })
    }

    /// What is wrong with `objects`, each line with `source` before it.
    pub(super) fn faults(&self, source: &str, objects: &[Value]) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (version, object) in
            self.versions.iter().flat_map(|version| objects.iter().map(move |object| (version, object)))
        {
            let (name, title) = (version.name, title(object));
            faults.extend(version.validator(object)?.iter_errors(object).map(|error| {
                format!("{source}: {title} at {} (Kubernetes {name}): {error}", error.instance_path())
            }));
        }
        Ok(faults)
    }
}

impl Version {
    fn read(tools: &Tools, name: &'static str) -> Result<Self> {
        let folder = tools.schemas(name);
        let definitions = read_json(&folder.join("_definitions.json"))?;
        let registry = Registry::new().add(DEFINITIONS, definitions).and_then(|registry| registry.prepare());
        let registry = registry.map_err(|error| anyhow!("reading the definitions of {name}: {error}"))?;
        Ok(Self { name, folder, registry, validators: RefCell::default() })
    }

    fn validator(&self, object: &Value) -> Result<Rc<Validator>> {
        let kind = text(object, "/kind");
        if let Some(known) = self.validators.borrow().get(kind) {
            return Ok(known.clone());
        }
        let schema = schema_of(&self.folder, object)?;
        let validator = jsonschema::options().with_registry(&self.registry).build(&schema);
        let validator = Rc::new(validator.map_err(|error| anyhow!("reading the schema of {kind}: {error}"))?);
        self.validators.borrow_mut().insert(kind.to_owned(), validator.clone());
        Ok(validator)
    }
}

fn schema_of(folder: &Path, object: &Value) -> Result<Value> {
    let (kind, version) = (text(object, "/kind"), text(object, "/apiVersion"));
    match kind {
        "PodMonitor" => return Ok(pod_monitor()),
        "SecurityContextConstraints" => return Ok(security_context_constraints()),
        _ => {}
    }
    // apps/v1 is in daemonset-apps-v1.json, v1 in service-v1.json, rbac.authorization.k8s.io/v1 in role-rbac-v1.json.
    let version = match version.split_once('/') {
        Some((group, version)) => format!("{}-{version}", group.split('.').next().unwrap_or(group)),
        None => version.to_owned(),
    };
    read_json(&folder.join(format!("{}-{version}.json", kind.to_lowercase())))
}

fn read_json(path: &Path) -> Result<Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    serde_json::from_str(&text).with_context(|| format!("reading {shown} as JSON"))
}

fn metadata() -> Value {
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string"}, "namespace": {"type": "string"}, "labels": strings, "annotations": strings,
        },
    })
}

/// Field by field as in the Prometheus operator's API reference (monitoring.coreos.com/v1).
fn pod_monitor() -> Value {
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": "PodMonitor"},
            "metadata": metadata(),
            "spec": {
                "type": "object",
                "required": ["selector", "podMetricsEndpoints"],
                "additionalProperties": false,
                "properties": {
                    "selector": {
                        "type": "object",
                        "required": ["matchLabels"],
                        "additionalProperties": false,
                        "properties": {"matchLabels": {"type": "object"}},
                    },
                    "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": {
                        "type": "object",
                        "required": ["port"],
                        "additionalProperties": false,
                        "properties": {
                            "port": {"type": "string"},
                            "interval": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
                            "relabelings": {"type": "array", "items": {
                                "type": "object",
                                "additionalProperties": false,
                                "properties": {
                                    "action": {"enum": ["replace", "labeldrop"]},
                                    "sourceLabels": {"type": "array", "items": {"type": "string"}},
                                    "targetLabel": {"type": "string"},
                                    "regex": {"type": "string"},
                                },
                            }},
                        },
                    }},
                },
            },
        },
    })
}

/// As in the definition of security.openshift.io/v1: these fields it requires, though some may be null.
fn security_context_constraints() -> Value {
    let flag = json!({"type": "boolean"});
    let names = json!({"type": ["array", "null"], "items": {"type": "string"}});
    let anybody = json!({
        "type": "object",
        "required": ["type"],
        "additionalProperties": false,
        "properties": {"type": {"const": "RunAsAny"}},
    });
    json!({
        "type": "object",
        "required": [
            "apiVersion", "kind", "metadata", "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork",
            "allowHostPID", "allowHostPorts", "allowPrivilegedContainer", "allowedCapabilities",
            "defaultAddCapabilities", "priority", "readOnlyRootFilesystem", "requiredDropCapabilities", "volumes",
        ],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": "security.openshift.io/v1"},
            "kind": {"const": "SecurityContextConstraints"},
            "metadata": metadata(),
            "allowHostDirVolumePlugin": flag, "allowHostIPC": flag, "allowHostNetwork": flag, "allowHostPID": flag,
            "allowHostPorts": flag, "allowPrivilegedContainer": flag, "allowPrivilegeEscalation": flag,
            "readOnlyRootFilesystem": flag,
            "allowedCapabilities": names, "defaultAddCapabilities": names, "requiredDropCapabilities": names,
            "seccompProfiles": names, "users": names, "groups": names, "volumes": names,
            "priority": {"type": ["integer", "null"]},
            "runAsUser": anybody, "seLinuxContext": anybody, "fsGroup": anybody, "supplementalGroups": anybody,
        },
    })
}
