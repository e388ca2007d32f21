//! The model's service, one session at a time: hears, detects turns, answers, complains and dies.
//!
//! It speaks the service's JSON both ways and knows nothing of the relay. What each message tells
//! the relay travels beside it ([`Told`]), for whoever checks what the relay makes of it.

mod answers;
mod ear;
mod plan;
mod says;

use std::collections::BTreeMap;

use relay::call::input::Loss;
use serde::Deserialize;
use serde_json::Value;

use crate::agenda::{Agenda, Event, Way};
use crate::book::Book;
use crate::chance::Chance;
use crate::climate::ModelClimate;

use self::answers::Answer;
use self::ear::{Ear, Heard};
use self::plan::Kind;

/// What a message tells the relay.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// Nothing that anybody checks.
    Nothing,
    /// The session is stated.
    Configured,
    /// Somebody speaks.
    SpeechStarted,
    /// The caller's turn is an item.
    Committed(String),
    /// The words of it.
    CallerSaid(String, String),
    /// An answer began.
    Created(String),
    /// So many bytes of an item's audio.
    Audio(usize, u64),
    /// Words of an item.
    Words(usize, String),
    /// A tool is called.
    Tool(String, &'static str),
    /// An answer is over, with this status; whether anything came of it.
    Done(String, &'static str, bool),
    /// A summary is over, of the request with this number; whether it came to something.
    Summary(usize, bool),
    /// A request was refused, because an answer runs or for another reason.
    Refused,
}

/// Something that is put off.
#[derive(Debug)]
pub(crate) enum Later {
    /// The session is introduced.
    Introduce,
    /// Words of the caller are known, or not.
    Transcribe(String, Option<String>),
    /// The summary of the request with this number is made.
    Sum(usize),
}

/// How a session dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Death {
    /// The socket is closed with a code, or breaks without one.
    Closed(Option<u16>),
    /// The service says that its time is over.
    Expired,
    /// The service says that something is wrong for good.
    Fatal,
    /// Nothing gets through any more, and nobody says so.
    Hole,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Model {
    conn: usize,
    down: Way,
    /// From the relay.
    pub(crate) up: Way,
    is_alive: bool,
    in_hole: bool,
    is_stated: bool,
    is_pcm: bool,
    creates: bool,
    interrupts: bool,
    ear: Ear,
    turns: u32,
    answers: u64,
    summaries: usize,
    answer: Option<Answer>,
    items: BTreeMap<String, usize>,
    /// Calls of tools that it knows, and whether they are answered.
    calls: BTreeMap<String, bool>,
}

/// What a model acts on.
pub(crate) struct Around<'a> {
    /// What is going to happen.
    pub(crate) agenda: &'a mut Agenda,
    /// The seed's chance.
    pub(crate) chance: &'a mut Chance,
    /// What is spoken.
    pub(crate) book: &'a mut Book,
    /// The weather.
    pub(crate) climate: &'a ModelClimate,
}

/// What the relay says, as far as every message has it.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    audio: Option<&'a str>,
}

