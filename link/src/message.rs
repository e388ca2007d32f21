//! The messages of the link, one enum per direction.
//!
//! The relay dials and says [`ToControl::Hello`]; control answers [`ToRelay::Welcome`] or
//! [`ToRelay::Refused`], then pushes keys, signatures and agents, then [`ToRelay::Synced`]. From
//! there on both sides speak when they have something to say.
//!
//! There may be several controls. A relay is linked to each, takes commands from any, and tells its
//! events to the one that numbers them, which says so with [`ToRelay::Lease`]. Bodies are self-describing JSON:
//! unknown messages and fields are skipped and counted; only another major version is refused.
//!
//! Beats travel on a stream of their own each way, which the side that beats opens once the relay is
//! in: what waits on the other stream holds none of them up.

use serde::{Deserialize, Serialize};

use crate::agent::AgentSpec;
use crate::beat::{Beat, NodeBeat};
use crate::ephemeral::Ephemeral;
use crate::event::{NodeEvent, Role};
use crate::frame::{Channel, Frame, FrameError};
use crate::id::{
    AgentName, CallId, CommandId, ControlId, Epoch, EventNumber, Gen, NodeId, TenantId, WallTime,
};
use crate::secret::Secret;
use crate::ticket::VerifyingKey;
use crate::tool::Address;

/// The protocol name that both QUIC ends offer.
pub const ALPN: &[u8] = b"linecard-link/1";

/// The server name that control's certificate carries, whatever address it is dialled at: the
/// join token's CA is what is trusted.
pub const SERVER_NAME: &str = "control.linecard.internal";

/// The version of this protocol.
pub const VERSION: Version = Version { major: 1, minor: 3 };

/// The first minor version in which control says whether it takes events. An older control is the
/// only one and always does; an older relay is linked to one control only and tells it everything.
pub const LEASE_SINCE: u16 = 1;

/// The first minor version in which a relay takes [`ToRelay::Drain`]; an older one skips it.
pub const DRAIN_SINCE: u16 = 2;
/// The first minor version in which control takes ephemeral events. An older one would skip them and
/// count each as unknown, so it is told none.
pub const EPHEMERAL_SINCE: u16 = 2;
/// The first minor version in which both sides beat, and control gives relays certificates: a relay
/// asks and is answered on the streams of beats. An older side is told no beats, and is not judged by
/// them.
pub const BEAT_SINCE: u16 = 3;
/// The first minor version in which control takes [`ToControl::Spooled`]. An older one would skip it,
/// so it is told nothing of earlier lives, and they stay on file.
pub const SPOOL_SINCE: u16 = 3;

/// The first minor version in which calls move between nodes while they are live: a relay takes
/// [`Command::Leave`] and what was said in a call that goes on, and control [`ToControl::Prepared`].
pub const MOVES_SINCE: u16 = 3;

/// A version of the link's protocol. Another major version is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes when an old side would misunderstand a new one.
    pub major: u16,
    /// Changes when something was added.
    pub minor: u16,
}

impl Version {
    /// The minor version that both sides know; `None` when they do not understand each other.
    #[must_use]
    pub fn agreed(self, other: Self) -> Option<u16> {
        (self.major == other.major).then_some(self.minor.min(other.minor))
    }
}

/// The most events in one batch: with turns of ordinary length it stays far inside a frame.
pub const BATCH_EVENTS_MAX: usize = 64;

/// The most ephemeral events in one message.
pub const EPHEMERAL_EVENTS_MAX: usize = 64;

/// The versions that a relay keeps of one agent; when there are more, the oldest other one makes
/// room. Control tells of a version again that a relay may have forgotten.
pub const AGENT_VERSIONS_MAX: usize = 16;

