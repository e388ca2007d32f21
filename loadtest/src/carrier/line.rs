//! A call's life: fetch a document, do what it says, fetch the next, report how it goes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::call::{Call, Command, Source};
use super::caller::Caller;
use super::record::{Fault, What};
use super::report::{post, post_to, report_stream, rfc2822};
use super::sign::Field;
use super::stream::{self, Over};
use super::twiml::{Document, Stream, Target, Verb};
use super::whim::Whim;
use super::{Exchange, sid};
use crate::clock::{Stopwatch, wall_us};

/// Where a call's progress is reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports {
    /// Where to; nobody when `None`.
    pub(crate) target: Option<Target>,
    /// Which events: `initiated`, `ringing`, `answered`, `completed`.
    pub(crate) events: Vec<String>,
}

/// A call that REST has asked for: where its document is, and what it meets.
#[derive(Debug)]
pub(crate) struct Dialling {
    /// Where the document comes from when somebody picks up.
    pub(crate) first: Source,
    /// What it meets.
    pub(crate) whim: Whim,
    /// Who listens who has picked up; nobody when `None`.
    pub(crate) listening: Option<Listening>,
}

/// Somebody wants to know who has picked up.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Where it is said.
    pub(crate) target: Target,
    /// What is said, in Twilio's word.
    pub(crate) by: String,
}

/// A call that lives.
pub(crate) struct Line {
    exchange: Arc<Exchange>,
    call: Arc<Call>,
    caller: Caller,
    commands: mpsc::Receiver<Command>,
    reports: Reports,
    posts: TaskTracker,
    reported: u64,
    answered: Option<Stopwatch>,
    fetches: u32,
    /// Whether the number's fallback was asked.
    fell_back: bool,
}

/// How it goes on after a verb or a document.
enum Then {
    Next,
    Document(Source),
    Over,
}

impl Line {
    /// A call that begins.
    pub(crate) fn new(
        exchange: Arc<Exchange>,
        call: Arc<Call>,
        caller: Caller,
        commands: mpsc::Receiver<Command>,
        reports: Reports,
    ) -> Self {
        Self {
            exchange,
            call,
            caller,
            commands,
            reports,
            posts: TaskTracker::new(),
            reported: 0,
            answered: None,
            fetches: 0,
            fell_back: false,
        }
    }

    /// Lives through an inbound call: it rings until the document needs it answered.
    pub(crate) async fn live_inbound(mut self, first: Source) {
        self.set_status("ringing", None);
        self.follow(first).await;
    }

    /// Lives through an outbound call: it is dialled, rings, and is answered, unless nobody picks
    /// up.
    pub(crate) async fn live_outbound(mut self, dialling: Dialling) {
        let Dialling { first, whim, listening } = dialling;
        for (status, event) in [("initiated", "initiated"), ("ringing", "ringing")] {
            self.set_status(status, Some(event));
            if !self.wait(RING_STEP).await {
                self.finish("canceled").await;
                return;
            }
        }
        if let Some(missed) = whim.missed() {
            self.finish(missed).await;
            return;
        }
        self.answer();
        if let Some(Listening { target, by }) = listening {
            self.report_machine(target, by);
        }
        self.follow(first).await;
    }

    /// Says who has picked up, after having listened for a while.
    fn report_machine(&self, target: Target, by: String) {
        let sid = self.call.read(|record| record.sid.clone());
        let fields = [
            ("AccountSid", self.exchange.account.clone()),
            ("CallSid", sid),
            ("AnsweredBy", by),
            ("MachineDetectionDuration", LISTEN.as_millis().to_string()),
        ];
        let form = fields.map(|(name, value)| (name.to_owned(), value)).into();
        let report = post(Arc::clone(&self.exchange), Arc::clone(&self.call), target, form);
        self.posts.spawn(async move {
            tokio::time::sleep(LISTEN).await;
            report.await;
        });
    }

    /// Fetches and carries out one document after the other until one of them has no more
    /// to say.
    async fn follow(mut self, first: Source) {
        let mut source = first;
        let end = loop {
            let then = match self.document(source).await {
                Ok(document) => self.carry_out(document).await,
                Err(fault) => {
                    self.call.fault(fault.clone());
                    self.fall_back(&fault)
                }
            };
            match then {
                Then::Document(next) => source = next,
                Then::Next | Then::Over => {
                    break if self.answered.is_some() { "completed" } else { "failed" };
                }
            }
        };
        self.finish(end).await;
    }

