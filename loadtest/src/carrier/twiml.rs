//! TwiML, read strictly: what Twilio would warn about ends the call here.
//!
//! Source: Twilio's TwiML reference pages, read 2026-11-20. Verbs that no call of ours needs are
//! unknown to this fake.

use url::Url;

use super::record::Fault;
use super::xml::{self, Element};

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its verbs, in order.
    pub(crate) verbs: Vec<Verb>,
}

/// Something that Twilio is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Open a bidirectional stream; go on when it is over.
    Connect { stream: Stream, action: Option<Target> },
    /// Go on with another document.
    Redirect(Target),
    /// Connect with somebody else.
    Dial { to: String, action: Option<Target> },
    /// Say something.
    Say(String),
    /// Wait, in seconds.
    Pause(u64),
    /// Refuse the call.
    Reject,
    /// End the call.
    Hangup,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL, with its fragment of overrides.
    pub(crate) url: String,
    /// `GET` or `POST`.
    pub(crate) method: Method,
}

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Fields in the query.
    Get,
    /// Fields in the body.
    Post,
}

/// A media stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The URL, `wss`, exactly as it was written: this is what is signed.
    pub(crate) url: String,
    /// The name, where one was given.
    pub(crate) name: Option<String>,
    /// Where the stream's beginning and end are reported.
    pub(crate) status: Option<Target>,
    /// What `start` carries.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The fault that Twilio's debugger would show.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(Fault::new(11750, "the document is larger than 64 kB"));
        }
        let root = xml::read(text).map_err(|why| Fault::new(12100, why))?;
        if root.name != "Response" {
            return Err(schema(format!("the root is <{}>, not <Response>", root.name)));
        }
        no_text(&root)?;
        known_attributes(&root, &[])?;
        let verbs = root.children.iter().map(verb).collect::<Result<Vec<_>, _>>()?;
        match verbs.iter().position(|verb| *verb == Verb::Reject) {
            None | Some(0) => Ok(Self { verbs }),
            Some(_) => Err(schema("<Reject> is not the first verb".into())),
        }
    }

    /// The names of the verbs.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |verb: &Verb| match verb {
            Verb::Connect { .. } => "Connect",
            Verb::Redirect(_) => "Redirect",
            Verb::Dial { .. } => "Dial",
            Verb::Say(_) => "Say",
            Verb::Pause(_) => "Pause",
            Verb::Reject => "Reject",
            Verb::Hangup => "Hangup",
        };
        self.verbs.iter().map(|verb| name(verb).to_owned()).collect()
    }
}

/// Reads one verb.
fn verb(element: &Element) -> Result<Verb, Fault> {
    match element.name.as_str() {
        "Connect" => {
            no_text(element)?;
            known_attributes(element, &["action", "method"])?;
            let [stream] = element.children.as_slice() else {
                return Err(schema("<Connect> holds exactly one <Stream>".into()));
            };
            Ok(Verb::Connect { stream: read_stream(stream)?, action: action(element)? })
        }
        "Redirect" => {
            no_children(element)?;
            known_attributes(element, &["method"])?;
            Ok(Verb::Redirect(target(&element.text, element.attribute("method"))?))
        }
        "Dial" => {
            known_attributes(element, &DIAL_ATTRIBUTES)?;
            Ok(Verb::Dial { to: dialled(element)?, action: action(element)? })
        }
        "Say" => {
            no_children(element)?;
            known_attributes(element, &["voice", "language", "loop"])?;
            Ok(Verb::Say(element.text.clone()))
        }
        "Pause" => {
            no_text(element)?;
            no_children(element)?;
            known_attributes(element, &["length"])?;
            let length = element.attribute("length").unwrap_or("1");
            let seconds = length.parse().map_err(|_| schema("length is no number".into()))?;
            Ok(Verb::Pause(seconds))
        }
        "Reject" => {
            known_attributes(element, &["reason"])?;
            no_children(element)?;
            Ok(Verb::Reject)
        }
        "Hangup" => {
            known_attributes(element, &[])?;
            no_text(element)?;
            no_children(element)?;
            Ok(Verb::Hangup)
        }
        unknown => Err(schema(format!("<{unknown}> is unknown"))),
    }
}

/// Reads `<Stream>`, which stands alone in its `<Connect>`.
fn read_stream(element: &Element) -> Result<Stream, Fault> {
    if element.name != "Stream" {
        return Err(schema(format!("<{}> has no place in <Connect>", element.name)));
    }
    no_text(element)?;
    known_attributes(element, &["url", "name", "track", "statusCallback", "statusCallbackMethod"])?;
    let track = element.attribute("track").unwrap_or("inbound_track");
    if track != "inbound_track" {
        return Err(Fault::new(31941, format!("a bidirectional stream has no track {track}")));
    }
    let status = element.attribute("statusCallback");
    let method = element.attribute("statusCallbackMethod");
    Ok(Stream {
        url: stream_url(element.attribute("url").unwrap_or_default())?,
        name: element.attribute("name").map(str::to_owned),
        status: status.map(|url| target(url, method)).transpose()?,
        parameters: parameters(element)?,
    })
}