/// What a relay says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "m", rename_all = "snake_case")]
pub enum ToControl {
    /// The first message.
    Hello(Hello),
    /// Events in order, without gaps; sent again from the last acknowledged one after a
    /// reconnect.
    Events {
        /// At most [`BATCH_EVENTS_MAX`], ascending by number.
        events: Vec<NodeEvent>,
    },
    /// Events that an earlier life of this node left on file: in order, without gaps, sent again from
    /// the last acknowledged one after a reconnect, and only to the control that numbers events.
    Spooled {
        /// Which life.
        epoch: Epoch,
        /// At most [`BATCH_EVENTS_MAX`], ascending by number.
        events: Vec<NodeEvent>,
    },
    /// What is told once, to every control: without numbers, and never acknowledged.
    Ephemeral {
        /// At most [`EPHEMERAL_EVENTS_MAX`], in the order in which they happened.
        events: Vec<Ephemeral>,
    },
    /// How the node is doing; sent on change and every second.
    Load(Load),
    /// A sign of life, on a stream of its own.
    Beat(NodeBeat),
    /// The relay, which is in, asks for a certificate of its own.
    Enrol {
        /// Its public key: a point of the curve P-256, uncompressed (65 bytes), base64url without
        /// padding. The private one never leaves the relay.
        key: String,
    },
    /// A session is open for a call that goes on here: its stream may come. Said to every control.
    Prepared {
        /// Which call.
        call: CallId,
        /// The generation of the stream that is awaited.
        generation: Gen,
    },
    /// What a newer relay says.
    #[serde(other)]
    Unknown,
}

/// Who is dialling.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub version: Version,
    /// The join token's secret.
    pub secret: Secret,
    /// The node's name.
    pub node: NodeId,
    /// The life of the process.
    pub epoch: Epoch,
    /// The origin at which Twilio reaches this node, `wss://host[:port]`, no path.
    pub public_url: String,
    /// The software's version, for people.
    pub software: String,
    /// Where it stands, for people; `None` when its operator does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// How a node is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Calls with media on the node.
    pub calls: u32,
    /// The most calls it takes.
    pub calls_max: u32,
    /// Whether it takes new calls.
    pub ready: bool,
    /// Whether it takes none because somebody wants it so: it stops, or an operator has drained it.
    /// An older relay does not say.
    #[serde(default)]
    pub draining: bool,
    /// How late its latest shard is with its own timer, in microseconds; `None` from an older relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_us: Option<u64>,
}

/// What control says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "m", rename_all = "snake_case")]
pub enum ToRelay {
    /// The relay is in.
    Welcome {
        /// The protocol's version.
        version: Version,
        /// The last event of this epoch that control has committed.
        acked: EventNumber,
        /// Which control this is, so that one that is reached by two addresses is known; `None`
        /// from one that is older than [`LEASE_SINCE`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control: Option<ControlId>,
    },
    /// The relay is not let in; the connection ends.
    Refused {
        /// What is wrong and what to do.
        why: String,
    },
    /// The whole set of keys that tickets are signed with.
    TicketKeys {
        /// Replaces what was pushed before.
        keys: Vec<VerifyingKey>,
    },
    /// The values that `X-Twilio-Signature` may have on this node's upgrade.
    Signatures {
        /// Replaces what was pushed before; compared in constant time.
        values: Vec<Secret>,
    },
    /// One agent spec; the latest [`AGENT_VERSIONS_MAX`] of each agent are kept.
    Agent(Box<AgentSpec>),
    /// Everything that a call needs has been pushed: the node may be ready.
    Synced,
    /// Whether this control numbers events. Said once after [`Self::Synced`], and at each change.
    Lease {
        /// It does, and these are the terms of office so far: of two controls that both say so, the
        /// higher number is right. `None` when another one does, or nobody.
        term: Option<u64>,
    },
    /// All events up to this number are committed.
    Ack {
        /// The highest committed number.
        through: EventNumber,
    },
    /// All events of an earlier life up to this number are committed. Below the first that was sent:
    /// control lacks those before it.
    SpoolAck {
        /// Which life.
        epoch: Epoch,
        /// The highest committed number.
        through: EventNumber,
    },
    /// Something to do in a call.
    Command {
        /// Which call.
        call: CallId,
        /// The generation it is meant for; another one ignores it.
        generation: Gen,
        /// Which request: the answer is a [`CallEvent::CommandDone`](crate::event::CallEvent).
        /// `None` wants none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<CommandId>,
        /// What to do.
        command: Command,
    },
    /// A stream is on its way: its agent may be dialled now.
    Announce(Announcement),
    /// An operator wants the node to take no new calls, or to take them again. It holds in the life
    /// of the process, whichever control says it: the node tells all of them in its [`Load`]. Calls
    /// that it carries go on.
    Drain {
        /// Whether it takes none.
        on: bool,
    },
    /// A sign of life, on a stream of its own.
    Beat(Beat),
    /// The certificate that the relay has asked for: shown in the handshake of later connections, it
    /// opens the door as the join token does.
    Certificate {
        /// The certificate, DER, base64url without padding.
        certificate: String,
        /// When it ends.
        good_until: WallTime,
    },
    /// What a newer control says.
    #[serde(other)]
    Unknown,
}

