//! No forwarding field crashes the gateway, and a stranger's changes nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::client_address::check(bytes));
