//! Nothing that a provider answers crashes the gateway, and no set is too large.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tollgate_fuzz::key_set::check(text));
