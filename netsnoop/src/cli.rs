//! The command line as typed: every flag parses to its final type.
