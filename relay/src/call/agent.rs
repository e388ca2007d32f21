//! The life of one agent's socket, from dialling it to its end.
//!
//! Nothing is said to an agent before its session is verified: a service that did not take our
//! formats would be noise on the line.

use link::event::EndReason;

use super::input::{AgentFormat, Answering, Loss, Severity, Slot};
use super::output::{AgentMessage, Milestone, Oddity, Outbox, Output};

/// One agent's socket.
#[derive(Debug)]
pub(super) struct Agent {
    slot: Slot,
    format: AgentFormat,
    life: Life,
    malformed: u32,
}

/// Where a socket is in its life.
///
/// ```text
/// Absent --dial--> Dialled --opened--> Configuring --configured--> Ready
///                     \------------------\---------------------------\--lost, close--> Gone
/// ```
///
/// | life | input | to | means |
/// |---|---|---|---|
/// | `Dialled` | opened | `Configuring` | the session is stated |
/// | `Configuring` | configured, our formats | `Ready` | audio may flow |
/// | `Configuring`, `Ready` | configured, other formats | | refused |
/// | `Dialled`, `Configuring` | refused or fatal complaint | | refused |
/// | `Dialled`, `Configuring` | deadline | | unreachable |
/// | `Ready` | fatal complaint | | failed |
/// | `Dialled` .. `Ready` | lost | `Gone` | by its cause |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nobody asked for it yet.
    Absent,
    /// It is being opened.
    Dialled,
    /// It is open, and has been told what session we want.
    Configuring,
    /// Its session is ours.
    Ready,
    /// It is closed, by it or by us.
    Gone,
}

/// What an input means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// Nothing.
    None,
    /// The session is being stated: from here on another deadline counts.
    Configuring,
    /// Audio may flow.
    Ready,
    /// This agent is of no use any more.
    Failed(EndReason, &'a str),
}

impl Agent {
    /// A socket that speaks `format` once it is opened.
    pub(super) fn new(slot: Slot, format: AgentFormat) -> Self {
        Self { slot, format, life: Life::Absent, malformed: 0 }
    }

    /// Which socket it is.
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether nothing comes from it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// Whether audio may flow.
    pub(super) fn is_ready(&self) -> bool {
        self.life == Life::Ready
    }

    /// Opens the socket.
    pub(super) fn dial(&mut self, out: &mut impl Outbox) {
        assert_eq!(self.life, Life::Absent, "an agent is dialled once");
        self.life = Life::Dialled;
        out.put(Output::Dial(self.slot));
    }

    /// The service has introduced its session.
    pub(super) fn on_opened(&mut self, out: &mut impl Outbox) -> Change<'static> {
        match self.life {
            Life::Dialled => {
                self.life = Life::Configuring;
                out.put(Output::ToAgent(
                    self.slot,
                    AgentMessage::Configure { instructions: None, answering: Answering::ByService },
                ));
                Change::Configuring
            }
            // It introduces itself once.
            Life::Configuring | Life::Ready => self.on_malformed(out),
            Life::Absent | Life::Gone => Change::None,
        }
    }

    /// The service has stated its session.
    pub(super) fn on_configured(
        &mut self,
        uplink: Option<AgentFormat>,
        playout: Option<AgentFormat>,
    ) -> Change<'static> {
        let ours = Some(self.format);
        match self.life {
            Life::Configuring if uplink == ours && playout == ours => {
                self.life = Life::Ready;
                Change::Ready
            }
            // The service repeats itself.
            Life::Ready if uplink == ours && playout == ours => Change::None,
            Life::Configuring | Life::Ready => {
                Change::Failed(EndReason::AgentRefused, "audio_format")
            }
            Life::Absent | Life::Dialled | Life::Gone => Change::None,
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
            (Life::Absent | Life::Gone, _) => return Change::None,
            (Life::Dialled | Life::Configuring | Life::Ready, Severity::Benign) => {
                Oddity::BenignComplaint
            }
            // Whatever is refused before the session is ours, the session is not what was stated:
            // on the service's defaults the call would be noise.
            (
                Life::Dialled | Life::Configuring,
                Severity::Refused | Severity::Over | Severity::Fatal,
            ) => {
                return Change::Failed(EndReason::AgentRefused, code);
            }
            (Life::Ready, Severity::Over | Severity::Fatal) => {
                return Change::Failed(EndReason::AgentFailed, code);
            }
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
            return Change::Failed(EndReason::AgentFailed, "malformed_messages");
        }
        Change::None
    }

    /// The socket could not be opened, or is gone.
    pub(super) fn on_lost<'a>(&mut self, cause: Loss, detail: &'a str) -> Change<'a> {
        match self.life {
            Life::Dialled | Life::Configuring | Life::Ready => {
                self.life = Life::Gone;
                let reason = match cause {
                    Loss::Unreachable | Loss::Busy => EndReason::AgentUnreachable,
                    Loss::Refused => EndReason::AgentRefused,
                    Loss::Closed | Loss::Dismissed => EndReason::AgentFailed,
                };
                Change::Failed(reason, detail)
            }
            Life::Absent | Life::Gone => Change::None,
        }
    }

    /// The deadline has come.
    pub(super) fn on_deadline(&mut self) -> Change<'static> {
        match self.life {
            Life::Dialled => Change::Failed(EndReason::AgentUnreachable, "connect_timeout"),
            Life::Configuring => Change::Failed(EndReason::AgentUnreachable, "session_timeout"),
            Life::Absent | Life::Ready | Life::Gone => Change::None,
        }
    }

    /// Closes the socket, if there is one.
    pub(super) fn close(&mut self, out: &mut impl Outbox) {
        match self.life {
            Life::Dialled | Life::Configuring | Life::Ready => {
                out.put(Output::CloseAgent(self.slot));
            }
            Life::Absent | Life::Gone => {}
        }
        self.life = Life::Gone;
    }
}

/// How many unreadable messages of a service are tolerated in one call.
const MALFORMED_MAX: u32 = 5;
