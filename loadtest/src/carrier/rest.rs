//! Twilio's REST interface, as far as calls go: numbers are texts, dates are RFC 2822, errors
//! have Twilio's codes.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::board::Board;
use super::call::{Command, Source};
use super::line::Reports;
use super::record::{CallRecord, Fault};
use super::report::rfc2822;
use super::sid;
use super::twiml::{self, Target};
use crate::serve::{self, Answer, Asked};

/// An answer that says no.
struct Refusal {
    status: StatusCode,
    code: u32,
    message: String,
}

impl Refusal {
    /// A refusal.
    fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// A refusal of what was sent: 400.
    fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// As Twilio writes it.
    fn answer(&self) -> Answer {
        let body = json!({
            "code": self.code, "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.status.as_u16(),
        });
        serve::json(self.status, &body)
    }
}

/// Answers a request below `/2010-04-01/`.
pub(super) async fn answer(board: &Arc<Board>, asked: &Asked) -> Answer {
    match route(board, asked).await {
        Ok((status, body)) => serve::json(status, &body),
        Err(refusal) => refusal.answer(),
    }
}

/// The parent of every resource.
async fn route(board: &Arc<Board>, asked: &Asked) -> Result<(StatusCode, Value), Refusal> {
    if !authorised(board, asked) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, 20003, "Authenticate"));
    }
    let base = format!("/2010-04-01/Accounts/{}/", board.exchange.account);
    let not_found = || {
        let message = format!("The requested resource {} was not found", asked.path());
        Refusal::new(StatusCode::NOT_FOUND, 20404, message)
    };
    let rest = asked.path().strip_prefix(&base).ok_or_else(not_found)?;
    let rest = rest.strip_suffix(".json").ok_or_else(not_found)?;
    let parts: Vec<&str> = rest.split('/').collect();
    match (asked.method.clone(), parts.as_slice()) {
        (Method::POST, ["Calls"]) => create(board, asked).map(|body| (StatusCode::CREATED, body)),
        (Method::GET, ["Calls"]) => {
            let calls: Vec<Value> =
                board.records().iter().map(|call| resource(board, call)).collect();
            Ok((StatusCode::OK, json!({"calls": calls, "page": 0, "next_page_uri": null})))
        }
        (Method::GET, ["Calls", call]) => {
            let call = board.find(call).ok_or_else(not_found)?;
            Ok((StatusCode::OK, call.read(|record| resource(board, record))))
        }
        (Method::GET, ["Calls", call, "Notifications"]) => {
            let call = board.find(call).ok_or_else(not_found)?;
            let lines: Vec<Value> = call.read(|record| {
                let line = |fault: &Fault| {
                    json!({"error_code": fault.code.to_string(), "message_text": fault.message})
                };
                record.faults.iter().map(line).collect()
            });
            Ok((StatusCode::OK, json!({"notifications": lines})))
        }
        (Method::POST, ["Calls", call]) => {
            let call = board.find(call).ok_or_else(not_found)?;
            let command = update(asked)?;
            if !call.command(command).await {
                let message = "Call is not in-progress. Cannot redirect.";
                return Err(Refusal::bad(21220, message));
            }
            Ok((StatusCode::OK, call.read(|record| resource(board, record))))
        }
        _ => Err(not_found()),
    }
}

/// Basic credentials of the account itself; API keys are not known here.
fn authorised(board: &Board, asked: &Asked) -> bool {
    let wanted = format!("{}:{}", board.exchange.account, board.exchange.asker.token);
    let given = asked.header("authorization").and_then(|text| text.strip_prefix("Basic "));
    let given = given.map(|text| base64_simd::STANDARD.decode_to_vec(text.as_bytes()));
    matches!(given, Some(Ok(given)) if given == wanted.as_bytes())
}

/// The fields of a form, checked against the names that are known.
struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form and refuses names that nothing here knows: a misspelt one would be
    /// ignored by the real service.
    fn read(asked: &Asked, known: &[&str]) -> Result<Self, Refusal> {
        let kind = asked.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(Refusal::bad(20001, "The body is no form"));
        }
        let fields: Vec<(String, String)> =
            form_urlencoded::parse(&asked.body).into_owned().collect();
        match fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                Err(Refusal::bad(20001, format!("Unknown parameter {name} (this fake insists)")))
            }
            None => Ok(Self(fields)),
        }
    }

    /// The first value of a name.
    fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a name.
    fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A URL with its method. Relative ones have no place in REST.
    fn target(&self, name: &str, method: &str) -> Result<Option<Target>, Refusal> {
        let Some(url) = self.one(name) else { return Ok(None) };
        let web = Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
        if !web {
            return Err(Refusal::bad(21205, format!("{name} is not a valid URL: {url}")));
        }
        let method = match self.one(method) {
            None | Some("POST") => twiml::Method::Post,
            Some("GET") => twiml::Method::Get,
            Some(other) => return Err(Refusal::bad(21403, format!("Invalid method {other}"))),
        };
        Ok(Some(Target { url: url.to_owned(), method }))
    }
}

