//! What is handed out, whatever it is packed into: the program, what it says of itself, licences, and of which commit it is.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::notices;
use crate::shell;

/// What is taken as it is from the workspace.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];
/// Shells, and what each wants its completion script to be called.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "netsnoop.bash"), ("zsh", "_netsnoop"), ("fish", "netsnoop.fish")];

/// The version of all that is handed out.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it is, in one sentence.
pub(super) const DESCRIPTION: &str =
    "Which user, pod, container and process on this node talks to which service?";

/// A text with the name of its file.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) text: String,
}

/// All of it.
pub(super) struct Contents {
    pub(super) program: Vec<u8>,
    /// For people, from the workspace.
    pub(super) documents: Vec<Named>,
    /// The licences of what is linked in.
    pub(super) notices: Named,
    /// Manual pages.
    pub(super) pages: Vec<Named>,
    /// What shells read to complete netsnoop's words.
    pub(super) completions: Vec<Named>,
    /// Seconds since 1970 of the sources, which every file gets for its time.
    pub(super) epoch: u64,
    /// The commit; unknown outside of a repository.
    pub(super) revision: Option<String>,
}

impl Contents {
    /// Asks the program for what it says of itself, and reads the rest.
    pub(super) fn gather(program: &Path) -> Result<Self> {
        let documents = DOCUMENTS.iter().map(|name| document(name)).collect::<Result<_>>()?;
        let completion = |(shell, name): &(&str, &str)| {
            let text = shell::read(Command::new(program).args(["completions", shell]))?;
            Ok(Named { name: (*name).to_owned(), text })
        };
        Ok(Self {
            program: fs::read(program).with_context(|| format!("reading {}", program.display()))?,
            documents,
            notices: Named { name: "THIRD-PARTY-LICENSES.txt".to_owned(), text: notices::collect()? },
            pages: pages(program)?,
            completions: COMPLETIONS.iter().map(completion).collect::<Result<_>>()?,
            epoch: epoch()?,
            // Sources that were unpacked from an archive have no repository around them.
            revision: git(&["rev-parse", "HEAD"]).ok(),
        })
    }

    /// The licences: our own, and those of what is linked in.
    pub(super) fn licenses(&self) -> impl Iterator<Item = &Named> {
        self.documents.iter().filter(|document| document.name.starts_with("LICENSE")).chain([&self.notices])
    }
}

/// A file of the workspace.
pub(super) fn document(name: &str) -> Result<Named> {
    let path = shell::workspace().join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Named { name: name.to_owned(), text })
}

fn pages(program: &Path) -> Result<Vec<Named>> {
    let help = shell::read(Command::new(program).arg("--help"))?;
    let page = |name: String, command: &[&str]| {
        Ok(Named { name, text: shell::read(Command::new(program).arg("man").args(command))? })
    };
    let of_commands = commands(&help).map(|command| page(format!("netsnoop-{command}.1"), &[command]));
    [page("netsnoop.1".to_owned(), &[])].into_iter().chain(of_commands).collect()
}

/// The commands that a help text names, but the one that explains the others.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let entries = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    // What is indented further goes on with the entry before.
    let names = entries.filter(|entry| !entry.starts_with(' ')).filter_map(|entry| entry.split(' ').next());
    names.filter(|name| *name != "help")
}

/// Seconds since 1970 of what is packed: SOURCE_DATE_EPOCH (<https://reproducible-builds.org/specs/source-date-epoch/>),
/// else the commit's.
fn epoch() -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => git(&["log", "-1", "--format=%ct"])
            .context("without git, SOURCE_DATE_EPOCH has to tell the date of the sources")?,
    };
    text.trim().parse().with_context(|| format!("'{}' are no seconds since 1970", text.trim()))
}

/// What git says of the workspace.
fn git(words: &[&str]) -> Result<String> {
    let text = shell::read(Command::new("git").current_dir(shell::workspace()).args(words))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Contents {
        /// A few files, of the year 1970.
        pub(in crate::dist) fn example() -> Self {
            let named = |name: &str| Named { name: name.to_owned(), text: format!("{name}'s text\n") };
            Self {
                program: b"program".to_vec(),
                documents: DOCUMENTS.map(named).into(),
                notices: named("THIRD-PARTY-LICENSES.txt"),
                pages: vec![named("netsnoop.1")],
                completions: COMPLETIONS.map(|(_, name)| named(name)).into(),
                epoch: 7,
                revision: None,
            }
        }
    }

    #[test]
    fn every_command_has_a_page_but_help() {
        let help = "About.\n\nUsage: netsnoop [OPTIONS] [COMMAND]\n\nCommands:\n  watch  Look\n         and look\n  list   \
                    List\n  help   Print this\n\nOptions:\n  -v  More\n";
        assert_eq!(commands(help).collect::<Vec<_>>(), ["watch", "list"]);
        assert_eq!(commands("").count(), 0);
    }
}
