//! Reads a scenario's file. Every mistake and every unknown key is listed at once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use toml::{Table, Value};

use super::{Arrival, Pace, Scenario, Span, Talk};
use crate::demo::Audio;
use crate::proxy::Fault;

/// Reads a file.
///
/// # Errors
/// With all of its mistakes.
pub(crate) fn read(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    parse(&text).with_context(|| format!("{}", path.display()))
}

/// Reads a text.
pub(super) fn parse(text: &str) -> anyhow::Result<Scenario> {
    let table: Table = text.parse()?;
    let mut mistakes = Vec::new();
    let scenario = scenario(table, &mut mistakes);
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    Ok(scenario)
}

/// A table of the file, of which everything known is taken out.
struct Section<'a> {
    name: &'static str,
    table: Table,
    mistakes: &'a mut Vec<String>,
}

impl Section<'_> {
    /// Takes a value out; what cannot be read is a mistake, and the default goes on.
    fn take<T>(
        &mut self,
        key: &str,
        default: T,
        wanted: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.table.remove(key) else { return default };
        let shown = value.to_string();
        read(value).unwrap_or_else(|| {
            self.mistakes.push(format!("{}{key} = {shown}: {wanted} is wanted", self.name));
            default
        })
    }

    /// A whole number.
    fn whole(&mut self, key: &str, default: u32, least: u32, most: u32) -> u32 {
        let wanted = format!("a whole number from {least} to {most}");
        let within = |value: &u32| (least..=most).contains(value);
        self.take(key, default, &wanted, |value| {
            value.as_integer().and_then(|value| u32::try_from(value).ok()).filter(within)
        })
    }

    /// A number.
    fn number(&mut self, key: &str, default: f64, least: f64, most: f64) -> f64 {
        let wanted = format!("a number from {least} to {most}");
        self.take(key, default, &wanted, |value| {
            let whole = value.as_integer().and_then(|value| i32::try_from(value).ok());
            let number = value.as_float().or(whole.map(f64::from))?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    /// Yes or no.
    fn flag(&mut self, key: &str, default: bool) -> bool {
        self.take(key, default, "true or false", |value| value.as_bool())
    }

    /// One number, or a list of the least and the most; both scaled.
    fn span(&mut self, key: &str, default: Option<Span>, scale: f64) -> Option<Span> {
        let scaled = |value: &Value| {
            let whole = value.as_integer().and_then(|value| i32::try_from(value).ok());
            let number = value.as_float().or(whole.map(f64::from))? * scale;
            (0.0..=1e9).contains(&number).then(|| whole_of(number))
        };
        let wanted = "a number, or a list of the least and the most";
        self.take(key, default, wanted, |value| {
            let both = value.as_array().filter(|both| both.len() == 2);
            let (least, most) = match both {
                Some(both) => (scaled(&both[0])?, scaled(&both[1])?),
                None => (scaled(&value)?, scaled(&value)?),
            };
            (least <= most).then_some(Some(Span { least, most }))
        })
    }

    /// Another table in this one.
    fn section(&mut self, key: &str) -> Table {
        self.take(key, Table::new(), "a table", |value| value.try_into().ok())
    }

    /// Whatever is left is not known.
    fn end(self) {
        for key in self.table.keys() {
            self.mistakes.push(format!("{}{key} is no setting of a scenario", self.name));
        }
    }
}

/// A fraction as a whole number; callers have checked that it is one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1e9")]
fn whole_of(number: f64) -> u32 {
    number.round() as u32
}

/// Reads everything.
fn scenario(table: Table, mistakes: &mut Vec<String>) -> Scenario {
    let plain = Scenario::default();
    let mut top = Section { name: "", table, mistakes };
    top.take("about", (), "a sentence", |value| value.is_str().then_some(()));
    let seed = u64::from(top.whole("seed", 1, 0, u32::MAX));
    let duration_s = u64::from(top.whole("seconds", 30, 1, 86_400));
    let audio = top.take("audio", plain.audio, "\"mulaw\" or \"pcm24k\"", |value| {
        match value.as_str()? {
            "mulaw" => Some(Audio::Mulaw),
            "pcm24k" => Some(Audio::Pcm24k),
            _ => None,
        }
    });
    let tls = top.flag("tls", false);
    let greeting = top.flag("greeting", false);
    let [arrival, call, talk, agent, faults, relay] =
        ["arrival", "call", "talk", "agent", "faults", "relay"].map(|key| top.section(key));
    top.end();
    let (faults, faults_every) = faults_of(faults, mistakes);
    let mut scenario = Scenario {
        seed,
        duration_s,
        audio,
        tls,
        greeting,
        faults,
        faults_every,
        arrival: arrival_of(arrival, mistakes),
        talk: talk_of(talk, mistakes),
        agent: pace_of(agent, mistakes),
        ..plain
    };
    call_of(call, &mut scenario, mistakes);
    relay_of(relay, &mut scenario, mistakes);
    check(&scenario, mistakes);
    scenario
}

/// `[arrival]`.
fn arrival_of(table: Table, mistakes: &mut Vec<String>) -> Arrival {
    let is_rate = table.contains_key("per_second");
    let mut section = Section { name: "arrival.", table, mistakes };
    let arrival = if is_rate {
        let per_second = section.number("per_second", 1.0, 0.001, 5_000.0);
        let total = section.whole("total", 0, 1, 10_000_000);
        let calls_max = section.whole("calls_max", 20_000, 1, 20_000);
        Arrival::Rate { per_second, total: (total > 0).then_some(total), calls_max }
    } else {
        Arrival::Fixed { calls: section.whole("calls", 100, 1, 20_000) }
    };
    section.end();
    arrival
}

/// `[call]`.
fn call_of(table: Table, scenario: &mut Scenario, mistakes: &mut Vec<String>) {
    let mut section = Section { name: "call.", table, mistakes };
    scenario.call = section.span("seconds", None, 1_000.0);
    scenario.dtmf_per_minute = section.number("dtmf_per_minute", 0.0, 0.0, 600.0);
    scenario.hang_up_abrupt = section.number("hang_up_abrupt", 0.0, 0.0, 1.0);
    section.end();
}

/// `[talk]`.
fn talk_of(table: Table, mistakes: &mut Vec<String>) -> Talk {
    let plain = Talk::default();
    let mut section = Section { name: "talk.", table, mistakes };
    let talk = Talk {
        speech_ms: section.span("speech_ms", None, 1.0).unwrap_or(plain.speech_ms),
        pause_ms: section.span("pause_ms", None, 1.0).unwrap_or(plain.pause_ms),
        barge_in: section.number("barge_in", plain.barge_in, 0.0, 1.0),
        barge_in_after_ms: section.whole("barge_in_after_ms", plain.barge_in_after_ms, 20, 2_500),
    };
    section.end();
    talk
}

/// `[agent]`.
fn pace_of(table: Table, mistakes: &mut Vec<String>) -> Pace {
    let plain = Pace::default();
    let mut section = Section { name: "agent.", table, mistakes };
    let pace = Pace {
        latency_ms: section.whole("latency_ms", plain.latency_ms, 0, 5_000),
        delta_ms: section.whole("delta_ms", plain.delta_ms, 20, 3_000),
        speed: section.number("speed", plain.speed, 1.0, 1_000.0),
    };
    section.end();
    pace
}

/// `[faults]`.
fn faults_of(table: Table, mistakes: &mut Vec<String>) -> (Vec<Fault>, Duration) {
    let mut section = Section { name: "faults.", table, mistakes };
    let wanted = "a list of delay=MS, throttle=BYTES, slow-read=BYTES, black-hole, half-close, \
                  reset, close, cut-after=BYTES, heal";
    let kinds = section.take("kinds", Vec::new(), wanted, |value| {
        let texts = value.as_array()?.iter();
        texts.map(|text| text.as_str()?.parse().ok()).collect()
    });
    let every = section.number("every_seconds", 10.0, 0.1, 3_600.0);
    section.end();
    (kinds, Duration::from_secs_f64(every))
}

/// `[relay]`.
fn relay_of(table: Table, scenario: &mut Scenario, mistakes: &mut Vec<String>) {
    let mut section = Section { name: "relay.", table, mistakes };
    scenario.refusals_expected = section.flag("refusals_expected", false);
    let env = section.section("env");
    section.end();
    for (name, value) in env {
        match value.as_str() {
            Some(value) => scenario.relay_env.push((name, value.to_owned())),
            None => mistakes.push(format!("relay.env.{name} = {value}: a text is wanted")),
        }
    }
}

/// What does not go together.
pub(crate) fn check(scenario: &Scenario, mistakes: &mut Vec<String>) {
    let mulaw = scenario.audio == Audio::Mulaw;
    if !mulaw && !scenario.faults.is_empty() {
        mistakes.push(
            "faults need audio = \"mulaw\": over PCM a call is known by its first second".into(),
        );
    }
    if !mulaw && scenario.greeting {
        mistakes.push("greeting needs audio = \"mulaw\"".into());
    }
    if matches!(scenario.arrival, Arrival::Rate { .. }) && scenario.call.is_none() {
        mistakes.push("arrival.per_second needs call.seconds: nobody would ever leave".into());
    }
    if !mulaw && scenario.call.is_some_and(|call| call.least < 1_000) {
        mistakes.push("call.seconds: over PCM a call needs a second to say which one it is".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_everything() {
        let text = r#"
            about = "x"
            seed = 7
            seconds = 60
            audio = "mulaw"
            tls = true
            [arrival]
            per_second = 2.5
            calls_max = 300
            [call]
            seconds = [30, 90.5]
            dtmf_per_minute = 2
            hang_up_abrupt = 0.1
            [talk]
            speech_ms = 800
            pause_ms = [100, 200]
            barge_in = 0
            [agent]
            delta_ms = 200
            [faults]
            kinds = ["delay=20", "reset"]
            every_seconds = 5
            [relay]
            refusals_expected = true
            env = { RELAY_CALLS_MAX = "100" }
        "#;
        let scenario = parse(text).unwrap();
        let arrival = Arrival::Rate { per_second: 2.5, total: None, calls_max: 300 };
        assert_eq!((scenario.seed, scenario.duration_s, scenario.arrival), (7, 60, arrival));
        assert_eq!(scenario.call, Some(Span { least: 30_000, most: 90_500 }));
        assert_eq!(scenario.talk.pause_ms, Span { least: 100, most: 200 });
        assert_eq!((scenario.talk.barge_in, scenario.agent.delta_ms), (0.0, 200));
        assert_eq!((scenario.faults.len(), scenario.relay_env.len()), (2, 1));
        assert!(scenario.tls && scenario.refusals_expected);
        assert_eq!(parse("").unwrap(), Scenario::default());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = r#"
            audio = "opus"
            colour = "red"
            [arrival]
            calls = 0
            [call]
            seconds = [9, 3]
            [talk]
            barge_in = 2
            shouting = true
            [faults]
            kinds = ["fire"]
            [relay.env]
            RELAY_SHARDS = 2
        "#;
        let said = parse(text).unwrap_err().to_string();
        let expected = [
            "audio",
            "colour",
            "arrival.calls",
            "call.seconds",
            "talk.barge_in",
            "talk.shouting",
            "faults.kinds",
            "relay.env.RELAY_SHARDS",
        ];
        for name in expected {
            assert!(said.contains(name), "{name} is not in:\n{said}");
        }
        assert_eq!(said.lines().count(), expected.len(), "{said}");
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for text in [
            "audio = \"pcm24k\"\n[faults]\nkinds = [\"reset\"]",
            "audio = \"pcm24k\"\ngreeting = true",
            "[arrival]\nper_second = 1",
            "audio = \"pcm24k\"\n[call]\nseconds = 0.5",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_shipped_scenario_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert!(files.len() >= 6);
        for file in files {
            read(&file).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}