/// Makes a call, queued. Inline TwiML is refused here: what a call does is decided when it is
/// answered.
fn create(board: &Arc<Board>, asked: &Asked) -> Result<Value, Refusal> {
    let form = Form::read(asked, &CREATE_FIELDS)?;
    let to = form.one("To").ok_or_else(|| Refusal::bad(21201, "No 'To' number specified"))?;
    let from = form.one("From").ok_or_else(|| Refusal::bad(21213, "No 'From' number specified"))?;
    if !is_callable(to) {
        return Err(Refusal::bad(21211, format!("Invalid 'To' Phone Number: {to}")));
    }
    if !is_callable(from) {
        return Err(Refusal::bad(21212, format!("Invalid 'From' Number: {from}")));
    }
    let url = form.target("Url", "Method")?;
    let url = url.ok_or_else(|| Refusal::bad(21205, "Url parameter is required"))?;
    let status = form.target("StatusCallback", "StatusCallbackMethod")?;
    let events = form.all("StatusCallbackEvent");
    let (reports, warning) = reports(status, &events);
    let record = CallRecord {
        sid: sid("CA"),
        direction: "outbound-api".into(),
        from: from.to_owned(),
        to: to.to_owned(),
        status: "queued".into(),
        faults: warning.into_iter().collect(),
        ..CallRecord::default()
    };
    let shown = resource(board, &record);
    board.dial_out(record, Source::url(url), reports);
    Ok(shown)
}

/// Which events are reported. One that does not exist makes the call silent, as at Twilio: it is
/// created, and no callback comes (21626).
fn reports(target: Option<Target>, events: &[&str]) -> (Reports, Option<Fault>) {
    if let Some(wrong) = events.iter().find(|event| !EVENTS.contains(event)) {
        let message = format!("Invalid StatusCallbackEvent: {wrong}");
        return (Reports::default(), Some(Fault::new(21626, message)));
    }
    let events = if events.is_empty() { &["completed"][..] } else { events };
    let events = events.iter().map(|event| (*event).to_owned()).collect();
    (Reports { target, events }, None)
}

/// What a running call is told: to end, or to go on elsewhere.
fn update(asked: &Asked) -> Result<Command, Refusal> {
    let form = Form::read(asked, &["Status", "Url", "Method", "Twiml"])?;
    match (form.one("Status"), form.target("Url", "Method")?, form.one("Twiml")) {
        (Some("completed" | "canceled"), None, None) => Ok(Command::HangUp),
        (None, Some(url), None) => Ok(Command::Replace(Source::url(url))),
        (None, None, Some(text)) if text.chars().count() <= 4_000 => {
            Ok(Command::Replace(Source::Twiml(text.to_owned())))
        }
        _ => Err(Refusal::bad(21218, "Exactly one of Status, Url and Twiml")),
    }
}

/// E.164, or one of Twilio's own schemes.
fn is_callable(number: &str) -> bool {
    if number.starts_with("client:") || number.starts_with("sip:") {
        return true;
    }
    let digits = number.strip_prefix('+').unwrap_or_default();
    (8..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// A call as the REST interface shows it.
fn resource(board: &Board, call: &CallRecord) -> Value {
    let account = &board.exchange.account;
    let uri = format!("/2010-04-01/Accounts/{account}/Calls/{}", call.sid);
    let created = call.notes.first().map_or_else(crate::clock::wall_us, |note| note.at_us);
    json!({
        "sid": call.sid, "account_sid": account, "status": call.status,
        "direction": call.direction, "to": call.to, "from": call.from, "duration": null,
        "price": null, "price_unit": "USD", "queue_time": "0", "answered_by": null,
        "start_time": null, "end_time": null, "date_created": rfc2822(created),
        "parent_call_sid": null, "api_version": "2010-04-01", "uri": format!("{uri}.json"),
        "subresource_uris": {
            "notifications": format!("{uri}/Notifications.json"),
            "streams": format!("{uri}/Streams.json"),
        },
    })
}

/// What can be reported of a call.
const EVENTS: [&str; 4] = ["initiated", "ringing", "answered", "completed"];

/// What a creation may say, as far as it is understood here.
const CREATE_FIELDS: [&str; 12] = [
    "To",
    "From",
    "Url",
    "Method",
    "FallbackUrl",
    "FallbackMethod",
    "StatusCallback",
    "StatusCallbackMethod",
    "StatusCallbackEvent",
    "Timeout",
    "TimeLimit",
    "CallerId",
];