/// A stream that is on its way to this node: TwiML with a ticket for it has been given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Which call.
    pub call: CallId,
    /// The generation of the stream.
    pub generation: Gen,
    /// Whose agent answers.
    pub tenant: TenantId,
    /// Which agent answers.
    pub agent: AgentName,
    /// Which version of it.
    pub version: u32,
    /// What was said in the call so far, oldest first, when the stream takes the place of another
    /// one; `None` for a call that begins. It may be told again, with more in it, until the stream
    /// is there: the last word counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Vec<Said>>,
}

/// A turn of a call that goes on elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who spoke.
    pub role: Role,
    /// The words; of the agent's, those that were heard.
    pub text: String,
    /// Whether it was cut short, so that more was to come.
    #[serde(default)]
    pub cut: bool,
}

/// Something to do in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// End the call.
    HangUp,
    /// Another generation has taken over: fall silent without finalising.
    Yield,
    /// Let the agent say something, word for word, after what it says now.
    Say {
        /// The words.
        text: String,
    },
    /// Put a system message into the conversation; nobody answers it by itself.
    Inject {
        /// The message.
        text: String,
    },
    /// Replace the agent's standing instructions for the rest of the call.
    Instruct {
        /// The new ones.
        instructions: String,
    },
    /// Silence one side, or let it speak again.
    Mute {
        /// Which side.
        side: Side,
        /// Whether it is silenced.
        on: bool,
    },
    /// Give the call to another node, which is ready for it: close its stream between two turns, so
    /// that the carrier asks what follows.
    Leave {
        /// How long such a moment is waited for, in milliseconds.
        within_ms: u32,
        /// Whether the stream is closed all the same when none has come.
        anyway: bool,
        /// The node; `None` when nobody has chosen one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeId>,
    },
    /// Connect the caller to somebody else and end the agent's part.
    Transfer {
        /// To whom.
        to: Address,
    },
    /// What a newer control asks for.
    #[serde(other)]
    Unknown,
}

/// A side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The phone.
    Caller,
    /// The model.
    Agent,
}

impl Command {
    /// The longest text of a command, in bytes.
    pub const TEXT_BYTES_MAX: usize = 8 * 1024;
}

impl ToControl {
    /// The channel that the message travels on.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Hello(_)
            | Self::Load(_)
            | Self::Beat(_)
            | Self::Enrol { .. }
            | Self::Prepared { .. }
            | Self::Unknown => Channel::Session,
            Self::Events { .. } | Self::Spooled { .. } => Channel::Events,
            Self::Ephemeral { .. } => Channel::Ephemeral,
        }
    }

    /// Writes the message as a frame onto the end of `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the body would not fit a frame.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        Frame::write(out, self.channel(), self)
    }

    /// Reads a frame's body; an unknown message is [`ToControl::Unknown`].
    ///
    /// # Errors
    /// When the body is not JSON of a known shape.
    pub fn read(frame: &Frame) -> Result<Self, FrameError> {
        frame.json()
    }
}

