//! Which node owns which partition, and how the others reach it.
//!
//! Everything here is a hint: who may write a partition is decided by the partition's own records
//! (`journal::fence`), so a wrong or stale view costs a detour, never a fact. Rule: cluster.md 3.

pub mod members;
mod metrics;
pub mod owners;
pub mod peers;
pub mod placement;
pub mod plan;
pub mod routes;
pub mod steward;

pub use metrics::Metrics;
pub use placement::StandbyMode;
pub use routes::{Owner, Routes};
pub use steward::{Handle, Seats};
