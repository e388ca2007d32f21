//! One request of the carrier: signed, and read into fields, whether it comes as a form or as JSON.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::id::{CallId, TenantId};
use serde_json::Value;
use warp::path::FullPath;
use warp::{Filter, Rejection};

use super::signature::{self, Forged, SignedRequest, is_digest_of};
use crate::error::Problem;
use crate::http::{body, with};
use crate::plane::{Plane, tenant};
use crate::store::call::{CarrierIds, Direction, Number};
use crate::store::numbers::Line;

/// What the carrier sent: the fields of its body and of its address, decoded.
#[derive(Debug, Clone)]
pub struct Hook {
    form: Vec<(String, String)>,
    query: Vec<(String, String)>,
    token: Option<String>,
    region: Option<String>,
}

impl Hook {
    /// A field of the body; `None` when it is absent or empty.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.form, name)
    }

    /// A value of the address, which we put there ourselves or the operator did.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The same on every attempt of one request; `None` when the carrier gave none.
    /// Source: Twilio, "Webhooks: connection overrides", `I-Twilio-Idempotency-Token`, read
    /// 2026-11-20.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The carrier's region that handles the call, as it says in a header; `None` when it does not.
    /// A header is not signed, so nothing hangs on it but which relay is the nearest.
    /// Source: `X-Home-Region`, seen on webhooks; not documented.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Who called whom. Somebody else's outbound call may be sent here, too.
    #[must_use]
    pub fn direction(&self) -> Direction {
        let is_outbound = self.field("Direction").is_some_and(|word| word.starts_with("outbound"));
        if is_outbound { Direction::Outbound } else { Direction::Inbound }
    }

    /// The number of ours that the call is on; `None` when nobody has taken it.
    #[must_use]
    pub fn line(&self, plane: &Plane) -> Option<Arc<Line>> {
        let ours = match self.direction() {
            Direction::Inbound => "To",
            Direction::Outbound => "From",
        };
        plane.directory.line(self.field(ours)?)
    }

    /// Whose call it is: the address says so where we have put it there, the number does elsewhere.
    #[must_use]
    pub fn tenant(&self, plane: &Plane) -> TenantId {
        let said = self.query("tenant").and_then(|text| TenantId::new(text).ok());
        said.or_else(|| self.line(plane).map(|line| line.tenant.clone())).unwrap_or_else(tenant)
    }

    /// A phone number that the carrier names; empty when it does not.
    #[must_use]
    pub(super) fn number(&self, name: &str) -> Number {
        Number(self.field(name).unwrap_or_default().to_owned())
    }

    /// Which call an address of ours is about, and which of the times that the carrier was asked
    /// for it; `None` when it names no call.
    #[must_use]
    pub fn call(&self) -> Option<(CallId, Option<u32>)> {
        let call = CallId::new(self.query("call")?).ok()?;
        Some((call, self.query("attempt").and_then(|text| text.parse().ok())))
    }

    /// How often the carrier has been told to wait. The address is signed, so nobody else counts.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.query("try").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The address of this very question, to be asked once more.
    #[must_use]
    pub(super) fn again(&self, path: &str) -> String {
        let kept = self.query.iter().filter(|(name, _)| name != "try");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair("try", &(self.tries() + 1).to_string());
        format!("{path}?{}", query.finish())
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
pub(super) fn signed(
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
        .and(sent())
        .and(body(BODY_BYTES_MAX))
        .and_then(|plane: Arc<Plane>, signature: String, sent: Sent, body: Bytes| async move {
            let hook = read(&plane, &signature, sent, &body)?;
            Ok::<_, Rejection>((plane, hook))
        })
        .untuple_one()
}

/// What matters of a request besides its signature and its body.
struct Sent {
    /// Path and query as they arrived: the signature covers their bytes.
    target: String,
    kind: Option<String>,
    token: Option<String>,
    region: Option<String>,
}

fn sent() -> impl Filter<Extract = (Sent,), Error = Infallible> + Clone {
    let query = warp::query::raw().map(Some).or(warp::any().map(|| None)).unify();
    // As bytes, so that a header that is no text is refused with the rest and not by its form.
    warp::path::full().and(query).and(warp::header::headers_cloned()).map(
        |path: FullPath, query: Option<String>, headers: http::HeaderMap| {
            let target = match query {
                Some(query) => format!("{}?{query}", path.as_str()),
                None => path.as_str().to_owned(),
            };
            let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
            let (kind, token) = (text("content-type"), text("i-twilio-idempotency-token"));
            Sent { target, kind, token, region: text("x-home-region") }
        },
    )
}

fn read(plane: &Plane, signature: &str, sent: Sent, body: &[u8]) -> Result<Hook, Rejection> {
    let Sent { target, kind, token, region } = sent;
    let is_json = kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"));
    // JSON is covered by its digest in the address, and adds nothing to what is signed.
    let form: Vec<_> =
        if is_json { Vec::new() } else { form_urlencoded::parse(body).into_owned().collect() };
    let request = SignedRequest { target: &target, fields: &form };
    signature::check(&plane.auth_tokens, &plane.public, &request, Some(signature))
        .map_err(|why| forged(plane, why))?;
    if is_json && !is_digest_of(&target, body) {
        return Err(forged(plane, Forged::Wrong));
    }
    let form = if is_json { flat(body)? } else { form };
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    // A longer token than any that was seen is nobody's loss: it is compared, and stored.
    let token = token.filter(|token| token.len() <= TOKEN_BYTES_MAX);
    Ok(Hook { form, query, token, region })
}

/// The fields of a JSON object; what is nested has no name here.
fn flat(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        let detail = "The body is not a JSON object; this is for the carrier alone.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail));
    };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Some((name, text)),
        Value::Number(number) => Some((name, number.to_string())),
        Value::Bool(is) => Some((name, is.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    Ok(fields.into_iter().filter_map(text).collect())
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

/// The carrier's bodies take a few KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The carrier's tokens are 36 characters.
const TOKEN_BYTES_MAX: usize = 128;
