//! The spool's thread, played step by step, on real files.

use std::fs;
use std::path::Path;

use link::event::{BargeIn, CallEvent, CallRef, Role, ToolOutcome, ToolUse, Turn};
use link::id::{CallId, Gen, NodeId, TenantId, WallTime};
use tempfile::TempDir;

use super::shelf::Idle;
use super::*;
use crate::clock::Clock;
use crate::config::settings::{Default as Preset, setting};
use crate::metrics::{Counters, Gauges, Metrics};
use crate::node::ring::{Kept, RING_EVENTS_MAX, Ring};
use crate::telemetry::Noted;

const MIB: u64 = 1 << 20;

/// A life of the node, and what its thread counts.
struct Rig {
    spool: Spool,
    desk: Desk,
    counters: Arc<Counters>,
    epoch: Epoch,
}

impl Rig {
    fn new(folder: &Path, epoch: u64, bytes_max: u64) -> Self {
        let place = Place {
            folder: folder.to_path_buf(),
            bytes_max,
            node: NodeId::new("fra.1").unwrap(),
            started: WallTime(1_764_325_117_000_000 + i64::try_from(epoch).unwrap()),
            epoch: Epoch(epoch),
        };
        let (spool, inbox) = channel();
        let (shared, counters) = (Arc::clone(&spool.shared), Arc::<Counters>::default());
        let desk = Desk::new(place, inbox, shared, Arc::clone(&counters), Clock::start());
        Self { spool, desk, counters, epoch: Epoch(epoch) }
    }

    fn offer(&self, numbers: std::ops::RangeInclusive<u64>, text: &str) {
        for n in numbers {
            let record = record::encode(&event(n, text)).unwrap();
            self.spool.offer(EventNumber(n), record).unwrap();
        }
    }

    /// All events of a life that are on file or on their way there.
    fn all(&mut self, life: u64, from: u64) -> Vec<NodeEvent> {
        let (mut all, mut from) = (Vec::new(), EventNumber(from));
        loop {
            let page = self.desk.answer(Epoch(life), from);
            let Some(last) = page.events.last() else { return all };
            from = last.n.next();
            all.extend(page.events);
        }
    }
}

fn event(n: u64, text: &str) -> NodeEvent {
    let event = CallEvent::StreamRefused { why: text.to_owned() };
    NodeEvent { n: EventNumber(n), at: WallTime(0), call: None, event }
}

fn numbers(events: &[NodeEvent]) -> Vec<u64> {
    events.iter().map(|event| event.n.0).collect()
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

/// The segments in a folder, in the order of their names.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "spool")).collect();
    paths.sort();
    paths
}

#[test]
fn what_was_offered_is_read_back_and_removed_once_it_is_committed() {
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, MIB);
    rig.offer(1..=3, "x");
    assert_eq!(numbers(&rig.all(1, 1)), [1, 2, 3], "on its way");
    rig.desk.step();
    assert_eq!(numbers(&rig.all(1, 1)), [1, 2, 3], "on file");
    rig.offer(4..=4, "x");
    rig.desk.step();
    assert_eq!(numbers(&rig.all(1, 3)), [3, 4]);
    assert_eq!(segments(folder.path()).len(), 1);
    rig.spool.acknowledge(EventNumber(3));
    rig.desk.work(Idle::Yes);
    assert_eq!(segments(folder.path()).len(), 1, "one event is not committed");
    rig.spool.acknowledge(EventNumber(4));
    rig.desk.work(Idle::No);
    assert_eq!(segments(folder.path()).len(), 1, "more may come");
    rig.desk.work(Idle::Yes);
    assert_eq!((segments(folder.path()).len(), rig.spool.bytes()), (0, 0));
    rig.offer(5..=5, "x");
    rig.desk.step();
    assert_eq!(numbers(&rig.all(1, 5)), [5]);
}

