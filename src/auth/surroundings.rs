//! What providers are compiled with.

use std::path::Path;

use super::consumer::Consumers;
use super::jwt::KeySets;
use super::work::Workbenches;

/// What providers share with each other and with their predecessors.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'s> {
    /// The consumers that providers vouch for.
    pub consumers: &'s Consumers,
    /// The keys that are fetched.
    pub key_sets: &'s KeySets,
    /// Where costly credentials are verified.
    pub workbenches: &'s Workbenches,
    /// The folder from which files are looked for.
    pub base: &'s Path,
    /// How many services there are that decide.
    pub deciders: usize,
}
