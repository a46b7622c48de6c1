//! The integration tests, one binary.

mod crash;
mod embedded_disk;
mod golden;
mod journal_contract;
mod records;
mod support;
