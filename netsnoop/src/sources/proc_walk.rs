//! The walk over `/proc`: one representative process a namespace, its socket tables, and the fd links of all processes.
