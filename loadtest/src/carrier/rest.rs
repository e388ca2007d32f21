//! Twilio's REST interface, as far as calls go: numbers are texts, dates are RFC 2822, errors
//! have Twilio's codes.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::board::Board;
use super::call::{Command, Source};
use super::line::{Dialling, Listening, Reports};
use super::record::{CallRecord, Fault};
use super::report::rfc2822;
use super::sid;
use super::twiml::{self, Target};
use super::whim::Whim;
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

    /// More at once than the account may.
    fn too_many() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, 20429, "Too Many Requests")
    }

    /// Something broke.
    fn broken() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 20500, "Internal Server Error")
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
    let request = board.mood.request();
    if !board.rest_delay.is_zero() {
        tokio::time::sleep(board.rest_delay).await;
    }
    let answer = if request.at_once > board.requests_max {
        Err(Refusal::too_many())
    } else {
        route(board, asked).await
    };
    let mut answer = match answer {
        Ok((status, body)) => serve::json(status, &body),
        Err(refusal) => refusal.answer(),
    };
    answer.headers_mut().insert("twilio-concurrent-requests", request.at_once.into());
    answer
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
        (Method::GET, ["Calls"]) => list(board, asked).map(|body| (StatusCode::OK, body)),
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

/// The calls that were asked for, newest first, one page of them. A filter that nothing here knows
/// is refused: the real service would ignore it, and list too much.
fn list(board: &Arc<Board>, asked: &Asked) -> Result<Value, Refusal> {
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let (mut to, mut from, mut status, mut most) = (None, None, None, 50);
    for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
        match name.as_str() {
            "To" => to = Some(value),
            "From" => from = Some(value),
            "Status" => status = Some(value),
            "PageSize" => {
                let size = value.parse().ok().filter(|size| (1..=1_000).contains(size));
                most = size.ok_or_else(|| Refusal::bad(20001, "PageSize is out of bounds"))?;
            }
            _ => {
                let message = format!("Unknown filter {name} (this fake insists)");
                return Err(Refusal::bad(20001, message));
            }
        }
    }
    let is_meant = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    let mut records = board.records();
    records.reverse();
    records.retain(|call| {
        is_meant(&to, &call.to) && is_meant(&from, &call.from) && is_meant(&status, &call.status)
    });
    let calls: Vec<Value> = records.iter().take(most).map(|call| resource(board, call)).collect();
    Ok(json!({"calls": calls, "page": 0, "page_size": most, "next_page_uri": null}))
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
    let (listening, missing) = listening(board, &form)?;
    let whim = board.mood.next();
    match whim {
        Whim::Throttled => return Err(Refusal::too_many()),
        Whim::RequestLost => return Err(Refusal::broken()),
        Whim::Answered | Whim::AnswerLost | Whim::Busy | Whim::NoAnswer | Whim::Failed => {}
    }
    let record = CallRecord {
        sid: sid("CA"),
        direction: "outbound-api".into(),
        from: from.to_owned(),
        to: to.to_owned(),
        status: "queued".into(),
        faults: warning.into_iter().chain(missing).collect(),
        ..CallRecord::default()
    };
    let shown = resource(board, &record);
    board.dial_out(record, Dialling { first: Source::url(url), whim, listening }, reports);
    if whim == Whim::AnswerLost { Err(Refusal::broken()) } else { Ok(shown) }
}

/// Who listens who has picked up, where that is said, and a warning when it is said nowhere.
/// Only beside the call: a call that waits for the verdict is not played here.
fn listening(board: &Board, form: &Form) -> Result<(Option<Listening>, Option<Fault>), Refusal> {
    match form.one("MachineDetection") {
        None => return Ok((None, None)),
        Some("Enable" | "DetectMessageEnd") => {}
        Some(other) => {
            return Err(Refusal::bad(21260, format!("Invalid MachineDetection {other}")));
        }
    }
    if form.one("AsyncAmd") != Some("true") {
        return Err(Refusal::bad(20001, "Only AsyncAmd=true is played here"));
    }
    let target = form.target("AsyncAmdStatusCallback", "AsyncAmdStatusCallbackMethod")?;
    let Some(target) = target else {
        let fault = Fault::new(21262, "AsyncAmdStatusCallback is missing");
        return Ok((None, Some(fault)));
    };
    Ok((Some(Listening { target, by: board.answered_by.clone() }), None))
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
const CREATE_FIELDS: [&str; 16] = [
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
    "MachineDetection",
    "AsyncAmd",
    "AsyncAmdStatusCallback",
    "AsyncAmdStatusCallbackMethod",
];
