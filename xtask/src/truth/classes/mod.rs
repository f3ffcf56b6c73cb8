//! The classes of traffic, each an entry in a table: what it tests, who plays it, and where a reason of the kernel keeps
//! netsnoop from its figure. The parts are beside the entries, a file for each family.

mod families;
mod identity;
mod lifetimes;
mod namespaces;
mod nat;
mod outcomes;
mod preexisting;
mod reuse;
mod sharing;
mod udp;

use anyhow::{Context, Result};

use super::player::Stage;
use super::run::LAST_CLASS;
use super::scene::Place;
use super::score::Group;
use super::told::Role;
use super::ways::Standard;

/// A kind of traffic.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// What it is, for a reader of the tables.
    pub(crate) about: &'static str,
    /// Who plays it. Those that stay are started first.
    pub(crate) cast: &'static [Part],
    /// Whether it disturbs others that are played at the same time.
    pub(crate) is_loud: bool,
    /// Whether the node must translate addresses.
    pub(crate) needs_translation: bool,
    /// What the kernel keeps from being known about it.
    limits: &'static [Limit],
}

/// What is asked about an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    Process,
    User,
    Namespace,
}

/// Answers that a reason of the kernel keeps from being given.
pub(crate) struct Limit {
    role: Role,
    questions: &'static [Question],
    /// Of which ways.
    standards: &'static [Standard],
    /// Whether nothing tells that an answer is wrong.
    pub(crate) may_mislead: bool,
    /// The reason, as a sentence for the document.
    pub(crate) because: &'static str,
}

impl Question {
    pub(crate) const ALL: [Self; 3] = [Self::Process, Self::User, Self::Namespace];
}

impl Class {
    const fn new(name: &'static str, about: &'static str, cast: &'static [Part]) -> Self {
        Self { name, about, cast, is_loud: false, needs_translation: false, limits: &[] }
    }

    const fn loud(self) -> Self {
        Self { is_loud: true, ..self }
    }

    const fn translated(self) -> Self {
        Self { needs_translation: true, ..self }
    }

    const fn limited(self, limits: &'static [Limit]) -> Self {
        Self { limits, ..self }
    }

    /// Why ways of this standard cannot answer about it, as far as they cannot.
    pub(crate) fn limits(&self, standard: Standard) -> impl Iterator<Item = &'static Limit> {
        self.limits.iter().filter(move |limit| limit.standards.contains(&standard))
    }

    /// Whether it begins before netsnoop.
    pub(crate) fn is_early(&self) -> bool {
        self.cast.iter().any(|part| part.when == When::FromBefore)
    }
}

/// When a part is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// From the class's beginning to its end; the class begins once it is ready.
    Throughout,
    /// Until it ends by itself.
    Once,
    /// As once, but it gets ready before netsnoop starts, and goes on afterwards.
    FromBefore,
    /// Not by the bench: another part starts it.
    Summoned,
}

/// One process of a class.
pub(crate) struct Part {
    pub(crate) place: Place,
    pub(crate) uid: u32,
    pub(crate) when: When,
    pub(crate) act: fn(&Stage) -> Result<()>,
}

/// A server.
const fn serves(place: Place, uid: u32, act: fn(&Stage) -> Result<()>) -> Part {
    Part { place, uid, when: When::Throughout, act }
}

/// A client.
const fn plays(place: Place, uid: u32, act: fn(&Stage) -> Result<()>) -> Part {
    Part { place, uid, when: When::Once, act }
}

/// Users of the pods: no pod but the one-user pod has one of its own.
const CLIENT: u32 = 10_001;
const SERVER: u32 = 10_002;
const ROOT: u32 = 0;

/// All classes, by family.
pub(crate) fn all() -> impl Iterator<Item = &'static Class> {
    [
        lifetimes::CLASSES,
        outcomes::CLASSES,
        families::CLASSES,
        reuse::CLASSES,
        identity::CLASSES,
        sharing::CLASSES,
        udp::CLASSES,
        nat::CLASSES,
        namespaces::CLASSES,
        preexisting::CLASSES,
    ]
    .into_iter()
    .flatten()
}

/// All but the one that only ends a run.
pub(crate) fn judged() -> impl Iterator<Item = &'static Class> {
    all().filter(|class| class.name != LAST_CLASS)
}

/// Why a question about these ends cannot be answered in ways of this standard, if so.
pub(crate) fn limit(group: &Group, question: Question, standard: Standard) -> Option<&'static Limit> {
    let class = all().find(|class| class.name == group.class)?;
    class.limits(standard).find(|limit| limit.role == group.role && limit.questions.contains(&question))
}

/// A class and its place in the list, from which its ports come.
pub(crate) fn find(name: &str) -> Result<(u16, &'static Class)> {
    let found = (0..).zip(all()).find(|(_, class)| class.name == name);
    found.with_context(|| format!("there is no class {name}; --list names them"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{When, all};

    #[test]
    fn classes_have_names_of_their_own_and_somebody_who_plays() {
        let mut names = BTreeSet::new();
        for class in all() {
            assert!(names.insert(class.name), "{} is there twice", class.name);
            let plays = |when: &When| matches!(when, When::Once | When::FromBefore);
            assert!(class.cast.iter().any(|part| plays(&part.when)), "{}", class.name);
        }
        // Servers' ports begin at 20,000, the kernel's own choice at 32,768; each class has ten.
        assert!(names.len() < 1_276, "ports of classes and the kernel's would meet");
    }
}
