//! A reader of control's events who stays for the whole scene: comes back behind the last number
//! after every loss, and notes what is missing or comes twice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::demo::events::{Event, Events};
use crate::events::control::API_KEY;

/// A reader under way. It ends when it is dropped.
pub(super) struct Watch {
    told: Arc<Mutex<Told>>,
    _stop: DropGuard,
}

/// Everything that was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// The number of the last one.
    pub(super) last: u64,
    /// Numbers that never came.
    pub(super) missing: u64,
    /// Events that came after a later one, or again.
    pub(super) again: u64,
    /// The turns, in order.
    pub(super) turns: Vec<Turn>,
    /// The ends of calls: control's id of each.
    pub(super) ends: Vec<String>,
}

/// A turn as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// Control's id of the call.
    pub(super) call: String,
    /// The item that it was in the model's conversation.
    pub(super) item: String,
    /// Whose turn it was, in control's word.
    pub(super) role: String,
    /// The words.
    pub(super) text: String,
}

impl Watch {
    /// Begins to read, from the beginning, at whichever control answers.
    pub(super) fn begin(controls: Vec<SocketAddr>) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let stop = CancellationToken::new();
        let reading = read(controls, Arc::clone(&told));
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        Self { told, _stop: stop.drop_guard() }
    }

    /// What was told so far.
    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the last event.
    fn last(&self) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Waits until nothing has come for a while.
    pub(super) async fn until_quiet(&self) {
        let mut last = self.last();
        for _ in 0..QUIET_TRIES {
            tokio::time::sleep(QUIET).await;
            let now = self.last();
            if now == last {
                return;
            }
            last = now;
        }
    }
}

/// Reads until it is dropped; whoever does not answer is followed by the next one.
async fn read(controls: Vec<SocketAddr>, told: Arc<Mutex<Told>>) {
    for control in controls.iter().cycle() {
        let after = told.lock().unwrap_or_else(PoisonError::into_inner).last;
        if let Ok(mut events) = Events::open_after(*control, API_KEY, after).await {
            // A control that is cut off without a word is noticed by its silence: it pings.
            while let Ok(Ok(event)) = tokio::time::timeout(SILENCE, events.next()).await {
                told.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Told {
    /// Notes one event.
    fn hear(&mut self, event: Event) {
        if event.seq <= self.last {
            self.again += 1;
            return;
        }
        self.missing += event.seq - self.last - 1;
        self.last = event.seq;
        let call = event.call.clone().unwrap_or_default();
        if event.kind == "call.ended" {
            self.ends.push(call);
        } else if event.kind == "turn" && self.turns.len() < TURNS_MAX {
            let text = |name: &str| event.text(name).to_owned();
            let (item, role, text) = (text("item"), text("role"), text("text"));
            self.turns.push(Turn { call, item, role, text });
        }
    }

    /// Turns and ends that were told more than once.
    pub(super) fn twice(&self) -> u64 {
        let turns = self.turns.iter().filter(|turn| !turn.item.is_empty());
        let mut turns: Vec<_> = turns.map(|turn| (&turn.call, &turn.item)).collect();
        let mut ends: Vec<_> = self.ends.iter().collect();
        self.again + repeated(&mut turns) + repeated(&mut ends)
    }
}

/// How many of them are there before.
fn repeated<T: Ord>(all: &mut [T]) -> u64 {
    all.sort();
    all.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
}

/// A client that nothing is told for so long asks elsewhere: control pings more often.
const SILENCE: Duration = Duration::from_secs(60);

const AGAIN: Duration = Duration::from_millis(200);

/// Nothing comes for so long once everything has been told.
const QUIET: Duration = Duration::from_millis(1_500);
const QUIET_TRIES: u32 = 20;

/// Hundreds of calls for half an hour; more are counted by their numbers only.
const TURNS_MAX: usize = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: u64, kind: &str, item: &str) -> Event {
        let data = json!({"item": item, "role": "caller", "text": "Call 1, line 2."});
        Event { seq, kind: kind.into(), call: Some("c".into()), data }
    }

    #[test]
    fn what_is_missing_and_what_comes_twice_is_noted() {
        let mut told = Told::default();
        for event in [
            event(1, "turn", "a"),
            event(2, "turn", "b"),
            event(2, "turn", "b"),
            event(5, "turn", "a"),
            event(6, "call.ended", ""),
        ] {
            told.hear(event);
        }
        assert_eq!((told.last, told.missing, told.again), (6, 2, 1));
        assert_eq!((told.turns.len(), told.ends.len()), (3, 1));
        // The number 2 again, and the item `a` under another number.
        assert_eq!(told.twice(), 2);
    }
}