#[tokio::test]
async fn the_next_life_finds_what_those_before_it_left_the_oldest_first() {
    let folder = TempDir::new().unwrap();
    for life in [3, 1, 2] {
        let mut rig = Rig::new(folder.path(), life, MIB);
        rig.offer(1..=life, "x");
        rig.desk.step();
    }
    fs::write(folder.path().join("notes.spool"), "not ours").unwrap();
    let mut rig = Rig::new(folder.path(), 9, MIB);
    rig.desk.step();
    let (spool, desk) = (rig.spool.clone(), &mut rig.desk);
    let (lives, ()) = tokio::join!(spool.old_lives(), async { desk.step() });
    assert_eq!(lives.unwrap(), [Epoch(1), Epoch(2), Epoch(3)]);
    assert_eq!(numbers(&rig.all(3, 0)), [1, 2, 3]);
    assert_eq!(numbers(&rig.all(9, 1)), [0; 0]);
    spool.forget(Epoch(3)).unwrap();
    spool.acknowledge_old(Epoch(1), EventNumber(1));
    rig.desk.step();
    assert_eq!(numbers(&rig.all(3, 0)), [0; 0]);
    assert_eq!(segments(folder.path()).len(), 2 + 1, "two lives, and what is not ours");
    assert_eq!(numbers(&rig.all(1, 0)), [1]);
    spool.acknowledge_old(Epoch(1), EventNumber(1));
    rig.desk.step();
    assert_eq!(segments(folder.path()).len(), 1 + 1, "what was read and is committed is removed");
}

#[test]
fn a_torn_end_costs_the_record_that_was_being_written() {
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, MIB);
    rig.offer(1..=5, "x");
    rig.desk.step();
    drop(rig);
    let path = &segments(folder.path())[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
    let mut rig = Rig::new(folder.path(), 2, MIB);
    rig.desk.step();
    assert_eq!(numbers(&rig.all(1, 0)), up_to(4));
    assert_eq!(rig.counters.spool_damaged.total(), 1);
    assert_eq!(rig.counters.spool_filled.total(), 0);
}

