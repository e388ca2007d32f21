//! The carrier: its questions, signed, and our answers.
//!
//! Suggested reading order: [`signature`] (who asks), [`twiml`] (what can be answered), [`voice`]
//! (how a call begins), [`resume`] (what follows each stream), [`status`] (how it ends), [`rest`]
//! (what we ask the carrier).

use std::convert::Infallible;
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderValue};
use link::id::NodeId;
use link::message::Announcement;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use self::resume::After;
use self::signature::{Forged, SignedRequest};
use self::twiml::{Dial, Stream, Target, Twiml, Verb};
use crate::error::Problem;
use crate::fleet::orders::Order;
use crate::http::{body, with};
use crate::metrics::Told;
use crate::plane::Plane;
use crate::store::call::{Call, CarrierIds, Direction, Number};
use crate::tokens::TokenError;

pub mod signature;

pub mod twiml;

pub mod resume;
pub mod status;
pub mod voice;

pub mod rest;

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
    voice.or(resume).unify().or(status).unify().or(stream).unify().boxed()
}

/// What the carrier sent: the fields of its form and of its address, decoded.
#[derive(Debug, Clone)]
pub struct Hook {
    form: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

impl Hook {
    /// A field of the form; `None` when it is absent or empty.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.form, name)
    }

    /// A value of the address, which we put there ourselves or the operator did.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The carrier's ids of the call.
    ///
    /// # Errors
    /// A problem when they are missing.
    pub fn carrier(&self) -> Result<CarrierIds, Problem> {
        match (self.field("AccountSid"), self.field("CallSid")) {
            (Some(account), Some(call)) => {
                Ok(CarrierIds { account_sid: account.to_owned(), call_sid: call.to_owned() })
            }
            _ => {
                let detail = "AccountSid and CallSid are missing; this is for the carrier alone.";
                Err(Problem::new(StatusCode::BAD_REQUEST, "carrier_ids_missing", detail))
            }
        }
    }
}

/// The first value of a name; an empty one is none.
fn first<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(field, _)| field == name);
    found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// A POST that the carrier has signed. Nothing is done for any other.
fn signed(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Arc<Plane>, Hook), Error = Rejection> + Clone + use<> {
    warp::post()
        .and(with(plane))
        .and(warp::header::optional::<String>("x-twilio-signature"))
        .and_then(|plane: Arc<Plane>, signature: Option<String>| async move {
            // Before the body is read: it may be long.
            match signature {
                Some(signature) => Ok((plane, signature)),
                None => Err(forged(&plane, Forged::Missing)),
            }
        })
        .untuple_one()
        .and(target())
        .and(body(FORM_BYTES_MAX))
        .and_then(
            |plane: Arc<Plane>, signature: String, target: String, body: bytes::Bytes| async move {
                let form: Vec<(String, String)> =
                    form_urlencoded::parse(&body).into_owned().collect();
                let request = SignedRequest { target: &target, fields: &form };
                signature::check(&plane.auth_token, &plane.public, &request, Some(&signature))
                    .map_err(|why| forged(&plane, why))?;
                let query = target.split_once('?').map_or("", |(_, query)| query);
                let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
                Ok::<_, Rejection>((plane, Hook { form, query }))
            },
        )
        .untuple_one()
}

/// The path and query as they arrived: the signature covers their bytes.
fn target() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    let query = warp::query::raw().map(Some).or(warp::any().map(|| None)).unify();
    warp::path::full().and(query).map(|path: FullPath, query: Option<String>| match query {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    })
}

/// Counts and refuses. The sentence is for the operator: the carrier shows it in its debugger.
fn forged(plane: &Plane, why: Forged) -> Rejection {
    plane.metrics.forged(why);
    let detail = match why {
        Forged::Missing => "X-Twilio-Signature is missing; this is for the carrier alone.",
        Forged::Wrong => {
            "The signature is not the account's. Compare CONTROL_PUBLIC_URL with the address that \
             the carrier was given, and TWILIO_AUTH_TOKEN with the console."
        }
    };
    Problem::new(StatusCode::FORBIDDEN, "signature_refused", detail).into()
}

/// What the carrier is told, and what that is called in the metrics.
type Answer = Result<(Twiml, Told), Problem>;

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
    let xml = twiml.to_xml().map_err(|error| {
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

/// Opens a stream for the call's present generation on its node, and says what to ask when it is
/// over. When the node has gone in between, asks at once.
fn connect(plane: &Plane, call: &Call) -> Answer {
    let now = crate::clock::wall();
    let pass = plane.tokens.pass(call, now).map_err(|error| no_token(call, &error))?;
    let mut verbs = Vec::with_capacity(2);
    // A node that has left since it was chosen has no address: the carrier then asks resume at
    // once.
    let place = call.node.as_ref().and_then(|node| Some((node, plane.nodes.stream_url(node)?)));
    if let Some((node, url)) = place {
        let ticket = plane.tokens.ticket(call, node, now);
        let ticket = ticket.map_err(|error| no_token(call, &error))?;
        // Before the answer goes out: the relay wins the carrier's way back and its handshake.
        announce(plane, call, node);
        let parameters = vec![(link::ticket::PARAMETER, ticket)];
        let status_callback = plane.public.url("/v1/twilio/stream");
        verbs.push(Verb::Connect(Stream { url, status_callback, parameters }));
    }
    let node = call.node.as_ref().map(tracing::field::display);
    tracing::info!(call = %call.id, generation = %call.generation, node, "a stream is asked for");
    verbs.push(Verb::Redirect(resume::address(plane, &pass, &After::Stream)));
    Ok((Twiml(verbs), Told::Stream))
}

/// Tells the node that a stream is on its way, so that it dials the agent before the caller is
/// there. Best effort: the stream does as well without, only later.
fn announce(plane: &Plane, call: &Call, node: &NodeId) {
    let announcement = Announcement {
        call: call.id.clone(),
        generation: call.generation,
        tenant: call.tenant.clone(),
        agent: call.agent.clone(),
        version: call.agent_version,
    };
    plane.metrics.announced(plane.nodes.send(node, Order::Announce(announcement)));
}

/// Gives the caller to whom the call says. Whoever is dialled sees the number of ours that the
/// call is on: it is always one that the carrier lets us show, while a caller's may be withheld.
fn transfer(plane: &Plane, call: &Call) -> Answer {
    let Some(Number(to)) = &call.transfer_to else { return Ok(hang_up()) };
    let now = crate::clock::wall();
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

/// The carrier's forms take a few KiB.
const FORM_BYTES_MAX: usize = 64 * 1024;

const APOLOGY: &str = "We are sorry, there is a technical problem. Please call again later.";
