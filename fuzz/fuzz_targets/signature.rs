//! No signature crashes the gateway, and none that was not made with the secret is let in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::signature::check(bytes));
