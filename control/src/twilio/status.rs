//! What the carrier says about calls and streams without asking anything.
//!
//! A call's last word ends it, unless it has ended already. Words come in any order, so each is
//! taken by its number. A stream's word changes nothing: relays say the same and more; only an
//! error of a stream that never reached a relay is news.

use link::event::EndReason;

use super::Hook;
use crate::clock;
use crate::error::Problem;
use crate::plane::Plane;
use crate::store::call::{CallEnd, CarrierIds, CarrierWord};

/// A call's status callback.
///
/// # Errors
/// When the database fails.
pub async fn on_call(plane: &Plane, hook: &Hook) -> Result<(), Problem> {
    let carrier = hook.carrier()?;
    let Some(status) = hook.field("CallStatus") else { return Ok(()) };
    let word = CarrierWord {
        status: status.to_owned(),
        seq: hook.field("SequenceNumber").and_then(|text| text.parse().ok()),
        over: over(status),
    };
    let (now, tenant) = (clock::wall(), hook.tenant(plane));
    let known = match plane.store.carrier_word(&tenant, &carrier, &word, now).await {
        Ok(known) => known,
        // The carrier says it a few times and no more: what is known here is written later.
        Err(error) if is_kept(plane, &carrier, &word) => {
            tracing::debug!(error = error.explain(), "a call's end waits for the database");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // A call that is nobody's here is not an error: the number may serve others, too.
    if known.is_none() && name(plane, hook, carrier.clone()).await? {
        plane.store.carrier_word(&tenant, &carrier, &word, now).await?;
    }
    // A slot may be free, or the call is to be dialled again.
    if word.over.is_some() {
        plane.dialler.wake();
    }
    Ok(())
}

/// Whether a call's last word could be kept in memory.
fn is_kept(plane: &Plane, carrier: &CarrierIds, word: &CarrierWord) -> bool {
    let call = plane.standby.call_by_carrier(carrier);
    let over = call.zip(word.over);
    over.is_some_and(|(call, end)| plane.standby.phone_over(&call.id, end, clock::wall()))
}

/// A stream's status callback.
///
/// # Errors
/// When the database fails.
pub async fn on_stream(plane: &Plane, hook: &Hook) -> Result<(), Problem> {
    let carrier = hook.carrier()?;
    // Beginnings and ends are known from the relay, earlier and better.
    if hook.field("StreamEvent") != Some("stream-error") {
        return Ok(());
    }
    let words = hook.field("StreamError").unwrap_or("no reason given");
    // Text from outside goes into an event, not into the log, and not without end.
    let words: String = words.chars().take(WORDS_MAX).collect();
    let now = clock::wall();
    let tenant = hook.tenant(plane);
    let call = plane.store.note_stream_error(&tenant, &carrier, &words, now).await?;
    let call = call.map(|call| call.id.to_string());
    tracing::warn!(call, "the carrier could not open or keep a stream");
    Ok(())
}

/// The first word on an outbound call may come before the REST answer that names it; its address
/// says which call it is.
async fn name(plane: &Plane, hook: &Hook, carrier: CarrierIds) -> Result<bool, Problem> {
    let Some((id, attempt)) = hook.call() else { return Ok(false) };
    let (tenant, now) = (hook.tenant(plane), clock::wall());
    let call = plane.store.name_call(&tenant, &id, attempt, carrier.clone(), now).await?;
    Ok(call.is_some_and(|call| call.carrier == Some(carrier)))
}

/// What the word means for the call; `None` for one that goes on.
pub(crate) fn over(status: &str) -> Option<CallEnd> {
    Some(match status {
        "completed" => CallEnd::Stream(EndReason::CallerHungUp),
        "busy" => CallEnd::Busy,
        "no-answer" => CallEnd::NoAnswer,
        "canceled" => CallEnd::Canceled,
        "failed" => CallEnd::CarrierFailed,
        _ => return None,
    })
}

/// Characters of an error that are kept.
const WORDS_MAX: usize = 300;
