//! One phone call through everything, on this machine, without any account: control, relay, a
//! fake Twilio and a fake model in real processes. What `make demo` runs.
//!
//! `call::script` says what is spoken, `stage` starts the processes, `follow` watches the
//! call from both ends, `screen` shows it, `checks` judges it.

mod call;
mod checks;
mod events;
mod follow;
mod measure;
mod screen;
mod stage;
mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::checks::Verdict;
use self::screen::Screen;
use self::stage::Stage;

/// How the demo is run.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where the relay and control binaries are; beside this one when not given.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// The audio format between relay and model.
    #[arg(long, value_enum, default_value_t = Audio::Mulaw)]
    audio: Audio,
    /// Leaves everything running after the call and prints the URLs; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Writes both directions of the call as a stereo WAV into this folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Writes everything that was on the wire into this folder.
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// Lets the real service answer; needs OPENAI_API_KEY.
    #[arg(long)]
    real_model: bool,
}

/// The audio format between relay and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Audio {
    /// The phone's own bytes, passed through.
    Mulaw,
    /// 16-bit PCM at 24 kHz, transcoded both ways.
    Pcm24k,
}

impl Audio {
    /// As an agent file writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mulaw => "mulaw",
            Self::Pcm24k => "pcm24k",
        }
    }
}

/// Runs the demo; the exit code says whether everything was as it should be.
///
/// # Errors
/// When something could not even be started.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let screen = Screen::new();
    let key = api_key(&args)?;
    let interrupted = crate::cli::stopped();
    tokio::pin!(interrupted);
    let mut stage = Stage::new(&args, key)?;
    let outcome = tokio::select! {
        outcome = perform(&args, &mut stage, &screen) => outcome,
        _ = &mut interrupted => {
            stage.strike().await;
            anyhow::bail!("interrupted");
        }
    };
    let passed = match &outcome {
        Ok(verdict) => verdict.passed(),
        Err(_) => false,
    };
    if !passed {
        screen.logs(&stage.tails());
    }
    if args.keep && outcome.is_ok() {
        screen.kept(&stage);
        let _ = interrupted.await;
    }
    stage.strike().await;
    outcome?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The provider's key: of the real model it must be given, of the fake one it only must be
/// there.
fn api_key(args: &DemoArgs) -> anyhow::Result<String> {
    if !args.real_model {
        return Ok("sk-demo-key-of-the-fake-model".into());
    }
    std::env::var("OPENAI_API_KEY")
        .ok()
        .filter(|key| !key.is_empty())
        .context("--real-model needs OPENAI_API_KEY (platform.openai.com, API keys)")
}

/// The whole demo but its clearing away, so that nothing is left running whatever fails in
/// here.
async fn perform(args: &DemoArgs, stage: &mut Stage, screen: &Screen) -> anyhow::Result<Verdict> {
    screen.title(args);
    stage.set(screen).await?;
    let watching = follow::follow(stage, screen, args.real_model);
    let seen = tokio::time::timeout(PATIENCE, watching)
        .await
        .context("the call did not come to an end within a minute")
        .flatten();
    if let Some(fallen) = stage.fallen() {
        anyhow::bail!(fallen);
    }
    let seen = seen?;
    let summary = stage.model_summary().await?;
    let verdict = checks::judge(&seen, summary.as_ref());
    screen.summary(&seen, &verdict);
    if let Some(folder) = &args.save {
        let path = save(stage, &seen.record.sid, folder).await?;
        screen.saved(&path);
    }
    if let Some(folder) = &args.capture {
        let account = serde_json::json!({"auth_token": stage.auth_token()});
        std::fs::write(folder.join("account.json"), account.to_string())?;
        screen.saved(folder);
    }
    Ok(verdict)
}

/// Fetches the stereo recording from the fake Twilio, which heard both sides.
async fn save(stage: &Stage, sid: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("call.wav");
    let wav = web::get(stage.twilio()?, &format!("/_fake/calls/{sid}/audio"), &[]).await?;
    std::fs::write(&path, wav)?;
    Ok(path)
}

/// A call of the demo takes less than half of this.
const PATIENCE: Duration = Duration::from_secs(60);
