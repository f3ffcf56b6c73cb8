//! The netsnoop agent: sources, pipeline, sinks and command line around `netsnoop-core`.
//!
//! Sources and sinks never import each other; only `pipeline`, which makes every channel and starts every thread and
//! task, and `listing`, which looks and shows without any, know both. After `config` nothing reads arguments, environment or terminal state.

pub mod announcement;
pub mod cli;
pub mod clock;
mod command;
pub mod config;
pub mod counters;
pub mod doctor;
pub mod failure;
pub mod hash_seed;
pub mod intake;
mod listing;
pub mod memory;
pub mod naming;
pub mod outlet;
pub mod pipeline;
pub mod privileges;
pub mod reconciling;
pub mod rescans;
pub mod scans;
pub mod signals;
pub mod sinks;
pub mod sources;
pub mod startup;

pub use command::run;
