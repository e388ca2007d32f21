//! Who waits for the answer to a command: woken by the committed event that is the answer, so that
//! nobody asks the database again and again.
//!
//! Memory only, of the process that was asked. Whoever waits elsewhere, or no longer, finds the
//! same answer among the events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::id::{CallId, CommandId};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::events::Record;
use crate::store::Entry;

/// Everybody who waits. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    waiting: Arc<Mutex<BTreeMap<CommandId, Asker>>>,
}

/// One who waits: which call was meant, and the way back.
#[derive(Debug)]
struct Asker {
    call: CallId,
    reply: oneshot::Sender<Answer>,
}

/// What a relay says about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// It was not, and why.
    Refused(String),
}

/// As many wait as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many commands wait for their answer")]
pub struct TooMany;

impl Answers {
    /// Begins to wait. To be called before the command is sent: its answer may come at once.
    ///
    /// # Errors
    /// [`TooMany`] when nobody more may wait.
    pub fn expect(&self, id: CommandId, call: CallId) -> Result<Waiting, TooMany> {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return Err(TooMany);
        }
        let (reply, answer) = oneshot::channel();
        // An id is fresh, so nobody is pushed out.
        waiting.insert(id.clone(), Asker { call, reply });
        drop(waiting);
        Ok(Waiting { answers: self.clone(), id, answer })
    }

    /// Wakes those whose answers these are.
    pub(crate) fn tell(&self, entries: &[Entry]) {
        // Most entries are not answers, and most of the time nobody waits: one comparison each.
        let done = |entry: &&Entry| entry.record.kind == "command.done";
        for entry in entries.iter().filter(done) {
            let Some((id, answer)) = read(&entry.record) else { continue };
            let mut waiting = self.waiting();
            // An id that another call's stream repeats is nobody's answer.
            let is_meant = waiting
                .get(&id)
                .is_some_and(|asker| Some(&asker.call) == entry.record.call.as_ref());
            if let Some(asker) = is_meant.then(|| waiting.remove(&id)).flatten() {
                // Whoever has stopped waiting in between was told to look at the events.
                asker.reply.send(answer).ok();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<CommandId, Asker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data of a `command.done`.
#[derive(Deserialize)]
struct Done {
    id: CommandId,
    refused: Option<String>,
}

fn read(record: &Record) -> Option<(CommandId, Answer)> {
    let Done { id, refused } = serde_json::from_str(&record.data).ok()?;
    Some((id, refused.map_or(Answer::Done, Answer::Refused)))
}

/// A place among those who wait; dropped, it is free again.
#[derive(Debug)]
pub struct Waiting {
    answers: Answers,
    id: CommandId,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// The answer; `None` when it does not come in time.
    pub async fn answer(mut self, within: Duration) -> Option<Answer> {
        // The sender is only dropped with this very place.
        tokio::time::timeout(within, &mut self.answer).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.answers.waiting().remove(&self.id);
    }
}

/// Commands that wait at once. Each waits two seconds at most, so this is 500 a second; when full,
/// a command is refused before it is sent.
const WAITING_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Seq;
    use link::id::{TenantId, WallTime};

    const SOON: Duration = Duration::from_secs(2);

    fn id(text: &str) -> CommandId {
        CommandId::new(text).unwrap()
    }

    fn call(text: &str) -> CallId {
        CallId::new(text).unwrap()
    }

    fn entry(of: &str, kind: &str, data: &str) -> Entry {
        let record = Record {
            seq: Seq(1),
            kind: kind.into(),
            call: Some(call(of)),
            generation: None,
            at: WallTime(0),
            data: data.into(),
        };
        Entry { tenant: TenantId::default(), source: None, record: Arc::new(record) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_wakes_the_one_who_asked_and_nobody_else() {
        let answers = Answers::default();
        let one = answers.expect(id("cmd_1"), call("c_1")).unwrap();
        let two = answers.expect(id("cmd_2"), call("c_1")).unwrap();
        let three = answers.expect(id("cmd_3"), call("c_1")).unwrap();
        answers.tell(&[
            entry("c_1", "turn", r#"{"id":"cmd_3"}"#),
            entry("c_9", "command.done", r#"{"id":"cmd_3"}"#),
            entry("c_1", "command.done", "not ours"),
            entry("c_1", "command.done", r#"{"id":"cmd_1"}"#),
            entry("c_1", "command.done", r#"{"id":"cmd_2","refused":"it is muted"}"#),
        ]);
        assert_eq!(one.answer(SOON).await, Some(Answer::Done));
        assert_eq!(two.answer(SOON).await, Some(Answer::Refused("it is muted".into())));
        assert_eq!(three.answer(SOON).await, None);
        assert!(answers.waiting().is_empty(), "whoever has stopped waiting leaves nothing");
    }

    #[test]
    fn no_more_than_the_bound_wait() {
        let answers = Answers::default();
        let expect = |n: usize| answers.expect(id(&format!("cmd_{n}")), call("c_1"));
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|n| expect(n).unwrap()).collect();
        assert_eq!(expect(WAITING_MAX).unwrap_err(), TooMany);
        waiting.pop();
        assert!(expect(WAITING_MAX).is_ok());
    }
}
