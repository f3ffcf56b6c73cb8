//! A containerd of the test's own with pods on a CNI bridge in the lab's node, made through CRI as a kubelet does.
//!
//! It is the first process of a pid namespace and has mounts of its own, so all that it started ends with it; its
//! folder and its cgroups are removed then. Images are made of the machine's busybox: nothing is fetched.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netsnoop::sources::runtimes::grpc::Channel;
use prost::Message;

use super::cri::{
    ContainerConfig, ContainerId, ContainerStatusAnswer, CreateContainer, LinuxSandboxConfig, Name,
    NamespaceOptions, Nothing, OF_THE_NODE, RunPodSandbox, SandboxConfig, SandboxId, SandboxMetadata,
    SandboxSecurity, SandboxStatusAnswer, StopContainer,
};
use super::{Lab, patience, skip, slowness};

const IMAGE: &str = "netsnoop.test/box:1";
const CNI: &str = "/usr/lib/cni";
/// How long a container may take to end by itself.
const GRACE_SECONDS: i64 = 60;
/// How often is looked whether something came about that nobody tells of.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Runs as long as this lives.
pub(crate) struct Containerd {
    process: Child,
    folder: PathBuf,
    /// Above the pods' cgroups, from the root of each hierarchy.
    cgroup_parent: String,
    runtime: tokio::runtime::Runtime,
    channel: Option<Channel>,
    pods: Vec<String>,
}

/// A pod, running with nothing in it.
pub(crate) struct CriPod {
    pub(crate) address: String,
    sandbox: String,
    config: SandboxConfig,
}

impl Containerd {
    /// Starts it in the lab's node, or says why `test` is left out.
    pub(crate) fn start(test: &str, lab: &Lab) -> Option<Self> {
        Self::start_apart(test, lab, &["--pid", "--mount-proc"])
    }

    /// The same where the pids of the node are those of the machine, for pods that live with the node's pids. What it
    /// started then ends with its pods.
    pub(crate) fn start_with_pids_of_machine(test: &str, lab: &Lab) -> Option<Self> {
        Self::start_apart(test, lab, &[])
    }

