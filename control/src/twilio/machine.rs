//! Who has picked up: the carrier listens beside the call, and says what it heard.
//!
//! The word is an event, and what follows is the call's plan (`dialer/plan.rs`). It comes after the
//! stream has begun, some four seconds into the call; the agent speaks meanwhile.
//! Source: Twilio, "Answering Machine Detection", read 2026-11-20.

use super::Hook;
use super::twiml::{Twiml, Verb};
use crate::clock;
use crate::dialer::plan::OnMachine;
use crate::error::Problem;
use crate::plane::Plane;
use crate::store::Ending;
use crate::store::call::{AnsweredBy, Call, CallEnd};
use crate::twilio::rest::RestError;

/// What the carrier has heard.
///
/// # Errors
/// When the database fails.
pub async fn on_answer(plane: &Plane, hook: &Hook) -> Result<(), Problem> {
    let carrier = hook.carrier()?;
    let Some(by) = hook.field("AnsweredBy").map(answered_by) else { return Ok(()) };
    let (tenant, now) = (hook.tenant(plane), clock::wall());
    let heard = plane.store.note_answered_by(&tenant, &carrier, by, now).await?;
    // A call that is nobody's here, or a word that came before.
    let Some((call, policy)) = heard else { return Ok(()) };
    tracing::info!(call = %call.id, by = by.as_str(), "somebody has picked up");
    match (by, policy) {
        (AnsweredBy::Machine | AnsweredBy::Fax, Some(OnMachine::HangUp {}))
        | (AnsweredBy::Fax, Some(OnMachine::LeaveMessage { .. })) => end(plane, &call, None).await,
        (AnsweredBy::Machine, Some(OnMachine::LeaveMessage { text })) => {
            end(plane, &call, Some(text)).await
        }
        (AnsweredBy::Human | AnsweredBy::Unknown, _) | (_, None | Some(OnMachine::Continue {})) => {
            Ok(())
        }
    }
}

/// Ends the call, after these words if there are any. Recorded first: whatever the carrier asks in
/// between is answered with a hang-up.
async fn end(plane: &Plane, call: &Call, words: Option<String>) -> Result<(), Problem> {
    let end = Ending { reason: CallEnd::Machine, detail: None };
    plane.store.end_call(&call.tenant, &call.id, end, clock::wall()).await?;
    let Some(carrier) = &call.carrier else { return Ok(()) };
    let voice = plane.carrier_voice.as_deref();
    let message =
        words.and_then(|words| Twiml(vec![Verb::Say(words), Verb::Hangup]).to_xml_in(voice).ok());
    let done = match message {
        Some(message) => plane.carrier.say_and_end(carrier, &message).await,
        None => plane.carrier.complete(carrier).await,
    };
    plane.metrics.asked(done.as_ref().err().map_or(crate::metrics::Asked::Done, RestError::asked));
    if let Err(error) = done {
        tracing::error!(call = %call.id, %error, "a machine is left talking");
    }
    Ok(())
}

fn answered_by(word: &str) -> AnsweredBy {
    match word {
        "human" => AnsweredBy::Human,
        "fax" => AnsweredBy::Fax,
        word if word.starts_with("machine") => AnsweredBy::Machine,
        _ => AnsweredBy::Unknown,
    }
}
