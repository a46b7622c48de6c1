//! The integration tests, one binary.

mod embedded_disk;
mod journal_contract;
mod records;
