//! What a socket sends: frames of every length, one write a wake, backlogs and their bounds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;

use relay::stream::Stream;
use relay::ws::{Backlog, CloseCode, Role, Socket, SocketError};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ws_peer::{
    BOTH, CLOSE, FIN, LIMITS, Ours, PING, PONG, Said, TEXT, frame, frames_of, goodbye, loopback,
};

#[tokio::test]
async fn texts_of_every_kind_of_length_are_framed_for_the_role() {
    for role in BOTH {
        let (stream, mut peer) = loopback().await;
        let mut ours = Ours::new(stream, role, b"");
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537];
        let receive = async {
            let mut sent = Vec::new();
            peer.read_to_end(&mut sent).await.unwrap();
            peer.shutdown().await.unwrap();
            sent
        };
        let send = async {
            // Several in one wake: each moves its payload into place beside the others.
            lengths[..5].iter().for_each(|length| ours.say(&"é*".repeat(*length)));
            ours.flush_all().await.unwrap();
            for length in &lengths[5..] {
                ours.say(&"*".repeat(*length));
                ours.flush_all().await.unwrap();
            }
            ours.close(CloseCode::NORMAL, "done");
            ours.finish().await;
        };
        let (sent, ()) = tokio::join!(receive, send);
        let seen = frames_of(role, &sent);
        for (frame, length) in seen.iter().zip(&lengths) {
            let unit = if *length <= 127 { "é*" } else { "*" };
            assert_eq!(frame.first, FIN | TEXT);
            assert_eq!(frame.payload, unit.repeat(*length).as_bytes(), "{length}");
        }
        assert_eq!(seen.len(), lengths.len() + 1);
        assert_eq!(seen[8].payload, goodbye(1000, "done"));
    }
}

#[tokio::test]
async fn no_two_frames_share_a_mask() {
    let (stream, mut peer) = loopback().await;
    let mut ours = Ours::new(stream, Role::Client, b"");
    (0..1_000).for_each(|_| ours.say("x"));
    ours.flush_all().await.unwrap();
    drop(ours);
    let mut sent = Vec::new();
    peer.read_to_end(&mut sent).await.unwrap();
    let masks: HashSet<_> = frames_of(Role::Client, &sent).iter().map(|seen| seen.mask).collect();
    // Of 1,000 random numbers of 32 bits, two agree once in 8,600 runs; three never.
    assert!(masks.len() >= 998, "{} different masks", masks.len());
}

#[tokio::test]
async fn nothing_follows_our_close_and_its_reason_fits() {
    for role in BOTH {
        let (stream, mut peer) = loopback().await;
        let mut ours = Ours::new(stream, role, b"");
        ours.say("last words");
        ours.close(CloseCode::POLICY, &"ä".repeat(100));
        ours.close(CloseCode::NORMAL, "too late");
        ours.say("too late");
        ours.socket.ping();
        ours.flush_all().await.unwrap();
        peer.write_all(&frame(role, FIN | PING, b"still there?")).await.unwrap();
        peer.write_all(&frame(role, FIN | TEXT, b"yes")).await.unwrap();
        peer.write_all(&frame(role, FIN | CLOSE, &goodbye(1008, ""))).await.unwrap();
        let mut said = Vec::new();
        while let Ok(messages) = ours.next().await {
            said.extend(messages);
        }
        assert_eq!(said, [Said::Text("yes".into()), Said::Closed(1008, String::new())]);
        peer.shutdown().await.unwrap();
        ours.finish().await;
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).await.unwrap();
        let seen = frames_of(role, &sent);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].payload, b"last words");
        assert_eq!(seen[1].payload, goodbye(1008, &"ä".repeat(61)));
    }
}

#[tokio::test]
async fn frames_that_one_socket_left_never_reach_another_peer() {
    let (stream, _peer) = loopback().await;
    let mut left = Ours::new(stream, Role::Server, b"");
    left.say("for one peer only");
    let (stream, mut peer) = loopback().await;
    let mut next = Socket::new(Stream::Plain(stream), Role::Server, LIMITS, Vec::new());
    next.text(&mut left.out, |text| text.push_str("hello"));
    let mut next = Ours { socket: next, read: left.read, out: left.out };
    next.flush_all().await.unwrap();
    drop(next);
    let mut sent = Vec::new();
    peer.read_to_end(&mut sent).await.unwrap();
    let payloads: Vec<_> =
        frames_of(Role::Server, &sent).into_iter().map(|seen| seen.payload).collect();
    assert_eq!(payloads, [b"hello".to_vec()]);
}

