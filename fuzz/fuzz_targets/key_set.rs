//! Nothing that a provider answers crashes the gateway, and no set is too large.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::auth::count_keys;

fuzz_target!(|text: &str| {
    if let Ok(count) = count_keys(text) {
        assert!((1..=100).contains(&count));
    }
});
