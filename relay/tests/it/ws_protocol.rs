//! The cases of RFC 6455 that the Autobahn testsuite asks of an implementation, for both roles,
//! each in one piece, cut in two at every byte, and byte by byte.

use relay::ws::Role;

use crate::ws_peer::{
    BINARY, BOTH, CLOSE, CONTINUATION, FIN, Observed, PING, PONG, Said, TEXT, converse, frame,
    goodbye,
};

/// What the peer sends, and what must come of it.
struct Case {
    name: String,
    /// Frames: first byte and payload; sent masked or not as our role demands.
    frames: Vec<(u8, Vec<u8>)>,
    expected: Observed,
}

impl Case {
    fn new(name: impl Into<String>, frames: &[(u8, &[u8])]) -> Self {
        let frames = frames.iter().map(|(first, payload)| (*first, payload.to_vec())).collect();
        let expected = Observed {
            said: Vec::new(),
            ending: "ended without a close frame".into(),
            answers: Vec::new(),
        };
        Self { name: name.into(), frames, expected }
    }

    fn says(mut self, text: &str) -> Self {
        self.expected.said.push(Said::Text(text.into()));
        self
    }

    fn says_bytes(mut self, bytes: &[u8]) -> Self {
        self.expected.said.push(Said::Binary(bytes.into()));
        self
    }

    fn answers(mut self, opcode: u8, payload: &[u8]) -> Self {
        self.expected.answers.push((FIN | opcode, payload.into()));
        self
    }

    fn closed(mut self, code: u16, reason: &str) -> Self {
        self.expected.said.push(Said::Closed(code, reason.into()));
        self.expected.ending = format!("closed by the peer with {code}");
        self.answers(CLOSE, &if code == 1005 { vec![] } else { goodbye(code, "") })
    }

    fn fails(mut self, code: u16, why: &str) -> Self {
        self.expected.ending = format!("broken by the peer: {why}");
        self.answers(CLOSE, &goodbye(code, ""))
    }

    fn bytes(&self, role: Role) -> Vec<u8> {
        self.frames.iter().flat_map(|(first, payload)| frame(role, *first, payload)).collect()
    }
}

/// Checks a case in both roles for every cut. Long cases are cut around their ends and at a
/// sample of the bytes between.
async fn check(case: &Case) {
    for role in BOTH {
        let bytes = case.bytes(role);
        let expected = &case.expected;
        let whole = converse(role, &[&bytes], false).await;
        assert_eq!(&whole, expected, "{} as {role:?}, whole", case.name);
        let cuts = (0..=bytes.len()).filter(|cut| {
            bytes.len() < 400 || *cut < 20 || bytes.len() - cut < 20 || cut % 4_999 == 0
        });
        for cut in cuts {
            let (head, tail) = bytes.split_at(cut);
            let after_handshake = converse(role, &[head, tail], true).await;
            assert_eq!(&after_handshake, expected, "{} as {role:?}, early to {cut}", case.name);
            let in_two = converse(role, &[head, tail], false).await;
            assert_eq!(&in_two, expected, "{} as {role:?}, cut at {cut}", case.name);
        }
        if bytes.len() < 400 {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let by_byte = converse(role, &single, false).await;
            assert_eq!(&by_byte, expected, "{} as {role:?}, byte by byte", case.name);
        }
    }
}

async fn check_all(cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        check(&case).await;
    }
}

#[tokio::test]
async fn messages_of_every_kind_of_length_arrive_whole() {
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 70_000] {
        let text = "*".repeat(length);
        check_all([
            Case::new(format!("text of {length}"), &[(FIN | TEXT, text.as_bytes())]).says(&text),
            Case::new(format!("bytes of {length}"), &[(FIN | BINARY, text.as_bytes())])
                .says_bytes(text.as_bytes()),
        ])
        .await;
    }
}

#[tokio::test]
async fn a_length_may_be_written_longer_than_needed() {
    for role in BOTH {
        for wide in [&[126, 0, 2][..], &[127, 0, 0, 0, 0, 0, 0, 0, 2]] {
            let mut bytes = vec![FIN | TEXT];
            bytes.extend_from_slice(wide);
            if role == Role::Server {
                bytes[1] |= 0x80;
                bytes.extend_from_slice(&[0; 4]);
            }
            bytes.extend_from_slice(b"ok");
            let observed = converse(role, &[&bytes], false).await;
            assert_eq!(observed.said, [Said::Text("ok".into())]);
        }
    }
}

