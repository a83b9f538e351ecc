//! No header crashes the gateway, and no certificate is let in but the one that is.
#![no_main]

libfuzzer_sys::fuzz_target!(|der: &[u8]| tollgate_fuzz::client_certificate::check(der));
