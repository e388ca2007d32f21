//! TwiML: what the carrier is told to do, typed, so that only documents that it takes can be
//! written.
//!
//! Source: Twilio, "TwiML for Voice" and `<Stream>`, read 2026-11-20.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

/// One document: verbs in the order in which they are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twiml(pub Vec<Verb>);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Open a stream both ways; what follows is done when the stream has ended, however it did.
    Connect(Stream),
    /// Ask again, at this address.
    Redirect(String),
    /// Give the caller to somebody else; when that is over, the carrier asks what is next.
    Dial(Dial),
    /// Speak a sentence.
    Say(String),
    /// Wait, in whole seconds.
    Pause(u8),
    /// End the call.
    Hangup,
    /// Do not answer: the caller hears the busy tone and nobody pays. Only as the first verb.
    RejectBusy,
}

/// The stream of `<Connect>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where the carrier connects, `wss`. No query: the carrier does not send one.
    pub url: String,
    /// Where the carrier says how the stream fares.
    pub status_callback: String,
    /// What the stream's `start` message repeats, names and values.
    pub parameters: Vec<(&'static str, String)>,
}

/// Who is dialled for the caller, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Whom.
    pub to: Target,
    /// The number that is shown to whoever is dialled; `None` shows the caller's. The carrier takes
    /// the caller's and the account's own.
    pub caller_id: Option<String>,
    /// Where the carrier asks what follows, however the dialled leg ended. Verbs behind this one
    /// are never done.
    pub action: String,
}

/// To whom a caller is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A phone number, E.164.
    Number(String),
    /// A SIP address, `sip:...`.
    Sip(String),
}

impl Target {
    /// The address, as the carrier wants it written.
    #[must_use]
    pub fn of(address: &str) -> Self {
        let is_sip = address.starts_with("sip:") || address.starts_with("sips:");
        if is_sip { Self::Sip(address.to_owned()) } else { Self::Number(address.to_owned()) }
    }
}

/// Why a document was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwimlError {
    /// The carrier takes `wss` addresses without a query and without a fragment.
    #[error("a stream's address must be wss:// without query and fragment")]
    StreamUrl,
    /// The carrier asks at `https` addresses only.
    #[error("a webhook's address must be https://")]
    WebhookUrl,
    /// Names and values of all parameters together are too long.
    #[error("parameters of {chars} characters; the carrier takes fewer than 500")]
    Parameters {
        /// How long they are.
        chars: usize,
    },
    /// It only works as the first verb.
    #[error("a call can only be rejected before anything else")]
    LateReject,
    /// The text holds a character that XML cannot carry.
    #[error("a text holds a control character")]
    Text,
}

/// Parameters' names and values together stay below this.
const PARAMETER_CHARS: usize = 500;

impl Twiml {
    /// Writes the document, whose sentences the carrier's standard voice reads.
    ///
    /// # Errors
    /// What the carrier would refuse, or misunderstand.
    pub fn to_xml(&self) -> Result<String, TwimlError> {
        self.to_xml_in(None)
    }

    /// Writes the document, whose sentences this voice of the carrier's reads; `None` is its
    /// standard one.
    ///
    /// # Errors
    /// What the carrier would refuse, or misunderstand.
    pub fn to_xml_in(&self, voice: Option<&str>) -> Result<String, TwimlError> {
        let mut document = Document { writer: Writer::new(Vec::new()), voice };
        document.put(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        document.open("Response", &[]);
        for (place, verb) in self.0.iter().enumerate() {
            // Anywhere else the call would be answered, and billed, before it is rejected.
            if place > 0 && *verb == Verb::RejectBusy {
                return Err(TwimlError::LateReject);
            }
            document.verb(verb)?;
        }
        document.close("Response");
        Ok(String::from_utf8(document.writer.into_inner()).expect("only text was written"))
    }
}

/// A document under way. Escaping is quick-xml's; what XML cannot carry is refused here.
struct Document<'v> {
    writer: Writer<Vec<u8>>,
    /// Who reads sentences.
    voice: Option<&'v str>,
}

