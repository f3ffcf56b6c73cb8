//! Where records go. Wall time, names and text exist only from here on.
