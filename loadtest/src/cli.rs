//! The `loadtest` command.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command says where its fakes listen, and what they saw"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::audio::Clip;
use crate::carrier::{CarrierSettings, FakeTwilio, Resolve, Step};
use crate::chaos::{self, ChaosArgs};
use crate::demo::{self, DemoArgs};
use crate::events::{self, EventsArgs};
use crate::model::{self, FakeModel, ModelSettings, Script};
use crate::page::{PageSettings, talk};
use crate::proxy::{Fault, FaultProxy, Plan, ProxySettings};
use crate::report::{self, CompareArgs, ReportArgs};
use crate::run::{self, KneeArgs, RunArgs};

/// Fakes, a demo call and a load test for Linecard.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// One phone call through everything, on this machine, without any account.
    Demo(DemoArgs),
    /// Many calls against one relay: added latency, losses, CPU and memory.
    #[command(args_override_self = true)]
    Run(RunArgs),
    /// Makes a share of the load for `run` and `knee --processes`.
    #[command(hide = true)]
    Worker,
    /// How many calls a process carries before its delays give way.
    #[command(args_override_self = true)]
    Knee(KneeArgs),
    /// A report that was written before, as a table or as an HTML page.
    Report(ReportArgs),
    /// Two reports side by side, or several runs of each.
    Compare(CompareArgs),
    /// Many calls that something happens to: models that are cut off again and again, relays that die
    /// or drain, controls and databases that are away. Each call must go on, and forget nothing.
    #[command(args_override_self = true)]
    Chaos(ChaosArgs),
    /// Events from pretended relays through real controls to readers that check every one: how late,
    /// and whether all come when databases, controls and readers die.
    Events(EventsArgs),
    /// A fake OpenAI Realtime server that refuses what the real one refuses.
    FakeModel(FakeModelArgs),
    /// A fake Twilio: REST, signed webhooks, TwiML, phones in real time.
    FakeTwilio(FakeTwilioArgs),
    /// Somebody at a web page, without a browser: talks in a session that `POST /v1/sessions` made,
    /// and prints what was heard.
    Page(PageArgs),
    /// A TCP proxy that does what networks do: delays, holes, resets, by a seed.
    Proxy(ProxyArgs),
}

#[derive(Debug, Args)]
struct FakeModelArgs {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What it says (JSON: greeting, turns of caller and answer); a plain script when not given.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Writes every event on the wire into this file, one a line.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// What goes wrong on purpose.
    #[arg(long, value_enum, default_value_t = model::Fault::None)]
    fault: model::Fault,
    /// How long a session may last, in seconds; the real service's hour when not given.
    #[arg(long, value_name = "SECONDS")]
    session_limit: Option<u64>,
}

