//! What a seed decides about its call before it begins: who is hostile, and how much.
//!
//! Most hazards are off in most calls. A call in which everything goes wrong at once ends too soon
//! to reach what only a long one does, and a bug hides behind the first failure.

use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use relay::call::CallSpec;
use relay::call::input::{AudioFormat, Preparation};

use crate::chance::Chance;
use crate::phone::Kind;

/// What happens at last, if nothing has ended the call before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ender {
    /// The carrier stops the stream.
    Stopped,
    /// The caller's socket is gone.
    Lost,
    /// The caller's socket breaks its protocol.
    Violated,
    /// An operator hangs up.
    HangUp,
    /// An operator transfers the caller.
    Transfer,
    /// The node goes away.
    Drain,
    /// Another generation has taken over.
    Yield,
    /// The service dismisses every session.
    Dismissed,
}

/// How a call is made ready before its caller is here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    /// How far.
    pub(crate) how: Preparation,
    /// After how long its caller is here; `None` is never.
    pub(crate) claimed_after_ms: Option<u64>,
}

/// The weather of one call. Odds are in a thousand, of what the field says.
#[derive(Debug)]
pub(crate) struct Climate {
    /// The call.
    pub(crate) spec: CallSpec,
    /// Who calls.
    pub(crate) kind: Kind,
    /// Whether the agent's side speaks PCM.
    pub(crate) is_pcm: bool,
    /// How it is prepared, if it is.
    pub(crate) prepared: Option<Prepared>,
    /// When the ender comes, after the start.
    pub(crate) length_ms: u64,
    /// What ends it.
    pub(crate) ender: Ender,
    /// Of the phone and the way to it.
    pub(crate) phone: PhoneClimate,
    /// Of the model and the way to it.
    pub(crate) model: ModelClimate,
    /// Of everybody else.
    pub(crate) world: WorldClimate,
}

/// The phone's part.
#[derive(Debug)]
pub(crate) struct PhoneClimate {
    /// One way, at least.
    pub(crate) trip_ms: u64,
    /// More than that, at most.
    pub(crate) jitter_ms: u64,
    /// The longest the caller is silent.
    pub(crate) silence_ms: u64,
    /// The longest the caller speaks.
    pub(crate) speech_ms: u64,
    /// Whether the caller speaks while it hears something, in a thousand of its turns.
    pub(crate) interrupts: u64,
    /// Per frame: a gap.
    pub(crate) gaps: u64,
    /// Per frame: nothing gets through for a while.
    pub(crate) bursts: u64,
    /// Per frame: it is said twice.
    pub(crate) duplicates: u64,
    /// Per frame: a pause in which the carrier's time stands still.
    pub(crate) pauses: u64,
    /// Per frame: a broken message.
    pub(crate) malformed: u64,
    /// Per frame: a mark that nobody set.
    pub(crate) strays: u64,
    /// Per frame: a key.
    pub(crate) keys: u64,
}

/// The model's part.
#[derive(Debug, Default)]
pub(crate) struct ModelClimate {
    /// One way, at least.
    pub(crate) trip_ms: u64,
    /// More than that, at most.
    pub(crate) jitter_ms: u64,
    /// The longest speech of an answer.
    pub(crate) speech_ms: u64,
    /// How many times faster than it sounds speech is made, at most.
    pub(crate) speed: u64,
    /// Per dial: it fails.
    pub(crate) dials_fail: u64,
    /// Per dial: it is slow.
    pub(crate) dials_slow: u64,
    /// Per failed dial: the service says no for good.
    pub(crate) dials_refused: u64,
    /// Per session: it is stated late, with other formats, or not at all.
    pub(crate) configures_badly: u64,
    /// The longest a session lives; `None` lives as long as it is wanted.
    pub(crate) life_ms: Option<u64>,
    /// Per death: it is for good.
    pub(crate) deaths_final: u64,
    /// Per answer: a tool is called.
    pub(crate) tools: u64,
    /// Per answer with a tool: the tool ends the call.
    pub(crate) goodbyes: u64,
    /// Per answer: it fails or is incomplete.
    pub(crate) failures: u64,
    /// Per answer: it stays silent, or has nothing to say.
    pub(crate) silences: u64,
    /// Per answer: it is late, or pauses for seconds.
    pub(crate) delays: u64,
    /// Per answer: it is longer than what anybody holds.
    pub(crate) floods: u64,
    /// Per message: it is preceded by one that cannot be read.
    pub(crate) malformed: u64,
    /// Per request: it is refused, or forgotten.
    pub(crate) refusals: u64,
    /// Per turn of the caller: its words come late, or never.
    pub(crate) wordless: u64,
    /// Per summary: none comes, or it comes late.
    pub(crate) unsummed: u64,
    /// Per closed socket: something of it is still heard.
    pub(crate) leftovers: u64,
}