/// A pair whose kernel buffers hold little, so that a backlog is soon reached.
async fn narrow(role: Role) -> (Ours, TcpStream) {
    let (stream, peer) = loopback().await;
    SockRef::from(&stream).set_send_buffer_size(4 << 10).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(4 << 10).unwrap();
    (Ours::new(stream, role, b""), peer)
}

fn line(number: usize) -> String {
    format!("{number:0>1000}")
}

/// Says numbered lines until the socket reports a stall; gives how many.
async fn stall(ours: &mut Ours) -> usize {
    let mut waiting_before = 0;
    for number in 0.. {
        ours.say(&line(number));
        match ours.flush_once().await.unwrap() {
            Backlog::None => assert_eq!(waiting_before, 0, "a backlog vanished unread"),
            Backlog::Waiting(bytes) => {
                assert!(bytes <= LIMITS.stall_bytes && bytes >= waiting_before);
                waiting_before = bytes;
            }
            Backlog::Stalled(bytes) => {
                assert!(bytes > LIMITS.stall_bytes && waiting_before > 0);
                return number + 1;
            }
        }
    }
    unreachable!("numbers do not end")
}

#[tokio::test]
async fn a_peer_that_pauses_stalls_the_socket_and_then_gets_every_frame_in_order() {
    for role in BOTH {
        let (mut ours, mut peer) = narrow(role).await;
        let said = stall(&mut ours).await;
        let receive = async {
            let mut sent = Vec::new();
            peer.read_to_end(&mut sent).await.unwrap();
            sent
        };
        let send = async {
            ours.flush_all().await.unwrap();
            ours.say(&line(said));
            assert_eq!(ours.flush_once().await.unwrap(), Backlog::None, "it keeps up again");
            drop(ours);
        };
        let (sent, ()) = tokio::join!(receive, send);
        let payloads: Vec<_> =
            frames_of(role, &sent).into_iter().map(|seen| seen.payload).collect();
        let expected: Vec<_> = (0..=said).map(|number| line(number).into_bytes()).collect();
        assert!(payloads == expected, "{} of {} lines", payloads.len(), expected.len());
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_at_the_bound() {
    for role in BOTH {
        let (mut ours, _peer) = narrow(role).await;
        stall(&mut ours).await;
        let mut most = 0;
        let error = loop {
            ours.say(&line(0));
            match ours.flush_once().await {
                Ok(Backlog::Stalled(bytes)) => most = most.max(bytes),
                Ok(other) => panic!("{other:?} although nobody read"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SocketError::BacklogFull), "{error}");
        let again = ours.flush_once().await.unwrap_err();
        assert!(matches!(again, SocketError::BacklogFull), "{again}");
        assert!(most <= LIMITS.backlog_bytes_max, "{most} bytes waited");
        assert!(most > LIMITS.backlog_bytes_max - 2_000, "{most} bytes were not too many");
    }
}

#[tokio::test]
async fn pings_of_a_peer_that_does_not_read_pile_up_to_a_bound_and_the_latest_is_answered() {
    for role in BOTH {
        let (mut ours, mut peer) = narrow(role).await;
        let mut said = stall(&mut ours).await;
        // Well above the bound, since the kernel may still find some room.
        while said < 100 {
            ours.say(&line(said));
            said += 1;
        }
        let Backlog::Stalled(before) = ours.flush_once().await.unwrap() else {
            panic!("the stall was over before anybody read");
        };
        for number in 0..500 {
            let ping = frame(role, FIN | PING, format!("{number:0>100}").as_bytes());
            peer.write_all(&ping).await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(ours.here().await.unwrap(), []);
            let Backlog::Stalled(bytes) = ours.flush_once().await.unwrap() else {
                panic!("the stall was over before anybody read");
            };
            assert!(bytes <= before + 1_024, "{bytes} bytes wait, {before} before the pings");
        }
        peer.write_all(&frame(role, FIN | TEXT, b"end")).await.unwrap();
        assert_eq!(ours.next().await.unwrap(), [Said::Text("end".into())]);
        let receive = async {
            let mut sent = Vec::new();
            peer.read_to_end(&mut sent).await.unwrap();
            sent
        };
        let send = async {
            ours.flush_all().await.unwrap();
            drop(ours);
        };
        let (sent, ()) = tokio::join!(receive, send);
        let seen = frames_of(role, &sent);
        assert_eq!(seen.iter().filter(|seen| seen.first == FIN | TEXT).count(), said);
        let last = seen.last().unwrap();
        assert_eq!(
            (last.first, last.payload.as_slice()),
            (FIN | PONG, format!("{:0>100}", 499).as_bytes())
        );
    }
}
