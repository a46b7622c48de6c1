//! Two nodes on loopback.
