#![doc = include_str!("ARCHITECTURE.md")]

pub mod actors;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
#[cfg(test)]
mod damage;
pub mod domain;
pub mod http;
pub mod journal;
pub mod pairing;
pub mod patience;
pub mod store;
pub mod subscriptions;
pub mod tags;
pub mod telemetry;
pub mod usersig;
pub mod webhooks;
