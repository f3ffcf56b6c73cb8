//! One way's run: a node, netsnoop in it, every class played, what was told and what was seen.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use super::actor::{Actor, Cannot};
use super::cgroup::Cgroups;
use super::classes;
use super::classes::{Class, When};
use super::node::Node;
use super::player::Script;
use super::scene::Place;
use super::told::{self, End};
use super::watching::{Started, Watched, Watching};
use super::ways::Way;
use crate::shell;

/// How many classes are played at once; more would be a test of the machine.
const STAGES: usize = 3;
/// The class that is played last: what netsnoop knows by its record is judged.
pub(crate) const LAST_CLASS: &str = "last";

/// What is to be played.
pub(crate) struct Programme<'a> {
    pub(crate) netsnoop: &'a Path,
    pub(crate) classes: Vec<&'static Class>,
    pub(crate) small: bool,
    /// Where files are kept while they are needed.
    pub(crate) folder: &'a Path,
}

/// Classes that could not be played here, and why.
#[derive(Default)]
pub(crate) struct Skipped(pub(crate) BTreeMap<&'static str, String>);

/// What came of it.
pub(crate) struct Played {
    pub(crate) truth: Vec<End>,
    pub(crate) watched: Watched,
    pub(crate) skipped: Skipped,
    /// The inode of the node's own network namespace.
    pub(crate) node_netns: u64,
    /// Which user's process holds which namespace, by inode.
    pub(crate) holders: Vec<(u64, u32)>,
}

/// A run's outcome.
pub(crate) enum Outcome {
    Played(Box<Played>),
    /// The way is not to be had here, and why.
    Unavailable(String),
}

/// The bench while one way is played.
struct Bench<'a> {
    programme: &'a Programme<'a>,
    node: Node,
    truth: File,
}

/// Plays all classes with netsnoop watching in one way.
pub(crate) fn play(programme: &Programme<'_>, way: Way) -> Result<Outcome> {
    let truth_path = programme.folder.join(format!("{way}.truth"));
    let bench = Bench { programme, node: Node::new(Cgroups::new()?)?, truth: append_to(&truth_path)? };
    let mut skipped = Skipped::default();
    let early = bench.start_early(&mut skipped)?;
    let watching = match Watching::start(&bench.node, programme.netsnoop, way, programme.folder)? {
        Started::Watching(watching) => watching,
        Started::Unavailable(why) => return Ok(Outcome::Unavailable(why)),
    };
    early.into_iter().try_for_each(Early::go_on).context("going on with what was there before netsnoop")?;
    bench.play_all(&mut skipped)?;
    let marker = bench.play_last(&truth_path)?;
    watching.wait_for_record(&marker)?;
    let watched = watching.end()?;
    let node_netns = netns_inode(&bench.node.namespace(Place::Node))?;
    let holders = bench.node.namespaces().into_iter();
    let holders = holders.map(|(place, path)| Ok((netns_inode(&path)?, place.holder())));
    let mut holders: Vec<(u64, u32)> = holders.collect::<Result<_>>()?;
    holders.extend(told::inhabitants(&truth_path)?);
    let mut truth = told::read(&truth_path)?;
    truth.retain(|end| end.opened.class != LAST_CLASS && !skipped.0.contains_key(&*end.opened.class));
    Ok(Outcome::Played(Box::new(Played { truth, watched, skipped, node_netns, holders })))
}

fn append_to(path: &Path) -> Result<File> {
    let options = OpenOptions::new().append(true).create_new(true).clone();
    options.open(path).with_context(|| format!("making {}", path.display()))
}

fn netns_inode(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(path.metadata().with_context(|| format!("looking at {}", path.display()))?.ino())
}

/// A class whose connections are older than netsnoop, in the midst of being played.
struct Early {
    servers: Vec<Actor>,
    clients: Vec<Actor>,
}

impl Early {
    /// Plays it to its end.
    fn go_on(self) -> Result<()> {
        for mut client in self.clients {
            client.cue()?;
            client.wait()?;
        }
        self.servers.into_iter().try_for_each(Actor::end)
    }
}

