//! A call as everybody who has to do with it sees it: its record, and a way to interfere.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::record::{CallRecord, Fault, Hook, Note, What};
use super::sign::Field;
use super::twiml::Target;
use crate::clock::wall_us;

/// Somebody wants something of a running call.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// End it.
    HangUp,
    /// Go on with another document; the running one is forgotten.
    Replace(Source),
}

/// Where a document comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// It is fetched, with these fields besides those of every request.
    Url(Target, Vec<Field>),
    /// It was given.
    Twiml(String),
}

impl Source {
    /// A document that is fetched with nothing to say besides.
    pub(crate) fn url(target: Target) -> Self {
        Self::Url(target, Vec::new())
    }
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    record: Mutex<CallRecord>,
    changes: watch::Sender<u64>,
    commands: mpsc::Sender<Command>,
}

impl Call {
    /// A call that begins, and where its commands arrive.
    pub(crate) fn new(record: CallRecord) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { record: Mutex::new(record), changes: watch::Sender::new(0), commands }, receiver)
    }

    /// Reads the record.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&CallRecord) -> T) -> T {
        look(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the record and tells those who wait.
    pub(crate) fn change(&self, change: impl FnOnce(&mut CallRecord)) {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
    }

    /// Notes something that happened just now.
    pub(crate) fn note(&self, what: What) {
        self.note_at(wall_us(), what);
    }

    /// Notes something that happened at a known time.
    pub(crate) fn note_at(&self, at_us: u64, what: What) {
        self.change(|record| record.notes.push(Note { at_us, what }));
    }

    /// Notes a line of the debugger.
    pub(crate) fn fault(&self, fault: Fault) {
        self.change(|record| record.faults.push(fault));
    }

    /// Notes what was asked over HTTP.
    pub(crate) fn hook(&self, hook: Hook) {
        self.change(|record| record.hooks.push(hook));
    }

    /// Interferes; gives whether the call still listens.
    pub(crate) async fn command(&self, command: Command) -> bool {
        let over = self.read(|record| record.over);
        !over && self.commands.send(command).await.is_ok()
    }

    /// Waits until the record is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&CallRecord) -> bool) {
        let mut changes = self.changes.subscribe();
        while !self.read(&wanted) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A call is told a few things at most; whoever tells it more waits.
const COMMANDS_MAX: usize = 8;
