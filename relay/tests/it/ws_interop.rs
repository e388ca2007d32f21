//! Our sockets against tokio-tungstenite, an implementation of others, in both roles.

use futures_util::{SinkExt, StreamExt};
use relay::ws::{CloseCode, Role};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{
    CloseCode as TheirCode, Data, OpCode,
};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Message, Role as TheirRole};

use crate::ws_peer::{BOTH, Ours, Said, loopback};

const LENGTHS: [usize; 11] = [0, 1, 7, 125, 126, 127, 400, 65_535, 65_536, 65_537, 70_000];

async fn pair(role: Role) -> (Ours, WebSocketStream<TcpStream>) {
    let (stream, peer) = loopback().await;
    let theirs = match role {
        Role::Server => TheirRole::Client,
        Role::Client => TheirRole::Server,
    };
    let theirs = WebSocketStream::from_raw_socket(peer, theirs, None).await;
    (Ours::new(stream, role, b""), theirs)
}

fn text(length: usize) -> String {
    ('a'..='z').cycle().take(length).collect()
}

#[tokio::test]
async fn they_understand_what_we_say() {
    for role in BOTH {
        let (mut ours, mut theirs) = pair(role).await;
        let speak = async {
            // A wake for each, and then all that a backlog may hold in one.
            for length in LENGTHS {
                ours.say(&text(length));
                ours.flush_all().await.unwrap();
            }
            LENGTHS[..7].iter().for_each(|length| ours.say(&text(*length)));
            ours.close(CloseCode::GOING_AWAY, "draining");
            ours.flush_all().await.unwrap();
            let said = ours.next().await.unwrap();
            ours.finish().await;
            said
        };
        let listen = async move {
            let mut heard = Vec::new();
            while let Some(Ok(message)) = theirs.next().await {
                heard.push(message);
            }
            // Our end waits for the end of the stream.
            drop(theirs);
            heard
        };
        let (said, heard) = tokio::join!(speak, listen);
        assert_eq!(said, [Said::Closed(1001, "draining".into())], "they repeat our reason");
        let mut expected: Vec<_> = LENGTHS.iter().map(|n| Message::text(text(*n))).collect();
        expected.extend(LENGTHS[..7].iter().map(|n| Message::text(text(*n))));
        let goodbye = CloseFrame { code: TheirCode::Away, reason: "draining".into() };
        expected.push(Message::Close(Some(goodbye)));
        assert!(heard == expected, "{} of {} messages", heard.len(), expected.len());
    }
}

#[tokio::test]
async fn we_understand_what_they_say() {
    for role in BOTH {
        let (mut ours, mut theirs) = pair(role).await;
        let fragment = |opcode, text: &'static str, is_last| {
            Message::Frame(Frame::message(text, OpCode::Data(opcode), is_last))
        };
        let speak = async move {
            for length in LENGTHS {
                theirs.feed(Message::text(text(length))).await.unwrap();
                theirs.feed(Message::binary(text(length))).await.unwrap();
            }
            theirs.feed(fragment(Data::Text, "fra", false)).await.unwrap();
            theirs.feed(Message::Ping("between".into())).await.unwrap();
            theirs.feed(fragment(Data::Continue, "gme", false)).await.unwrap();
            theirs.feed(fragment(Data::Continue, "nts", true)).await.unwrap();
            let goodbye = CloseFrame { code: TheirCode::Normal, reason: "bye".into() };
            theirs.close(Some(goodbye)).await.unwrap();
            let mut heard = Vec::new();
            while let Some(Ok(message)) = theirs.next().await {
                heard.push(message);
            }
            // Our end waits for the end of the stream.
            drop(theirs);
            heard
        };
        let listen = async {
            let mut said = Vec::new();
            while let Ok(messages) = ours.next().await {
                said.extend(messages);
            }
            ours.finish().await;
            said
        };
        let (heard, said) = tokio::join!(speak, listen);
        let mut expected = Vec::new();
        for length in LENGTHS {
            expected.push(Said::Text(text(length)));
            expected.push(Said::Binary(text(length).into()));
        }
        expected.push(Said::Text("fragments".into()));
        expected.push(Said::Closed(1000, "bye".into()));
        assert!(said == expected, "{} of {} messages", said.len(), expected.len());
        let answer = CloseFrame { code: TheirCode::Normal, reason: "".into() };
        assert_eq!(heard, [Message::Pong("between".into()), Message::Close(Some(answer))]);
    }
}

#[tokio::test]
async fn our_ping_is_answered_by_them() {
    for role in BOTH {
        let (mut ours, mut theirs) = pair(role).await;
        ours.socket.ping();
        ours.flush_all().await.unwrap();
        assert_eq!(theirs.next().await.unwrap().unwrap(), Message::Ping("".into()));
        theirs.send(Message::text("and a text")).await.unwrap();
        let mut said = Vec::new();
        while said.len() < 2 {
            said.extend(ours.next().await.unwrap());
        }
        // Which of them answers first is their library's affair.
        assert!(said.contains(&Said::Pong), "{said:?}");
        assert!(said.contains(&Said::Text("and a text".into())), "{said:?}");
    }
}