#[tokio::test]
async fn a_length_with_its_top_bit_set_is_refused() {
    for role in BOTH {
        let masked = if role == Role::Server { 0x80 } else { 0 };
        let bytes = [FIN | BINARY, masked | 127, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let observed = converse(role, &[head, tail], true).await;
            assert_eq!(observed.ending, "broken by the peer: a length with its top bit set");
            assert_eq!(observed.answers, [(FIN | CLOSE, goodbye(1002, ""))]);
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_by_its_header() {
    for role in BOTH {
        let masked = if role == Role::Server { 0x80 } else { 0 };
        for length in [70_001_u64, 1 << 40, (1 << 63) - 1] {
            let mut bytes = vec![FIN | TEXT, masked | 127];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
            let observed = converse(role, &[&bytes], false).await;
            assert_eq!(observed.ending, "broken by the peer: a message that is too long");
            assert_eq!(observed.answers, [(FIN | CLOSE, goodbye(1009, ""))]);
        }
    }
    let (half, rest) = (vec![b'x'; 35_000], vec![b'x'; 35_001]);
    let whole = "x".repeat(70_000);
    check_all([
        Case::new("fragments up to the bound", &[(TEXT, &half), (FIN | CONTINUATION, &half)])
            .says(&whole),
        Case::new("fragments above the bound", &[(TEXT, &half), (FIN | CONTINUATION, &rest)])
            .fails(1009, "a message that is too long"),
    ])
    .await;
}

#[tokio::test]
async fn pings_are_answered_in_order_and_pongs_change_nothing() {
    let long = [0xFE; 125];
    let ten: Vec<(u8, &[u8])> = vec![(FIN | PING, b"payload"); 10];
    let mut answered = Case::new("ten pings", &ten);
    for _ in 0..10 {
        answered = answered.answers(PONG, b"payload");
    }
    check_all([
        Case::new("empty ping", &[(FIN | PING, b"")]).answers(PONG, b""),
        Case::new("ping with text", &[(FIN | PING, b"Hello")]).answers(PONG, b"Hello"),
        Case::new("ping with bytes", &[(FIN | PING, &[0, 0xFF, 0xFE, 0x80])])
            .answers(PONG, &[0, 0xFF, 0xFE, 0x80]),
        Case::new("ping of 125", &[(FIN | PING, &long)]).answers(PONG, &long),
        Case::new("ping of 126", &[(FIN | PING, &[0xFE; 126])])
            .fails(1002, "a control frame that is too long"),
        Case::new("pongs nobody asked for", &[(FIN | PONG, b""), (FIN | PONG, b"x")]),
        Case::new("pong, ping", &[(FIN | PONG, b"unsolicited"), (FIN | PING, b"one")])
            .answers(PONG, b"one"),
        answered,
    ])
    .await;
}

#[tokio::test]
async fn reserved_bits_are_refused_wherever_they_stand() {
    let why = "a reserved bit is set";
    for bits in 1..8_u8 {
        let bits = bits << 4;
        check_all([
            Case::new("first", &[(FIN | bits | TEXT, b"x")]).fails(1002, why),
            Case::new("behind a text", &[(FIN | TEXT, b"x"), (FIN | bits | TEXT, b"y")])
                .says("x")
                .fails(1002, why),
            Case::new("on a ping", &[(FIN | bits | PING, b"")]).fails(1002, why),
            Case::new("on a close", &[(FIN | bits | CLOSE, b"")]).fails(1002, why),
        ])
        .await;
    }
}

#[tokio::test]
async fn reserved_opcodes_are_refused() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let why = "an opcode that does not exist";
        check_all([
            Case::new(format!("{opcode:x}"), &[(FIN | opcode, b"")]).fails(1002, why),
            Case::new(
                format!("{opcode:x} behind others"),
                &[(FIN | TEXT, b"x"), (FIN | PING, b""), (FIN | opcode, b"y"), (FIN | PING, b"")],
            )
            .says("x")
            .answers(PONG, b"")
            .fails(1002, why),
        ])
        .await;
    }
}

#[tokio::test]
async fn fragments_are_joined_and_control_frames_may_stand_between() {
    check_all([
        Case::new("two", &[(TEXT, b"frag"), (FIN | CONTINUATION, b"ment")]).says("fragment"),
        Case::new("empty ones", &[(TEXT, b""), (CONTINUATION, b""), (FIN | CONTINUATION, b"")])
            .says(""),
        Case::new("an empty start", &[(TEXT, b""), (FIN | CONTINUATION, b"x")]).says("x"),
        Case::new("an empty end", &[(BINARY, b"x"), (FIN | CONTINUATION, b"")]).says_bytes(b"x"),
        Case::new(
            "ping between",
            &[(TEXT, b"a"), (FIN | PING, b"p"), (FIN | CONTINUATION, b"b"), (FIN | TEXT, b"c")],
        )
        .says("ab")
        .says("c")
        .answers(PONG, b"p"),
        Case::new(
            "many pings between",
            &[
                (TEXT, b"1"),
                (CONTINUATION, b"2"),
                (FIN | PING, b"p1"),
                (CONTINUATION, b"3"),
                (FIN | PING, b"p2"),
                (FIN | CONTINUATION, b"4"),
            ],
        )
        .says("1234")
        .answers(PONG, b"p1")
        .answers(PONG, b"p2"),
        Case::new("close between", &[(TEXT, b"a"), (FIN | CLOSE, &goodbye(1000, ""))])
            .closed(1000, ""),
    ])
    .await;
}

#[tokio::test]
async fn broken_fragments_are_refused() {
    let (stray, mixed) = ("a continuation of nothing", "a message within the fragments of another");
    check_all([
        Case::new("last of nothing", &[(FIN | CONTINUATION, b"x")]).fails(1002, stray),
        Case::new("next of nothing", &[(CONTINUATION, b"x"), (FIN | CONTINUATION, b"")])
            .fails(1002, stray),
        Case::new("after a whole text", &[(FIN | TEXT, b"x"), (FIN | CONTINUATION, b"y")])
            .says("x")
            .fails(1002, stray),
        Case::new(
            "after the last",
            &[(TEXT, b"x"), (FIN | CONTINUATION, b"y"), (FIN | CONTINUATION, b"z")],
        )
        .says("xy")
        .fails(1002, stray),
        Case::new("text within", &[(TEXT, b"x"), (FIN | TEXT, b"y")]).fails(1002, mixed),
        Case::new("bytes within", &[(BINARY, b"x"), (FIN | BINARY, b"y")]).fails(1002, mixed),
        Case::new("a fragment within", &[(TEXT, b"x"), (BINARY, b"y")]).fails(1002, mixed),
        Case::new("a ping in fragments", &[(PING, b"x"), (FIN | CONTINUATION, b"y")])
            .fails(1002, "a control frame in fragments"),
        Case::new("a pong in fragments", &[(PONG, b"")])
            .fails(1002, "a control frame in fragments"),
        Case::new("a close in fragments", &[(CLOSE, b"")])
            .fails(1002, "a control frame in fragments"),
    ])
    .await;
}

#[tokio::test]
async fn text_that_is_utf8_arrives_however_it_is_cut() {
    let texts = [
        "Hello-µ@ßöäüàá-UTF-8!!",
        "κόσμε",
        "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{fff}\u{ffff}\u{10000}\u{10ffff}",
        "\u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{feff}",
        "𠜎𠜱𠝹",
    ];
    for text in texts {
        check(&Case::new(text, &[(FIN | TEXT, text.as_bytes())]).says(text)).await;
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let frames = [(TEXT, head), (FIN | CONTINUATION, tail)];
            let name = format!("{text} fragmented at {cut}");
            let case = Case::new(name, &frames).says(text);
            for role in BOTH {
                assert_eq!(converse(role, &[&case.bytes(role)], false).await, case.expected);
            }
        }
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused() {
    let broken: [&[u8]; 21] = [
        b"\x80",
        b"\xBF",
        b"\xC3",
        b"\xC3\x28",
        b"\xE2\x82",
        b"\xE2\x28\xA1",
        b"\xF0\x90\x8C",
        b"\xF0\x28\x8C\xBC",
        b"\xC0\xAF",
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xF8\x88\x80\x80\x80",
        b"\xFC\x84\x80\x80\x80\x80",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xED\xA0\x80\xED\xB0\x80",
        b"\xF4\x90\x80\x80",
        b"\xF5",
        b"\xFE",
        b"\xFF",
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
    ];
    let why = "text that is not UTF-8";
    for text in broken {
        let wrapped = [b"ok ", text].concat();
        let name = format!("{text:x?}");
        check(&Case::new(&name, &[(FIN | TEXT, &wrapped)]).fails(1007, why)).await;
        check(&Case::new(&name, &[(TEXT, b"ok"), (FIN | CONTINUATION, text)]).fails(1007, why))
            .await;
        // Bytes may be anything.
        check(&Case::new(&name, &[(FIN | BINARY, text)]).says_bytes(text)).await;
        let reason = [&1000_u16.to_be_bytes()[..], text].concat();
        check(&Case::new(&name, &[(FIN | CLOSE, &reason)]).fails(1007, why)).await;
    }
}

#[tokio::test]
async fn text_that_cannot_become_utf8_is_refused_before_its_last_fragment() {
    for role in BOTH {
        let bytes = frame(role, TEXT, b"\xCE\xBA\xF4\x90");
        let observed = converse(role, &[&bytes], false).await;
        assert_eq!(observed.ending, "broken by the peer: text that is not UTF-8");
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let longest = "*".repeat(123);
    check_all([
        Case::new("no code", &[(FIN | CLOSE, b"")]).closed(1005, ""),
        Case::new("a reason", &[(FIN | CLOSE, &goodbye(1000, "bye"))]).closed(1000, "bye"),
        Case::new("the longest", &[(FIN | CLOSE, &goodbye(1000, &longest))]).closed(1000, &longest),
        Case::new("too long", &[(FIN | CLOSE, &[3; 126])])
            .fails(1002, "a control frame that is too long"),
        Case::new("one byte", &[(FIN | CLOSE, &[3])])
            .fails(1002, "a close frame that means nothing"),
        Case::new("a text before", &[(FIN | TEXT, b"x"), (FIN | CLOSE, &goodbye(1001, ""))])
            .says("x")
            .closed(1001, ""),
        Case::new(
            "text, ping and a second close behind it",
            &[
                (FIN | CLOSE, &goodbye(1000, "")),
                (FIN | TEXT, b"x"),
                (FIN | PING, b""),
                (FIN | CLOSE, b""),
            ],
        )
        .closed(1000, ""),
    ])
    .await;
}

#[tokio::test]
async fn close_codes_are_taken_or_refused_as_the_registry_says() {
    let valid = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    for code in valid {
        check(&Case::new(format!("{code}"), &[(FIN | CLOSE, &goodbye(code, ""))]).closed(code, ""))
            .await;
    }
    let invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    for code in invalid {
        let why = "a close frame that means nothing";
        let case = Case::new(format!("{code}"), &[(FIN | CLOSE, &goodbye(code, ""))]);
        check(&case.fails(1002, why)).await;
    }
}

#[tokio::test]
async fn a_server_wants_masks_and_a_client_wants_none() {
    for (role, other) in [(Role::Server, Role::Client), (Role::Client, Role::Server)] {
        for first in [FIN | TEXT, FIN | PING, FIN | CLOSE] {
            let bytes = frame(other, first, b"");
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                let observed = converse(role, &[head, tail], true).await;
                assert_eq!(observed.ending, "broken by the peer: masked by the wrong side");
                assert_eq!(observed.answers, [(FIN | CLOSE, goodbye(1002, ""))]);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_no_message() {
    for role in BOTH {
        let whole = frame(role, FIN | TEXT, b"hello");
        for cut in 0..whole.len() {
            let observed = converse(role, &[&whole[..cut]], false).await;
            assert_eq!(observed.said, []);
            assert_eq!(observed.ending, "ended without a close frame");
        }
    }
}
