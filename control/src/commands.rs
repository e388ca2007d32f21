//! Commands to running calls: sent to the node that carries the call, and answered by it.
//!
//! A command is worth something at the moment at which it is given, so it is not stored: the node
//! gets it at once or the one who asks is told why not. The answer is an event like all others.

use std::time::Duration;

use http::StatusCode;
use link::id::{CallId, CommandId, TenantId};
use link::message::Command;
use uuid::Uuid;

use crate::answers::{Answer, TooMany};
use crate::error::Problem;
use crate::fleet::orders::{Order, Unsent};
use crate::metrics::{Answered, Doing};
use crate::plane::Plane;
use crate::sequencer::LeaseState;
use crate::store::call::{Call, CallState};

/// What became of a command within the time that was waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Nothing is known yet: the answer will be an event.
    Pending,
}

/// A command as the API takes it, and what it is called in the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to do.
    pub command: Command,
    /// What that is called.
    pub doing: Doing,
}

/// Sends a command to the node that carries the call and waits a moment for its answer.
///
/// # Errors
/// A problem when there is no such call, it has no stream, its node cannot be told, or the node
/// says why it does not do it.
pub async fn run(
    plane: &Plane,
    tenant: &TenantId,
    call: &CallId,
    wanted: Wanted,
) -> Result<(CommandId, Outcome), Problem> {
    let Wanted { command, doing } = wanted;
    let call = plane.store.call(tenant, call).await?.ok_or_else(Problem::no_call)?;
    has_stream(&call)?;
    // The id is ours, not the client's: two clients cannot wait for each other's answers.
    let id = new_command_id();
    // While another instance numbers events, this one must follow them to hear the answer.
    let is_holder = *plane.sequencer.state().borrow() == LeaseState::Held;
    let _attending = match is_holder {
        true => None,
        false => Some(plane.hub.attend(&plane.store, tenant).await?),
    };
    // Before the command is out: a relay on the same machine answers within a millisecond.
    let waiting = plane.hub.answers().expect(id.clone(), call.id.clone());
    let waiting = waiting.map_err(|error| too_many(plane, doing, error))?;
    send(plane, &call, &id, command).inspect_err(|_| {
        plane.metrics.commanded(doing, Answered::Unsent);
    })?;
    let answer = waiting.answer(ANSWER_WITHIN).await;
    let answered = match &answer {
        Some(Answer::Done) => Answered::Done,
        Some(Answer::Refused(_)) => Answered::Refused,
        None => Answered::Silent,
    };
    plane.metrics.commanded(doing, answered);
    match answer {
        Some(Answer::Done) => Ok((id, Outcome::Done)),
        None => Ok((id, Outcome::Pending)),
        // The relay's words are sentences of our own code; no model and no caller writes them.
        Some(Answer::Refused(why)) => {
            let detail = format!("The relay did not do it: {why}.");
            Err(Problem::new(StatusCode::CONFLICT, "command_refused", detail))
        }
    }
}

/// Only a call that a stream carries can be told anything.
fn has_stream(call: &Call) -> Result<(), Problem> {
    let (code, detail) = match call.state {
        CallState::Active => return Ok(()),
        CallState::Ended => ("call_ended", "The call is over; it takes no commands."),
        CallState::Transferred => (
            "call_transferred",
            "The caller was given to somebody else; the agent's part is over. \
             POST /v1/calls/{id}/hang_up ends the phone call.",
        ),
        CallState::Queued | CallState::Starting | CallState::Detached => (
            "call_without_stream",
            "No stream carries the call at this moment. Wait for its `stream.started` event, or \
             end it with POST /v1/calls/{id}/hang_up.",
        ),
    };
    Err(Problem::new(StatusCode::CONFLICT, code, detail))
}

/// The generation goes with it: should another stream take over meanwhile, nothing is done twice.
fn send(plane: &Plane, call: &Call, id: &CommandId, command: Command) -> Result<(), Problem> {
    let order = Order::Do {
        call: call.id.clone(),
        generation: call.generation,
        id: Some(id.clone()),
        command,
    };
    let sent =
        call.node.as_ref().ok_or(Unsent::Away).and_then(|node| plane.nodes.send(node, order));
    sent.map_err(|error| {
        tracing::warn!(call = %call.id, %error, "a command is not sent");
        let detail = format!("Nothing was done: {error}. Try again in a moment.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", detail).again_after(1)
    })
}

fn too_many(plane: &Plane, doing: Doing, error: TooMany) -> Problem {
    plane.metrics.commanded(doing, Answered::Unsent);
    let detail = format!("Nothing was done: {error}. Try again in a moment.");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "commands_too_many", detail).again_after(1)
}

/// A fresh id, ordered by time.
fn new_command_id() -> CommandId {
    CommandId::new(format!("cmd_{}", Uuid::now_v7().simple()))
        .expect("hexadecimal digits are an id")
}

/// How long the one who asks waits. A relay answers within a tick of its call; the rest is the
/// link and one commit. Doubling it holds requests open twice as long when a relay is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
