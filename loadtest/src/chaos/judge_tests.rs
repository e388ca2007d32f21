//! The judge itself: what it lets pass, and that it finds each thing that it is there to find.

use super::*;
use crate::carrier::{CallRecord, Note, StreamRecord};
use crate::model::ResponseRecord;

const S: u64 = 1_000_000;

fn item(by_client: bool, kind: ItemKind, text: &str) -> ItemRecord {
    ItemRecord { by_client, ..ItemRecord::new("i", 0, kind, text) }
}

fn told(kind: ItemKind, text: &str) -> ItemRecord {
    item(true, kind, text)
}

/// The first session hears a sentence at 5 s, the second is ready at 10 s.
fn sessions(told: Vec<ItemRecord>) -> [SessionRecord; 2] {
    let mut said = item(false, ItemKind::Caller, "Call 0.0, line 0.");
    said.written_at_us = Some(5 * S);
    let first = SessionRecord {
        id: "a".into(),
        configured_at_us: Some(S),
        items: vec![said],
        responses: vec![ResponseRecord { greeting: true, at_us: S, ..ResponseRecord::default() }],
        ..SessionRecord::default()
    };
    let second = SessionRecord {
        id: "b".into(),
        configured_at_us: Some(10 * S),
        items: told,
        ..SessionRecord::default()
    };
    [first, second]
}

fn call() -> CallSeen {
    let note = |_| Note { at_us: 0, what: What::CallerFinished };
    let stream = StreamRecord { end: Some(StreamEnd::HungUp), ..StreamRecord::default() };
    let record = CallRecord {
        notes: (0..SENTENCES).map(note).collect(),
        streams: vec![stream],
        ..CallRecord::default()
    };
    let play = |text: &str, until_us, heard_ms, whole_ms| Play {
        text: text.into(),
        until_us,
        heard_ms,
        whole_ms,
    };
    let plays = vec![
        play(GREETING, 3 * S, 1_320, 1_320),
        play("I have heard you: Call 0.0, line 0.", 8 * S, 1_050, 2_100),
    ];
    CallSeen { slot: 0, number: 0, span_us: (0, 60 * S), record, plays }
}

fn problems(call: &CallSeen, records: &[SessionRecord; 2]) -> Vec<String> {
    let cuts = [9 * S, 60 * S];
    let sessions: Vec<Session<'_>> =
        records.iter().zip(cuts).map(|(record, cut_us)| Session { record, cut_us }).collect();
    judge(call, &sessions).problems
}

fn everything() -> Vec<ItemRecord> {
    vec![
        told(ItemKind::Agent, GREETING),
        told(ItemKind::Caller, "Call 0.0, line 0."),
        told(ItemKind::Agent, "I have heard you:"),
        told(ItemKind::System, "The call continues."),
    ]
}

#[test]
fn a_session_that_was_told_everything_passes() {
    assert_eq!(problems(&call(), &sessions(everything())), [""; 0]);
    let summary = "The agent said: Hello, who is calling?\nThe caller said: Call 0.0, line 0.";
    let summed_up = vec![told(ItemKind::System, summary)];
    assert_eq!(problems(&call(), &sessions(summed_up)), [""; 0]);
}

#[test]
fn each_turn_that_is_missing_is_found_out() {
    for missing in 0..3 {
        let mut items = everything();
        items.remove(missing);
        assert_eq!(problems(&call(), &sessions(items)).len(), 1, "{missing}");
    }
}

#[test]
fn words_that_nobody_heard_are_found_out() {
    let mut items = everything();
    items[2].text = "I have heard you: Call 0.0, line 0.".into();
    let found = problems(&call(), &sessions(items));
    assert!(found[0].contains("more than was heard"), "{found:?}");
}

#[test]
fn another_order_is_found_out() {
    let mut items = everything();
    items.insert(1, told(ItemKind::Caller, "Call 0.0, line 1."));
    let found = problems(&call(), &sessions(items));
    assert!(found[0].contains("in the order [1, 0]"), "{found:?}");
}

#[test]
fn a_second_greeting_is_found_out() {
    let mut records = sessions(everything());
    let again = ResponseRecord { greeting: true, at_us: 11 * S, ..ResponseRecord::default() };
    records[1].responses.push(again);
    assert_eq!(problems(&call(), &records).len(), 1);
    let mut call = call();
    call.plays[0].heard_ms = 60;
    call.plays[0].until_us = 2 * S;
    let mut items = everything();
    items.remove(0);
    records[1].items = items;
    assert_eq!(problems(&call, &records), [""; 0]);
}

#[test]
fn another_end_is_found_out() {
    let mut call = call();
    call.record.notes.pop();
    call.record.streams[0].end = Some(StreamEnd::Closed { code: 1000 });
    assert_eq!(problems(&call, &sessions(everything())).len(), 2);
}

#[test]
fn what_was_on_its_way_at_the_cut_may_be_lost() {
    let mut records = sessions(everything());
    records[1].items.remove(1);
    records[0].items[0].written_at_us = Some(9 * S - 100_000);
    assert_eq!(problems(&call(), &records), [""; 0]);
}
