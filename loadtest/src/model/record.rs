//! What a session was told and what it said: for tests that compare it with what really happened.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Everything about one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session's id.
    pub id: String,
    /// The address of the client's end of the connection.
    pub peer: String,
    /// When it was opened, in microseconds since 1970.
    pub opened_at_us: u64,
    /// When its first update was taken.
    pub configured_at_us: Option<u64>,
    /// When the first audio of a caller came.
    #[serde(default)]
    pub first_audio_at_us: Option<u64>,
    /// When it was over.
    pub closed_at_us: Option<u64>,
    /// How it ended; `None` while it is open.
    pub end: Option<SessionEnd>,
    /// How many updates were taken.
    pub updates: u32,
    /// The instructions that it has.
    pub instructions: String,
    /// The conversation, in its order.
    pub items: Vec<ItemRecord>,
    /// What was answered or asked for, in the order in which it began.
    pub responses: Vec<ResponseRecord>,
}

impl SessionRecord {
    /// The items that the client put in, in order: what a rebuilt session was told.
    pub fn told(&self) -> impl Iterator<Item = &ItemRecord> {
        self.items.iter().filter(|item| item.by_client)
    }

    /// Finds an item.
    pub(crate) fn item(&self, id: &str) -> Option<&ItemRecord> {
        self.items.iter().find(|item| item.id == id)
    }

    /// How many turns of the caller the conversation has.
    pub(crate) fn caller_turns(&self) -> usize {
        self.items.iter().filter(|item| item.kind == ItemKind::Caller).count()
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The client closed it with this code; 1005 stands for none.
    Closed(u16),
    /// The connection was gone without a close.
    Lost,
    /// The service ended it, as it was told to.
    Left,
}

/// An item of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Its id.
    pub id: String,
    /// When it came to be, in microseconds since 1970.
    pub at_us: u64,
    /// Whether the client put it in.
    pub by_client: bool,
    /// What it is.
    pub kind: ItemKind,
    /// The words, a call's arguments or its output.
    pub text: String,
    /// Of a turn of the caller, when the client was told the words.
    pub written_at_us: Option<u64>,
    /// Of what the model said, the audio that was made, in milliseconds; `None` while it is made.
    pub made_ms: Option<u64>,
    /// Of what the model said, where it was cut, in milliseconds.
    pub cut_ms: Option<u64>,
    /// The name of the tool that a call wants.
    pub tool: Option<String>,
    /// The id of a call, in the call and in its output.
    pub call: Option<String>,
}

impl ItemRecord {
    /// An item that came to be just now.
    pub(crate) fn new(id: &str, at_us: u64, kind: ItemKind, text: &str) -> Self {
        Self {
            id: id.to_owned(),
            at_us,
            by_client: false,
            kind,
            text: text.to_owned(),
            written_at_us: None,
            made_ms: None,
            cut_ms: None,
            tool: None,
            call: None,
        }
    }

    /// The words, of an item that was cut as many as its audio has room for: a real model has the
    /// audio itself.
    pub(crate) fn heard_text(&self) -> &str {
        let (Some(cut_ms), Some(made_ms)) = (self.cut_ms, self.made_ms) else { return &self.text };
        let share = self.text.len() as u64 * cut_ms / made_ms.max(1);
        let end = usize::try_from(share).unwrap_or(usize::MAX);
        &self.text[..self.text.floor_char_boundary(end)]
    }

    /// Whether the model said it aloud, so that it can be cut.
    pub(crate) fn is_spoken(&self) -> bool {
        self.kind == ItemKind::Agent && !self.by_client
    }
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A message of the user.
    Caller,
    /// A message of the assistant.
    Agent,
    /// A message of the system.
    System,
    /// A call of a tool.
    Call,
    /// The output of a tool.
    Output,
}

/// Something that the model said, or was to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// The response's id.
    pub id: String,
    /// When it began, in microseconds since 1970.
    pub at_us: u64,
    /// Whether the client asked for it.
    pub asked: bool,
    /// Whether it is beside the conversation.
    pub beside: bool,
    /// The instructions that it was asked for with.
    pub instructions: Option<String>,
    /// Whether it is the script's greeting.
    pub greeting: bool,
    /// The item that is said.
    pub item: Option<String>,
    /// The words in full, whether or not all of them were made.
    pub text: String,
    /// How it ended: `completed`, `cancelled`, `failed`, `incomplete`; `None` while it runs.
    pub status: Option<String>,
}

/// A record that its session writes and others read.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    record: Arc<Mutex<SessionRecord>>,
    opened_at_us: u64,
}

impl Ledger {
    /// An empty one.
    pub(crate) fn new(id: &str, peer: &str, opened_at_us: u64) -> Self {
        let record = SessionRecord {
            id: id.to_owned(),
            peer: peer.to_owned(),
            opened_at_us,
            ..SessionRecord::default()
        };
        Self { record: Arc::new(Mutex::new(record)), opened_at_us }
    }

    /// Reads it.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&SessionRecord) -> T) -> T {
        look(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut SessionRecord) -> T) -> T {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes an item, if it is there.
    pub(crate) fn item(&self, id: &str, change: impl FnOnce(&mut ItemRecord)) {
        self.write(|record| record.items.iter_mut().find(|item| item.id == id).map(change));
    }

    /// Changes a response, if it is there.
    pub(crate) fn response(&self, id: &str, change: impl FnOnce(&mut ResponseRecord)) {
        self.write(|record| record.responses.iter_mut().find(|one| one.id == id).map(change));
    }

    /// A moment of the session, in microseconds since 1970.
    pub(crate) fn at_us(&self, now: std::time::Duration) -> u64 {
        self.opened_at_us + u64::try_from(now.as_micros()).unwrap_or_default()
    }
}
