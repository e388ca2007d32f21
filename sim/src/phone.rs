//! The phone: plays in real time what it is sent, returns marks, sends what its caller says.
//!
//! It is reckoned, not sampled: each piece of audio has the moment at which it begins to be heard,
//! and a mark is reached when everything before it was. What the ear got at any moment is exact to
//! the sample.

use std::collections::VecDeque;
use std::time::Duration;

use relay::call::moment::Moment;
use serde::Deserialize;

use crate::agenda::{Agenda, Event, Way};
use crate::book::{Book, Whose};
use crate::chance::Chance;
use crate::climate::PhoneClimate;

/// A phone on a call.
#[derive(Debug)]
pub(crate) struct Phone {
    /// To the relay.
    up: Way,
    /// From the relay.
    pub(crate) down: Way,
    line: VecDeque<Piece>,
    /// When all that is queued has been heard.
    dry: Moment,
    marks: VecDeque<(Moment, String)>,
    /// Grows with every clear.
    epoch: u32,
    frames: u64,
    chunk: u64,
    stamp_ms: u64,
    /// Frames that are still missing in a gap.
    gap: u64,
    is_speaking: bool,
    /// Until when the caller goes on with that.
    until: Moment,
    /// Utterances so far.
    pub(crate) utterances: u32,
    /// Broken messages so far.
    pub(crate) broken: u32,
    is_up: bool,
    decoded: Vec<u8>,
}

/// Audio in the queue.
#[derive(Debug)]
struct Piece {
    whose: Whose,
    from: Moment,
    samples: u64,
}

/// What the relay says to a phone.
#[derive(Deserialize)]
struct Said<'a> {
    event: &'a str,
    #[serde(rename = "streamSid")]
    stream: &'a str,
    #[serde(borrow)]
    media: Option<Media<'a>>,
    #[serde(borrow)]
    mark: Option<Mark<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    payload: &'a str,
}

#[derive(Deserialize)]
struct Mark<'a> {
    name: &'a str,
}

impl Phone {
    /// A phone that has not called.
    pub(crate) fn new(climate: &PhoneClimate) -> Self {
        Self {
            up: Way::new(climate.trip_ms, climate.jitter_ms),
            down: Way::new(climate.trip_ms, climate.jitter_ms),
            line: VecDeque::new(),
            dry: Moment::default(),
            marks: VecDeque::new(),
            epoch: 0,
            frames: 0,
            chunk: 0,
            stamp_ms: 0,
            gap: 0,
            is_speaking: false,
            until: Moment::default(),
            utterances: 0,
            broken: 0,
            is_up: false,
            decoded: Vec::new(),
        }
    }

    /// The call is picked up.
    pub(crate) fn start(&mut self, agenda: &mut Agenda, chance: &mut Chance) {
        self.is_up = true;
        self.until = agenda.now() + Duration::from_millis(chance.between(0, 3_000));
        agenda.after(0, Event::PhoneFrame);
    }

    /// The phone is hung up.
    pub(crate) fn stop(&mut self) {
        self.is_up = false;
    }

    /// Something of the relay's arrives.
    pub(crate) fn hear(
        &mut self,
        text: &[u8],
        book: &mut Book,
        agenda: &mut Agenda,
        chance: &mut Chance,
    ) {
        let said: Said<'_> = serde_json::from_slice(text).expect("the relay speaks JSON");
        assert_eq!(said.stream, STREAM, "the relay names the stream");
        let now = agenda.now();
        match (said.event, said.media, said.mark) {
            ("media", Some(Media { payload }), None) => {
                self.decoded.clear();
                codec::base64::decode(payload.as_bytes(), &mut self.decoded)
                    .expect("the relay sends base64");
                let whose = book.whose(&self.decoded);
                let samples = self.decoded.len() as u64;
                self.dry = self.dry.max(now);
                self.line.push_back(Piece { whose, from: self.dry, samples });
                self.dry = self.dry + Duration::from_micros(samples * US_PER_SAMPLE);
                self.play(now, book);
            }
            ("mark", None, Some(Mark { name })) => {
                if self.dry <= now {
                    self.return_mark(name, agenda, chance);
                } else {
                    self.marks.push_back((self.dry, name.to_owned()));
                    agenda.at(self.dry, Event::PhonePlayed(self.epoch));
                }
            }
            ("clear", None, None) => {
                self.play(now, book);
                self.line.clear();
                self.dry = self.dry.min(now);
                self.epoch += 1;
                for (_, name) in std::mem::take(&mut self.marks) {
                    self.return_mark(&name, agenda, chance);
                }
            }
            other => panic!("the relay says what no phone knows: {}", other.0),
        }
    }

    /// The ear gets what sounds until `now`.
    pub(crate) fn play(&mut self, now: Moment, book: &mut Book) {
        while let Some(piece) = self.line.front_mut() {
            let sounded = now.since(piece.from).as_micros() / u128::from(US_PER_SAMPLE);
            let sounded = u64::try_from(sounded).unwrap_or(u64::MAX).min(piece.samples);
            match piece.whose {
                Whose::Item(n) => book.spoken[n].ear += sounded,
                Whose::Other => book.ear_of_others += sounded,
                Whose::Sorry | Whose::Moment => {}
            }
            if sounded < piece.samples {
                piece.from = piece.from + Duration::from_micros(sounded * US_PER_SAMPLE);
                piece.samples -= sounded;
                return;
            }
            self.line.pop_front();
        }
    }