    /// Where a document comes from when the one that was wanted cannot be had: the number's fallback,
    /// once, with the error. Source: Twilio, "Voice webhooks", fallback URL, read 2026-11-20.
    fn fall_back(&mut self, fault: &Fault) -> Then {
        let url = self.exchange.fallback_url.as_deref().filter(|_| !self.fell_back);
        let Some(url) = url.filter(|_| self.call.read(|call| call.direction == "inbound")) else {
            return Then::Over;
        };
        self.fell_back = true;
        let why = [("ErrorCode", fault.code.to_string()), ("ErrorUrl", String::new())];
        let why = why.map(|(name, value)| (name.to_owned(), value)).into();
        Then::Document(Source::Url(post_to(url), why))
    }

    /// Fetches a document, or takes the given one, and reads it.
    async fn document(&mut self, source: Source) -> Result<Document, Fault> {
        self.fetches += 1;
        if self.fetches > FETCHES_MAX {
            return Err(Fault::new(11215, "too many redirects without anything in between"));
        }
        let text = match source {
            Source::Twiml(text) => text,
            Source::Url(target, more) => {
                let form = [self.voice_fields(), more].concat();
                let (hook, answer) = self.exchange.asker.ask(&target, form).await;
                self.exchange.capture_hook(&hook);
                let is_document = hook.twiml.is_some();
                self.call.hook(hook);
                let text = answer?;
                if !is_document {
                    return Err(Fault::new(12300, "the document's Content-Type is not XML"));
                }
                text
            }
        };
        let document = Document::read(&text)?;
        self.call.note(What::Document { verbs: document.names() });
        Ok(document)
    }

    /// Carries out the verbs in order. The call is answered by the first verb that needs
    /// it; a leading `<Pause>` and `<Reject>` do not.
    async fn carry_out(&mut self, document: Document) -> Then {
        for (at, verb) in document.verbs.into_iter().enumerate() {
            let waits = matches!(verb, Verb::Pause(_) | Verb::Reject) && at == 0;
            let talks = !matches!(verb, Verb::Redirect(_) | Verb::Hangup);
            if talks && !waits && self.answered.is_none() {
                self.answer();
            }
            match self.carry_out_verb(verb).await {
                Then::Next => {}
                then @ (Then::Document(_) | Then::Over) => return then,
            }
        }
        Then::Over
    }

    /// Carries out one verb.
    async fn carry_out_verb(&mut self, verb: Verb) -> Then {
        match verb {
            Verb::Connect { stream, action } => match (self.connect(&stream).await, action) {
                (Then::Next, Some(action)) => Then::Document(Source::url(action)),
                (then, _) => then,
            },
            Verb::Redirect(target) => Then::Document(Source::url(target)),
            Verb::Dial { to, action } => {
                self.call.note(What::Dialled { to });
                let began = Stopwatch::start();
                let then = self.pause(DIAL).await;
                match (then, action) {
                    (Then::Next, Some(action)) => {
                        let seconds = began.millis().div_ceil(1_000);
                        Then::Document(Source::Url(action, dial_fields(seconds)))
                    }
                    (then, _) => then,
                }
            }
            Verb::Say(text) => {
                let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                self.call.note(What::Said { text });
                self.pause((LETTER * letters).min(SAY_MAX)).await
            }
            Verb::Pause(seconds) => self.pause(Duration::from_secs(seconds)).await,
            Verb::Reject | Verb::Hangup => Then::Over,
        }
    }

    /// Opens the stream and stays with it. However it ends, cleanly or not, the document
    /// goes on: that is what resume is built on.
    async fn connect(&mut self, stream: &Stream) -> Then {
        self.fetches = 0;
        let delay = self.exchange.stream_delay;
        if !delay.is_zero() {
            match self.pause(delay).await {
                Then::Next => {}
                then @ (Then::Document(_) | Then::Over) => return then,
            }
        }
        let call = Arc::clone(&self.call);
        let exchange = Arc::clone(&self.exchange);
        let opened = stream::open(&exchange, &call, &mut self.caller, stream).await;
        let media = match opened {
            Ok(media) => media,
            Err(fault) => {
                let error = fault.message.clone();
                self.call.fault(fault);
                let sid = self.call.read(|record| {
                    record.streams.last().map(|stream| stream.sid.clone()).unwrap_or_default()
                });
                self.report_stream(stream, &sid, "stream-error", Some(&error));
                return Then::Next;
            }
        };
        let sid = media.sid().to_owned();
        report_stream(
            &self.exchange,
            &self.call,
            &self.posts,
            stream,
            (&sid, "stream-started", None),
        );
        let over = media.run(&mut self.commands).await;
        self.report_stream(stream, &sid, "stream-stopped", None);
        match over {
            Over::GoOn => Then::Next,
            Over::HungUp | Over::Failed => Then::Over,
            Over::Replaced(source) => Then::Document(source),
        }
    }

