//! A real Prometheus that asks a running agent, and what it answers.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use super::Lab;
use super::agent::LISTENS;

/// A Prometheus that scrapes the agent every few seconds. It is ended when dropped.
pub(crate) struct Prometheus<'a> {
    lab: &'a Lab,
    child: Child,
    _folder: tempfile::TempDir,
}

const PROMETHEUS: &str = "127.0.0.1:19090";

impl<'a> Prometheus<'a> {
    pub(crate) fn start(lab: &'a Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let scrape = format!(
            "scrape_configs: [{{job_name: netsnoop, scrape_interval: 3s, static_configs: [{{targets: ['{LISTENS}']}}]}}]"
        );
        fs::write(&file, scrape).unwrap();
        let child = lab
            .node
            .command(Path::new("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { lab, child, _folder: folder }
    }

    /// Fails if it is no expression, or one that names a metric there is not.
    #[track_caller]
    pub(crate) fn must_understand(&self, expression: &str) {
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for metric in words.filter(|word| word.starts_with("netsnoop_")) {
            assert!(!self.query(metric).trim().is_empty(), "no such metric: {metric}");
        }
        let url = format!("http://{PROMETHEUS}");
        let words = ["query", "instant", &url, expression];
        let output = self.lab.node.command(Path::new("promtool")).args(words).output().unwrap();
        assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What it answers now, a line a series.
    pub(crate) fn query(&self, expression: &str) -> String {
        let output = self
            .lab
            .node
            .command(Path::new("promtool"))
            .args(["query", "instant", &format!("http://{PROMETHEUS}"), expression])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}
