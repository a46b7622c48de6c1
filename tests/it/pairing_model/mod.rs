//! The pairing protocol in every order of events. Rule: cluster.md 4 and 5.
//!
//! The models drive the product's own `User::perform`, `User::react`, `effects`, `Outbox` and `Inbox`,
//! and look at what [`history`] keeps: the invariants. [`exchange`] takes the channels for granted and
//! goes far into the handshakes; [`network`] has the channels over a network that loses, repeats and
//! reorders, with crashes of both sides; [`walks`] are long and random. Each mutation takes one guard
//! away, and the checker has to notice.
//!
//! `CORDON_MODEL_OPS` sets another number of operations, for a deeper run: one more takes about
//! ten times as long.

mod exchange;
mod history;
mod network;
mod people;
mod walks;