    /// Waits, unless the call is ended or given another document meanwhile.
    async fn pause(&mut self, span: Duration) -> Then {
        tokio::select! {
            () = tokio::time::sleep(span) => Then::Next,
            command = self.commands.recv() => match command {
                Some(Command::Replace(source)) => Then::Document(source),
                Some(Command::HangUp) | None => Then::Over,
            },
        }
    }

    /// Waits; gives whether the call still lives.
    async fn wait(&mut self, span: Duration) -> bool {
        matches!(self.pause(span).await, Then::Next)
    }

    /// The call is answered: from here on it costs money, and ends as `completed`.
    fn answer(&mut self) {
        self.answered = Some(Stopwatch::start());
        self.set_status("in-progress", Some("answered"));
    }

    /// The call is over; what was reported meanwhile is waited for.
    async fn finish(mut self, status: &str) {
        self.set_status(status, Some("completed"));
        self.posts.close();
        self.posts.wait().await;
        self.call.change(|record| record.over = true);
    }

    /// Changes the status and reports it, if that was asked for. Numbers are counted from 0
    /// and arrive in any order.
    fn set_status(&mut self, status: &str, event: Option<&str>) {
        self.call.change(|record| record.status = status.to_owned());
        self.call.note(What::Status { status: status.to_owned() });
        let asked = event.is_some_and(|event| self.reports.events.iter().any(|e| e == event));
        let Some(target) = self.reports.target.clone().filter(|_| asked) else { return };
        let mut form = self.voice_fields();
        let mut add = |name: &str, value: String| form.push((name.to_owned(), value));
        add("SequenceNumber", self.reported.to_string());
        add("Timestamp", rfc2822(wall_us()));
        add("CallbackSource", "call-progress-events".into());
        if event == Some("completed") {
            let seconds = self.answered.map_or(0, |since| since.millis().div_ceil(1_000));
            add("CallDuration", seconds.to_string());
            add("Duration", seconds.div_ceil(60).to_string());
            let sip = match status {
                "busy" => "486",
                "no-answer" => "487",
                "failed" => "404",
                _ => "200",
            };
            add("SipResponseCode", sip.into());
        }
        self.reported += 1;
        self.posts.spawn(post(Arc::clone(&self.exchange), Arc::clone(&self.call), target, form));
    }

    /// Reports a stream's beginning or end.
    fn report_stream(&self, stream: &Stream, sid: &str, event: &str, error: Option<&str>) {
        let report = (sid, event, error);
        report_stream(&self.exchange, &self.call, &self.posts, stream, report);
    }

    /// What every request about a call carries, the empty ones included: they are signed too.
    fn voice_fields(&self) -> Vec<Field> {
        self.call.read(|record| {
            let (from, to) = (record.from.as_str(), record.to.as_str());
            let mut fields = vec![
                ("AccountSid", self.exchange.account.as_str()),
                ("ApiVersion", "2010-04-01"),
                ("CallSid", record.sid.as_str()),
                ("CallStatus", record.status.as_str()),
                ("Direction", record.direction.as_str()),
                ("From", from),
                ("Caller", from),
                ("To", to),
                ("Called", to),
                ("StirVerstat", "TN-Validation-Passed-A"),
            ];
            let places = [
                "FromCity",
                "FromState",
                "FromZip",
                "CallerCity",
                "CallerState",
                "CallerZip",
                "ToCity",
                "ToState",
                "ToZip",
                "CalledCity",
                "CalledState",
                "CalledZip",
            ];
            fields.extend(places.map(|name| (name, "")));
            let countries = ["FromCountry", "CallerCountry", "ToCountry", "CalledCountry"];
            fields.extend(countries.map(|name| (name, "US")));
            fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        })
    }
}

/// What the action of a `<Dial>` is told besides: whoever was dialled has answered and hung up.
fn dial_fields(seconds: u64) -> Vec<Field> {
    let fields = [
        ("DialCallStatus", "completed".to_owned()),
        ("DialCallSid", sid("CA")),
        ("DialCallDuration", seconds.to_string()),
        ("DialBridged", "true".to_owned()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Ten redirects are followed in a row (11215).
const FETCHES_MAX: u32 = 10;

/// How long a call is in each state before it is answered.
const RING_STEP: Duration = Duration::from_millis(150);

/// How long it takes to know who has picked up; some four seconds at the real service.
const LISTEN: Duration = Duration::from_millis(200);

/// How long whoever is dialled stays on the line.
const DIAL: Duration = Duration::from_millis(500);

/// How long a letter is spoken.
const LETTER: Duration = Duration::from_millis(50);

/// Longer sentences are cut short: nobody listens.
const SAY_MAX: Duration = Duration::from_secs(3);
