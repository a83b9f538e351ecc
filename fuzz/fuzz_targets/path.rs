//! A canonical path is canonical, and never climbs.
#![no_main]

libfuzzer_sys::fuzz_target!(|path: &str| tollgate_fuzz::path::check(path));