/// Everybody else's part.
#[derive(Debug)]
pub(crate) struct WorldClimate {
    /// The longest time between two commands; `None` never commands.
    pub(crate) commands_ms: Option<u64>,
    /// The longest time between two stalls; `None` never stalls.
    pub(crate) stalls_ms: Option<u64>,
    /// Per tool: it never ends.
    pub(crate) tools_hang: u64,
    /// The longest a tool takes.
    pub(crate) tools_ms: u64,
    /// Per decision: its commit is not heard of.
    pub(crate) records_lost: u64,
    /// The longest a commit takes.
    pub(crate) records_ms: u64,
    /// The longest a deadline is noticed late.
    pub(crate) ticks_late_ms: u64,
    /// The longest time between two changes of how audio is sent on; `None` never changes it.
    pub(crate) batches_ms: Option<u64>,
}

/// A hazard: off in most calls, and at most so many in a thousand.
fn hazard(chance: &mut Chance, most: u64) -> u64 {
    if chance.happens(350) { chance.between(1, most) } else { 0 }
}

/// The clip of an end; its bytes are no answer's.
pub(crate) static SORRY: [u8; 4_000] = [2; 4_000];

/// The clip of a moment.
pub(crate) static MOMENT: [u8; 2_400] = [3; 2_400];

impl Climate {
    /// The weather of a seed.
    pub(crate) fn new(seed: u64, chance: &mut Chance) -> Self {
        // Of a stream of its own, so that phone calls stay what they were.
        let is_page = Chance::new(!seed).happens(150);
        let kind = if is_page { Kind::Page } else { Kind::Phone };
        let is_pcm = chance.happens(150);
        let length_ms = match chance.between(0, 9) {
            0 => chance.between(0, 3_000),
            1..=7 => chance.between(3_000, 120_000),
            8 => chance.between(120_000, 600_000),
            _ => chance.skewed(600_000, 3_600_000),
        };
        let prepared = chance.happens(250).then(|| prepared(chance));
        let ender = chance.pick(&[
            Ender::Stopped,
            Ender::Stopped,
            Ender::Lost,
            Ender::Violated,
            Ender::HangUp,
            Ender::HangUp,
            Ender::Transfer,
            Ender::Drain,
            Ender::Yield,
            Ender::Dismissed,
        ]);
        let mut climate = Self {
            spec: spec(kind, is_pcm, chance),
            kind,
            is_pcm: is_pcm || kind == Kind::Page,
            prepared,
            length_ms,
            ender,
            phone: PhoneClimate::new(chance),
            model: ModelClimate::new(chance),
            world: WorldClimate::new(chance),
        };
        // A well-behaved service lets a call grow old, and what must hold then is more.
        if chance.happens(200) {
            climate.model.behave();
            climate.world.commands_ms = None;
        }
        climate
    }
}

impl Climate {
    /// Whether what the model says reaches the ear in another form.
    pub(crate) fn is_resampled(&self) -> bool {
        self.is_pcm && self.kind == Kind::Phone
    }

    /// Whether only the caller and its line are hostile.
    pub(crate) fn is_calm(&self) -> bool {
        let model = &self.model;
        let odds = [
            model.tools,
            model.failures,
            model.silences,
            model.delays,
            model.floods,
            model.malformed,
            model.refusals,
            model.leftovers,
        ];
        let is_replaced = model.life_ms.is_some() || self.world.commands_ms.is_some();
        !self.is_resampled() && !is_replaced && odds == [0; 8]
    }

    /// Whether the model, or a limit, may end the call with a goodbye.
    pub(crate) fn says_goodbye(&self) -> bool {
        let limits = self.spec.agent.limits;
        let is_limited = limits.call_seconds_max < 3_600 || limits.call_tokens_max > 0;
        is_limited || limits.silence_seconds_max < 60 || self.model.goodbyes > 0
    }
}

fn prepared(chance: &mut Chance) -> Prepared {
    let how = chance.pick(&[Preparation::Session, Preparation::Greeting]);
    let claimed_after_ms = match chance.between(0, 9) {
        0 => None,
        1 => Some(chance.between(0, 70_000)),
        _ => Some(chance.between(0, 4_000)),
    };
    Prepared { how, claimed_after_ms }
}

