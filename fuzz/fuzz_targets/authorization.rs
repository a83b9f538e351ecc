//! No credential crashes the gateway, and none that was not given out is let in, whatever the mechanism.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::authorization::check(bytes));
