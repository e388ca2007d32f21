//! The life of one agent's socket, from dialling it to its end.
//!
//! Nothing is said to an agent before its session is verified: a service that did not take our
//! formats would be noise on the line. What the end of a socket means for the call is
//! [`link`](super::link)'s business.

use ::link::event::EndReason;

use super::format::AudioFormat;
use super::input::{Answering, Loss, Retry, Severity, Slot};
use super::moment::Moment;
use super::output::{Milestone, Oddity, Outbox, Output};

/// One agent's socket.
#[derive(Debug)]
pub(super) struct Agent {
    slot: Slot,
    format: AudioFormat,
    life: Life,
    /// What the service has confirmed; meaningful once it is ready.
    answering: Answering,
    malformed: u32,
    /// When it last gave a sign of life.
    heard_at: Moment,
}

/// Where a socket is in its life.
///
/// ```text
/// Absent --dial--> Dialled --opened--> Configuring --configured--> Ready
///   ^                 \------------------\---------------------------\--lost, close--v
///   \-----------------------------------------------------------------------------Absent
/// ```
///
/// | life | input | to | means |
/// |---|---|---|---|
/// | `Dialled` | opened | `Configuring` | the session is stated |
/// | `Configuring` | configured, our formats | `Ready` | audio may flow |
/// | `Configuring`, `Ready` | configured, other formats | | useless: refused |
/// | `Dialled`, `Configuring` | refused or fatal complaint | | useless: refused |
/// | `Dialled`, `Configuring` | deadline | | another one may do |
/// | `Ready` | fatal complaint | | useless: failed |
/// | `Dialled` .. `Ready` | session over | | another one may do |
/// | `Dialled` .. `Ready` | lost | `Absent` | by its cause |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// There is no socket.
    Absent,
    /// It is being opened.
    Dialled,
    /// It is open, and has been told what session we want.
    Configuring,
    /// Its session is ours.
    Ready,
}

/// What an input means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// Nothing.
    None,
    /// The session is to be stated: from here on another deadline counts.
    Opened,
    /// Audio may flow.
    Ready,
    /// This socket is of no use any more.
    Lost(Lost<'a>),
}

/// Why a socket is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost<'a> {
    /// Why the call ends, if no other socket can be had.
    pub(super) reason: EndReason,
    /// For the operator.
    pub(super) detail: &'a str,
    /// Whether another socket may do.
    pub(super) retry: Retry,
}

impl Agent {
    /// A socket that nobody has dialled, and that speaks `format` once it is opened.
    pub(super) fn new(slot: Slot, format: AudioFormat) -> Self {
        Self {
            slot,
            format,
            life: Life::Absent,
            answering: Answering::ByService,
            malformed: 0,
            heard_at: Moment::default(),
        }
    }

    /// How audio is written on it, both ways.
    pub(super) fn format(&self) -> AudioFormat {
        self.format
    }

    /// Whether there is no socket.
    pub(super) fn is_absent(&self) -> bool {
        self.life == Life::Absent
    }

    /// Whether audio may flow.
    pub(super) fn is_ready(&self) -> bool {
        self.life == Life::Ready
    }

    /// Who begins an answer when the caller has spoken, as the service has confirmed it.
    pub(super) fn answering(&self) -> Answering {
        self.answering
    }

    /// When it last gave a sign of life.
    pub(super) fn heard_at(&self) -> Moment {
        self.heard_at
    }

    /// It gives a sign of life.
    pub(super) fn hear(&mut self, now: Moment) {
        self.heard_at = now;
    }

    /// Opens the socket.
    pub(super) fn dial(&mut self, now: Moment, out: &mut impl Outbox) {
        assert_eq!(self.life, Life::Absent, "a slot holds one socket");
        *self = Self::new(self.slot, self.format);
        self.life = Life::Dialled;
        self.heard_at = now;
        out.put(Output::Dial(self.slot));
    }