impl Document<'_> {
    fn verb(&mut self, verb: &Verb) -> Result<(), TwimlError> {
        match verb {
            Verb::Connect(stream) => self.connect(stream)?,
            Verb::Redirect(url) => {
                self.text("Redirect", &[("method", "POST")], webhook(url)?)?;
            }
            Verb::Dial(dial) => self.dial(dial)?,
            Verb::Say(sentence) => {
                let voice: Vec<_> = self.voice.map(|voice| ("voice", voice)).into_iter().collect();
                self.text("Say", &voice, sentence)?;
            }
            Verb::Pause(seconds) => self.empty("Pause", &[("length", &seconds.to_string())])?,
            Verb::Hangup => self.empty("Hangup", &[])?,
            Verb::RejectBusy => self.empty("Reject", &[("reason", "busy")])?,
        }
        Ok(())
    }

    fn connect(&mut self, stream: &Stream) -> Result<(), TwimlError> {
        if !stream.url.starts_with("wss://") || stream.url.contains(['?', '#']) {
            return Err(TwimlError::StreamUrl);
        }
        let lengths = stream
            .parameters
            .iter()
            .map(|(name, value)| name.chars().count() + value.chars().count());
        // Counted as the carrier counts: characters of names and values, over all parameters.
        let chars = lengths.sum();
        if chars >= PARAMETER_CHARS {
            return Err(TwimlError::Parameters { chars });
        }
        let callback = webhook(&stream.status_callback)?;
        // Checked before the first tag is written: a refused document is not half a document.
        let texts = [stream.url.as_str(), callback];
        texts.into_iter().try_for_each(writable)?;
        self.open("Connect", &[]);
        self.open("Stream", &[("url", &stream.url), ("statusCallback", callback)]);
        for (name, value) in &stream.parameters {
            self.empty("Parameter", &[("name", name), ("value", value)])?;
        }
        self.close("Stream");
        self.close("Connect");
        Ok(())
    }

    fn dial(&mut self, dial: &Dial) -> Result<(), TwimlError> {
        // POST, because a GET's answer may be cached, and a decision must not be.
        let mut attributes = vec![("action", webhook(&dial.action)?), ("method", "POST")];
        attributes.extend(dial.caller_id.as_deref().map(|number| ("callerId", number)));
        attributes.iter().try_for_each(|(_, value)| writable(value))?;
        self.open("Dial", &attributes);
        match &dial.to {
            Target::Number(number) => self.text("Number", &[], number)?,
            Target::Sip(address) => self.text("Sip", &[], address)?,
        }
        self.close("Dial");
        Ok(())
    }

    fn text(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        text: &str,
    ) -> Result<(), TwimlError> {
        attributes.iter().try_for_each(|(_, value)| writable(value))?;
        writable(text)?;
        self.open(name, attributes);
        self.put(Event::Text(BytesText::new(text)));
        self.close(name);
        Ok(())
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<(), TwimlError> {
        attributes.iter().try_for_each(|(_, value)| writable(value))?;
        let tag = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.put(Event::Empty(tag));
        Ok(())
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let tag = BytesStart::new(name).with_attributes(attributes.iter().copied());
        self.put(Event::Start(tag));
    }

    fn close(&mut self, name: &str) {
        self.put(Event::End(BytesEnd::new(name)));
    }

    fn put(&mut self, event: Event<'_>) {
        self.writer.write_event(event).expect("a vector takes every write");
    }
}

/// Checks an address that the carrier will ask.
fn webhook(url: &str) -> Result<&str, TwimlError> {
    if url.starts_with("https://") { Ok(url) } else { Err(TwimlError::WebhookUrl) }
}

