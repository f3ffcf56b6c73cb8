//! What people call a container: `namespace/pod/container` of Kubernetes where that is known, else its runtime with its
//! name, else ids.

use std::fmt;

use netsnoop_core::process::Container;

use crate::sinks::escape::Escaped;

/// Characters of a container id, as container tools show it.
const ID_SHOWN: usize = 12;

/// Shows it for a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContainerName<'a>(pub(super) &'a Container);

impl fmt::Display for ContainerName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(container) = self;
        let pod = container.pod.as_deref();
        match pod.map(|pod| (pod.namespace.as_deref(), pod.name.as_deref(), &pod.uid)) {
            Some((Some(namespace), Some(pod), _)) => {
                write!(f, "{}/{}", Escaped(namespace), Escaped(pod))?;
                container.name.as_deref().map_or(Ok(()), |name| write!(f, "/{}", Escaped(name)))
            }
            Some((_, _, uid)) => write!(f, "pod:{}", Escaped(uid)),
            None if container.name.is_some() => {
                let name = container.name.as_deref().unwrap_or_default();
                write!(f, "{}:{}", container.runtime.unwrap_or("container"), Escaped(name))
            }
            None => {
                let id: String = container.id.chars().take(ID_SHOWN).collect();
                write!(f, "{}:{}", container.runtime.unwrap_or("container"), Escaped(&id))
            }
        }
    }
}