    /// The service has introduced its session.
    pub(super) fn on_opened(&mut self, out: &mut impl Outbox) -> Change<'static> {
        match self.life {
            Life::Dialled => {
                self.life = Life::Configuring;
                Change::Opened
            }
            // It introduces itself once.
            Life::Configuring | Life::Ready => self.on_malformed(out),
            Life::Absent => Change::None,
        }
    }

    /// The service has stated its session.
    pub(super) fn on_configured(
        &mut self,
        uplink: Option<AudioFormat>,
        playout: Option<AudioFormat>,
        answering: Answering,
    ) -> Change<'static> {
        let ours = Some(self.format);
        let is_ours = uplink == ours && playout == ours;
        match self.life {
            Life::Configuring if is_ours => {
                self.life = Life::Ready;
                self.answering = answering;
                Change::Ready
            }
            // It confirms a change that we have asked for, or repeats itself.
            Life::Ready if is_ours => {
                self.answering = answering;
                Change::None
            }
            Life::Configuring | Life::Ready => useless(EndReason::AgentRefused, "audio_format"),
            Life::Absent | Life::Dialled => Change::None,
        }
    }

    /// The service complains.
    pub(super) fn on_complaint<'a>(
        &mut self,
        severity: Severity,
        code: &'a str,
        out: &mut impl Outbox,
    ) -> Change<'a> {
        let oddity = match (self.life, severity) {
            (Life::Absent, _) => return Change::None,
            (_, Severity::Over) => return passing(EndReason::AgentFailed, code),
            (_, Severity::Benign | Severity::TooEarly) => Oddity::BenignComplaint,
            // Whatever is refused before the session is ours, the session is not what was stated:
            // on the service's defaults the call would be noise.
            (Life::Dialled | Life::Configuring, Severity::Refused | Severity::Fatal) => {
                return useless(EndReason::AgentRefused, code);
            }
            (Life::Ready, Severity::Fatal) => return useless(EndReason::AgentFailed, code),
            (Life::Ready, Severity::Refused) => Oddity::RefusedByAgent,
        };
        out.put(Output::Note(Milestone::Tolerated(oddity)));
        Change::None
    }

    /// The service said something that cannot be read, or that has no place here.
    pub(super) fn on_malformed(&mut self, out: &mut impl Outbox) -> Change<'static> {
        out.put(Output::Note(Milestone::Tolerated(Oddity::AgentMalformed)));
        self.malformed += 1;
        if self.malformed > MALFORMED_MAX {
            return passing(EndReason::AgentFailed, "malformed_messages");
        }
        Change::None
    }

    /// The socket could not be opened, or is gone.
    pub(super) fn on_lost<'a>(&mut self, cause: Loss, detail: &'a str) -> Change<'a> {
        if self.life == Life::Absent {
            return Change::None;
        }
        self.life = Life::Absent;
        match cause {
            Loss::Unreachable | Loss::Busy => passing(EndReason::AgentUnreachable, detail),
            Loss::Refused => useless(EndReason::AgentRefused, detail),
            Loss::Closed => passing(EndReason::AgentFailed, detail),
            Loss::Dismissed => useless(EndReason::AgentFailed, detail),
        }
    }

    /// The deadline has come.
    pub(super) fn on_deadline(&mut self) -> Change<'static> {
        match self.life {
            Life::Dialled => passing(EndReason::AgentUnreachable, "connect_timeout"),
            Life::Configuring => passing(EndReason::AgentUnreachable, "session_timeout"),
            Life::Absent | Life::Ready => Change::None,
        }
    }

    /// Closes the socket, if there is one.
    pub(super) fn close(&mut self, out: &mut impl Outbox) {
        match self.life {
            Life::Dialled | Life::Configuring | Life::Ready => {
                out.put(Output::CloseAgent(self.slot));
            }
            Life::Absent => {}
        }
        self.life = Life::Absent;
    }
}

fn useless(reason: EndReason, detail: &str) -> Change<'_> {
    Change::Lost(Lost { reason, detail, retry: Retry::IsUseless })
}

fn passing(reason: EndReason, detail: &str) -> Change<'_> {
    Change::Lost(Lost { reason, detail, retry: Retry::MayHelp })
}

/// How many unreadable messages of a service are tolerated on one socket.
const MALFORMED_MAX: u32 = 5;
