//! Bodies of requests, from their bytes to the first user who would be asked.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cordon::http::fuzzing::request(data));
