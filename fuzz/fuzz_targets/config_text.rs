//! No text crashes the reading, compiling or rendering of a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tollgate_fuzz::config_text::check(text));
