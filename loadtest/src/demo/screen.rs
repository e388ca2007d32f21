//! The demo as a person sees it: a timeline while it runs, a box at its end.

#![expect(clippy::print_stdout, reason = "showing a person what happens is the demo's job")]

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::Path;

use super::checks::{Verdict, played_of};
use super::events::Event;
use super::follow::Seen;
use super::scene::Play;
use super::stage::Stage;
use super::{DemoArgs, call, measure};
use crate::carrier::{CallRecord, Step, StreamEnd, What};
use crate::clock::wall_us;

/// The terminal.
pub(crate) struct Screen {
    colour: bool,
    /// When the timeline began, in microseconds since 1970.
    began_us: Cell<Option<u64>>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Plain,
    Dim,
    Bold,
    Green,
    Cyan,
    Yellow,
    Red,
}

impl Ink {
    /// The terminal's code.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Green => "32",
            Self::Cyan => "36",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

impl Screen {
    /// The terminal of this process; colours only where somebody looks at it.
    pub(crate) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, began_us: Cell::new(None) }
    }

    /// Puts ink on a text, where there is a terminal.
    fn paint(&self, ink: Ink, text: &str) -> String {
        if self.colour && ink != Ink::Plain {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }

    /// Prints a line.
    fn say(&self, ink: Ink, text: &str) {
        println!("{}", self.paint(ink, text));
    }

    /// The headline.
    pub(crate) fn title(&self, args: &DemoArgs, play: &Play) {
        self.began_us.set(None);
        let model = if args.real_model { "the real model" } else { "a fake model" };
        self.say(Ink::Bold, &format!("Linecard demo: {}; a fake Twilio, {model}", play.about));
    }

    /// A scene that could not be played to its end.
    pub(crate) fn broke(&self, error: &anyhow::Error) {
        self.say(Ink::Red, &format!("the scene broke off: {error:#}"));
    }

    /// How every scene went.
    pub(crate) fn results(&self, results: &[(String, bool)]) {
        println!("\n+{:-<76}", " scenes ");
        for (name, passed) in results {
            let (ink, word) = if *passed { (Ink::Green, "ok    ") } else { (Ink::Red, "FAILED") };
            println!("| {}  {name}", self.paint(ink, word));
        }
        println!("+{:-<76}", "");
    }

    /// A step of the preparation.
    pub(crate) fn progress(&self, what: &str) {
        self.say(Ink::Dim, &format!("  {what} ..."));
    }

    /// What runs.
    pub(crate) fn started(&self, overview: &[(&'static str, String)]) {
        for (name, ports) in overview {
            self.say(Ink::Dim, &format!("  {name:<12} {ports}"));
        }
        println!();
    }

    /// A line of the timeline.
    fn line(&self, at_us: u64, ink: Ink, who: &str, what: &str) {
        let began_us = self.began_us.get().unwrap_or(at_us);
        self.began_us.set(Some(began_us));
        let ms = at_us.saturating_sub(began_us) / 1_000;
        let time = self.paint(Ink::Dim, &format!("{:>4}.{:02}", ms / 1_000, ms % 1_000 / 10));
        println!("{time}  {}", self.paint(ink, &format!("{who:<9} {what}")));
    }

    /// An event of control.
    pub(crate) fn event(&self, event: &Event) {
        let (ink, who, what) = event_line(event);
        self.line(wall_us(), ink, &who, &what);
    }

    /// A note of the fake Twilio; the record's notes before it are known.
    pub(crate) fn note(&self, record: &CallRecord, at: usize) {
        if let Some((ink, what)) = note_line(record, at) {
            self.line(record.notes[at].at_us, ink, "phone", &what);
        }
    }

    /// What is done to the system while it is watched.
    pub(crate) fn twist(&self, what: &str) {
        self.line(wall_us(), Ink::Red, "operator", what);
    }

    /// The box at the end.
    pub(crate) fn summary(&self, seen: &Seen, verdict: &Verdict) {
        println!("\n+{:-<76}", " summary ");
        for (name, value) in summary_lines(seen) {
            println!("| {name:<34} {value}");
        }
        println!("+{:-<76}", "");
        for check in &verdict.0 {
            match &check.problem {
                None => println!("| {}  {}", self.paint(Ink::Green, "ok    "), check.claim),
                Some(problem) => {
                    println!("| {}  {}", self.paint(Ink::Red, "FAILED"), check.claim);
                    println!("|         {problem}");
                }
            }
        }
        println!("| The carrier is a fake: no figure is from the real Twilio.");
        println!("+{:-<76}", "");
    }

    /// Where something was written.
    pub(crate) fn saved(&self, path: &Path) {
        self.say(Ink::Plain, &format!("written: {}", path.display()));
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self, tails: &[(&'static str, String)]) {
        for (name, tail) in tails {
            self.say(Ink::Yellow, &format!("\n-- the end of {name}'s log"));
            println!("{tail}");
        }
    }

    /// What stays.
    pub(crate) fn kept(&self, stage: &Stage, caller: Vec<Step>) {
        println!();
        self.say(Ink::Bold, "Everything is still running (Ctrl-C ends it):");
        for (name, ports) in stage.overview() {
            println!("  {name:<12} {ports}");
        }
        let relay = stage.relay().map(|address| address.to_string()).unwrap_or_default();
        let twilio = stage.twilio().map(|address| address.to_string()).unwrap_or_default();
        println!("  logs, data   {}", stage.folder().display());
        println!("  events       curl -sSN http://{relay}/v1/events?after=0 \\");
        println!("                 -H 'Authorization: Bearer {}'", stage.api_key());
        let order = serde_json::to_string(&call::order(caller)).unwrap_or_default();
        println!("  another call curl -sS http://{twilio}/_fake/calls -d '{order}'");
    }
}

/// What an event of control says to a person.
fn event_line(event: &Event) -> (Ink, String, String) {
    let ms = |name: &str| event.number(name).unwrap_or_default();
    let say = |ink, who: &str, what: String| (ink, who.to_owned(), what);
    match event.kind.as_str() {
        "call.started" => {
            say(Ink::Bold, "call", format!("started, {}", event.call.as_deref().unwrap_or("?")))
        }
        "call.answered" => say(Ink::Bold, "call", "answered".into()),
        "call.ended" => say(Ink::Bold, "call", format!("ended: {}", event.text("reason"))),
        "stream.started" => say(Ink::Dim, "stream", "started".into()),
        "agent.ready" => say(Ink::Plain, "agent", format!("ready after {} ms", ms("after_ms"))),
        "turn" => turn_line(event),
        "barge_in" => {
            let (heard, sent, generated) = (ms("heard_ms"), ms("sent_ms"), ms("generated_ms"));
            let what = format!("heard {heard} ms, sent {sent} ms, generated {generated} ms");
            say(Ink::Yellow, "barge-in", what)
        }
        "agent.replaced" => {
            let (because, gap) = (event.text("because"), ms("gap_ms"));
            let turns = event.number("turns").unwrap_or_default();
            let what = format!("replaced ({because}): a gap of {gap} ms, {turns} turns told again");
            say(Ink::Yellow, "agent", what)
        }
        "tool" => {
            let (name, outcome) = (event.text("name"), event.text("outcome"));
            say(Ink::Plain, "tool", format!("{name}: {outcome} after {} ms", ms("after_ms")))
        }
        "call.transferred" => {
            say(Ink::Bold, "call", format!("transferred to {}", event.text("to")))
        }
        "stream.refused" => say(Ink::Red, "stream", format!("refused: {}", event.text("why"))),
        "stream.ended" => say(Ink::Dim, "stream", format!("ended: {}", event.text("reason"))),
        other => say(Ink::Dim, "event", other.to_owned()),
    }
}

/// What was said, and how much of it was heard.
fn turn_line(event: &Event) -> (Ink, String, String) {
    let text = format!("\"{}\"", event.text("text"));
    if event.text("role") == "caller" {
        return (Ink::Cyan, "Caller".into(), text);
    }
    let mut facts = Vec::new();
    if event.data["interrupted"] == true {
        let (heard, made) = (event.number("heard_ms"), event.number("generated_ms"));
        if let (Some(heard), Some(made)) = (heard, made) {
            facts.push(format!("interrupted, {heard} of {made} ms heard"));
        }
    }
    if let Some(after) = event.number("reply_after_ms") {
        facts.push(format!("reply after {after} ms"));
    }
    let facts = if facts.is_empty() { String::new() } else { format!("  ({})", facts.join(", ")) };
    (Ink::Green, "Agent".into(), format!("{text}{facts}"))
}

/// What a note of the fake Twilio says to a person; some say nothing.
fn note_line(record: &CallRecord, at: usize) -> Option<(Ink, String)> {
    let last_speech = measure::reply_ms(&until(record, at));
    Some(match &record.notes[at].what {
        What::Status { status } => (Ink::Dim, status.clone()),
        What::Document { verbs } => {
            let verbs: Vec<String> = verbs.iter().map(|verb| format!("<{verb}>")).collect();
            (Ink::Dim, format!("Twilio asked what to do: {}", verbs.join(" ")))
        }
        What::StreamOpened { .. } => (Ink::Dim, "stream opened".into()),
        What::AgentHeard => match last_speech.last() {
            Some(ms) => (Ink::Dim, format!("agent speaks, {ms} ms after the caller stopped")),
            None => {
                let ms = measure::answer_ms(record).unwrap_or_default();
                (Ink::Dim, format!("agent speaks, {ms} ms after the stream opened"))
            }
        },
        What::Cleared { dropped_ms, .. } => {
            let ms = measure::cut_ms(record, at).unwrap_or_default();
            let what = format!(
                "agent silenced {ms} ms after the caller began; {dropped_ms} ms thrown away"
            );
            (Ink::Yellow, what)
        }
        What::CallerSpeaks { .. } => (Ink::Dim, "caller speaks".into()),
        What::GaveUp => (Ink::Red, "the caller waited for the agent in vain".into()),
        What::StreamEnded { how } => (Ink::Dim, format!("stream {}", how_it_ended(how))),
        What::Said { text } => (Ink::Plain, format!("Twilio says \"{text}\"")),
        What::Dialled { to } => (Ink::Plain, format!("Twilio dials {to}")),
        What::CallerFinished | What::AgentQuiet => return None,
    })
}

/// The record as it was when a note was the last one.
fn until(record: &CallRecord, at: usize) -> CallRecord {
    CallRecord { notes: record.notes[..=at].to_vec(), ..CallRecord::default() }
}

/// The end of a stream, in words.
fn how_it_ended(how: &StreamEnd) -> String {
    match how {
        StreamEnd::Refused { status } => format!("refused ({status})"),
        StreamEnd::Closed { code } => format!("closed by the relay ({code})"),
        StreamEnd::Lost => "lost".into(),
        StreamEnd::HungUp => "ended, the caller hung up".into(),
        StreamEnd::Replaced => "ended, the call was moved".into(),
        StreamEnd::Fault => "ended, the relay broke the protocol".into(),
    }
}

/// The figures of the box. What is not known has no line.
fn summary_lines(seen: &Seen) -> Vec<(&'static str, String)> {
    let record = &seen.record;
    let mut lines = Vec::new();
    if let Some(ms) = measure::answer_ms(record) {
        lines.push(("answer to first audio", format!("{ms} ms")));
    }
    let replies = measure::reply_ms(record);
    if !replies.is_empty() {
        let all: Vec<String> = replies.iter().map(ToString::to_string).collect();
        lines.push(("end of speech to reply, at the phone", format!("{} ms", all.join(", "))));
    }
    let relay: Vec<String> = seen
        .of("turn")
        .filter_map(|turn| turn.number("reply_after_ms"))
        .map(|ms| ms.to_string())
        .collect();
    if !relay.is_empty() {
        lines.push(("  of which the relay and the model", format!("{} ms", relay.join(", "))));
    }
    let cleared = measure::positions(record, |what| matches!(what, What::Cleared { .. })).next();
    if let Some(ms) = cleared.and_then(|at| measure::cut_ms(record, at)) {
        lines.push(("interruption to silence", format!("{ms} ms")));
    }
    if let Some(barge_in) = seen.of("barge_in").next() {
        let ms = |name: &str| barge_in.number(name).unwrap_or_default();
        let (heard, sent, made) = (ms("heard_ms"), ms("sent_ms"), ms("generated_ms"));
        lines.push((
            "interrupted answer",
            format!("heard {heard} of {sent} sent, {made} made (ms)"),
        ));
        if let Ok(played) = played_of(seen, barge_in.text("item")) {
            lines.push(("  what the phone really played", format!("{played} ms")));
        }
    }
    if let Some(stream) = record.streams.first() {
        let (up, down) = (stream.frames_sent, stream.media_received);
        lines.push(("frames to the relay, messages back", format!("{up}, {down}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::measure::tests::record;
    use super::*;

    fn event(kind: &str, data: serde_json::Value) -> Event {
        Event { seq: 1, kind: kind.into(), call: Some("c_1".into()), data }
    }

    #[test]
    fn an_interrupted_turn_says_what_was_heard() {
        let data = json!({"role": "agent", "text": "We are", "interrupted": true,
                          "heard_ms": 480, "generated_ms": 9_000, "reply_after_ms": 210});
        let (_, who, what) = event_line(&event("turn", data));
        assert_eq!(who, "Agent");
        assert_eq!(what, "\"We are\"  (interrupted, 480 of 9000 ms heard, reply after 210 ms)");
    }

    #[test]
    fn what_the_phone_hears_is_told_with_its_latency() {
        let record = record(&[
            (0, What::StreamOpened { stream: "MZ1".into() }),
            (350, What::AgentHeard),
            (1_000, What::CallerSpeaks { text: "x".into() }),
            (1_200, What::Cleared { played_ms: 850, dropped_ms: 340 }),
            (2_000, What::CallerFinished),
            (2_700, What::AgentHeard),
        ]);
        let line = |at| note_line(&record, at).map(|(_, what)| what);
        assert_eq!(line(1).unwrap(), "agent speaks, 350 ms after the stream opened");
        let cut = "agent silenced 200 ms after the caller began; 340 ms thrown away";
        assert_eq!(line(3).unwrap(), cut);
        assert_eq!(line(4), None);
        assert_eq!(line(5).unwrap(), "agent speaks, 700 ms after the caller stopped");
    }

    #[test]
    fn colour_is_for_terminals_alone() {
        let plain = Screen { colour: false, began_us: Cell::new(None) };
        assert_eq!(plain.paint(Ink::Red, "x"), "x");
        let bright = Screen { colour: true, began_us: Cell::new(None) };
        assert_eq!(bright.paint(Ink::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
