//! Which namespaces, addresses and interfaces this node has.
