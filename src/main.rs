//! The `tollgate` program.

use std::process::ExitCode;

use clap::Parser;
use tollgate::cli::{self, CommandLine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(CommandLine::parse())
}
