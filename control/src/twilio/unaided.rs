//! What the carrier is told while the database is away: from what is in memory ([`crate::standby`]),
//! from the pass in the address of a resume, and from what the question itself says.
//!
//! Not everything can be answered so. A call that a number's old backend may have, and one that the
//! API has placed from another instance, wait for the database as far as the carrier lets them.

use std::time::Duration;

use link::event::EndReason;
use link::id::CallId;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::twiml::Twiml;
use super::voice::{newcomer, wanted};
use super::{Hook, apology, connect, hang_up, resume, transfer};
use crate::access::crowd;
use crate::clock;
use crate::fleet::placement::Wish;
use crate::metrics::Told;
use crate::plane::{Plane, tenant};
use crate::store::call::{Call, CallEnd, CallState, CarrierIds, NewCall, Resume};
use crate::tokens::Pass;

/// What the carrier is told, and what that is called in the metrics.
type Document = (Twiml, Told);

/// How a call begins. `None` when only the database could say, or no node takes it at this moment.
pub(super) async fn begin(plane: &Plane, hook: &Hook) -> Option<Document> {
    let (call, _place) = asked_about(plane, hook).await?;
    match call.state {
        CallState::Ended => return Some(hang_up()),
        CallState::Transferred => return transfer(plane, &call).ok(),
        CallState::Queued | CallState::Starting | CallState::Active | CallState::Detached => {}
    }
    let now = clock::wall();
    // Without a wait: the database has taken what time there was.
    let node = plane.nodes.place(&call.id, now).ok()?;
    let call = plane.standby.begin(call, &node, now).ok()?;
    stream(plane, &call).await
}

/// The call of the question: one that is known here, or one that has just come in.
async fn asked_about<'a>(
    plane: &'a Plane,
    hook: &Hook,
) -> Option<(Call, Option<crowd::Place<'a>>)> {
    let carrier = hook.carrier().ok()?;
    if let Some((id, _)) = hook.call() {
        let known = plane.standby.call(&id)?;
        return (known.carrier.as_ref() == Some(&carrier)).then_some((known, None));
    }
    if let Some(known) = plane.standby.call_by_carrier(&carrier) {
        return Some((known, None));
    }
    let line = hook.line(plane);
    if line.as_ref().is_some_and(|line| line.route.legacy.is_some()) {
        return None;
    }
    let tenant = line.as_ref().map_or_else(tenant, |line| line.tenant.clone());
    let spec = wanted(plane, hook, &tenant, line.as_deref())?;
    let place = crowd::admit(plane, &tenant, &carrier.call_sid).await.ok()?;
    let id = id_of(&carrier)?;
    let call = newcomer(hook, (id, tenant, carrier), &spec).begin_life(clock::wall());
    Some((call, Some(place)))
}

/// The id of a call that nobody could ask the database about: the same on every instance, so that a
/// question that comes again to another one is about the same call.
fn id_of(carrier: &CarrierIds) -> Option<CallId> {
    let digest = Sha256::digest(format!("{}/{}", carrier.account_sid, carrier.call_sid));
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    CallId::new(format!("c_{digits}")).ok()
}

/// What follows a stream. `None` when no node takes the call at this moment, or nothing is known of
/// it.
pub(super) async fn resume(plane: &Plane, read: &Pass, hook: &Hook) -> Option<Document> {
    let now = clock::wall();
    if hook.query("after") == Some("dial") {
        // Nothing follows a dialled leg; its end is told by the carrier's last word, too.
        return Some(hang_up());
    }
    if hook.field("CallStatus") == Some("completed") {
        let end = CallEnd::Stream(EndReason::CallerHungUp);
        plane.standby.phone_over(&read.call, end, now);
        return Some(hang_up());
    }
    let call = of_pass(plane, read, hook)?;
    let may_open = resume::may_open(plane, read, hook);
    let wish = Wish::from(&read.call).leaving(read.node());
    let node = plane.nodes.place(wish, now).ok().filter(|_| may_open);
    let node = node.filter(|node| resume::may_open_on(plane, node, hook));
    let question = resume::question(plane, read, hook, node.as_ref());
    match plane.standby.resume(call, &question) {
        Resume::Reconnect(call) => stream(plane, &call).await,
        Resume::HangUp => Some(hang_up()),
        Resume::Transfer(call) => transfer(plane, &call).ok(),
        Resume::TooMany => Some(apology()),
        Resume::NoNode | Resume::Unknown => None,
    }
}

/// The call as its pass says: whose, which agent's, and the generation that was given out with it.
/// What the pass of an older release leaves out is taken from memory.
fn of_pass(plane: &Plane, read: &Pass, hook: &Hook) -> Option<Call> {
    let known = plane.standby.call(&read.call);
    let Some(last) = &read.last else { return known };
    if known.is_some() {
        return known;
    }
    let new = NewCall {
        id: read.call.clone(),
        tenant: read.tenant.clone(),
        carrier: Some(hook.carrier().ok()?),
        direction: hook.direction(),
        from: hook.number("From"),
        to: hook.number("To"),
        agent: last.agent.clone(),
        agent_version: last.version,
        run: None,
    };
    let mut call = new.begin_life(clock::wall());
    (call.state, call.generation) = (CallState::Detached, last.generation);
    Some(call)
}

/// Opens the stream. An agent's version that only the database has is not waited for: the node may
/// know it.
async fn stream(plane: &Plane, call: &Call) -> Option<Document> {
    let answer = timeout(CONNECT_WITHIN, connect(plane, call)).await.ok()?;
    if answer.is_ok() {
        plane.metrics.unaided.inc();
    }
    answer.ok()
}

/// What is left of the carrier's patience once the database has not answered, with room.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