impl Model {
    /// Somebody dials.
    pub(crate) fn dialled(conn: usize, is_pcm: bool, around: &mut Around<'_>) -> Self {
        let Around { agenda, chance, climate, .. } = around;
        let mut model = Self {
            conn,
            down: Way::new(climate.trip_ms, climate.jitter_ms),
            up: Way::new(climate.trip_ms, climate.jitter_ms),
            is_alive: true,
            in_hole: false,
            is_stated: false,
            is_pcm,
            creates: true,
            interrupts: true,
            ear: Ear::default(),
            turns: 0,
            answers: 0,
            summaries: 0,
            answer: None,
            items: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        let mut ms = chance.skewed(20, 500);
        if chance.happens(climate.dials_slow) {
            ms += chance.between(500, 4_000);
        }
        if chance.happens(climate.dials_fail) {
            let (cause, detail) = match chance.happens(climate.dials_refused) {
                true => (relay::wire::handshake_loss(401), "401"),
                false => chance.pick(&[
                    (Loss::Unreachable, "refused"),
                    (relay::wire::handshake_loss(503), "503"),
                    (relay::wire::handshake_loss(429), "429"),
                ]),
            };
            model.is_alive = false;
            // Or nobody answers at all.
            if chance.happens(800) {
                agenda.after(ms, Event::ModelLost(conn, cause, detail));
            }
            return model;
        }
        agenda.after(ms, Event::ModelDoes(conn, Later::Introduce));
        if let Some(life_ms) = climate.life_ms {
            let death = if chance.happens(climate.deaths_final) {
                chance.pick(&[Death::Closed(Some(1000)), Death::Fatal])
            } else {
                chance.pick(&[
                    Death::Closed(None),
                    Death::Closed(Some(1001)),
                    Death::Closed(Some(1011)),
                    Death::Expired,
                    Death::Hole,
                ])
            };
            agenda.after(chance.skewed(20, life_ms * 3), Event::ModelDies(conn, death));
        }
        model
    }

    /// The relay has closed the socket.
    pub(crate) fn close(&mut self) {
        self.is_alive = false;
        self.answer = None;
    }

    /// The socket is hit.
    pub(crate) fn die(&mut self, death: Death, around: &mut Around<'_>) {
        if !self.is_alive {
            return;
        }
        match death {
            Death::Closed(code) => {
                self.close();
                let at = self.down.arrival(around.agenda.now(), around.chance);
                let lost = Event::ModelLost(self.conn, relay::wire::loss(code), "closed");
                around.agenda.at(at, lost);
            }
            Death::Expired => {
                self.say(says::error("invalid_request_error", "session_expired"), around);
            }
            Death::Fatal => {
                self.say(says::error("invalid_request_error", "insufficient_quota"), around);
            }
            Death::Hole => self.in_hole = true,
        }
    }

    /// The socket is asked whether it lives.
    pub(crate) fn ping(&mut self, around: &mut Around<'_>) {
        if self.is_alive && !self.in_hole {
            let at = self.up.arrival(around.agenda.now(), around.chance);
            let at = self.down.arrival(at, around.chance);
            around.agenda.at(at, Event::ModelLives(self.conn));
        }
    }

    fn say(&mut self, text: String, around: &mut Around<'_>) {
        self.tell(text, Told::Nothing, around);
    }

    fn tell(&mut self, text: String, told: Told, around: &mut Around<'_>) {
        self.tell_after(0, text, told, around);
    }

    fn tell_after(&mut self, ms: u64, text: String, told: Told, around: &mut Around<'_>) {
        if !self.is_alive || self.in_hole {
            return;
        }
        let from = around.agenda.now() + std::time::Duration::from_millis(ms);
        let at = self.down.arrival(from, around.chance);
        if around.chance.happens(around.climate.malformed) {
            let text = around.chance.pick(&["{", "{}", r#"{"type":"response.done"}"#]).to_owned();
            around.agenda.at(at, Event::ModelSays(self.conn, text, Told::Nothing));
        }
        around.agenda.at(at, Event::ModelSays(self.conn, text, told));
    }

    /// Something that was put off.
    pub(crate) fn later(&mut self, later: Later, around: &mut Around<'_>) {
        match later {
            Later::Introduce => self.say(says::introduced(), around),
            Later::Transcribe(item, words) => {
                let text = says::transcribed(&item, words.as_deref());
                let told = Told::CallerSaid(item, words.unwrap_or_default());
                self.tell(text, told, around);
            }
            Later::Sum(number) => {
                let response = format!("resp_{}_s{number}", self.conn);
                let fails = around.chance.happens(around.climate.unsummed);
                let (status, words) = if fails { ("failed", "") } else { ("completed", SUMMARY) };
                let text = says::summary("response.done", &response, status, words);
                self.tell(text, Told::Summary(number, !fails), around);
            }
        }
    }

    /// Something of the relay's arrives.
    pub(crate) fn hear(&mut self, text: &[u8], around: &mut Around<'_>) {
        if !self.is_alive || self.in_hole {
            return;
        }
        let said: Said<'_> = serde_json::from_slice(text).expect("the relay speaks JSON");
        match (said.kind, said.audio) {
            ("input_audio_buffer.append", Some(audio)) => self.listen(audio, around),
            _ => {
                let said: Value = serde_json::from_slice(text).expect("the relay speaks JSON");
                self.obey(&said, around);
            }
        }
    }

    fn listen(&mut self, audio: &str, around: &mut Around<'_>) {
        assert!(self.is_stated, "audio before the session is stated");
        let mut heard = Vec::new();
        self.ear.hear(audio, self.is_pcm, |change| heard.push(change));
        for change in heard {
            match change {
                Heard::Started => self.speech_started(around),
                Heard::Stopped => self.speech_stopped(around),
            }
        }
    }

    fn speech_started(&mut self, around: &mut Around<'_>) {
        let item = format!("item_{}_u{}", self.conn, self.turns + 1);
        let text = says::of_item("input_audio_buffer.speech_started", &item);
        self.tell_after(around.chance.between(0, 60), text, Told::SpeechStarted, around);
        if self.interrupts {
            self.stop_answer(around);
        }
    }

    fn speech_stopped(&mut self, around: &mut Around<'_>) {
        self.turns += 1;
        let item = format!("item_{}_u{}", self.conn, self.turns);
        self.say(says::of_item("input_audio_buffer.speech_stopped", &item), around);
        let text = says::of_item("input_audio_buffer.committed", &item);
        self.tell(text, Told::Committed(item.clone()), around);
        let words = format!("Caller words {}.{}", self.conn, self.turns);
        let (ms, words) = match around.chance.happens(around.climate.wordless) {
            true => {
                (around.chance.between(1_000, 20_000), around.chance.happens(300).then_some(words))
            }
            false => (around.chance.skewed(30, 2_500), Some(words)),
        };
        // Some never come.
        if words.is_some() || around.chance.happens(500) {
            around.agenda.after(ms, Event::ModelDoes(self.conn, Later::Transcribe(item, words)));
        }
        if self.creates {
            match self.answer {
                None => self.begin(Kind::Reply, around),
                // It says so, or it does not.
                Some(_) if around.chance.happens(500) => self.refuse(TOO_EARLY, around),
                Some(_) => {}
            }
        }
    }

    fn refuse(&mut self, code: &str, around: &mut Around<'_>) {
        let text = says::error("invalid_request_error", code);
        self.tell(text, Told::Refused, around);
    }

    fn obey(&mut self, said: &Value, around: &mut Around<'_>) {
        match said["type"].as_str().unwrap_or_default() {
            "session.update" => self.update(&said["session"], around),
            "response.create" => self.asked(said, around),
            "response.cancel" => {
                let response = said["response_id"].as_str();
                if self.answer.as_ref().map(|answer| answer.response.as_str()) == response {
                    self.stop_answer(around);
                } else {
                    self.say(
                        says::error("invalid_request_error", "response_cancel_not_active"),
                        around,
                    );
                }
            }
            "conversation.item.create" => self.remember(&said["item"]),
            "conversation.item.truncate" => self.truncate(said, around),
            other => panic!("the relay says what no service knows: {other}"),
        }
    }

    fn update(&mut self, session: &Value, around: &mut Around<'_>) {
        assert_eq!(session["type"], "realtime", "a session has a type");
        let input = &session["audio"]["input"];
        if let Some(turns) = input["turn_detection"].as_object() {
            self.creates = turns["create_response"] == true;
            self.interrupts = turns["interrupt_response"] == true;
        }
        let ours = if self.is_pcm { "audio/pcm" } else { "audio/pcmu" };
        let (mut ms, mut format) = (around.chance.skewed(1, 200), ours);
        if !self.is_stated {
            assert_eq!(input["format"]["type"], ours, "the caller's audio in the agent's format");
            self.is_stated = true;
            if around.chance.happens(around.climate.configures_badly) {
                match around.chance.between(0, 5) {
                    0 => return,
                    1 => format = "audio/pcma",
                    2 => {
                        return self
                            .say(says::error("invalid_request_error", "invalid_value"), around);
                    }
                    _ => ms += around.chance.between(500, 4_000),
                }
            }
        }
        let text = says::stated(format, self.creates, self.interrupts);
        self.tell_after(ms, text, Told::Configured, around);
    }

    fn asked(&mut self, said: &Value, around: &mut Around<'_>) {
        let Some(kind) = says::kind_of(said) else { return self.sum_up(around) };
        if self.answer.is_some() {
            return self.refuse(TOO_EARLY, around);
        }
        if around.chance.happens(around.climate.refusals) {
            // Forgotten, or refused for a reason of its own.
            if around.chance.happens(500) {
                self.refuse("server_error", around);
            }
            return;
        }
        self.begin(kind, around);
    }

    fn sum_up(&mut self, around: &mut Around<'_>) {
        let number = self.summaries;
        self.summaries += 1;
        let response = format!("resp_{}_s{number}", self.conn);
        self.say(says::summary("response.created", &response, "in_progress", ""), around);
        let ms = match around.chance.happens(around.climate.unsummed) {
            true => around.chance.between(5_000, 60_000),
            false => around.chance.skewed(100, 5_000),
        };
        around.agenda.after(ms, Event::ModelDoes(self.conn, Later::Sum(number)));
    }

    fn remember(&mut self, item: &Value) {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        match item["type"].as_str() {
            Some("message") => {
                let content = &item["content"][0]["type"];
                let wanted = if item["role"] == "assistant" { "output_text" } else { "input_text" };
                assert_eq!(content, wanted, "what a service takes from this role");
            }
            Some("function_call") => {
                let known = self.calls.insert(text("call_id"), false);
                assert_eq!(known, None, "a call of a tool is told once");
            }
            Some("function_call_output") => {
                let call = text("call_id");
                let answered = self.calls.get_mut(&call);
                let answered =
                    answered.unwrap_or_else(|| panic!("a result without its call {call}"));
                assert!(!*answered, "a second result of call {call}");
                *answered = true;
            }
            other => panic!("an item that no service knows: {other:?}"),
        }
    }

    fn truncate(&mut self, said: &Value, around: &mut Around<'_>) {
        let item = said["item_id"].as_str().unwrap_or_default();
        let spoken =
            *self.items.get(item).unwrap_or_else(|| panic!("a cut of unknown item {item}"));
        let end_ms = said["audio_end_ms"].as_u64().unwrap_or(u64::MAX);
        let made_ms = around.book.ms(around.book.spoken[spoken].made_bytes);
        assert!(end_ms <= made_ms, "a cut of {item} at {end_ms} of {made_ms} ms");
        assert_eq!(said["content_index"], 0, "a cut of a part that is not there");
        self.say(says::of_item("conversation.item.truncated", item), around);
    }
}

const TOO_EARLY: &str = "conversation_already_has_active_response";

/// What every summary says.
pub(crate) const SUMMARY: &str = "Everything so far, in few words.";
