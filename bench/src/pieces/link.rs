//! What passes between relay and control: the ticket of a call, its events.

use std::hint::black_box;

use link::event::{CallEvent, CallRef, NodeEvent, Role, Turn};
use link::frame::Decoder;
use link::id::{AgentName, CallId, EventNumber, Gen, NodeId, TenantId, WallTime};
use link::message::ToControl;
use link::ticket::{Bearer, Claims, KeySet, SigningKey};

use super::{Piece, Work, plain};

/// The pieces of this file.
pub(super) fn pieces() -> Vec<Piece> {
    vec![
        Piece { name: "link/ticket_verify", what: "a ticket's signature and life", set_up: verify },
        Piece { name: "link/event_write", what: "a turn, numbered and framed", set_up: write },
        Piece { name: "link/event_read", what: "the same, taken off the stream", set_up: read },
    ]
}

fn verify() -> Box<dyn Work> {
    // Always the same key: what a signature costs depends on its bits.
    let key = SigningKey::from_bytes("k1", &KEY).expect("an Ed25519 pair");
    let keys = KeySet::new(&[key.verifying()]).expect("a key that was made is one");
    let claims = Claims {
        bearer: Bearer::Carrier { call_sid: "CA0123456789abcdef0123456789abcdef".into() },
        call: CallId::new("c_0190b2c8f3b57c4e9d21aa0e5b6f7788").expect("a sound name"),
        tenant: TenantId::default(),
        node: NodeId::new("fra-1").expect("a sound name"),
        generation: Gen(0),
        agent: AgentName::new("front-desk").expect("a sound name"),
        agent_version: 1,
        jti: "0123456789abcdef0123456789abcdef".into(),
        issued_at: NOW.seconds(),
        expires_at: NOW.seconds() + 60,
    };
    let ticket = key.issue(&claims).expect("the claims fit a ticket");
    plain(move || assert!(keys.verify(black_box(&ticket), NOW).is_ok()))
}

fn write() -> Box<dyn Work> {
    let (message, mut bytes) = (turn(), Vec::new());
    plain(move || {
        bytes.clear();
        assert!(black_box(&message).write(&mut bytes).is_ok());
    })
}

fn read() -> Box<dyn Work> {
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    turn().write(&mut bytes).expect("a turn fits a frame");
    plain(move || {
        decoder.push(black_box(&bytes));
        let frame = decoder.next_frame().expect("the frame is sound").expect("and whole");
        assert!(ToControl::read(&frame).is_ok());
    })
}

fn turn() -> ToControl {
    let turn = Turn {
        role: Role::Agent,
        item: "item_DnBqVb9xZ1".into(),
        order: 7,
        text: "We are open from nine to six, and on Saturdays until two. Shall I book you in?"
            .into(),
        heard_ms: Some(4_180),
        generated_ms: Some(4_180),
        interrupted: false,
        reply_after_ms: Some(612),
    };
    let call = CallRef {
        id: CallId::new("c_0190b2c8f3b57c4e9d21aa0e5b6f7788").expect("a sound name"),
        tenant: TenantId::default(),
        generation: Gen(0),
    };
    let event = NodeEvent {
        n: EventNumber(1_234),
        at: NOW,
        call: Some(call),
        event: CallEvent::Turn(turn),
    };
    ToControl::Events { events: vec![event] }
}

const NOW: WallTime = WallTime(1_800_000_000_000_000);

/// Secret and public half of a key that everybody knows.
/// Source: RFC 8032, section 7.1, test 1.
const KEY: [u8; 64] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
