//! UserSigs, from their text to the verdict.

#![no_main]

#[path = "doors/usersig.rs"]
mod door;

libfuzzer_sys::fuzz_target!(|data: &[u8]| door::open(data));
