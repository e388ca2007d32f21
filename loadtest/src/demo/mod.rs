//! One phone call through everything, on this machine, without any account: control, relay, a
//! fake Twilio and a fake model in real processes. What `make demo` runs.
//!
//! `scene` says what can be shown and `scenes` what is spoken in each, `stage` starts the
//! processes, `follow` watches the call from both ends, `screen` shows it, `checks` judges it.

mod call;
mod checks;
pub(crate) mod events;
mod follow;
mod measure;
mod scene;
mod scenes;
mod screen;
mod stage;
mod tools;
pub(crate) mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::checks::Verdict;
use self::follow::Seen;
use self::screen::Screen;
use self::stage::Stage;

pub use self::scene::Scene;

/// How the demo is run.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Scene::Call)]
    scene: Scene,
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
    /// From the webhook's answer to the stream's handshake, in milliseconds: what the real carrier
    /// takes, and what a prepared agent makes use of.
    #[arg(long, default_value_t = 0)]
    stream_delay_ms: u64,
    /// Lets the real service answer; needs OPENAI_API_KEY.
    #[arg(long)]
    real_model: bool,
}

/// The audio format between relay and model.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub enum Audio {
    /// The phone's own bytes, passed through.
    #[default]
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
    let scenes = args.scene.each();
    if args.real_model && args.scene != Scene::Call {
        anyhow::bail!("--real-model shows the scene `call` only: the others need a script");
    }
    if args.keep && scenes.len() > 1 {
        anyhow::bail!("--keep needs a single scene");
    }
    let screen = Screen::new();
    let key = api_key(&args)?;
    let mut results = Vec::new();
    for scene in &scenes {
        let mut args = args.clone();
        if scenes.len() > 1 {
            // Each scene's files in a folder of their own.
            for folder in [&mut args.save, &mut args.capture].into_iter().flatten() {
                folder.push(scene.name());
            }
        }
        let passed = show(&args, *scene, key.clone(), &screen).await;
        let passed = match passed {
            Ok(passed) => passed,
            Err(error) if scenes.len() > 1 => {
                screen.broke(&error);
                false
            }
            Err(error) => return Err(error),
        };
        results.push((scene.name(), passed));
    }
    if results.len() > 1 {
        screen.results(&results);
    }
    let passed = results.iter().all(|(_, passed)| *passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows one scene; gives whether everything in it was as it should be.
async fn show(args: &DemoArgs, scene: Scene, key: String, screen: &Screen) -> anyhow::Result<bool> {
    let interrupted = crate::cli::stopped();
    tokio::pin!(interrupted);
    let mut stage = Stage::new(args, scene.play(), key)?;
    let outcome = tokio::select! {
        outcome = perform(args, scene, &mut stage, screen) => outcome,
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
        screen.kept(&stage, scene.play().caller);
        let _ = interrupted.await;
    }
    stage.strike().await;
    outcome.map(|_| passed)
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
async fn perform(
    args: &DemoArgs,
    scene: Scene,
    stage: &mut Stage,
    screen: &Screen,
) -> anyhow::Result<Verdict> {
    let play = scene.play();
    screen.title(args, &play);
    stage.set(screen).await?;
    let nothing = Seen { real_model: args.real_model, audio: args.audio, ..Seen::default() };
    let watching = follow::follow(stage, screen, play.caller, nothing);
    let seen = tokio::time::timeout(PATIENCE, watching)
        .await
        .context("the call did not come to an end within a minute")
        .flatten();
    if let Some(fallen) = stage.fallen() {
        anyhow::bail!(fallen);
    }
    let mut seen = seen?;
    stage.witnesses(&mut seen).await?;
    let verdict = Verdict((play.judge)(&seen));
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
