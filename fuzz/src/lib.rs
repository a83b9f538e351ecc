//! What holds for every input. `make fuzz` looks for one it does not hold for; `make test` tries some.

pub mod authorization;
pub mod client_address;
pub mod client_certificate;
pub mod config_text;
pub mod key_set;
pub mod path;
pub mod signature;
pub mod trace_context;