/// XML 1.0 has no way to write most control characters.
fn writable(text: &str) -> Result<(), TwimlError> {
    let is_bad =
        |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(is_bad) { Err(TwimlError::Text) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream {
            url: "wss://media.example/v1/m/fra-1".into(),
            status_callback: "https://hooks.example/v1/twilio/stream".into(),
            parameters: vec![("ticket", "v4.public.abc".into())],
        }
    }

    fn written(verb: Verb) -> String {
        let document = Twiml(vec![verb]).to_xml().unwrap();
        let body = document.strip_prefix(r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#);
        body.unwrap().strip_suffix("</Response>").unwrap().to_owned()
    }

    #[test]
    fn a_call_gets_a_stream_and_what_follows_it() {
        let resume = "https://hooks.example/v1/twilio/resume/v4.public.p#rc=3&rp=all";
        let document = Twiml(vec![Verb::Connect(stream()), Verb::Redirect(resume.into())]);
        let golden = concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect>"#,
            r#"<Stream url="wss://media.example/v1/m/fra-1" "#,
            r#"statusCallback="https://hooks.example/v1/twilio/stream">"#,
            r#"<Parameter name="ticket" value="v4.public.abc"/></Stream></Connect>"#,
            r#"<Redirect method="POST">https://hooks.example/v1/twilio/resume/v4.public.p"#,
            r#"#rc=3&amp;rp=all</Redirect></Response>"#,
        );
        assert_eq!(document.to_xml().unwrap(), golden);
    }

    #[test]
    fn every_other_verb_is_written_as_the_carrier_reads_it() {
        let number = Dial {
            to: Target::Number("+15550199".into()),
            caller_id: Some("+15550102".into()),
            action: "https://hooks.example/r?after=dial#rc=3&rp=all".into(),
        };
        let action = r#"action="https://hooks.example/r?after=dial#rc=3&amp;rp=all" method="POST""#;
        let dial =
            format!(r#"<Dial {action} callerId="+15550102"><Number>+15550199</Number></Dial>"#);
        assert_eq!(written(Verb::Dial(number.clone())), dial);
        let to = Target::Sip("sip:a@b.example;x=1?h=1&y=2".into());
        let sip = Dial { to, caller_id: None, ..number };
        let dial = format!("<Dial {action}><Sip>sip:a@b.example;x=1?h=1&amp;y=2</Sip></Dial>");
        assert_eq!(written(Verb::Dial(sip)), dial);
        assert_eq!(written(Verb::Say("a < b".into())), "<Say>a &lt; b</Say>");
        assert_eq!(written(Verb::Pause(1)), r#"<Pause length="1"/>"#);
        assert_eq!(written(Verb::Hangup), "<Hangup/>");
        assert_eq!(written(Verb::RejectBusy), r#"<Reject reason="busy"/>"#);
    }

    #[test]
    fn every_sentence_is_read_by_the_voice_that_was_chosen() {
        let document = Twiml(vec![Verb::Say("Hello.".into()), Verb::Hangup]);
        let text = document.to_xml_in(Some("Polly.Joanna-Neural")).unwrap();
        let said = r#"<Response><Say voice="Polly.Joanna-Neural">Hello.</Say><Hangup/></Response>"#;
        assert!(text.ends_with(said), "{text}");
        assert_eq!(document.to_xml_in(Some("\u{1}")), Err(TwimlError::Text));
    }

    #[test]
    fn an_attribute_cannot_be_left() {
        let mut stream = stream();
        stream.parameters = vec![("ticket", r#""/><Dial>+1"#.into())];
        let text = written(Verb::Connect(stream));
        assert!(text.contains(r#"value="&quot;/&gt;&lt;Dial&gt;+1""#), "{text}");
        let dial = Dial {
            to: Target::Sip("sip:a@b</Sip><Hangup/>".into()),
            caller_id: Some(r#"+1" timeLimit="9"#.into()),
            action: r#"https://h/"><Hangup/>"#.into(),
        };
        let text = written(Verb::Dial(dial));
        assert!(!text.contains("<Hangup/>") && !text.contains(r#" timeLimit=""#), "{text}");
    }

    #[test]
    fn what_the_carrier_would_refuse_is_not_written() {
        let refused = |verbs: Vec<Verb>| Twiml(verbs).to_xml().unwrap_err();
        for url in ["wss://h/m?x=1", "wss://h/m#x", "ws://h/m", "https://h/m"] {
            let stream = Stream { url: url.into(), ..stream() };
            assert_eq!(refused(vec![Verb::Connect(stream)]), TwimlError::StreamUrl, "{url}");
        }
        let long = Stream { parameters: vec![("ticket", "x".repeat(494))], ..stream() };
        assert_eq!(refused(vec![Verb::Connect(long)]), TwimlError::Parameters { chars: 500 });
        let just = Stream { parameters: vec![("ticket", "x".repeat(493))], ..stream() };
        assert!(Twiml(vec![Verb::Connect(just)]).to_xml().is_ok());
        assert_eq!(refused(vec![Verb::Redirect("http://h".into())]), TwimlError::WebhookUrl);
        let to = Target::Number("+15550199".into());
        let dial = Dial { to, caller_id: None, action: "http://h".into() };
        assert_eq!(refused(vec![Verb::Dial(dial.clone())]), TwimlError::WebhookUrl);
        let dial = Dial { caller_id: Some("+1\u{0}".into()), action: "https://h".into(), ..dial };
        assert_eq!(refused(vec![Verb::Dial(dial)]), TwimlError::Text);
        assert_eq!(refused(vec![Verb::Hangup, Verb::RejectBusy]), TwimlError::LateReject);
        assert_eq!(refused(vec![Verb::Say("\u{1}".into())]), TwimlError::Text);
    }
}
