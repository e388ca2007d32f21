//! Properties: what is said arrives the same for any split, and no bytes break the reader.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::collection::vec;
use proptest::prelude::*;
use relay::ws::Role;
use tokio::io::AsyncWriteExt;
use tokio::runtime;

use crate::ws_peer::{
    BINARY, CONTINUATION, FIN, Ours, PING, PONG, Said, TEXT, converse, frame, loopback,
};

fn run<T>(work: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// A message, and where its payload is cut into fragments.
fn any_message() -> impl Strategy<Value = (Said, Vec<prop::sample::Index>)> {
    let text = prop_oneof![8 => "\\PC{0,40}", 1 => "[a-zé]{0,400}"].prop_map(Said::Text);
    let said = prop_oneof![4 => text, 1 => vec(any::<u8>(), 0..200).prop_map(Said::Binary)];
    (said, vec(any::<prop::sample::Index>(), 0..4))
}

/// The frames of a message, with a ping and a pong between its fragments.
fn frames(role: Role, said: &Said, cuts: &[prop::sample::Index]) -> Vec<u8> {
    let (opcode, payload) = match said {
        Said::Text(text) => (TEXT, text.as_bytes()),
        Said::Binary(bytes) => (BINARY, bytes.as_slice()),
        Said::Pong | Said::Closed(..) => unreachable!("not drawn"),
    };
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.sort_unstable();
    let starts = [&[0], &cuts[..]].concat();
    let ends = [&cuts[..], &[payload.len()]].concat();
    let mut bytes = Vec::new();
    for (number, (start, end)) in starts.iter().zip(&ends).enumerate() {
        let opcode = if number == 0 { opcode } else { CONTINUATION };
        let fin = if number == cuts.len() { FIN } else { 0 };
        bytes.extend(frame(role, fin | opcode, &payload[*start..*end]));
        if number == 0 {
            bytes.extend(frame(role, FIN | PONG, b"?"));
            bytes.extend(frame(role, FIN | PING, b"!"));
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_messages_arrive_the_same_for_any_split(
        role in any_role(),
        messages in vec(any_message(), 0..8),
        splits in vec(1..600_usize, 1..20),
    ) {
        let bytes: Vec<u8> =
            messages.iter().flat_map(|(said, cuts)| frames(role, said, cuts)).collect();
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for length in splits.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*length));
            pieces.push(piece);
            rest = more;
        }
        let observed = run(converse(role, &pieces, false));
        let said: Vec<Said> = messages.iter().map(|(said, _)| said.clone()).collect();
        prop_assert_eq!(observed.said, said);
        let pongs = vec![(FIN | PONG, b"!".to_vec()); messages.len()];
        prop_assert_eq!(observed.answers, pongs);
    }

    #[test]
    fn no_bytes_break_the_reader(role in any_role(), bytes in vec(any::<u8>(), 0..300)) {
        run(converse(role, &[&bytes], true));
    }

    #[test]
    fn no_bytes_behind_a_plausible_header_break_the_reader(
        role in any_role(),
        first in prop_oneof![Just(FIN | TEXT), Just(TEXT), Just(FIN), Just(FIN | 8), Just(0)],
        bytes in vec(any::<u8>(), 0..126),
        then in vec(any::<u8>(), 0..40),
    ) {
        let frames = [frame(role, first, &bytes), then].concat();
        run(converse(role, &[&frame(role, TEXT, b"x"), &frames], true));
        run(converse(role, &[&frames], false));
    }

    #[test]
    fn two_of_our_sockets_understand_each_other(
        texts in vec(prop_oneof![8 => "\\PC{0,300}", 1 => "x{65500,65600}"], 0..6),
    ) {
        run(async {
            let (near, far) = loopback().await;
            let mut server = Ours::new(near, Role::Server, b"");
            let mut client = Ours::new(far, Role::Client, b"");
            for text in &texts {
                let expected = [Said::Text(text.clone())];
                client.say(text);
                let (sent, got) = tokio::join!(client.flush_all(), server.next());
                sent.unwrap();
                assert_eq!(got.unwrap(), expected);
                server.say(text);
                let (sent, got) = tokio::join!(server.flush_all(), client.next());
                sent.unwrap();
                assert_eq!(got.unwrap(), expected);
            }
        });
    }
}

#[tokio::test]
async fn a_frame_in_a_thousand_pieces_arrives_whole() {
    let (stream, mut peer) = loopback().await;
    let mut ours = Ours::new(stream, Role::Server, b"");
    let text = "0123456789".repeat(7_000);
    let bytes = frame(Role::Server, FIN | TEXT, text.as_bytes());
    for piece in bytes.chunks(70) {
        peer.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
        if piece.len() == 70 {
            assert_eq!(ours.here().await.unwrap(), []);
        }
    }
    assert_eq!(ours.next().await.unwrap(), [Said::Text(text)]);
}
