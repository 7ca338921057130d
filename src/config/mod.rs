//! Configuration: as written, then as used.
