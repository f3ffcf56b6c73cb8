//! `/proc` text -> rows, and how many lines could not be read.
