//! A carrier's part, played by `relay doctor`: the beginning of a stream that cannot be let in.

use link::agent::AgentSpec;

/// What Twilio calls itself at a stream's door, to whatever stands before it.
/// Source: Twilio, "Media Streams", handshake of a recorded stream, read 2026-11-20.
pub const USER_AGENT: &str = "Twilio.TmeWs/1.0";

/// A signature that is never right: one that is would have 28 characters.
pub const WRONG_SIGNATURE: &str = "relay-doctor";

/// A `start` whose ticket is none.
#[must_use]
pub fn start() -> String {
    let format =
        serde_json::json!({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1});
    serde_json::json!({
        "event": "start", "sequenceNumber": "1", "streamSid": "MZ00000000000000000000000000000000",
        "start": {
            "streamSid": "MZ00000000000000000000000000000000",
            "accountSid": "AC00000000000000000000000000000000",
            "callSid": "CA00000000000000000000000000000000",
            "tracks": ["inbound"],
            "customParameters": {"ticket": "v4.public.relay-doctor"},
            "mediaFormat": format,
        },
    })
    .to_string()
}

/// An agent of the usual service without a key: where a joined node finds its agents unless
/// control says otherwise.
#[must_use]
pub fn usual_agent() -> AgentSpec {
    let spec = serde_json::json!({
        "name": "usual", "instructions": "x", "provider": {"kind": "openai_realtime"},
    });
    serde_json::from_value(spec).expect("the fields that a spec needs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::opening::{Format, Opening, read};

    #[test]
    fn the_start_is_one_that_is_judged_by_its_ticket() {
        let Opening::Start(start) = read(&start()) else { panic!("not a start") };
        assert_eq!(start.format, Format::Ulaw8k);
        assert!(start.ticket.is_some());
        assert!(crate::wire::door(&usual_agent()).url.starts_with("wss://"));
    }
}
