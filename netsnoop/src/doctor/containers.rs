//! Who tells names of containers and pods here: runtimes on their sockets, and the kubelet by its logs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use netsnoop_core::proc_text::cgroup::decode_cgroup_file;

use super::{Finding, State};
use crate::sources::runtimes::{self, Answer, RuntimeSettings, RuntimeSockets};
use crate::startup::KUBELET_LOGS;

/// How long a runtime is waited for, which hangs if it takes longer.
const PATIENCE: Duration = Duration::from_secs(2);
const NAME: &str = "container runtimes";
const LOST: &str = "containers and pods that only it knows have ids and no names";

/// One finding for all sockets, and one for the logs.
pub(super) fn findings(settings: &RuntimeSettings, proc_root: &Path) -> Vec<Finding> {
    let runtimes = match runtimes::ask_each(settings, PATIENCE) {
        Ok(_) if settings.sockets == RuntimeSockets::Only(Vec::new()) => {
            Finding::works(NAME, "none is asked")
        }
        Ok(answers) => judge(&answers, || has_containers(proc_root)),
        Err(error) => Finding::fails(NAME, format!("{error:#}"), LOST),
    };
    vec![runtimes, logs(Path::new(KUBELET_LOGS))]
}

fn judge(answers: &[Answer], has_containers: impl FnOnce() -> bool) -> Finding {
    let failed = answers.iter().filter(|answer| answer.told.is_err()).count();
    let state = match (answers.len(), failed) {
        (0, _) if has_containers() => {
            let lost = "containers have ids and no names, but what the kubelet's logs tell";
            return Finding::fails(NAME, "no socket in the usual places, though containers run", lost)
                .with_remedy("mount the runtime's socket, or name it with --runtime-socket");
        }
        (0, _) => return Finding::works(NAME, "no socket in the usual places, and no containers"),
        (_, 0) => State::Works,
        (all, failed) if all == failed => State::Fails,
        _ => State::Partly,
    };
    let details = answers.iter().map(|answer| match &answer.told {
        Ok(containers) => format!("{}: {} containers known", answer.socket.display(), containers.len()),
        Err(error) => format!("{}: {error:#}", answer.socket.display()),
    });
    let mut finding =
        Finding { name: NAME, state, details: details.collect(), without: Some(LOST), remedies: Vec::new() };
    for answer in answers {
        if let Err(error) = &answer.told {
            finding = finding.with_remedy(remedy(answer, error));
        }
    }
    finding
}

fn remedy(answer: &Answer, error: &anyhow::Error) -> String {
    let socket = answer.socket.display();
    let kind =
        error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::PermissionDenied) => format!("run as root, or as one who may write to {socket}"),
        Some(ErrorKind::NotFound) => format!("mount {socket}, or name the right one with --runtime-socket"),
        Some(ErrorKind::ConnectionRefused) => {
            format!("start the runtime of {socket}, or name others with --runtime-socket")
        }
        _ => format!(
            "look at the runtime of {socket}: it was reached, but gave no such answer as CRI or Docker's API has"
        ),
    }
}

/// Nothing is lost without them where a runtime answers, or where there is no kubelet.
fn logs(root: &Path) -> Finding {
    let mut finding = Finding { details: Vec::new(), ..Finding::works("kubelet's logs", "") };
    for directory in ["pods", "containers"].map(|below| root.join(below)) {
        let shown = directory.display();
        finding.details.push(match fs::read_dir(&directory) {
            Ok(entries) => format!("{shown} has {} entries", entries.count()),
            Err(error) if error.kind() == ErrorKind::NotFound => format!("no {shown} here"),
            Err(error) => {
                finding.state = State::Partly;
                finding.without = Some("pods that no runtime tells of have ids and no names");
                format!("{shown}: {error}")
            }
        });
    }
    finding
}

fn has_containers(proc_root: &Path) -> bool {
    let Ok(entries) = fs::read_dir(proc_root) else { return false };
    let processes = entries.flatten().map(|entry| entry.path().join("cgroup"));
    processes.flat_map(fs::read).any(|text| decode_cgroup_file(&text).is_some())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn answer(socket: &str, told: Result<(), ErrorKind>) -> Answer {
        let told = told.map(|()| Vec::new());
        let told = told.map_err(|kind| anyhow::Error::from(io::Error::from(kind)).context("connecting"));
        Answer { socket: socket.into(), told }
    }

    #[test]
    fn each_socket_says_how_it_went_and_what_to_do() {
        let check = |answers: &[Answer], containers: bool, state: State, words: &[&str]| {
            let finding = judge(answers, || containers);
            assert_eq!(finding.state, state, "{finding:#?}");
            assert_eq!(finding.remedies.is_empty(), state == State::Works, "{finding:#?}");
            let text = [finding.details.join("\n"), finding.remedies.join("\n")].join("\n");
            words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
        };
        check(&[], false, State::Works, &["no containers"]);
        check(&[], true, State::Fails, &["though containers run", "--runtime-socket"]);
        let good = || answer("/run/good.sock", Ok(()));
        check(&[good()], true, State::Works, &["/run/good.sock: 0 containers known"]);
        let denied = || answer("/run/bad.sock", Err(ErrorKind::PermissionDenied));
        check(&[good(), denied()], true, State::Partly, &["/run/bad.sock: connecting: ", "run as root"]);
        check(&[denied()], true, State::Fails, &["who may write to /run/bad.sock"]);
        let check_one = |kind, word| check(&[answer("/run/s", Err(kind))], true, State::Fails, &[word]);
        check_one(ErrorKind::NotFound, "mount /run/s");
        check_one(ErrorKind::ConnectionRefused, "start the runtime of /run/s");
        check_one(ErrorKind::TimedOut, "look at the runtime of /run/s");
    }

    #[test]
    fn logs_that_cannot_be_read_are_told_from_those_that_are_not_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("pods")).unwrap();
        let found = logs(root.path());
        assert_eq!(found.state, State::Works);
        assert!(found.details[0].ends_with("pods has 0 entries"), "{found:?}");
        assert!(
            found.details[1].starts_with("no ") && found.details[1].ends_with("containers here"),
            "{found:?}"
        );
        fs::write(root.path().join("containers"), "no directory").unwrap();
        let found = logs(root.path());
        assert!(found.state == State::Partly && found.without.is_some(), "{found:?}");
    }
}
