//! Who is asked for what, and when: one answer at a time, one greeting.

use std::collections::BTreeMap;
use std::time::Duration;

use relay::call::input::Answering;
use relay::call::moment::Moment;
use relay::call::output::{AgentMessage, Cue};

use crate::book::Book;
use crate::model::Told;

/// The answers' side of the books.
#[derive(Debug)]
pub(super) struct Answers {
    sessions: BTreeMap<usize, Session>,
    /// Whether the agent greets.
    greets: bool,
    /// How often it was asked to.
    greetings: u32,
    /// Whether a session answers by itself, as far as it was told.
    is_floor_open: bool,
    /// Whether the agent was muted: a greeting may then be made for nobody.
    pub(super) was_muted: bool,
    /// Whether a goodbye was asked for: where a greeting came to nothing, it is the first voice.
    says_goodbye: bool,
    /// When the caller began to speak, and whether the floor was open by then.
    speech: Option<(Moment, bool)>,
}

#[derive(Debug, Default)]
struct Session {
    /// The answer that the relay knows to run.
    running: Option<String>,
    /// When it asked for one that has not begun.
    asked: Option<Moment>,
}

impl Answers {
    /// Nobody is asked for anything.
    pub(super) fn new(greets: bool) -> Self {
        let sessions = BTreeMap::new();
        Self {
            sessions,
            greets,
            greetings: 0,
            is_floor_open: !greets,
            was_muted: false,
            says_goodbye: false,
            speech: None,
        }
    }

    /// The relay is about to hear of it.
    pub(super) fn told(&mut self, conn: usize, told: &Told) {
        let session = self.sessions.entry(conn).or_default();
        match told {
            Told::Created(response) => {
                session.running = Some(response.clone());
                session.asked = None;
            }
            Told::Done(response, ..) if session.running.as_ref() == Some(response) => {
                session.running = None;
            }
            // It may be the request that was refused: the relay cannot know.
            Told::Refused => session.asked = None,
            _ => {}
        }
    }

    /// The caller begins to speak.
    pub(super) fn speech_started(&mut self, now: Moment) {
        self.speech = Some((now, self.is_floor_open));
    }

    /// Whether what the caller has said is to be answered: a hello over the beginning of the
    /// greeting is answered by the greeting.
    pub(super) fn is_answered(&self, now: Moment) -> bool {
        match self.speech {
            Some((since, is_floor_open)) => is_floor_open || now.since(since) >= HELLO_MAX,
            None => self.is_floor_open,
        }
    }

    /// The relay says something to a model.
    pub(super) fn said(
        &mut self,
        conn: usize,
        message: &AgentMessage<'_>,
        now: Moment,
        book: &Book,
    ) {
        let session = self.sessions.entry(conn).or_default();
        match message {
            AgentMessage::Configure { answering, .. } => {
                self.is_floor_open |= *answering == Answering::ByService;
            }
            AgentMessage::AnswerByYourself => {
                let is_made =
                    book.spoken.iter().any(|spoken| spoken.is_greeting && spoken.told_bytes > 0);
                let may_open = is_made || self.was_muted || self.says_goodbye;
                assert!(may_open, "the floor is opened before the greeting");
                self.is_floor_open = true;
            }
            AgentMessage::Cancel { response } if session.running.as_deref() == Some(*response) => {
                session.running = None;
            }
            AgentMessage::Respond | AgentMessage::Speak(_) => {
                self.says_goodbye |= matches!(message, AgentMessage::Speak(Cue::Farewell));
                assert_eq!(session.running, None, "{message:?} while an answer runs");
                let waited = session.asked.map(|asked| now.since(asked));
                assert!(
                    waited.is_none_or(|waited| waited >= ANSWER_MAX),
                    "{message:?} while another is asked for, {waited:?} ago"
                );
                session.asked = Some(now);
            }
            _ => {}
        }
        if matches!(message, AgentMessage::Speak(Cue::Greeting)) {
            assert!(self.greets, "a greeting that nobody wants");
            self.greetings += 1;
            for spoken in book.spoken.iter().filter(|spoken| spoken.is_greeting) {
                assert_eq!(spoken.proven, 0, "a greeting after {} was heard", spoken.item);
            }
        }
    }
}

/// The longest speech over the beginning of a greeting that the greeting answers.
const HELLO_MAX: Duration = Duration::from_millis(2_000);

/// After so long an answer is given up, and asked for again.
const ANSWER_MAX: Duration = Duration::from_secs(8);
