//! The integration tests, one binary.

mod accounts;
mod architecture;
mod auth;
mod blocklist;
mod channel_model;
mod cluster;
mod compose;
mod crash;
mod disk;
mod edge;
mod embedded_disk;
mod fence_model;
mod friendship;
mod golden;
mod history;
mod journal_contract;
mod kafka_journal;
mod kafka_support;
mod nemesis;
mod openapi;
mod pairing_model;
mod records;
mod restart;
mod shutdown;
mod support;
mod webhooks;
