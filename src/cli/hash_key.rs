//! `tollgate hash-key`.

use std::io::{IsTerminal, stdin};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Failure;
use super::configuration::{print, say};
use crate::auth::{hash_key, hash_password, new_key};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Read a key from standard input, and print its digest only
    #[arg(long, conflicts_with = "password")]
    stdin: bool,
    /// Read a password from standard input, and print the line of this user for a file of users
    #[arg(long, value_name = "NAME")]
    password: Option<String>,
}

/// Prints what configurations keep of a key or a password, and the key if it is new.
pub(super) fn hash(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(name) = &arguments.password {
        let password = read_line("password")?;
        let line = hash_password(name, &password).map_err(Failure::Other)?;
        return print(&format!("{line}\n"));
    }
    if arguments.stdin {
        let digest = hash_key(&read_line("key")?).map_err(Failure::Other)?;
        return print(&format!("{digest}\n"));
    }
    let key = new_key().map_err(Failure::Other)?;
    let digest = hash_key(&key).map_err(Failure::Other)?;
    print(&format!("key:    {key}\ndigest: {digest}\n"))
}

/// The first line of standard input. At a terminal it is asked for, and not shown.
fn read_line(what: &str) -> Result<String, Failure> {
    let mut line = String::new();
    {
        let _quiet = Quiet::begin(what);
        stdin().read_line(&mut line)?;
    }
    let line = line.trim_end_matches(['\r', '\n']);
    Ok(line.to_owned())
}

/// Keeps a terminal from showing what is typed.
struct Quiet(Termios);

impl Quiet {
    fn begin(what: &str) -> Option<Self> {
        let stdin = stdin();
        if !stdin.is_terminal() {
            return None;
        }
        say(&format!("the {what}, which is not shown, and Enter:"));
        let modes = tcgetattr(&stdin).ok()?;
        let mut quiet = modes.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &quiet).ok()?;
        Some(Self(modes))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}
