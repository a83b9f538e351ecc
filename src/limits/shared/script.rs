//! Questions and answers as the server reads and writes them.

use redis::{Cmd, RedisError, RedisResult, Script};

use super::super::algorithm::{Algorithm, Rule};
use super::ask::{Ask, Grant, Need, SharedKey};

/// What the server runs, at once and alone.
const TAKE: &str = include_str!("take.lua");
/// Tells who is there, and counts them.
const FLEET: &str = include_str!("fleet.lua");
/// Numbers of an answer for each key.
const NUMBERS: usize = 5;

/// The scripts, and what their keys begin with.
#[derive(Debug)]
pub(super) struct Scripts {
    prefix: Box<str>,
    take: Script,
    fleet: Script,
}

impl Scripts {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            take: Script::new(TAKE),
            fleet: Script::new(FLEET),
        }
    }

    /// The command that asks; by the script's text if the server does not know its digest.
    pub(super) fn take(&self, asks: &[Ask], is_known: bool) -> Cmd {
        let mut command = command(&self.take, TAKE, is_known);
        command.arg(asks.len());
        for ask in asks {
            command.arg(self.name(ask.key));
        }
        for ask in asks {
            for number in numbers(ask) {
                command.arg(number);
            }
        }
        command
    }

    /// The command that says that the gateway of this name is there, to the server that the tag leads to.
    pub(super) fn greet(&self, gateway: &str, tag: u32, is_known: bool) -> Cmd {
        let mut command = command(&self.fleet, FLEET, is_known);
        command.arg(2);
        for key in ["gateways", "greeting"] {
            command.arg(format!("{}:{{{tag}}}:{key}", self.prefix));
        }
        command.arg(gateway);
        command
    }

    /// The command that forgets a key.
    pub(super) fn remove(&self, key: SharedKey) -> Cmd {
        redis::cmd("DEL").arg(self.name(key)).to_owned()
    }

    /// What a key is called. The part in braces decides where a cluster keeps it.
    pub(super) fn name(&self, key: SharedKey) -> String {
        format!("{}:{{{}}}:{:016x}", self.prefix, key.tag(), key.limit)
    }
}

fn command(script: &Script, text: &str, is_known: bool) -> Cmd {
    match is_known {
        true => redis::cmd("EVALSHA").arg(script.get_hash()).to_owned(),
        false => redis::cmd("EVAL").arg(text).to_owned(),
    }
}

fn numbers(ask: &Ask) -> [i64; 11] {
    let Rule {
        algorithm,
        limit,
        window,
        burst,
    } = ask.rule;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (algorithm, window, burst) = match algorithm {
        Algorithm::FixedWindow => (0, window, burst),
        Algorithm::SlidingWindow => (1, window, burst),
        Algorithm::TokenBucket => (2, window, burst),
        Algorithm::Calendar(period) => (3, period.number, period.left),
    };
    let need = match ask.need {
        Need::Tokens(tokens) => number(tokens),
        Need::Nothing => -1,
    };
    [
        algorithm,
        number(limit),
        number(window),
        number(burst),
        number(ask.owed),
        number(ask.back),
        number(ask.before),
        need,
        number(ask.urgent),
        number(ask.want),
        number(ask.share.max(1)),
    ]
}

/// An answer: the server's time, and one grant for each question.
pub(super) fn read(answer: &[i64], asks: usize) -> RedisResult<Vec<Grant>> {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let grants = answer.get(1..).unwrap_or_default();
    let grants: Vec<Grant> = grants
        .chunks_exact(NUMBERS)
        .map(|numbers| Grant {
            taken: number(numbers[0]),
            left: number(numbers[1]),
            reset: number(numbers[2]),
            wait: number(numbers[3]),
            ends: number(numbers[4]),
        })
        .collect();
    match grants.len() == asks {
        true => Ok(grants),
        false => Err(RedisError::from((
            redis::ErrorKind::UnexpectedReturnType,
            "not as many answers as questions",
        ))),
    }
}
