//! Many calls against one relay.

use std::process::ExitCode;

use clap::Args;

/// How the load test is run.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// How many calls at once.
    #[arg(long, default_value_t = 100)]
    calls: u32,
}

/// Runs it.
///
/// # Errors
/// When something could not be started.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let _ = args.calls;
    anyhow::bail!("not yet")
}