#[test]
fn numbers_that_a_flipped_bit_costs_are_filled_so_that_what_follows_is_told() {
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, 8 * MIB);
    let text = "x".repeat(16 * 1024);
    rig.offer(1..=100, &text);
    rig.desk.step();
    drop(rig);
    let paths = segments(folder.path());
    assert_eq!(paths.len(), 2, "the first is full");
    let mut bytes = fs::read(&paths[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&paths[0], &bytes).unwrap();
    let mut rig = Rig::new(folder.path(), 2, 8 * MIB);
    rig.desk.step();
    let all = rig.all(1, 0);
    assert_eq!(numbers(&all), up_to(100));
    let filled = all.iter().filter(|event| event.event == CallEvent::Unknown).count() as u64;
    assert!((20..50).contains(&filled), "{filled}: half of the first file");
    assert_eq!(rig.counters.spool_filled.total(), filled);
    assert_eq!(rig.counters.spool_damaged.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_that_control_has_not_committed_are_synced_in_time_and_together() {
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, MIB);
    let metrics = Arc::new(Metrics::new(vec![Arc::clone(&rig.counters)], Gauges::default));
    let syncs = |count: u64| {
        let page = metrics.scrape().unwrap();
        let line = format!("relay_spool_durable_seconds_count {count}");
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    };
    rig.offer(1..=1, "x");
    rig.desk.step();
    tokio::time::advance(SYNC_WITHIN - Duration::from_millis(1)).await;
    rig.offer(2..=2, "x");
    rig.desk.step();
    syncs(0);
    tokio::time::advance(Duration::from_millis(1)).await;
    rig.desk.step();
    syncs(1);
    tokio::time::advance(SYNC_WITHIN).await;
    rig.desk.step();
    syncs(1);
    rig.offer(3..=3, "x");
    rig.desk.step();
    rig.spool.acknowledge(EventNumber(3));
    tokio::time::advance(SYNC_WITHIN).await;
    rig.desk.step();
    syncs(1);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_events_wait_in_memory_and_go_to_the_file_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, 2_000);
    rig.offer(1..=10, "x");
    rig.desk.step();
    assert!(!rig.spool.is_in_trouble());
    rig.offer(11..=30, &"x".repeat(100));
    rig.desk.step();
    assert!(rig.spool.is_in_trouble());
    assert!(rig.spool.bytes() <= 2_000, "{}", rig.spool.bytes());
    assert_eq!(numbers(&rig.all(1, 1)), up_to(30), "nothing is lost while the process lives");
    rig.spool.acknowledge(EventNumber(25));
    tokio::time::advance(Duration::from_secs(1)).await;
    rig.desk.step();
    assert!(!rig.spool.is_in_trouble());
    assert_eq!(numbers(&rig.all(1, 26)), [26, 27, 28, 29, 30]);
    drop(rig);
    let mut rig = Rig::new(folder.path(), 2, 2_000);
    rig.desk.step();
    assert_eq!(numbers(&rig.all(1, 26)), [26, 27, 28, 29, 30], "they are on file");
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_used_is_tried_again_and_nothing_is_lost_meanwhile() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("spool");
    fs::write(&path, "a file stands in the way").unwrap();
    let mut rig = Rig::new(&path, 1, MIB);
    rig.offer(1..=3, "x");
    rig.desk.step();
    assert!(rig.spool.is_in_trouble());
    assert_eq!(numbers(&rig.all(1, 1)), [1, 2, 3]);
    fs::remove_file(&path).unwrap();
    rig.desk.step();
    assert!(rig.spool.is_in_trouble(), "not before its time");
    tokio::time::advance(Duration::from_secs(1)).await;
    rig.desk.step();
    assert!(!rig.spool.is_in_trouble());
    assert_eq!(segments(&path).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_runs_twice_does_not_touch_the_others_files() {
    let folder = TempDir::new().unwrap();
    let mut first = Rig::new(folder.path(), 1, MIB);
    first.offer(1..=1, "x");
    first.desk.step();
    let mut second = Rig::new(folder.path(), 2, MIB);
    second.offer(1..=1, "x");
    second.desk.step();
    assert!(second.spool.is_in_trouble());
    drop(first);
    tokio::time::advance(Duration::from_secs(1)).await;
    second.desk.step();
    assert!(!second.spool.is_in_trouble());
    assert_eq!(segments(folder.path()).len(), 2);
}

#[test]
fn a_spool_that_is_busy_leaves_events_in_memory_in_their_order() {
    // Nobody takes what is offered.
    let (spool, inbox) = channel();
    let mut ring = Ring::with_spool(spool);
    let pushed = (0..QUEUE_MAX + 2).map(|n| ring.push(noted(n)));
    let kept: Vec<Kept> = pushed.map(Result::unwrap).collect();
    assert_eq!(kept[QUEUE_MAX - 1..], [Kept::Safe, Kept::MemoryOnly, Kept::MemoryOnly]);
    let offered = |order: Order| match order {
        Order::Write(entry) => Some(entry.n.0),
        Order::Look
        | Order::Read { .. }
        | Order::Lives { .. }
        | Order::AcknowledgeOld { .. }
        | Order::Forget { .. }
        | Order::Finish { .. } => None,
    };
    let first: Vec<u64> = inbox.try_iter().filter_map(offered).collect();
    assert_eq!(first, up_to(QUEUE_MAX as u64));
    assert_eq!(ring.hand_over(), Kept::Safe);
    let next: Vec<u64> = inbox.try_iter().filter_map(offered).collect();
    assert_eq!(next, [QUEUE_MAX as u64 + 1, QUEUE_MAX as u64 + 2]);
}

/// What a call tells, in a typical order: some twenty events a minute.
fn noted(n: usize) -> Noted {
    let turn = |role, text: &str, agent: bool| {
        CallEvent::Turn(Turn {
            role,
            item: "item_CeBmZHeSqCqBGrAbeP8yx".into(),
            order: 17,
            text: text.into(),
            heard_ms: agent.then_some(5_480),
            generated_ms: agent.then_some(6_200),
            interrupted: agent,
            reply_after_ms: agent.then_some(640),
        })
    };
    let event = match n % 20 {
        0 => CallEvent::AgentReady { after_ms: 312 },
        3 | 9 | 15 => CallEvent::BargeIn(BargeIn {
            item: "item_CeBmZHeSqCqBGrAbeP8yx".into(),
            heard_ms: 5_480,
            sent_ms: 5_880,
            generated_ms: 6_200,
        }),
        7 => CallEvent::Tool(ToolUse {
            name: "look_up_order".into(),
            request: "call_Mj1jEiJDSmr8Bfni".into(),
            outcome: ToolOutcome::Done,
            after_ms: 420,
        }),
        even if even % 2 == 0 => turn(
            Role::Caller,
            "Could you tell me when you are open this weekend, and whether I may bring it?",
            false,
        ),
        _ => turn(
            Role::Agent,
            "Of course. On Saturday we are open from nine to six, and on Sunday from eleven to \
             four. Bring the receipt with you, and if the box is lost, that is no problem at all.",
            true,
        ),
    };
    let id = CallId::new("c_0199f0d0a3c27d5e8f6b4c1a2e3d4f50").unwrap();
    let call = CallRef { id, tenant: TenantId::default(), generation: Gen(0) };
    Noted { call: Some(call), at: WallTime(1_764_325_117_000_000), event, receipt: None }
}

#[test]
fn ten_minutes_without_control_at_2000_calls_fit_and_come_back_in_order() {
    const EVENTS: usize = 10 * 2_000 * 20;
    let Preset::Text(mebibytes) = setting("RELAY_SPOOL_MAX_MIB").default else { panic!() };
    let bytes_max = mebibytes.parse::<u64>().unwrap() * MIB;
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, bytes_max);
    let mut ring = Ring::with_spool(rig.spool.clone());
    for n in 0..EVENTS {
        assert_eq!(ring.push(noted(n)), Ok(Kept::Safe), "event {n}");
        if n % 1_000 == 0 {
            rig.desk.step();
        }
    }
    rig.desk.step();
    const { assert!(EVENTS > 6 * RING_EVENTS_MAX, "memory alone does not hold them") };
    assert_eq!(ring.len(), EVENTS);
    let bytes = rig.spool.bytes();
    assert!(bytes * 2 < bytes_max, "{bytes} bytes leave room for as many again");
    assert!(!rig.spool.is_in_trouble());

    // Control is back.
    let mut told = 0;
    loop {
        let events = ring.batch();
        if let Some(last) = events.last() {
            assert_eq!(numbers(&events), (told + 1..=last.n.0).collect::<Vec<_>>());
            told = last.n.0;
            ring.acknowledge(last.n);
        } else if let Some(from) = ring.wanted() {
            assert!(ring.refill(rig.desk.page(rig.epoch, from).events), "from {from:?}");
        } else {
            break;
        }
    }
    assert_eq!((told, ring.is_empty()), (EVENTS as u64, true));
    rig.desk.step();
    rig.desk.work(Idle::Yes);
    assert_eq!((rig.spool.bytes(), segments(folder.path()).len()), (0, 0));
    assert_eq!(rig.counters.spool_filled.total() + rig.counters.spool_damaged.total(), 0);
}

#[test]
fn an_event_that_is_on_file_only_keeps_its_receipt() {
    use crate::call::input::RecordId;
    use crate::telemetry::Receipt;
    let folder = TempDir::new().unwrap();
    let mut rig = Rig::new(folder.path(), 1, 512 * MIB);
    let mut ring = Ring::with_spool(rig.spool.clone());
    for n in 0..RING_EVENTS_MAX {
        ring.push(noted(n)).unwrap();
        if n % 1_000 == 0 {
            rig.desk.step();
        }
    }
    let call = CallId::new("c_1").unwrap();
    let receipt = Receipt { shard: 0, call, generation: Gen(0), record: RecordId(7) };
    ring.push(Noted { receipt: Some(receipt.clone()), ..noted(1) }).unwrap();
    ring.push(noted(2)).unwrap();
    rig.desk.step();
    let (on_file, all) = (RING_EVENTS_MAX as u64 + 1, RING_EVENTS_MAX + 2);
    assert_eq!((ring.len(), ring.wanted()), (all, None), "there is no room yet");
    assert_eq!(ring.acknowledge(EventNumber(on_file - 1)), []);
    assert_eq!(ring.wanted(), Some(EventNumber(on_file)));
    assert!(ring.refill(rig.desk.page(rig.epoch, EventNumber(on_file)).events));
    assert_eq!(numbers(&ring.batch()), [on_file, on_file + 1]);
    assert_eq!(ring.acknowledge(EventNumber(on_file)), [receipt]);
}
