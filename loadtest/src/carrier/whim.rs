//! What the next calls that are asked for by REST meet: refusals, answers that are lost, lines that
//! are busy. One for each, in order; past the last one all goes well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What one call meets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whim {
    /// It is made, and somebody picks up.
    #[default]
    Answered,
    /// Too many requests at once: nothing is made, and that is said (429).
    Throttled,
    /// It is made, and who asked for it hears of a fault (500).
    AnswerLost,
    /// It is not made, and who asked for it hears of a fault (500).
    RequestLost,
    /// It is made, and the line is busy.
    Busy,
    /// It is made, and nobody picks up.
    NoAnswer,
    /// It is made, and cannot be put through.
    Failed,
}

impl Whim {
    /// How a call ends that nobody picks up; `None` when somebody does.
    pub(crate) fn missed(self) -> Option<&'static str> {
        match self {
            Self::Busy => Some("busy"),
            Self::NoAnswer => Some("no-answer"),
            Self::Failed => Some("failed"),
            Self::Answered | Self::Throttled | Self::AnswerLost | Self::RequestLost => None,
        }
    }
}

/// The whims to come, and how many requests there are at once.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    whims: Mutex<VecDeque<Whim>>,
    requests: AtomicUsize,
    most: AtomicUsize,
}

impl Mood {
    /// Adds whims behind those that are still to come.
    pub(crate) fn plan(&self, whims: impl IntoIterator<Item = Whim>) {
        self.whims.lock().unwrap_or_else(PoisonError::into_inner).extend(whims);
    }

    /// The next one.
    pub(crate) fn next(&self) -> Whim {
        self.whims.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or_default()
    }

    /// A request begins; it is over when this is dropped.
    pub(crate) fn request(&self) -> Request<'_> {
        let at_once = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(at_once, Ordering::SeqCst);
        Request { mood: self, at_once }
    }

    /// The most requests that there were at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A request that is being answered.
pub(crate) struct Request<'a> {
    mood: &'a Mood,
    /// How many there are, this one included.
    pub(crate) at_once: usize,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.mood.requests.fetch_sub(1, Ordering::SeqCst);
    }
}
