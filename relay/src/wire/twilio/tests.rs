use proptest::prelude::*;

use super::*;
use crate::call::input::Audio;

/// What a message means, in words.
fn meaning(text: &str) -> String {
    let mut meaning = String::from("nothing");
    read(text, |event| {
        meaning = if let CallerEvent::Media { at_ms, chunk, audio: Audio::Base64(payload) } = event
        {
            format!("media {chunk} at {at_ms}: {payload}")
        } else {
            format!("{event:?}")
        };
    });
    meaning
}

const MEDIA: &str = r#"{"event":"media","sequenceNumber":"4","streamSid":"MZ1","media":{"track":"inbound","chunk":"3","timestamp":"60","payload":"//7+/Q=="}}"#;

#[test]
fn media_is_read_in_place() {
    assert!(scan(MEDIA).is_some());
    assert_eq!(meaning(MEDIA), "media 3 at 60: //7+/Q==");
}

#[test]
fn numbers_may_be_numbers_and_fields_may_come_in_any_order() {
    let text = r#"{"media":{"payload":"AAAA","timestamp":60,"chunk":3},"streamSid":"MZ1","event":"media"}"#;
    assert!(scan(text).is_some());
    assert_eq!(meaning(text), "media 3 at 60: AAAA");
}

#[test]
fn what_the_cursor_does_not_know_is_read_all_the_same() {
    for text in [
        r#"{ "event": "media", "media": { "chunk": "3", "timestamp": "60", "payload": "AAAA" } }"#,
        r#"{"event":"media","new":{"a":[1,"}"]},"media":{"chunk":3,"timestamp":60,"payload":"AAAA","x":null}}"#,
        r#"{"\u0065vent":"media","media":{"chunk":"3","timestamp":"60","payload":"AA\u0041A"}}"#,
    ] {
        assert!(scan(text).is_none(), "{text}");
        assert_eq!(meaning(text), "media 3 at 60: AAAA", "{text}");
    }
    let slashes = MEDIA.replace("//7+", r"\/\/7+");
    assert_eq!(meaning(&slashes), "media 3 at 60: //7+/Q==");
}

#[test]
fn a_mark_is_read_in_place_and_by_serde_alike() {
    let mark = r#"{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"m17"}}"#;
    assert!(scan(mark).is_some());
    assert_eq!(meaning(mark), "Mark(MarkId(17))");
    let spaced = mark.replace(":", ": ");
    assert!(scan(&spaced).is_none());
    assert_eq!(meaning(&spaced), "Mark(MarkId(17))");
    for name in ["17", "m", "m-1", "mark"] {
        assert_eq!(meaning(&mark.replace("m17", name)), "Malformed", "{name}");
    }
    // The body of one event under the name of another.
    assert_eq!(meaning(&mark.replace("\"mark\",", "\"media\",")), "Malformed");
}

#[test]
fn payloads_are_checked() {
    for bad in ["AAA", "AAAA=", "A===", "AA=A", "A\u{e4}AA", "AAA-", "AAAA\n", "AB==CD=="] {
        let text = MEDIA.replace("//7+/Q==", bad);
        assert_eq!(meaning(&text), "Malformed", "{bad:?}");
    }
    let longest = MEDIA.replace("//7+/Q==", &"AAAA".repeat(16_000 / 3));
    assert!(meaning(&longest).starts_with("media"));
    let longer = MEDIA.replace("//7+/Q==", &"AAAA".repeat(16_000 / 3 + 1));
    assert_eq!(meaning(&longer), "Malformed");
}

#[test]
fn other_tracks_and_empty_payloads_mean_nothing() {
    assert_eq!(meaning(&MEDIA.replace("inbound", "outbound")), "nothing");
    assert_eq!(meaning(&MEDIA.replace("//7+/Q==", "")), "nothing");
}

#[test]
fn other_events_are_read() {
    for (text, expected) in [
        (
            r#"{"event":"mark","sequenceNumber":"9","streamSid":"MZ1","mark":{"name":"m42"}}"#,
            "Mark(MarkId(42))",
        ),
        (
            r##"{"event":"dtmf","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"#"}}"##,
            "Key('#')",
        ),
        (
            r#"{"event":"stop","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}"#,
            "Stopped",
        ),
        (r#"{"event":"stop"}"#, "Stopped"),
        (r#"{"event":"weather","media":5}"#, "nothing"),
    ] {
        assert_eq!(meaning(text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_is_malformed() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"event":5}"#,
        r#"{"event":"media"}"#,
        r#"{"event":"media","media":{"chunk":"x","timestamp":"60","payload":"AAAA"}}"#,
        r#"{"event":"media","media":{"chunk":-1,"timestamp":"60","payload":"AAAA"}}"#,
        r#"{"event":"media","media":{"chunk":"1","timestamp":"60"}}"#,
        r#"{"event":"mark","mark":{"name":"theirs"}}"#,
        r#"{"event":"mark","mark":{"name":"m99999999999"}}"#,
        r#"{"event":"dtmf","dtmf":{"digit":"12"}}"#,
        r#"{"event":"dtmf","dtmf":{"digit":"x"}}"#,
        r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#,
        r#"{"event":"start","start":{}}"#,
    ] {
        assert_eq!(meaning(text), "Malformed", "{text}");
    }
    assert_eq!(meaning(&format!("{MEDIA}x")), "Malformed");
}

#[test]
fn exactly_the_documented_fields_are_written() {
    let wire = Twilio::new("MZ1");
    let written = |message: CallerMessage<'_>| {
        let mut text = Vec::new();
        wire.write(&message, &mut text);
        String::from_utf8(text).unwrap()
    };
    assert_eq!(
        written(CallerMessage::Media(Audio::Ulaw(&[0xFF, 0xFE, 0x7F]))),
        r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//5/"}}"#
    );
    assert_eq!(
        written(CallerMessage::Mark(MarkId(1_000_001))),
        r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"m1000001"}}"#
    );
    assert_eq!(written(CallerMessage::Clear), r#"{"event":"clear","streamSid":"MZ1"}"#);
}

#[test]
fn a_hostile_stream_id_is_escaped() {
    let mut text = Vec::new();
    Twilio::new("MZ\"},\u{1}").write(&CallerMessage::Clear, &mut text);
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["streamSid"], "MZ\"},\u{1}");
}

proptest! {
    #[test]
    fn the_cursor_never_reads_what_serde_would_not(at in 0..MEDIA.len(), byte in any::<char>()) {
        let mut chars: Vec<char> = MEDIA.chars().collect();
        chars[at] = byte;
        let text: String = chars.into_iter().collect();
        if let Some(Scanned::Media(media)) = scan(&text) {
            let json: serde_json::Value = match serde_json::from_str(&text) {
                Ok(json) => json,
                // Only a payload may hold what JSON forbids, and its check refuses it.
                Err(_) => {
                    prop_assert!(codec::base64::check(media.payload.as_bytes()).is_err());
                    return Ok(());
                }
            };
            prop_assert_eq!(&json["event"], "media");
            prop_assert_eq!(&json["media"]["payload"], media.payload.as_ref());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", keep in 0..MEDIA.len()) {
        let _ = meaning(&text);
        let _ = meaning(&format!("{}{text}", &MEDIA[..keep]));
    }
}
