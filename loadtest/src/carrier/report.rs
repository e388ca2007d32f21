//! What Twilio reports of a call without being asked: callbacks, and the dates in them.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::Exchange;
use super::call::Call;
use super::record::Fault;
use super::sign::Field;
use super::twiml::{Method, Stream, Target};
use crate::clock::wall_us;

/// Reports a stream's beginning or end.
pub(super) fn report_stream(
    exchange: &Arc<Exchange>,
    call: &Arc<Call>,
    posts: &TaskTracker,
    stream: &Stream,
    (sid, event, error): (&str, &str, Option<&str>),
) {
    let Some(target) = stream.status.clone() else { return };
    let name = stream.name.as_deref().unwrap_or(sid);
    let call_sid = call.read(|record| record.sid.clone());
    let mut fields = vec![
        ("AccountSid", exchange.account.clone()),
        ("CallSid", call_sid),
        ("StreamSid", sid.to_owned()),
        ("StreamName", name.to_owned()),
        ("StreamEvent", event.to_owned()),
        ("Timestamp", iso8601(wall_us())),
    ];
    fields.extend(error.map(|error| ("StreamError", error.to_owned())));
    let form = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    posts.spawn(post(Arc::clone(exchange), Arc::clone(call), target, form));
}

/// Reports something; nobody waits for the answer, but a refusal is in the debugger.
pub(super) async fn post(
    exchange: Arc<Exchange>,
    call: Arc<Call>,
    target: Target,
    form: Vec<Field>,
) {
    let (mut hook, answer) = exchange.asker.ask(&target, form).await;
    // What answers a report is no document, whatever it looks like.
    hook.twiml = None;
    exchange.capture_hook(&hook);
    call.hook(hook);
    if let Err(fault) = answer {
        call.fault(Fault::new(15003, fault.message));
    }
}

/// The target of a callback without further wishes.
pub(crate) fn post_to(url: &str) -> Target {
    Target { url: url.to_owned(), method: Method::Post }
}

/// A date as status callbacks and REST write it.
pub(crate) fn rfc2822(wall_us: u64) -> String {
    let moment = timestamp(wall_us).to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&moment).unwrap_or_default()
}

/// A date as stream callbacks write it.
fn iso8601(wall_us: u64) -> String {
    format!("{:.3}", timestamp(wall_us))
}

/// A moment for the two formats.
fn timestamp(wall_us: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(i64::try_from(wall_us).unwrap_or_default())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_twilio_writes_them() {
        let us = 1_795_168_800_123_000;
        assert_eq!(rfc2822(us), "Fri, 20 Nov 2026 10:00:00 +0000");
        assert_eq!(iso8601(us), "2026-11-20T10:00:00.123Z");
    }
}
