//! The command line: one file a command.

mod changes;
mod check;
mod configuration;
mod diff;
mod explain;
mod generate;
mod hash_key;
mod init;
mod limits;
mod operator;
mod purge;
mod reload;
mod routes;
mod run;
mod services;
mod status;
mod table;
mod token;
mod top;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::operator::Question;

/// The exit code of a configuration that can't be used (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;

/// Tollgate, an API gateway: one entry point in front of many services, configured by one YAML file.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run(ConfigFile),
    /// Check a configuration: every error and warning, with its place
    Check(ConfigFile),
    /// Tell what would become of a request, and why
    Explain(explain::Arguments),
    /// Show how the running gateway is
    Status(Question),
    /// Show the running gateway's traffic, live in the terminal
    Top(top::Arguments),
    /// Make the running gateway load its configuration again, and say what changed
    Reload(operator::Gateway),
    /// Say what a reload would change, or what is different from another configuration
    Diff(diff::Arguments),
    /// Show rate limits, what a key has spent of them, or have a key begin anew
    Limits(limits::Arguments),
    /// Show the services and their endpoints: which get requests, and how they fare
    Services(Question),
    /// Take an endpoint of a service out of service: it gets no more requests, and ends those it has
    Drain(services::Endpoint),
    /// Put an endpoint of a service in service again, also one that was ejected
    Enable(services::Endpoint),
    /// List the routes of the running gateway
    Routes(Question),
    /// Put a new process, of the program and the configuration as they are now, in the place of the
    /// running one without dropping a request
    Upgrade(operator::Gateway),
    /// Let answers go that the running gateway keeps
    Purge(purge::Arguments),
    /// Write a commented configuration to start from
    Init(init::Arguments),
    /// Print a token for trying routes that need one, signed with a provider's shared secret
    Token(token::Arguments),
    /// Make an API key and its digest, or hash a key or a password that there is
    HashKey(hash_key::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
    /// Print the version
    Version,
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration; without it, ./tollgate.yaml or /etc/tollgate/tollgate.yaml
    #[arg(short, long = "config", value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
}

/// Why a command ends without having done what it was asked.
#[derive(Debug)]
enum Failure {
    /// The configuration can't be used. Why has been said already.
    Config,
    /// Anything else.
    Other(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Runs a command to its end.
pub fn run(line: CommandLine) -> ExitCode {
    let result = match line.command {
        Command::Run(file) => run::run(&file),
        Command::Check(file) => check::check(&file),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Status(question) => status::status(&question),
        Command::Top(arguments) => top::top(&arguments),
        Command::Reload(arguments) => reload::reload(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Limits(arguments) => limits::limits(&arguments),
        Command::Services(question) => services::services(&question),
        Command::Drain(arguments) => services::drain(&arguments),
        Command::Enable(arguments) => services::enable(&arguments),
        Command::Routes(question) => routes::routes(&question),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Purge(arguments) => purge::purge(&arguments),
        Command::Init(arguments) => init::init(&arguments),
        Command::Token(arguments) => token::token(&arguments),
        Command::HashKey(arguments) => hash_key::hash(&arguments),
        Command::Schema => generate::schema(),
        Command::Completions { shell } => generate::completions(shell, &mut CommandLine::command()),
        Command::Man => generate::manual(CommandLine::command()),
        Command::Version => generate::version(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config) => ExitCode::from(EX_CONFIG),
        Err(Failure::Other(reason)) => {
            configuration::say(&format!("tollgate: {reason}"));
            ExitCode::FAILURE
        }
    }
}
