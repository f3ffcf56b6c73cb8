//! What was decided from the command line: the only input of `pipeline`.