    /// Marks are reached.
    pub(crate) fn reach(&mut self, epoch: u32, agenda: &mut Agenda, chance: &mut Chance) {
        // A clear has returned it already.
        if epoch != self.epoch {
            return;
        }
        while self.marks.front().is_some_and(|(at, _)| *at <= agenda.now()) {
            if let Some((_, name)) = self.marks.pop_front() {
                self.return_mark(&name, agenda, chance);
            }
        }
    }

    fn return_mark(&mut self, name: &str, agenda: &mut Agenda, chance: &mut Chance) {
        let text = format!(
            r#"{{"event":"mark","sequenceNumber":"4","streamSid":"{STREAM}","mark":{{"name":"{name}"}}}}"#
        );
        self.say(text, agenda, chance);
    }

    /// Says something to the relay, unless it is hung up.
    pub(crate) fn say(&mut self, text: String, agenda: &mut Agenda, chance: &mut Chance) {
        if self.is_up {
            let at = self.up.arrival(agenda.now(), chance);
            agenda.at(at, Event::PhoneSays(text));
        }
    }

    /// 20 ms of the phone's time are over.
    pub(crate) fn frame(
        &mut self,
        climate: &PhoneClimate,
        agenda: &mut Agenda,
        chance: &mut Chance,
    ) {
        if !self.is_up {
            return;
        }
        let now = agenda.now();
        agenda.after(FRAME_MS, Event::PhoneFrame);
        self.turn(climate, now, chance);
        self.mischief(climate, agenda, chance);
        self.frames += 1;
        if self.gap > 0 {
            self.gap -= 1;
            self.stamp_ms += FRAME_MS;
            return;
        }
        self.chunk += 1;
        let payload = if self.is_speaking { SPEECH } else { SILENCE };
        let (chunk, stamp) = (self.chunk, self.stamp_ms);
        self.stamp_ms += FRAME_MS;
        let text = format!(
            r#"{{"event":"media","sequenceNumber":"{chunk}","media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{stamp}","payload":"{payload}"}},"streamSid":"{STREAM}"}}"#
        );
        if chance.happens(climate.duplicates) {
            self.say(text.clone(), agenda, chance);
        }
        self.say(text, agenda, chance);
    }

    /// The caller begins to speak, or stops.
    fn turn(&mut self, climate: &PhoneClimate, now: Moment, chance: &mut Chance) {
        if now < self.until {
            return;
        }
        let hears = self.dry > now;
        if self.is_speaking {
            self.is_speaking = false;
            self.until = now + Duration::from_millis(chance.skewed(100, climate.silence_ms));
        } else if hears && !chance.happens(climate.interrupts) {
            // Lets the other finish.
            self.until = self.dry + Duration::from_millis(chance.between(100, 1_500));
        } else {
            self.is_speaking = true;
            self.utterances += 1;
            self.until = now + Duration::from_millis(chance.between(40, climate.speech_ms));
        }
    }

    fn mischief(&mut self, climate: &PhoneClimate, agenda: &mut Agenda, chance: &mut Chance) {
        if chance.happens(climate.gaps) {
            self.gap = chance.skewed(1, 150);
        }
        if chance.happens(climate.bursts) {
            let until = agenda.now() + Duration::from_millis(chance.skewed(20, 1_500));
            self.up.block(until);
        }
        if chance.happens(climate.pauses) {
            self.gap = chance.skewed(1, 150);
            // The carrier's time stands still meanwhile.
            self.stamp_ms = self.stamp_ms.saturating_sub(self.gap * FRAME_MS);
        }
        if chance.happens(climate.keys) {
            let key = chance.pick(&['0', '1', '5', '9', '*', '#', 'A']);
            let text = format!(
                r#"{{"event":"dtmf","streamSid":"{STREAM}","sequenceNumber":"5","dtmf":{{"track":"inbound_track","digit":"{key}"}}}}"#
            );
            self.say(text, agenda, chance);
        }
        if chance.happens(climate.strays) {
            let name = chance.pick(&["m0", "m4000000000"]);
            self.return_mark(name, agenda, chance);
        }
        if chance.happens(climate.malformed) {
            self.broken += 1;
            self.say(chance.pick(&BROKEN).to_owned(), agenda, chance);
        }
    }
}

/// Messages that no phone sends.
const BROKEN: [&str; 7] = [
    "",
    "{",
    r#"{"event":"media"}"#,
    r#"{"event":"media","media":{"track":"inbound","chunk":"9","timestamp":"x","payload":""}}"#,
    r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
    r#"{"event":"mark","mark":{"name":"not ours"}}"#,
    r#"{"event":"dtmf","dtmf":{"digit":"12"}}"#,
];

/// The stream's id.
pub(crate) const STREAM: &str = "MZ00000000000000000000000000000001";

/// 8 kHz.
const US_PER_SAMPLE: u64 = 125;

const FRAME_MS: u64 = 20;

/// 160 samples of mu-law silence.
const SILENCE: &str = concat!(
    "////////////////////////////////////////////////////////////////////////////////",
    "////////////////////////////////////////////////////////////////////////////////",
    "/////////////////////////////////////////////////////w==",
);

/// The same, of something loud.
const SPEECH: &str = concat!(
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg",
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg",
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIA==",
);
