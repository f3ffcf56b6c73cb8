//! The only attribution state: observations in, connection records out.
