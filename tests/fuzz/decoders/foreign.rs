//! Bytes of disks, brokers and other nodes, up to what they say.

#![no_main]

#[path = "doors/foreign.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::open(data));
