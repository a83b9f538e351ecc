//! No fields about traces crash the gateway, and what it sends reads back as what it means.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::trace_context::check(bytes));