    /// With these options of `unshare` besides its own mounts.
    fn start_apart(test: &str, lab: &Lab, options: &[&str]) -> Option<Self> {
        if slowness() > 1 {
            skip(test, "an emulated machine is too slow for containers");
            return None;
        }
        let programs = ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/bin/busybox"];
        let needed = programs.iter().copied().chain([concat!("/usr/lib/cni", "/bridge")]);
        if let Some(missing) = needed.into_iter().find(|path| !Path::new(path).exists()) {
            skip(test, &format!("needs {missing}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap().keep();
        write_config(&folder);
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = lab
            .node
            .command(Path::new("unshare"))
            .args(["--mount", "--fork", "--kill-child=KILL"])
            .args(options)
            // As an init system leaves them: a container may be told what is mounted later. Outside nothing is seen of it.
            .args(["sh", "-c", "mount --make-rshared / && exec containerd -c \"$1\"", "sh"])
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut this = Self {
            process,
            cgroup_parent: format!("netsnoop-test-{}-{}", process::id(), folder_name(&folder)),
            folder,
            runtime,
            channel: None,
            pods: Vec::new(),
        };
        this.wait_until_ready();
        this.import(&make_image(&this.folder));
        Some(this)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// Where it has all its files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a pod.
    pub(crate) fn run_pod(&mut self, namespace: &str, name: &str, uid: &str) -> CriPod {
        self.run_pod_in(namespace, name, uid, NamespaceOptions::default())
    }

    /// Makes a pod that is in these namespaces; of the node's network it has no address of its own.
    pub(crate) fn run_pod_in(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        namespaces: NamespaceOptions,
    ) -> CriPod {
        let metadata = SandboxMetadata { name: name.into(), uid: uid.into(), namespace: namespace.into() };
        let cgroup_parent = format!("/{}/kubepods/besteffort/pod{uid}", self.cgroup_parent);
        let config = SandboxConfig {
            metadata: Some(metadata),
            // Who is in the node's network has its name too.
            hostname: if namespaces.network == OF_THE_NODE { String::new() } else { name.into() },
            log_directory: self.folder.join("logs").join(uid).to_str().unwrap().into(),
            labels: [("app.kubernetes.io/name".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxSandboxConfig {
                cgroup_parent,
                security_context: Some(SandboxSecurity { namespace_options: Some(namespaces) }),
            }),
        };
        let made: SandboxId = self.ask("RunPodSandbox", &RunPodSandbox { config: Some(config.clone()) });
        self.pods.push(made.id.clone());
        let status: SandboxStatusAnswer = self.ask("PodSandboxStatus", &made);
        let address = status.status.and_then(|status| status.network).unwrap_or_default().ip;
        CriPod { address, sandbox: made.id, config }
    }

    /// Starts a container in a pod, whose command is one of busybox. Returns its id.
    pub(crate) fn run_container(&mut self, pod: &CriPod, name: &str, command: &str) -> String {
        self.run_words(pod, name, command.split(' ').collect())
    }

    /// The same for what its shell is to do once a second.
    pub(crate) fn run_repeatedly(&mut self, pod: &CriPod, name: &str, command: &str) -> String {
        let script = format!("while :; do /bin/busybox {command}; /bin/busybox sleep 1; done");
        self.run_words(pod, name, vec!["sh", "-c", &script])
    }

    fn run_words(&mut self, pod: &CriPod, name: &str, words: Vec<&str>) -> String {
        let words = std::iter::once("/bin/busybox").chain(words);
        let config = ContainerConfig {
            metadata: Some(Name { name: name.into() }),
            image: Some(Name { name: IMAGE.into() }),
            command: words.map(Into::into).collect(),
            ..ContainerConfig::default()
        };
        self.start_container(pod, config)
    }

    /// Starts any container in a pod. Returns its id.
    pub(crate) fn start_container(&mut self, pod: &CriPod, config: ContainerConfig) -> String {
        let question = CreateContainer {
            sandbox: pod.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let made: ContainerId = self.ask("CreateContainer", &question);
        let _started: Nothing = self.ask("StartContainer", &made);
        made.id
    }

    /// When a container began to run, by the runtime's own stamp.
    pub(crate) fn began(&mut self, id: &str) -> jiff::Timestamp {
        let answer: ContainerStatusAnswer = self.ask("ContainerStatus", &ContainerId { id: id.into() });
        let began = answer.status.unwrap().started_at;
        jiff::Timestamp::from_nanosecond(i128::from(began)).unwrap()
    }

    /// Asks a container to end as a kubelet does, and waits until it has.
    pub(crate) fn stop_container(&mut self, id: String) {
        let _stopped: Nothing = self.ask("StopContainer", &StopContainer { id, timeout: GRACE_SECONDS });
    }

    /// What a container wrote on its standard output and standard error so far, by the kubelet's files.
    pub(crate) fn written(&self, pod: &CriPod, log: &str) -> [Vec<String>; 2] {
        let path = Path::new(&pod.config.log_directory).join(log);
        let text = fs::read_to_string(path).unwrap_or_default();
        // Time, stream, and whether the line goes on (P) or is full (F); a line that is still written has no end.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let mut written = [("stdout", String::new()), ("stderr", String::new())];
        for line in lines {
            let (stream, part) = line.split_once(' ').unwrap().1.split_once(' ').unwrap();
            let (tag, part) = part.split_once(' ').unwrap();
            let text = &mut written.iter_mut().find(|(name, _)| *name == stream).unwrap().1;
            text.push_str(part);
            if tag == "F" {
                text.push('\n');
            }
        }
        written.map(|(_, text)| {
            let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
            complete.lines().map(Into::into).collect()
        })
    }

    fn ask<A: Message + Default>(&mut self, method: &str, question: &impl Message) -> A {
        let channel = self.channel.as_mut().unwrap();
        let method = format!("runtime.v1.RuntimeService/{method}");
        match self.runtime.block_on(channel.ask(&method, question)) {
            Ok(answer) => answer,
            Err(error) => panic!("{method}: {error:#}\n{}", self.log()),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + patience();
        let socket = self.socket();
        loop {
            let connected = async {
                let mut channel = Channel::connect(&socket).await?;
                channel.ask::<Nothing>("runtime.v1.RuntimeService/Version", &Nothing {}).await?;
                anyhow::Ok(channel)
            };
            match self.runtime.block_on(connected) {
                Ok(channel) => return self.channel = Some(channel),
                Err(error) => {
                    assert!(
                        Instant::now() < deadline,
                        "containerd does not start: {error:#}\n{}",
                        self.log()
                    );
                    thread::sleep(LOOK_EVERY);
                }
            }
        }
    }

    /// Takes an image from a file.
    pub(crate) fn import(&self, image: &Path) {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import"]);
        let output = ctr.arg(image).output().unwrap();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // In order, so that nothing is left in the folders that container networks share.
        for id in std::mem::take(&mut self.pods) {
            let Some(channel) = &mut self.channel else { continue };
            let pod = SandboxId { id };
            let ended = self.runtime.block_on(async {
                channel.ask::<Nothing>("runtime.v1.RuntimeService/StopPodSandbox", &pod).await?;
                channel.ask::<Nothing>("runtime.v1.RuntimeService/RemovePodSandbox", &pod).await
            });
            assert!(ended.is_ok() || thread::panicking(), "ending a pod: {ended:?}\n{}", self.log());
        }
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // Mounts and cgroups are busy until the last process has been buried.
        remove(|| fs::remove_dir_all(&self.folder));
        // One hierarchy, or several side by side.
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        for hierarchy in hierarchies.chain([root.to_owned()]) {
            remove(|| remove_cgroups(&hierarchy.join(&self.cgroup_parent)));
        }
    }
}

/// Tries until it is done.
fn remove(act: impl Fn() -> io::Result<()>) {
    let deadline = Instant::now() + patience();
    while let Err(error) = act() {
        assert!(Instant::now() < deadline || thread::panicking(), "removing what containers left: {error}");
        if Instant::now() >= deadline {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn remove_cgroups(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
}

/// runc may not adjust what the kernel kills first where CAP_SYS_RESOURCE is missing, hence `restrict_oom_score_adj`.
fn write_config(folder: &Path) {
    let here = folder.display();
    let config = format!(
        r#"version = 2
root = "{here}/root"
state = "{here}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{here}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  netns_mounts_under_state_dir = true
  sandbox_image = "{IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{here}/cni"
"#
    );
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"pods","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{{
        "type":"host-local","dataDir":"{here}/ipam","ranges":[[{{"subnet":"198.18.79.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}"#
    );
    fs::create_dir(folder.join("cni")).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    fs::write(folder.join("cni/pods.conflist"), network).unwrap();
}

/// An image of busybox alone, as `docker save` writes them; by default it waits for ever, as a pod's first container does,
/// and is called as that is.
fn make_image(folder: &Path) -> PathBuf {
    let root = folder.join("image");
    fs::create_dir_all(root.join("rootfs/bin")).unwrap();
    fs::copy("/bin/busybox", root.join("rootfs/bin/busybox")).unwrap();
    let pause = root.join("rootfs/bin/pause");
    fs::write(&pause, "#!/bin/busybox sh\nwhile :; do /bin/busybox sleep 1000000; done\n").unwrap();
    fs::set_permissions(&pause, Permissions::from_mode(0o755)).unwrap();
    run(&root, "tar -C rootfs -cf layer.tar bin");
    let digest = run(&root, "sha256sum layer.tar");
    let digest = digest.split(' ').next().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/bin/pause"]}},
        "rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    fs::write(root.join("config.json"), config).unwrap();
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{IMAGE}"],"Layers":["layer.tar"]}}]"#);
    fs::write(root.join("manifest.json"), manifest).unwrap();
    run(&root, "tar -cf image.tar manifest.json config.json layer.tar");
    root.join("image.tar")
}

fn run(folder: &Path, command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
