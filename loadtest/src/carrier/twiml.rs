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

/// Whom `<Dial>` names: as its text, or in one element.
fn dialled(dial: &Element) -> Result<String, Fault> {
    let number = match dial.children.as_slice() {
        [] => &dial.text,
        [number] if number.name == "Number" || number.name == "Sip" => {
            known_attributes(number, &NUMBER_ATTRIBUTES)?;
            no_children(number)?;
            &number.text
        }
        _ => return Err(schema("<Dial> holds a number, one <Number> or one <Sip>".into())),
    };
    if number.is_empty() { Err(schema("<Dial> names nobody".into())) } else { Ok(number.clone()) }
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
mod tests {
    use super::*;

    fn fault(body: &str) -> u32 {
        Document::read(&format!("<Response>{body}</Response>")).unwrap_err().code
    }

    fn stream_with(attributes: &str, children: &str) -> String {
        format!(
            "<Connect><Stream url=\"wss://a.example/v1\"{attributes}>{children}</Stream></Connect>"
        )
    }

    #[test]
    fn the_documents_of_a_call_are_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <Response>
              <Connect>
                <Stream url="wss://a.example/v1/m/n1" statusCallback="https://a.example/s">
                  <Parameter name="ticket" value="v4.public.x"/>
                </Stream>
              </Connect>
              <Redirect method="POST">https://a.example/r/1#rc=3&amp;rp=all</Redirect>
            </Response>"#;
        let document = Document::read(text).unwrap();
        assert_eq!(document.names(), ["Connect", "Redirect"]);
        let Verb::Connect { stream, action: None } = &document.verbs[0] else { panic!() };
        assert_eq!(stream.url, "wss://a.example/v1/m/n1");
        assert_eq!(stream.parameters, [("ticket".into(), "v4.public.x".into())]);
        assert_eq!(stream.status.as_ref().unwrap().url, "https://a.example/s");
        let Verb::Redirect(target) = &document.verbs[1] else { panic!() };
        assert_eq!(target.url, "https://a.example/r/1#rc=3&rp=all");

        let text = "<Response><Say voice=\"x\">Sorry.</Say><Pause length=\"2\"/><Dial timeout=\"9\">\
                    <Number>+1555</Number></Dial><Hangup/></Response>";
        let document = Document::read(text).unwrap();
        let dial = Verb::Dial { to: "+1555".into(), action: None };
        assert_eq!(document.verbs[1..], [Verb::Pause(2), dial, Verb::Hangup]);
    }

    #[test]
    fn broken_xml_is_12100() {
        for text in ["", "Response", "<Response>", "<Response><Hangup></Response>"] {
            assert_eq!(Document::read(text).unwrap_err().code, 12100, "{text}");
        }
    }

    #[test]
    fn unknown_verbs_attributes_and_nestings_are_12200() {
        assert_eq!(Document::read("<response/>").unwrap_err().code, 12200);
        for body in [
            "<HangUp/>",
            "<Hangup reason=\"x\"/>",
            "<Hangup>now</Hangup>",
            "<Connect/>",
            "<Connect><Say>x</Say></Connect>",
            "<Connect Action=\"https://a.example\"><Stream url=\"wss://a.example\"/></Connect>",
            "<Say><Hangup/></Say>",
            "<Pause length=\"long\"/>",
            "<Redirect method=\"PUT\">https://a.example</Redirect>",
            "<Say>x</Say><Reject/>",
            "<Dial/>",
            &stream_with(" statuscallback=\"https://a.example\"", ""),
            &stream_with("", "<Parameter name=\"x\"/>"),
            &stream_with("", "<Parameter name=\"x\" value=\"y\" type=\"z\"/>"),
            &stream_with("", "<Param name=\"x\" value=\"y\"/>"),
        ] {
            assert_eq!(fault(body), 12200, "{body}");
        }
    }

    #[test]
    fn a_stream_needs_a_plain_wss_url() {
        let url = |url: &str| fault(&format!("<Connect><Stream url=\"{url}\"/></Connect>"));
        assert_eq!(url("https://a.example/v1"), 31922);
        assert_eq!(url("ws://a.example/v1"), 31922);
        assert_eq!(url("wss://a.example/v1?token=x"), 31920);
        assert_eq!(url("wss:///v1"), 31923);
        assert_eq!(url("/v1"), 31923);
        assert_eq!(fault(&stream_with(" track=\"both_tracks\"", "")), 31941);
    }

    #[test]
    fn five_hundred_characters_of_parameters_are_too_many() {
        let with = |chars: usize| {
            let value = "x".repeat(chars - 6);
            let children = format!("<Parameter name=\"ticket\" value=\"{value}\"/>");
            Document::read(&format!("<Response>{}</Response>", stream_with("", &children)))
        };
        assert!(with(499).is_ok());
        assert_eq!(with(500).unwrap_err().code, 12200);
    }

    #[test]
    fn urls_are_absolute() {
        assert_eq!(fault("<Redirect>/resume</Redirect>"), 11100);
        assert_eq!(fault("<Redirect>ftp://a.example</Redirect>"), 11100);
    }

    #[test]
    fn a_document_is_at_most_64_kilobytes() {
        let text = format!("<Response><Say>{}</Say></Response>", "x".repeat(65_536));
        assert_eq!(Document::read(&text).unwrap_err().code, 11750);
    }
}