impl ToRelay {
    /// The channel that the message travels on.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Welcome { .. }
            | Self::Refused { .. }
            | Self::Lease { .. }
            | Self::Beat(_)
            | Self::Certificate { .. }
            | Self::Unknown => Channel::Session,
            Self::TicketKeys { .. } | Self::Signatures { .. } | Self::Agent(_) | Self::Synced => {
                Channel::Config
            }
            Self::Ack { .. } | Self::SpoolAck { .. } => Channel::Events,
            Self::Command { .. } | Self::Announce(_) | Self::Drain { .. } => Channel::Commands,
        }
    }

    /// Writes the message as a frame onto the end of `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the body would not fit a frame.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        Frame::write(out, self.channel(), self)
    }

    /// Reads a frame's body; an unknown message is [`ToRelay::Unknown`].
    ///
    /// # Errors
    /// When the body is not JSON of a known shape.
    pub fn read(frame: &Frame) -> Result<Self, FrameError> {
        frame.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decoder;

    #[test]
    fn a_message_crosses_as_one_frame() {
        let mut bytes = Vec::new();
        ToRelay::Ack { through: EventNumber(9) }.write(&mut bytes).unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(matches!(ToRelay::read(&frame), Ok(ToRelay::Ack { through: EventNumber(9) })));
    }

    #[test]
    fn what_an_older_relay_does_not_say_is_not_known() {
        let load = r#"{"m": "load", "calls": 1, "calls_max": 2, "ready": true}"#;
        let Ok(ToControl::Load(load)) = serde_json::from_str(load) else { panic!("no load") };
        assert_eq!(load, Load { calls: 1, calls_max: 2, ready: true, ..Load::default() });
    }

    #[test]
    fn two_sides_speak_what_both_know() {
        let version = |major, minor| Version { major, minor };
        assert_eq!(version(1, 3).agreed(version(1, 2)), Some(2));
        assert_eq!(version(1, 3).agreed(version(1, 4)), Some(3));
        assert_eq!(version(1, 3).agreed(version(2, 3)), None);
    }

    #[test]
    fn a_beat_is_read_back_and_may_say_more_than_is_known() {
        let beat = serde_json::json!({
            "m": "beat", "progress": 9, "load": {"calls": 1, "calls_max": 2, "ready": true},
            "beat": {"sent_us": u64::MAX, "wall": 5, "mood": "good"}, "temperature": 40,
        });
        let Ok(ToControl::Beat(beat)) = serde_json::from_value(beat) else { panic!("no beat") };
        assert_eq!((beat.progress, beat.load.calls), (9, 1));
        assert_eq!((beat.beat.sent_us, beat.beat.heard_us), (u64::MAX, None));
        let written = serde_json::to_string(&ToControl::Beat(beat)).unwrap();
        let Ok(ToControl::Beat(again)) = serde_json::from_str(&written) else { panic!("no beat") };
        assert_eq!(again, beat);
    }

    #[test]
    fn an_announcement_of_an_older_control_begins_a_call() {
        let announced = r#"{"m": "announce", "call": "c_1", "generation": 1, "tenant": "default",
            "agent": "front-desk", "version": 3}"#;
        let Ok(ToRelay::Announce(announced)) = serde_json::from_str(announced) else {
            panic!("no announcement")
        };
        assert_eq!(announced.continues, None);
        let goes_on = Announcement { continues: Some(Vec::new()), ..announced };
        let text = serde_json::to_string(&ToRelay::Announce(goes_on.clone())).unwrap();
        let Ok(ToRelay::Announce(read)) = serde_json::from_str(&text) else { panic!("{text}") };
        assert_eq!(read, goes_on);
    }

    #[test]
    fn a_message_of_a_newer_side_is_unknown_not_an_error() {
        let mut bytes = Vec::new();
        let body = serde_json::json!({"m": "sing", "song": 3});
        Frame::write(&mut bytes, Channel::Session, &body).unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(matches!(ToControl::read(&frame), Ok(ToControl::Unknown)));
    }
}