impl Bench<'_> {
    fn start_part(&self, class: &Class, index: usize) -> Result<Actor> {
        let part = class.cast.get(index).context("a class has no such part")?;
        let script = Script {
            class: class.name.to_owned(),
            part: index,
            small: self.programme.small,
            place: part.place,
            uid: part.uid,
            namespaces: self.node.namespaces(),
            cgroup: self.node.cgroup(part.place),
            is_placed: false,
        };
        Actor::play(&script, &self.truth)
    }

    /// Starts the parts that play `when`, and returns them once all are ready.
    fn start_parts(&self, class: &Class, when: When) -> Result<Vec<Actor>> {
        let mut started = Vec::new();
        for (index, _) in class.cast.iter().enumerate().filter(|(_, part)| part.when == when) {
            let mut actor = self.start_part(class, index)?;
            actor.wait_until_ready()?;
            started.push(actor);
        }
        Ok(started)
    }

    /// Plays a class from its beginning to its end.
    fn play(&self, class: &Class) -> Result<()> {
        if class.needs_translation
            && let Some(why) = &self.node.no_translation
        {
            return Err(Cannot(why.clone()).into());
        }
        let servers = self.start_parts(class, When::Throughout)?;
        let mut clients = Vec::new();
        for (index, _) in class.cast.iter().enumerate().filter(|(_, part)| part.when == When::Once) {
            clients.push(self.start_part(class, index)?);
        }
        clients.iter_mut().try_for_each(Actor::wait_until_ready)?;
        servers.into_iter().try_for_each(Actor::end)
    }

    /// Plays the classes that begin before netsnoop, up to there.
    fn start_early(&self, skipped: &mut Skipped) -> Result<Vec<Early>> {
        let mut early = Vec::new();
        for class in self.programme.classes.iter().filter(|class| class.is_early()) {
            let start = || -> Result<Early> {
                let servers = self.start_parts(class, When::Throughout)?;
                Ok(Early { servers, clients: self.start_parts(class, When::FromBefore)? })
            };
            early.extend(unless_impossible(class, start(), skipped)?);
        }
        Ok(early)
    }

    /// Plays the quiet classes side by side, then the loud ones, each alone.
    fn play_all(&self, skipped: &mut Skipped) -> Result<()> {
        let now = self.programme.classes.iter().copied().filter(|class| !class.is_early());
        let (loud, quiet): (VecDeque<&Class>, VecDeque<&Class>) = now.partition(|class| class.is_loud);
        for (queue, stages) in [(quiet, STAGES), (loud, 1)] {
            let queue = Mutex::new(queue);
            let work = || -> Result<Skipped> {
                let mut left_out = Skipped::default();
                while let Some(class) = take(&queue)? {
                    unless_impossible(class, self.play(class), &mut left_out)?;
                }
                Ok(left_out)
            };
            thread::scope(|scope| -> Result<()> {
                let threads: Vec<_> = (0..stages).map(|_| scope.spawn(work)).collect();
                for thread in threads {
                    let Ok(left_out) = thread.join() else { bail!("a stage's thread panicked") };
                    skipped.0.extend(left_out?.0);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Plays the last connection, and returns the words of its closing record.
    fn play_last(&self, truth: &Path) -> Result<[String; 2]> {
        let (_, class) = classes::find(LAST_CLASS)?;
        self.play(class).context("playing the last connection")?;
        let ends = told::read(truth)?;
        let last = ends.iter().find(|end| end.opened.class == LAST_CLASS);
        let port = last.context("the last connection was not told of")?.opened.local.port();
        Ok([r#""event":"close""#.to_owned(), format!(r#""port":{port},"#)])
    }
}

/// What came of playing a class; nothing if it cannot be played here, which is noted.
fn unless_impossible<T>(class: &Class, played: Result<T>, skipped: &mut Skipped) -> Result<Option<T>> {
    let error = match played {
        Ok(played) => return Ok(Some(played)),
        Err(error) => error,
    };
    match error.downcast_ref::<Cannot>() {
        Some(why) => {
            skipped.0.insert(class.name, why.to_string());
            Ok(None)
        }
        None => Err(error.context(format!("playing {}", class.name))),
    }
}

fn take(queue: &Mutex<VecDeque<&'static Class>>) -> Result<Option<&'static Class>> {
    match queue.lock() {
        Ok(mut queue) => Ok(queue.pop_front()),
        Err(_) => bail!("a stage's thread panicked"),
    }
}

/// A folder for a run's files, which players of every user may pass through; removed when dropped.
pub(crate) struct Scratch {
    pub(crate) folder: PathBuf,
    keeps: bool,
}

impl Scratch {
    /// Makes it below `parent`.
    pub(crate) fn new(parent: &Path, keeps: bool) -> Result<Self> {
        let folder = parent.join(format!("netsnoop-truth-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder, keeps })
    }

    /// Says where the files are that are kept.
    pub(crate) fn tell(&self) -> Result<()> {
        if self.keeps { shell::say(&format!("kept in {}", self.folder.display())) } else { Ok(()) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keeps
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            shell::warn(&format!("{} stays: {error}", self.folder.display()));
        }
    }
}
