//! The carrier: its questions, signed, and our answers.
//!
//! Suggested reading order: [`signature`] and [`hook`] (who asks, and what), [`twiml`] (what can
//! be answered), [`voice`] (how a call begins), [`resume`] (what follows each stream), [`status`]
//! (how it ends), [`machine`] (who has picked up), `unaided` (all of it without the database),
//! [`rest`] (what we ask the carrier), [`rescue`] (calls whose node has vanished).
//!
//! A question about a call is always answered with a document, and soon: while the database is away
//! or slow, memory answers; where it cannot, the carrier asks again in a second, and a call that
//! cannot be helped is told so.

use std::future::Future;
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderValue};
use link::agent::AgentSpec;
use link::id::{CallId, Gen, NodeId};
use link::message::{Announcement, Said};
use tokio::time::timeout;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use self::hook::{Hook, signed};
use self::resume::After;
use self::twiml::{Dial, Stream, Target, Twiml, Verb};
use crate::api::compat;
use crate::clock;
use crate::error::Problem;
use crate::fleet::orders::Order;
use crate::fleet::placement::Wish;
use crate::fleet::told::AgentKey;
use crate::metrics::Told;
use crate::plane::Plane;
use crate::store::call::{Call, Direction, Number};
use crate::tokens::TokenError;

pub mod hook;
pub mod signature;

pub mod twiml;

pub mod machine;
pub mod resume;
pub mod status;
mod unaided;
pub mod voice;

pub mod rescue;
pub mod rest;
pub(crate) mod visit;

/// The carrier's hooks.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let voice = warp::path!("v1" / "twilio" / "voice").and(signed(plane)).and_then(
        |plane: Arc<Plane>, hook: Hook| async move { answer(voice::answer(&plane, &hook).await) },
    );
    let resume = warp::path!("v1" / "twilio" / "resume" / String).and(signed(plane)).and_then(
        |pass: String, plane: Arc<Plane>, hook: Hook| async move {
            answer(resume::answer(&plane, &pass, &hook).await)
        },
    );
    let status = warp::path!("v1" / "twilio" / "status").and(signed(plane)).and_then(
        |plane: Arc<Plane>, hook: Hook| async move { noted(status::on_call(&plane, &hook).await) },
    );
    let stream = warp::path!("v1" / "twilio" / "stream").and(signed(plane)).and_then(
        |plane: Arc<Plane>, hook: Hook| async move {
            noted(status::on_stream(&plane, &hook).await)
        },
    );
    let machine =
        warp::path!("v1" / "twilio" / "machine").and(signed(plane)).and_then(
            |plane: Arc<Plane>, hook: Hook| async move {
                noted(machine::on_answer(&plane, &hook).await)
            },
        );
    let told = status.or(stream).unify().or(machine).unify();
    voice.or(resume).unify().or(told).unify().or(compatible(plane)).unify().boxed()
}

/// Two hooks under the paths at which apps from other hosts have them: what the carrier asks when an
/// outbound call is answered, and what it tells of calls. It signs the path that it asks.
fn compatible(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let voice = warp::path!("api" / "twilio" / "outbound")
        .and(compat::on(plane))
        .and(signed(plane))
        .and_then(|plane: Arc<Plane>, hook: Hook| async move {
            answer(voice::answer(&plane, &hook).await)
        });
    let status = warp::path!("api" / "twilio" / "status")
        .and(compat::on(plane))
        .and(signed(plane))
        .and_then(|plane: Arc<Plane>, hook: Hook| async move {
            noted(status::on_call(&plane, &hook).await)
        });
    voice.or(status).unify().boxed()
}

/// What the carrier is told, and what that is called in the metrics.
type Answer = Result<(Twiml, Told), Problem>;

