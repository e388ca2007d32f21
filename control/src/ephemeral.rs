//! What is shown for the moment: ephemeral events, from the relays straight to those who watch.
//!
//! They have no place among the tenant's records, so a client's last id does not move, and nobody
//! who comes later sees them. Each relay tells every instance, so each client gets each once.
//! What a client has no time for is dropped: records go first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use link::ephemeral::{self, Ephemeral};
use link::id::{CallId, TenantId};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::events::{json_of, rfc3339, split};

/// One ephemeral event, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// What happened, as a stable word: `transcript.delta`.
    pub kind: String,
    /// The call it belongs to.
    pub call: CallId,
    /// The `data` line of its SSE message: one line of JSON, shaped as a record's, without a place.
    pub json: String,
}

impl Passing {
    /// Takes what a relay says; `None` when this version does not know it.
    fn of(event: &Ephemeral) -> Option<Self> {
        match &event.event {
            ephemeral::Passing::TranscriptDelta(_) => {}
            // What was decided is shown when it is committed.
            ephemeral::Passing::Decided(_) | ephemeral::Passing::Unknown => return None,
        }
        let (kind, data) = split(&event.event);
        let call = event.call.id.clone();
        let json = format!(
            r#"{{"type":{},"call":{},"generation":{},"at":"{}","data":{data}}}"#,
            json_of(&kind),
            json_of(call.as_str()),
            event.call.generation.0,
            rfc3339(event.at),
        );
        Some(Self { kind, call, json })
    }
}

/// What is told at once: shared by all clients that hear it.
pub(crate) type Batch = Arc<[Arc<Passing>]>;

/// Where what is ephemeral of one tenant is told.
#[derive(Debug)]
pub(crate) struct Voice {
    batches: broadcast::Sender<Batch>,
    counts: Arc<Counts>,
}

impl Voice {
    /// A voice that nobody hears yet.
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { batches: broadcast::Sender::new(BATCHES_MAX), counts }
    }

    /// Tells whoever listens. Events of one tenant, in order.
    pub(crate) fn tell(&self, events: &[Ephemeral]) {
        if self.batches.receiver_count() == 0 {
            return;
        }
        let batch: Batch = events.iter().filter_map(Passing::of).map(Arc::new).collect();
        self.counts.told.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // Who listened a moment ago may be gone: then it was for nobody.
        let _ = self.batches.send(batch);
    }

    /// An ear that hears what is told from here on.
    pub(crate) fn listen(&self) -> Ear {
        Ear { batches: self.batches.subscribe(), counts: Arc::clone(&self.counts) }
    }
}

/// One client's ear. What it has no time for is dropped, the oldest first.
pub(crate) struct Ear {
    batches: broadcast::Receiver<Batch>,
    counts: Arc<Counts>,
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").field("waiting", &self.batches.len()).finish_non_exhaustive()
    }
}

impl Ear {
    /// What is told next. Never ends: the voice is there for as long as its tenant is watched.
    pub(crate) async fn hear(&mut self) -> Batch {
        loop {
            match self.batches.recv().await {
                Ok(batch) => return batch,
                Err(RecvError::Lagged(missed)) => {
                    self.counts.missed.fetch_add(missed, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Lets be what was told so far.
    pub(crate) fn skip(&mut self) {
        let missed = self.batches.len() as u64;
        self.counts.missed.fetch_add(missed, Ordering::Relaxed);
        self.batches = self.batches.resubscribe();
    }
}

/// What has become of what is ephemeral.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events that were told to somebody.
    pub(crate) told: AtomicU64,
    /// Batches of them that a client had no time for, for each such client.
    pub(crate) missed: AtomicU64,
}

/// Events by tenant, as far as they stand beside each other.
pub(crate) fn by_tenant(events: &[Ephemeral]) -> impl Iterator<Item = (&TenantId, &[Ephemeral])> {
    let groups = events.chunk_by(|a, b| a.call.tenant == b.call.tenant);
    groups.filter_map(|group| Some((&group.first()?.call.tenant, group)))
}

/// Batches that wait for the slowest client of a tenant: a few seconds of a relay's. They are shared,
/// so doubling it doubles what a tenant's clients hold together, not each.
const BATCHES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use link::ephemeral::TranscriptDelta;
    use link::event::{CallRef, Role};
    use link::id::{Gen, WallTime};
    use serde_json::Value;

    fn said(tenant: &str, text: &str) -> Ephemeral {
        let call = CallRef {
            id: CallId::new("c_1").unwrap(),
            tenant: TenantId::new(tenant).unwrap(),
            generation: Gen(2),
        };
        let delta = TranscriptDelta { role: Role::Caller, item: "i1".into(), text: text.into() };
        let event = ephemeral::Passing::TranscriptDelta(delta);
        Ephemeral { at: WallTime(1_795_514_400_123_456), call, event }
    }

    fn texts(batch: &Batch) -> Vec<String> {
        let text = |passing: &Arc<Passing>| {
            let json: Value = serde_json::from_str(&passing.json).unwrap();
            json["data"]["text"].as_str().unwrap().to_owned()
        };
        batch.iter().map(text).collect()
    }

    #[test]
    fn it_is_shaped_as_a_record_without_a_place() {
        let passing = Passing::of(&said("default", "line\nbreak")).unwrap();
        assert!(!passing.json.contains('\n'));
        let json: Value = serde_json::from_str(&passing.json).unwrap();
        let expected = serde_json::json!({
            "type": "transcript.delta", "call": "c_1", "generation": 2,
            "at": "2026-11-24T10:00:00.123456Z",
            "data": {"role": "caller", "item": "i1", "text": "line\nbreak"},
        });
        assert_eq!((json, passing.kind.as_str()), (expected, "transcript.delta"));
        let unknown = Ephemeral { event: ephemeral::Passing::Unknown, ..said("default", "") };
        assert_eq!(Passing::of(&unknown), None);
    }

    #[test]
    fn an_ear_hears_what_is_told_while_it_listens_and_a_slow_one_the_newest() {
        let counts = Arc::new(Counts::default());
        let voice = Voice::new(Arc::clone(&counts));
        voice.tell(&[said("default", "to nobody")]);
        let mut ear = voice.listen();
        assert_eq!(ear.hear().now_or_never(), None);
        voice.tell(&[said("default", "a"), said("default", "b")]);
        assert_eq!(texts(&ear.hear().now_or_never().unwrap()), ["a", "b"]);
        for n in 0..=BATCHES_MAX {
            voice.tell(&[said("default", &n.to_string())]);
        }
        assert_eq!(texts(&ear.hear().now_or_never().unwrap()), ["1"], "the oldest was dropped");
        assert_eq!(counts.missed.load(Ordering::Relaxed), 1);
        ear.skip();
        assert_eq!(ear.hear().now_or_never(), None);
        assert_eq!(counts.missed.load(Ordering::Relaxed), BATCHES_MAX as u64);
        assert_eq!(counts.told.load(Ordering::Relaxed), 2 + BATCHES_MAX as u64 + 1);
    }

    #[test]
    fn tenants_are_told_apart() {
        let all = [said("a", "1"), said("a", "2"), said("b", "3"), said("a", "4")];
        let groups: Vec<_> =
            by_tenant(&all).map(|(tenant, group)| (tenant.as_str(), group.len())).collect();
        assert_eq!(groups, [("a", 2), ("b", 1), ("a", 1)]);
    }
}
