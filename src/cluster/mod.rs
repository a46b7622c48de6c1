//! Which node owns which partition, and how the others reach it.
//!
//! Everything here is a hint: who may write a partition is decided by the partition's own records
//! (`journal::fence`), so a wrong or stale view costs a detour, never a fact. Rule: cluster.md 3.

pub mod peers;
pub mod routes;

pub use routes::{Owner, Routes};
