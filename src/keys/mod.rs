//! Keys: the version prefix, namespaces, globs.