fn spec(kind: Kind, is_pcm: bool, chance: &mut Chance) -> CallSpec {
    let maybe = |chance: &mut Chance, per_mille, least, most, otherwise| {
        if chance.happens(per_mille) { chance.between(least, most) } else { otherwise }
    };
    let agent: AgentSpec = serde_json::from_value(serde_json::json!({
        "name": "front-desk",
        "instructions": "You answer the phone.",
        "greeting": chance.happens(700).then_some("Greet."),
        "provider": {"kind": "openai_realtime"},
        "audio": if is_pcm { "pcm24k" } else { "mulaw" },
        "tools": [
            {"kind": "hang_up"},
            {"kind": "transfer", "destinations": [{"name": "sales", "to": "+4930123456"}]},
            {"kind": "send_dtmf"},
            {"kind": "http", "name": "find_slot", "description": "", "url": "https://x.example",
             "timeout_ms": TOOL_TIMEOUT_MS, "read_only": true},
        ],
        "limits": {
            "call_seconds_max": maybe(chance, 150, 5, 90, 3_600),
            "silence_seconds_max": maybe(chance, 300, 3, 20, 60),
            "call_tokens_max": maybe(chance, 100, 500, 20_000, 0),
        },
        "session": {
            "roll_over_seconds": maybe(chance, 350, 2, 60, 3_000),
            "hedge_ms": maybe(chance, 250, 50, 1_500, 0),
            "summary_turns": maybe(chance, 600, 1, 8, 20),
        },
    }))
    .expect("it is a spec");
    CallSpec {
        agent: Arc::new(agent),
        caller: match kind {
            Kind::Phone => AudioFormat::Ulaw,
            Kind::Page => AudioFormat::Pcm24k,
        },
        playout_lead: Duration::from_millis(chance.pick(&[200, 400, 400, 1_000])),
        sorry: &SORRY,
        moment: &MOMENT,
        spread: u8::try_from(chance.between(0, 255)).unwrap_or(0),
    }
}

impl PhoneClimate {
    fn new(chance: &mut Chance) -> Self {
        Self {
            trip_ms: chance.skewed(5, 250),
            jitter_ms: chance.skewed(0, 120),
            silence_ms: chance.pick(&[1_500, 6_000, 6_000, 20_000, 90_000]),
            speech_ms: chance.pick(&[600, 3_000, 3_000, 12_000]),
            interrupts: chance.pick(&[0, 100, 300, 1_000]),
            gaps: hazard(chance, 8),
            bursts: hazard(chance, 8),
            duplicates: hazard(chance, 20),
            pauses: hazard(chance, 2),
            malformed: if chance.happens(100) { 1 } else { 0 },
            strays: hazard(chance, 4),
            keys: hazard(chance, 6),
        }
    }
}

impl ModelClimate {
    fn new(chance: &mut Chance) -> Self {
        let dies = chance.happens(350);
        Self {
            trip_ms: chance.skewed(1, 120),
            jitter_ms: chance.skewed(0, 60),
            speech_ms: chance.pick(&[800, 4_000, 4_000, 12_000, 30_000]),
            speed: chance.pick(&[2, 5, 20, 200]),
            dials_fail: hazard(chance, 400),
            dials_slow: hazard(chance, 400),
            dials_refused: hazard(chance, 100),
            configures_badly: hazard(chance, 200),
            life_ms: dies.then(|| chance.pick(&[400, 2_000, 10_000, 30_000])),
            deaths_final: hazard(chance, 60),
            tools: chance.pick(&[0, 0, 150, 500]),
            goodbyes: chance.pick(&[0, 50, 300]),
            failures: hazard(chance, 300),
            silences: hazard(chance, 200),
            delays: hazard(chance, 300),
            floods: hazard(chance, 100),
            malformed: hazard(chance, 4),
            refusals: hazard(chance, 150),
            wordless: hazard(chance, 500),
            unsummed: hazard(chance, 500),
            leftovers: hazard(chance, 500),
        }
    }
}

impl ModelClimate {
    fn behave(&mut self) {
        let Self { trip_ms, jitter_ms, speech_ms, speed, .. } = *self;
        *self = Self { trip_ms, jitter_ms, speech_ms, speed, ..Self::default() };
    }
}

impl WorldClimate {
    fn new(chance: &mut Chance) -> Self {
        let commands = chance.happens(350);
        let stalls = chance.happens(300);
        let batches = chance.happens(400);
        Self {
            commands_ms: commands.then(|| chance.pick(&[500, 5_000, 20_000])),
            stalls_ms: stalls.then(|| chance.pick(&[1_000, 8_000, 30_000])),
            tools_hang: hazard(chance, 300),
            tools_ms: chance.pick(&[100, 2_000, 2_000, 8_000]),
            records_lost: hazard(chance, 500),
            records_ms: chance.pick(&[20, 100, 1_000]),
            ticks_late_ms: chance.pick(&[0, 2, 2, 10, 200]),
            batches_ms: batches.then(|| chance.pick(&[100, 3_000, 60_000])),
        }
    }
}

/// The longest that the simulated agent's own tool may take.
pub(crate) const TOOL_TIMEOUT_MS: u64 = 5_000;
