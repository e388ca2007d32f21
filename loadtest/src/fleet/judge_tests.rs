//! The judge of fleets itself: what it lets pass, and that it finds each thing that it is there to
//! find.

use super::super::ledger::tests::moved;
use super::super::watch::Turn;
use super::*;
use crate::carrier::StreamEnd;
use crate::model::ItemRecord;

const LOST_US: u64 = 100_000_000;

const CARRIER: CarrierTime = CarrierTime { stream_us: 365_000, audio_us: 200_000 };

fn blow(act: Act) -> Blow {
    Blow {
        act,
        node: Some("node-1".into()),
        at_us: LOST_US - 50_000,
        healed_us: LOST_US + 8_000_000,
        newcomers: 0,
        newcomers_answered: 0,
        problem: None,
    }
}

fn item(kind: ItemKind, text: &str, at_us: u64) -> ItemRecord {
    ItemRecord { written_at_us: Some(at_us), ..ItemRecord::new("item", at_us, kind, text) }
}

/// A session before the loss that heard two sentences, and one after it.
fn sessions() -> Vec<SessionRecord> {
    let mut answer =
        item(ItemKind::Agent, "I have heard you: Call 1, line 0.", LOST_US - 8_000_000);
    answer.made_ms = Some(900);
    let before = SessionRecord {
        opened_at_us: 1,
        first_audio_at_us: Some(2),
        items: vec![
            item(ItemKind::Caller, "Call 1, line 0.", LOST_US - 9_000_000),
            answer,
            item(ItemKind::Caller, "Call 1, line 1.", LOST_US - 5_000_000),
        ],
        ..SessionRecord::default()
    };
    let told = before.items.iter().map(|item| ItemRecord { by_client: true, ..item.clone() });
    let after = SessionRecord {
        opened_at_us: LOST_US + 100_000,
        first_audio_at_us: Some(LOST_US + 900_000),
        items: told.collect(),
        ..SessionRecord::default()
    };
    vec![before, after]
}

/// What control has told.
fn told() -> Told {
    let turn = |role: &str, text: &str| Turn {
        call: "c1".into(),
        item: text.into(),
        role: role.into(),
        text: text.into(),
    };
    Told {
        turns: vec![
            turn("caller", "Call 1, line 0."),
            turn("agent", "I have heard you: Call 1, line 0."),
            turn("caller", "Call 1, line 1."),
        ],
        ..Told::default()
    }
}

fn findings(calls: &[CallSeen], sessions: &[SessionRecord], told: &Told, act: Act) -> Findings {
    let effects = BTreeMap::from([("1-2".to_owned(), 1), ("2-2".to_owned(), 3)]);
    let evidence = Evidence {
        calls,
        sessions,
        told,
        effects: &effects,
        carrier: CARRIER,
        durable_after_us: 300_000,
    };
    judge(&evidence, &[blow(act)])
}

#[test]
fn a_call_that_went_on_is_alive_and_timed_beyond_the_carrier() {
    let found = findings(&[moved(1, LOST_US)], &sessions(), &told(), Act::KillNode);
    assert_eq!(found.problems, [""; 0]);
    assert_eq!((found.struck, found.alive), (1, 1));
    assert_eq!((found.turns, found.turns_lost, found.turns_untold), (3, 0, 0));
    // 600 ms to the next stream, of which the carrier had 365.
    let ms = |histogram: &Histogram<u64>| (histogram.max() + 500) / 1_000;
    assert_eq!((ms(&found.gap), ms(&found.sound), ms(&found.speech)), (235, 435, 635));
    assert_eq!(ms(&found.hearing), 335);
    // The other call's booking is none of its.
    assert_eq!((found.effects, found.effects_repeated), (1, 0));
    assert_eq!((found.ends, found.quiet_ends), (1, 0));
}

#[test]
fn a_call_of_another_node_is_not_concerned() {
    let mut call = moved(1, LOST_US);
    call.streams[0].node = "node-3".into();
    assert_eq!(findings(&[call], &sessions(), &told(), Act::KillNode).struck, 0);
}

#[test]
fn a_call_without_a_next_stream_is_dead() {
    let mut call = moved(1, LOST_US);
    call.streams.truncate(1);
    let found = findings(&[call], &sessions(), &told(), Act::KillNode);
    assert_eq!((found.struck, found.alive), (1, 0));
    assert_eq!(found.problems.len(), 1);
}

#[test]
fn a_call_that_was_to_stay_and_moved_is_no_better_than_dead() {
    let found = findings(&[moved(1, LOST_US)], &sessions(), &told(), Act::Partition);
    assert_eq!((found.struck, found.alive), (1, 0));
    let mut stays = moved(1, LOST_US);
    stays.streams.truncate(1);
    stays.streams[0].ended_us = LOST_US + 60_000_000;
    stays.streams[0].end = Some(StreamEnd::HungUp);
    assert_eq!(findings(&[stays], &sessions(), &told(), Act::Partition).alive, 1);
}

#[test]
fn turns_that_control_or_the_next_session_does_not_know_are_found() {
    let mut known = told();
    known.turns.remove(1);
    let mut all = sessions();
    all[1].items.truncate(2);
    let found = findings(&[moved(1, LOST_US)], &all, &known, Act::KillNode);
    assert_eq!((found.turns, found.turns_lost, found.turns_untold), (3, 1, 1));
}

#[test]
fn what_was_written_down_a_moment_before_may_be_lost() {
    let mut all = sessions();
    all[0].items[2].written_at_us = Some(LOST_US - 200_000);
    let found = findings(&[moved(1, LOST_US)], &all, &Told::default(), Act::KillNode);
    // Neither that sentence nor the answer before it, which only it proves to be heard.
    assert_eq!((found.turns, found.turns_lost), (1, 1));
}

#[test]
fn the_silence_of_a_node_that_stands_still_begins_before_its_streams_end() {
    let found = findings(&[moved(1, LOST_US)], &sessions(), &told(), Act::FreezeNode);
    // It stood still 50 ms before the carrier was told to go elsewhere.
    assert_eq!((found.gap.max() + 500) / 1_000, 285);
}
