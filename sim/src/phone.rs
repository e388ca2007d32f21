//! The phone, or the page: plays in real time what it is sent, returns marks, sends what its caller says.
//!
//! It is reckoned, not sampled: each piece of audio has the moment at which it begins to be heard,
//! and a mark is reached when everything before it was. What the ear got at any moment is exact to
//! the sample.

use std::collections::VecDeque;
use std::time::Duration;

use relay::call::moment::Moment;

use crate::agenda::{Agenda, Event, Way};
use crate::book::{Book, Whose};
use crate::chance::Chance;
use crate::climate::PhoneClimate;

mod words;

pub(crate) use self::words::{Frame, Kind};

use self::words::Heard;

/// A phone on a call.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) kind: Kind,
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
    /// Pieces of audio so far: what a page counts.
    pieces: u32,
}

/// Audio in the queue.
#[derive(Debug)]
struct Piece {
    whose: Whose,
    from: Moment,
    bytes: u64,
    /// Those of it that the ear got.
    heard: u64,
}

impl Phone {
    /// A phone that has not called.
    pub(crate) fn new(kind: Kind, climate: &PhoneClimate) -> Self {
        Self {
            kind,
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
            pieces: 0,
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
        frame: &Frame,
        book: &mut Book,
        agenda: &mut Agenda,
        chance: &mut Chance,
    ) {
        let now = agenda.now();
        match self.kind.read(frame) {
            Heard::Audio(audio) => {
                let whose = book.whose(&audio);
                let bytes = audio.len() as u64;
                self.dry = self.dry.max(now);
                self.line.push_back(Piece { whose, from: self.dry, bytes, heard: 0 });
                self.dry = self.dry + self.lasts(bytes);
                self.play(now, book);
                self.pieces += 1;
                if self.kind == Kind::Page {
                    self.put_mark(self.pieces.to_string(), agenda, chance);
                }
            }
            Heard::Mark(name) => self.put_mark(name, agenda, chance),
            Heard::Clear => {
                self.play(now, book);
                self.line.clear();
                self.dry = self.dry.min(now);
                self.epoch += 1;
                for (_, name) in std::mem::take(&mut self.marks) {
                    self.return_mark(&name, agenda, chance);
                }
            }
            Heard::Nothing => {}
        }
    }

    fn put_mark(&mut self, name: String, agenda: &mut Agenda, chance: &mut Chance) {
        if self.dry <= agenda.now() {
            self.return_mark(&name, agenda, chance);
        } else {
            self.marks.push_back((self.dry, name));
            agenda.at(self.dry, Event::PhonePlayed(self.epoch));
        }
    }

    /// How long so many bytes sound.
    fn lasts(&self, bytes: u64) -> Duration {
        // Rounded up: nothing is heard before it has sounded.
        Duration::from_micros((bytes * 1_000).div_ceil(self.kind.bytes_per_ms()))
    }

    /// The ear gets what sounds until `now`.
    pub(crate) fn play(&mut self, now: Moment, book: &mut Book) {
        let per_ms = u128::from(self.kind.bytes_per_ms());
        while let Some(piece) = self.line.front_mut() {
            let sounded = now.since(piece.from).as_micros() * per_ms / 1_000;
            let sounded = u64::try_from(sounded).unwrap_or(u64::MAX).min(piece.bytes);
            match piece.whose {
                Whose::Item(n) => book.spoken[n].ear += sounded - piece.heard,
                Whose::Other => book.ear_of_others += sounded - piece.heard,
                Whose::Sorry | Whose::Moment => {}
            }
            piece.heard = sounded;
            if sounded < piece.bytes {
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
        self.say(self.kind.mark(name), agenda, chance);
    }

    /// Says something to the relay, unless it is hung up.
    pub(crate) fn say(&mut self, frame: Frame, agenda: &mut Agenda, chance: &mut Chance) {
        if self.is_up {
            let at = self.up.arrival(agenda.now(), chance);
            agenda.at(at, Event::PhoneSays(frame));
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
        let voice = self.kind.voice(self.is_speaking, self.chunk, self.stamp_ms);
        self.stamp_ms += FRAME_MS;
        // A page's audio has no number by which a repetition is known.
        if chance.happens(climate.duplicates) && self.kind == Kind::Phone {
            self.say(voice.clone(), agenda, chance);
        }
        self.say(voice, agenda, chance);
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
        if chance.happens(climate.keys) && self.kind == Kind::Phone {
            let key = chance.pick(&['0', '1', '5', '9', '*', '#', 'A']);
            let text = format!(
                r#"{{"event":"dtmf","streamSid":"{STREAM}","sequenceNumber":"5","dtmf":{{"track":"inbound_track","digit":"{key}"}}}}"#
            );
            self.say(Frame::Text(text), agenda, chance);
        }
        if chance.happens(climate.strays) {
            let name = self.kind.stray(chance);
            self.return_mark(name, agenda, chance);
        }
        if chance.happens(climate.malformed) {
            self.broken += 1;
            let broken = self.kind.broken(chance);
            self.say(broken, agenda, chance);
        }
    }
}

/// The stream's id.
pub(crate) const STREAM: &str = "MZ00000000000000000000000000000001";

const FRAME_MS: u64 = 20;
