//! A database of either engine for one test, and the words that tests of the store share.

use std::time::Duration;

use control::access::key::KeyId;
use control::keys::SealingKey;
use control::store::call::{Call, CarrierIds, Created, Direction, NewCall, Number};
use control::store::{AtOnce, Ledger, Source, Store, Times};
use link::ephemeral::{Ephemeral, Passing, TranscriptDelta};
use link::event::{CallEvent, CallRef, EndReason, NodeEvent, Role, Turn};
use link::id::{AgentName, CallId, Epoch, EventNumber, Gen, NodeId, TenantId, WallTime};
use link::tool::Address;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

use super::pg::Cluster;

/// An empty database of either engine; it goes away with the test.
pub(crate) enum TestDb {
    Sqlite(TempDir),
    Postgres(String),
}

impl TestDb {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn postgres() -> Self {
        Self::Postgres(Cluster::shared().database().await)
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}/linecard.db", folder.path().display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// Changes rows behind the store's back.
    pub(crate) async fn change(&self, sql: &'static str) {
        match self {
            Self::Sqlite(_) => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Self::Postgres(url) => {
                let (_, name) = url.split_once("@localhost/").unwrap();
                let (name, _) = name.split_once('?').unwrap();
                let mut admin = Cluster::shared().admin(name).await;
                sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
                admin.close().await.unwrap();
            }
        }
    }

    /// Opens the database as one control process would.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url(), key()).await.unwrap()
    }
}

/// Runs each claim once on each engine.
macro_rules! on_both {
    ($($claim:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $claim() {
                let db = crate::db::TestDb::sqlite();
                crate::db::in_time(super::$claim(&db)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $claim() {
                let db = crate::db::TestDb::postgres().await;
                crate::db::in_time(super::$claim(&db)).await;
            })+
        }
    };
}
pub(crate) use on_both;

/// A claim that waits for what never comes fails; on a busy machine each takes a few seconds.
pub(crate) async fn in_time(claim: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(120), claim).await.expect("it waits for ever");
}

pub(crate) fn key() -> SealingKey {
    SealingKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("default").unwrap()
}

/// Who has changed something, as the audit log names them.
pub(crate) fn actor() -> KeyId {
    KeyId::new("operator-1").unwrap()
}

pub(crate) fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

pub(crate) fn source(name: &str) -> Source {
    Source { node: NodeId::new(name).unwrap(), epoch: Epoch(u64::MAX - 1) }
}

pub(crate) fn at(seconds: i64) -> WallTime {
    WallTime(1_795_514_400_000_000 + seconds * 1_000_000)
}

pub(crate) fn carrier(call_sid: &str) -> CarrierIds {
    CarrierIds { account_sid: "AC1".into(), call_sid: call_sid.into() }
}

pub(crate) fn new_call(id: &str) -> NewCall {
    NewCall {
        id: CallId::new(id).unwrap(),
        tenant: tenant(),
        carrier: Some(carrier(&format!("CA-{id}"))),
        direction: Direction::Inbound,
        from: Number("+15550100".into()),
        to: Number("+15550101".into()),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        run: None,
    }
}

/// A call that the store has never seen.
pub(crate) async fn fresh_call(store: &Store, id: &str) -> Call {
    let created = store.create_call(new_call(id), at(0)).await.unwrap();
    assert!(matches!(created, Created::Fresh(_)), "{id} is known");
    created.into_call()
}

/// A call whose carrier was told to open a stream.
pub(crate) async fn started_call(store: &Store, id: &str) -> Call {
    let call = fresh_call(store, id).await;
    store.begin_stream(&call.tenant, &call.id, &node(), at(1)).await.unwrap();
    store.call(&call.tenant, &call.id).await.unwrap().unwrap()
}

/// A ledger that holds the lease, whoever held it before.
pub(crate) async fn ledger(store: &Store, times: Times) -> Ledger {
    Ledger::take(store, "test", times, AtOnce::Yes).await.unwrap().unwrap()
}

pub(crate) fn event(n: u64, call: &Call, generation: u32, event: CallEvent) -> NodeEvent {
    let call =
        CallRef { id: call.id.clone(), tenant: call.tenant.clone(), generation: Gen(generation) };
    NodeEvent { n: EventNumber(n), at: at(2), call: Some(call), event }
}

pub(crate) fn turn(n: u64, call: &Call) -> NodeEvent {
    let turn = Turn {
        order: 1,
        role: Role::Caller,
        item: format!("item-{n}"),
        text: "line\nbreak \u{0} and \"quotes\"".into(),
        heard_ms: None,
        generated_ms: None,
        interrupted: false,
        reply_after_ms: None,
    };
    event(n, call, 0, CallEvent::Turn(turn))
}

pub(crate) fn turns(numbers: std::ops::RangeInclusive<u64>, call: &Call) -> Vec<NodeEvent> {
    numbers.map(|n| turn(n, call)).collect()
}

/// Words of the caller that a relay tells for the moment.
pub(crate) fn said(call: &Call, text: &str) -> Ephemeral {
    let delta = TranscriptDelta { role: Role::Caller, item: "item-1".into(), text: text.into() };
    let call =
        CallRef { id: call.id.clone(), tenant: call.tenant.clone(), generation: call.generation };
    Ephemeral { at: at(2), call, event: Passing::TranscriptDelta(delta) }
}

pub(crate) fn stream_started() -> CallEvent {
    CallEvent::StreamStarted { stream_sid: "MZ1".into() }
}

pub(crate) fn stream_ended(reason: EndReason) -> CallEvent {
    CallEvent::StreamEnded { reason, after_ms: 900, frames_up: 45, frames_down: 40 }
}

/// The stream gives the caller to somebody else.
pub(crate) fn transferring(to: &str) -> CallEvent {
    let transfer_to = Some(Address::new(to).unwrap());
    CallEvent::Ending { reason: EndReason::Transferred, detail: None, transfer_to }
}

pub(crate) fn ending(reason: EndReason) -> CallEvent {
    CallEvent::Ending { reason, detail: Some("nul \u{0} inside".into()), transfer_to: None }
}

/// The types of all of a tenant's records, in order; that their places are dense is checked.
pub(crate) async fn kinds(store: &Store) -> Vec<String> {
    let records = store.events_after(&tenant(), Default::default(), None, 100_000).await.unwrap();
    for (place, record) in records.iter().enumerate() {
        assert_eq!(record.seq.0, place as u64 + 1, "a gap in the tenant's places");
    }
    records.into_iter().map(|record| record.kind).collect()
}