#[derive(Debug, Args)]
struct FakeTwilioArgs {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The account's id.
    #[arg(long)]
    account: String,
    /// The account's auth token.
    #[arg(long)]
    token: String,
    /// Where a public origin really is; may be given several times.
    #[arg(long, value_name = "ORIGIN=ADDRESS", value_parser = read_mapping)]
    resolve: Vec<(String, SocketAddr)>,
    /// From `<Connect>` to the handshake of its stream, in milliseconds.
    #[arg(long, default_value_t = 0)]
    stream_delay_ms: u64,
    /// From `connected` to the caller's first audio, in milliseconds.
    #[arg(long, default_value_t = 0)]
    audio_delay_ms: u64,
    /// What whoever is dialled by REST does (JSON list of steps).
    #[arg(long, value_name = "FILE")]
    callee: Option<PathBuf>,
    /// Who picks up a call that somebody listens to, in Twilio's word.
    #[arg(long, value_name = "WORD", default_value = "human")]
    answered_by: String,
    /// Writes messages and requests into this folder.
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PageArgs {
    /// The session's `ws_url`; a `ws` one.
    #[arg(long)]
    url: String,
    /// The session's token.
    #[arg(long, env = "LINECARD_SESSION_TOKEN", hide_env_values = true)]
    token: String,
    /// The page's origin; a program that is no page when not given.
    #[arg(long)]
    origin: Option<String>,
    /// What the person does (JSON list of steps); asks one thing and hangs up when not given.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ProxyArgs {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where it connects to.
    #[arg(long)]
    target: SocketAddr,
    /// What may happen to a connection: delay=MS, throttle=BYTES, slow-read=BYTES, black-hole,
    /// half-close, reset, close, cut-after=BYTES, heal. May be given several times.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// From one fault of a connection to the next, in milliseconds on average.
    #[arg(long, default_value_t = 10_000)]
    every_ms: u64,
    /// What the faults are drawn from: the same seed, the same faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Reads `https://name=127.0.0.1:4000`.
fn read_mapping(text: &str) -> Result<(String, SocketAddr), String> {
    let (origin, address) = text.split_once('=').ok_or("ORIGIN=ADDRESS is wanted")?;
    let address = address.parse().map_err(|error| format!("`{address}`: {error}"))?;
    Ok((origin.to_owned(), address))
}

/// Runs the command; what the exit code says stands in each task's help.
#[must_use]
pub fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let done = match task {
        Task::Run(args) => run::run(&args),
        Task::Worker => run::work().map(|()| ExitCode::SUCCESS),
        Task::Knee(args) => run::knee(&args),
        Task::Report(args) => report::report(&args),
        Task::Compare(args) => report::compare(&args),
        Task::Demo(args) => house().and_then(|house| house.block_on(demo::run(args))),
        Task::Chaos(args) => house().and_then(|house| house.block_on(chaos::run(args))),
        Task::Events(args) => house().and_then(|house| house.block_on(events::run(args))),
        Task::FakeModel(args) => house().and_then(|house| house.block_on(fake_model(args))),
        Task::FakeTwilio(args) => house().and_then(|house| house.block_on(fake_twilio(args))),
        Task::Page(args) => house().and_then(|house| house.block_on(page(args))),
        Task::Proxy(args) => house().and_then(|house| house.block_on(proxy(args))),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime of everything but `run`, which has threads of its own.
fn house() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Runs a fake model until it is stopped. Its last line is what it saw; the exit code says
/// whether a client did anything wrong.
async fn fake_model(args: FakeModelArgs) -> anyhow::Result<ExitCode> {
    let script = args.script.as_deref().map(Script::read).transpose().context("the script")?;
    let settings = ModelSettings {
        listen: args.listen,
        script: script.unwrap_or_else(Script::plain),
        fault: args.fault,
        session_limit: args.session_limit.map(std::time::Duration::from_secs),
        capture: args.capture,
        ..ModelSettings::default()
    };
    let model = FakeModel::start(settings).await?;
    println!("fake-model listening url={}", model.url());
    stopped().await?;
    let summary = model.summary();
    println!("{}", serde_json::to_string(&summary)?);
    let clean = summary.complaints.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a fake Twilio until it is stopped. Its last line is every call; the exit code says
/// whether Twilio's debugger would be empty.
async fn fake_twilio(args: FakeTwilioArgs) -> anyhow::Result<ExitCode> {
    let callee: Vec<Step> = match &args.callee {
        Some(path) => {
            serde_json::from_slice(&std::fs::read(path)?).context("the callee's steps")?
        }
        None => Vec::new(),
    };
    let resolve = Resolve::default();
    for (origin, address) in &args.resolve {
        resolve.map(origin, *address);
    }
    let settings = CarrierSettings {
        listen: args.listen,
        account: args.account,
        token: args.token,
        resolve,
        stream_delay: std::time::Duration::from_millis(args.stream_delay_ms),
        audio_delay: std::time::Duration::from_millis(args.audio_delay_ms),
        callee,
        answered_by: args.answered_by,
        capture: args.capture,
        ..CarrierSettings::default()
    };
    let twilio = FakeTwilio::start(settings).await?;
    println!("fake-twilio listening url={}", twilio.url());
    stopped().await?;
    let records = twilio.records();
    println!("{}", serde_json::to_string(&records)?);
    let clean = records.iter().all(|record| record.faults.is_empty());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Talks at a page. The exit code says whether the relay did what pages expect.
async fn page(args: PageArgs) -> anyhow::Result<ExitCode> {
    let script = match &args.script {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?).context("the steps")?,
        None => vec![
            Step::WaitForAgent { quiet_ms: 500 },
            Step::Say { clip: Clip::Asset("caller-1".into()), text: String::new() },
            Step::WaitForAgent { quiet_ms: 500 },
            Step::HangUp,
        ],
    };
    let PageArgs { url, token, origin, script: _ } = args;
    let record = talk(PageSettings { url, token, origin, script }).await?;
    println!("{}", serde_json::to_string_pretty(&record)?);
    let is_clean = record.faults.is_empty() && record.ended.is_some();
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a proxy until it is stopped. Its last line counts what passed.
async fn proxy(args: ProxyArgs) -> anyhow::Result<ExitCode> {
    let every = std::time::Duration::from_millis(args.every_ms);
    let plan = Plan { seed: args.seed, every, faults: args.faults };
    let settings = ProxySettings { listen: args.listen, target: args.target, plan };
    let proxy = FaultProxy::start(settings).await?;
    println!("proxy listening address={}", proxy.address());
    stopped().await?;
    let connections = proxy.connections();
    let bytes = |count: fn(&crate::proxy::Connection) -> u64| -> u64 {
        connections.iter().map(count).sum()
    };
    println!(
        "connections={} open={} up_bytes={} down_bytes={}",
        connections.len(),
        proxy.open(),
        bytes(|one| one.up_bytes),
        bytes(|one| one.down_bytes)
    );
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn stopped() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        let (origin, address) = read_mapping("https://linecard.test=127.0.0.1:9").unwrap();
        assert_eq!((origin.as_str(), address.port()), ("https://linecard.test", 9));
        assert!(read_mapping("https://linecard.test").is_err());
    }
}