/// A decision that the database must help with, within the time that the carrier gives us.
///
/// # Errors
/// [`Undecided::Away`] when it does not help in time: what is in memory decides then ([`unaided`]).
async fn in_time<T>(
    plane: &Plane,
    deciding: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Undecided> {
    let within = plane.standby.patience(clock::steady());
    match timeout(within, deciding).await {
        Ok(Err(problem)) if problem.is_store() => {}
        Ok(decided) => return decided.map_err(Undecided::Problem),
        Err(_) => tracing::warn!("the database is too slow for the carrier"),
    }
    plane.standby.failed(clock::steady());
    Err(Undecided::Away)
}

/// Why nothing was decided.
enum Undecided {
    /// The database does not answer.
    Away,
    /// The question was wrong.
    Problem(Problem),
}

/// Lets the carrier ask again in a second, at this address. As the first verb a pause does not
/// answer a call that rings. Source: Twilio, `<Pause>`, read 2026-11-20.
fn again(address: String) -> (Twiml, Told) {
    (Twiml(vec![Verb::Pause(1), Verb::Redirect(address)]), Told::Wait)
}

/// An answer, or a problem on its way to the end of the routes.
fn answer(answer: Result<Response, Problem>) -> Result<Response, Rejection> {
    Ok(answer?)
}

/// The carrier does not read what follows a status: 204.
fn noted(noted: Result<(), Problem>) -> Result<Response, Rejection> {
    noted?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Writes an answer; one that cannot be written is a fault of ours that the caller hears of.
fn say(plane: &Plane, (twiml, told): (Twiml, Told)) -> Result<Response, Problem> {
    let xml = twiml.to_xml_in(plane.carrier_voice.as_deref()).map_err(|error| {
        tracing::error!(%error, "an answer to the carrier cannot be written");
        unwritable()
    })?;
    plane.metrics.told(told);
    let mut response = xml.into_response();
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The carrier turns to the number's fallback.
fn unwritable() -> Problem {
    let detail = "The answer could not be written; the operator's log says why.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "twiml_unwritable", detail)
}

/// Where a call wants to go: near the carrier's region, and near its agent's service where that is
/// known without asking.
fn wish<'a>(plane: &Plane, hook: &Hook, call: &'a CallId, agent: Option<&AgentSpec>) -> Wish<'a> {
    let regions = plane.nodes.regions();
    let carrier = regions.of_carrier(hook.region());
    let service = agent.and_then(|spec| spec.provider.host());
    Wish { call, regions: regions.order(&[carrier, service]), left: None }
}

/// Opens a stream for the call's present generation on its node, and says what to ask when it is
/// over. When the node has gone in between, asks at once.
async fn connect(plane: &Plane, call: &Call) -> Answer {
    let now = clock::wall();
    plane.standby.keep(call);
    let pass = plane.tokens.pass(call, now).map_err(|error| no_token(call, &error))?;
    let mut verbs = Vec::with_capacity(2);
    // A node that has left since it was chosen has no address: the carrier then asks resume at
    // once.
    let place = call.node.as_ref().and_then(|node| Some((node, plane.nodes.stream_url(node)?)));
    if let Some((node, url)) = place {
        let ticket = plane.tokens.ticket(call, node, now);
        let ticket = ticket.map_err(|error| no_token(call, &error))?;
        // Before the answer goes out: the relay wins the carrier's way back and its handshake.
        plane.nodes.asked_for(node, &call.id, now);
        introduce(plane, call, node).await;
        announce(plane, call, node, said(plane, call).await);
        let parameters = vec![(link::ticket::PARAMETER, ticket)];
        let path = format!("/v1/twilio/stream?tenant={}", call.tenant);
        let status_callback = plane.public.url(&path) + RETRIED;
        verbs.push(Verb::Connect(Stream { url, status_callback, parameters }));
    }
    let node = call.node.as_ref().map(tracing::field::display);
    tracing::info!(call = %call.id, generation = %call.generation, node, "a stream is asked for");
    verbs.push(Verb::Redirect(resume::address(plane, &pass, &After::Stream)));
    Ok((Twiml(verbs), Told::Stream))
}

/// Tells the node of the call's agent, unless it knows it: a version that is not the newest any
/// more, or one that was made a moment ago.
async fn introduce(plane: &Plane, call: &Call, node: &NodeId) {
    let key = AgentKey::of_call(call);
    if plane.nodes.knows(node, &key) {
        return;
    }
    let told = match plane.directory.version(&plane.store, &key).await {
        Ok(Some(spec)) => plane.nodes.tell(node, &spec).map_err(|error| error.to_string()),
        Ok(None) => Err("there is no such version".to_owned()),
        Err(error) => Err(error.explain()),
    };
    // The node refuses the stream then, and the carrier asks again.
    if let Err(error) = told {
        tracing::warn!(call = %call.id, %node, error, "a node is not told of a call's agent");
    }
}

/// Has a session opened at a node for the next stream of a call, which still has one elsewhere. What
/// was said in it is told when the carrier asks for that stream.
pub(crate) async fn expect_next(plane: &Plane, call: &Call, node: &NodeId) {
    introduce(plane, call, node).await;
    let next = Call { generation: call.generation.next(), ..call.clone() };
    announce(plane, &next, node, Some(Vec::new()));
}

/// What was said in a call so far; `None` for its first stream.
async fn said(plane: &Plane, call: &Call) -> Option<Vec<Said>> {
    if call.generation == Gen::default() {
        return None;
    }
    match plane.store.said(&call.tenant, &call.id).await {
        Ok(said) => Some(said),
        Err(error) => {
            // The call goes on, with an agent that has forgotten it.
            tracing::warn!(call = %call.id, error = error.explain(), "what was said is not known");
            Some(Vec::new())
        }
    }
}

/// Tells the node that a stream is on its way, so that it dials the agent before the caller is
/// there. Best effort: the stream does as well without, only later.
fn announce(plane: &Plane, call: &Call, node: &NodeId, continues: Option<Vec<Said>>) {
    let announcement = Announcement {
        call: call.id.clone(),
        generation: call.generation,
        tenant: call.tenant.clone(),
        agent: call.agent.clone(),
        version: call.agent_version,
        continues,
    };
    plane.metrics.announced(plane.nodes.send(node, Order::Announce(announcement)));
}

/// Gives the caller to whom the call says. Whoever is dialled sees the number of ours that the
/// call is on: it is always one that the carrier lets us show, while a caller's may be withheld.
fn transfer(plane: &Plane, call: &Call) -> Answer {
    let Some(Number(to)) = &call.transfer_to else { return Ok(hang_up()) };
    let now = clock::wall();
    let pass = plane.tokens.pass(call, now).map_err(|error| no_token(call, &error))?;
    let Number(ours) = match call.direction {
        Direction::Inbound => &call.to,
        Direction::Outbound => &call.from,
    };
    let dial = Dial {
        to: Target::of(to),
        // A client or a SIP user has no number to show; the carrier then shows what it likes.
        caller_id: Some(ours.clone()).filter(|number| number.starts_with('+')),
        action: resume::address(plane, &pass, &After::Dial),
    };
    tracing::info!(call = %call.id, "a call is transferred");
    Ok((Twiml(vec![Verb::Dial(dial)]), Told::Transfer))
}

/// The carrier turns to the number's fallback.
fn no_token(call: &Call, error: &TokenError) -> Problem {
    tracing::error!(call = %call.id, %error, "a token cannot be made");
    unwritable()
}

/// Says that nothing helps, and ends the phone call; ours has ended already, or never was.
fn apology() -> (Twiml, Told) {
    (Twiml(vec![Verb::Say(APOLOGY.to_owned()), Verb::Hangup]), Told::Apology)
}

/// Says that the call is over.
fn hang_up() -> (Twiml, Told) {
    (Twiml(vec![Verb::Hangup]), Told::Hangup)
}

/// The part of an address that is not sent: it tells the carrier to try hard.
/// Source: Twilio, "Webhooks: connection overrides", read 2026-11-20.
const TRY_HARD: &str = "#rc=3&rp=all&ct=1500&rt=2500&tt=8000";

/// The same of an address to which the carrier only reports: what it says there it says once more
/// when we were away.
pub(crate) const RETRIED: &str = "#rc=5&rp=all";

const APOLOGY: &str = "We are sorry, there is a technical problem. Please call again later.";
