//! The agent hangs up: not before its goodbye was heard to the last sound.

use super::super::checks::{Check, check, common, ended, heard_whole, resume};
use super::super::follow::Seen;
use super::super::scene::Play;
use super::super::{Audio, call};

/// The caller says goodbye at once, the agent too.
pub(crate) fn play() -> Play {
    Play {
        about: "the agent hangs up, once its goodbye was heard",
        script: crate::model::Script {
            greeting: call::greeting(),
            turns: vec![call::turn(3, call::agent(3).then_calls("hang_up"))],
            more: crate::model::Answer::words("Is there anything else?"),
        },
        caller: vec![call::listen(400), call::say(3)],
        tools: r#"{ kind = "hang_up" }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge,
    }
}

/// The recording proves the goodbye, byte by byte where the bytes pass untouched.
fn judge(seen: &Seen) -> Vec<Check> {
    let mut checks = vec![
        check("the agent hung up, and Twilio's status is completed", ended(seen, "agent_hung_up")),
        check("the goodbye was heard to its end", heard_whole(seen)),
    ];
    if seen.audio == Audio::Mulaw {
        checks.push(check("the recording has every sample of the goodbye", recorded(seen)));
    }
    checks.push(check("resume was asked and answered <Hangup/>", resume(seen, "<Hangup/>")));
    checks.extend(common(seen));
    checks
}

/// Finds the goodbye in what the phone played.
fn recorded(seen: &Seen) -> Result<(), String> {
    let goodbye = call::agent(3).clip().load().map_err(|error| error.to_string())?;
    let mut wanted = Vec::new();
    codec::g711::ulaw_decode(goodbye.ulaw(), &mut wanted);
    let found = seen.recording.agent.windows(wanted.len()).any(|heard| heard == wanted);
    if found { Ok(()) } else { Err("it is not in there as one piece".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::follow::Recording;

    #[test]
    fn a_goodbye_that_lacks_its_last_sample_is_found_out() {
        let goodbye = call::agent(3).clip().load().unwrap();
        let mut heard = vec![0; 999];
        codec::g711::ulaw_decode(goodbye.ulaw(), &mut heard);
        let recording = |agent: Vec<i16>| Recording { agent, ..Recording::default() };
        let whole = Seen { recording: recording(heard.clone()), ..Seen::default() };
        assert_eq!(recorded(&whole), Ok(()));
        heard.pop();
        heard.extend([1; 50]);
        let cut = Seen { recording: recording(heard), ..Seen::default() };
        assert!(recorded(&cut).is_err());
    }
}