/// Checks the address of a stream. A query would be dropped on the way or fail the handshake:
/// both were seen, so neither is played here.
fn stream_url(text: &str) -> Result<String, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::new(31923, "the stream's URL is malformed"))?;
    if url.scheme() != "wss" {
        return Err(Fault::new(31922, "the stream's URL is not wss"));
    }
    if text.contains('?') {
        return Err(Fault::new(31920, "the stream's URL has a query, which never arrives"));
    }
    // A URL parser forgives `wss:///name`; a fragment or a user has no place in a handshake.
    if text.contains(":///") || text.contains('#') || !url.username().is_empty() {
        return Err(Fault::new(31923, "the stream's URL is malformed"));
    }
    Ok(text.to_owned())
}

/// Reads the parameters and adds them up.
fn parameters(stream: &Element) -> Result<Vec<(String, String)>, Fault> {
    let mut parameters = Vec::new();
    let mut chars = 0;
    for element in &stream.children {
        if element.name != "Parameter" {
            return Err(schema(format!("<{}> has no place in <Stream>", element.name)));
        }
        no_text(element)?;
        no_children(element)?;
        known_attributes(element, &["name", "value"])?;
        let [Some(name), Some(value)] = ["name", "value"].map(|key| element.attribute(key)) else {
            return Err(schema("a <Parameter> without a name or a value".into()));
        };
        chars += name.chars().count() + value.chars().count();
        parameters.push((name.to_owned(), value.to_owned()));
    }
    if chars >= PARAMETER_CHARS {
        return Err(schema(format!("the parameters have {chars} characters; 499 are allowed")));
    }
    Ok(parameters)
}

/// Whom `<Dial>` names: a number as its text, or a number or a SIP address in one element.
fn dialled(dial: &Element) -> Result<String, Fault> {
    let (kind, to) = match dial.children.as_slice() {
        [] => ("Number", &dial.text),
        [child] if child.name == "Number" || child.name == "Sip" => {
            no_text(dial)?;
            known_attributes(child, &NUMBER_ATTRIBUTES)?;
            no_children(child)?;
            (child.name.as_str(), &child.text)
        }
        _ => return Err(schema("<Dial> holds a number, one <Number> or one <Sip>".into())),
    };
    let is_sip = to.starts_with("sip:") || to.starts_with("sips:");
    let is_number = to.strip_prefix('+').is_some_and(|digits| {
        (2..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    match kind {
        "Sip" if is_sip => Ok(to.clone()),
        "Sip" => Err(Fault::new(13224, format!("<Sip> holds no SIP address: `{to}`"))),
        _ if is_number => Ok(to.clone()),
        _ => Err(Fault::new(13223, format!("<Dial> holds no number in E.164: `{to}`"))),
    }
}

/// Where a verb reports its end, if anywhere.
fn action(element: &Element) -> Result<Option<Target>, Fault> {
    let action = element.attribute("action");
    action.map(|url| target(url, element.attribute("method"))).transpose()
}

/// Reads where a request goes. This fake takes absolute URLs alone, as every document of ours
/// should hold.
fn target(url: &str, method: Option<&str>) -> Result<Target, Fault> {
    let method = match method {
        None | Some("POST") => Method::Post,
        Some("GET") => Method::Get,
        Some(other) => return Err(schema(format!("method {other} is unknown"))),
    };
    let parsed = Url::parse(url).map_err(|_| Fault::new(11100, format!("bad URL `{url}`")))?;
    match parsed.scheme() {
        "http" | "https" => Ok(Target { url: url.to_owned(), method }),
        scheme => Err(Fault::new(11100, format!("bad URL: scheme {scheme}"))),
    }
}

/// Refuses every attribute but the known ones. Names are case-sensitive.
fn known_attributes(element: &Element, known: &[&str]) -> Result<(), Fault> {
    let unknown = element.attributes.iter().find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, _)) => Err(schema(format!("<{}> has no attribute {name}", element.name))),
        None => Ok(()),
    }
}

/// Refuses elements inside.
fn no_children(element: &Element) -> Result<(), Fault> {
    match element.children.first() {
        Some(child) => Err(schema(format!("<{}> has no place in <{}>", child.name, element.name))),
        None => Ok(()),
    }
}

/// Refuses text inside.
fn no_text(element: &Element) -> Result<(), Fault> {
    let allowed = element.text.is_empty();
    if allowed { Ok(()) } else { Err(schema(format!("<{}> holds no text", element.name))) }
}

/// Twilio warns (12200) and goes on without what it does not know; this fake ends the call.
fn schema(what: String) -> Fault {
    Fault::new(12200, what)
}

/// Twilio takes documents up to 64 kB (11750).
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// The names and values of all parameters together stay below this.
const PARAMETER_CHARS: usize = 500;

/// Attributes of `<Dial>` that change nothing here.
const DIAL_ATTRIBUTES: [&str; 8] = [
    "action",
    "method",
    "timeout",
    "timeLimit",
    "callerId",
    "answerOnBridge",
    "hangupOnStar",
    "ringTone",
];

/// Attributes of `<Number>` and `<Sip>` that change nothing here.
const NUMBER_ATTRIBUTES: [&str; 6] =
    ["url", "method", "sendDigits", "statusCallback", "statusCallbackEvent", "byoc"];

#[cfg(test)]
#[path = "twiml_tests.rs"]
mod tests;
