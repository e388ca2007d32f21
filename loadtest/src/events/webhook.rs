//! The voice webhook under load: a carrier's signed questions about calls that nobody knows yet, at a
//! rate, each answered with a stream of its own.
//!
//! A question is due at its moment, whatever became of those before it, and its answer is timed from
//! then: a control that stands still is late for all that wait.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::control::{ACCOUNT, AUTH_TOKEN, PUBLIC_URL};
use crate::carrier::sid;
use crate::carrier::sign::{Field, sign};
use crate::carrier::twiml::{Document, Verb};
use crate::clock::Stopwatch;

/// What became of all questions.
pub(super) struct Asked {
    /// How many were answered as they should be.
    pub(super) answered: u64,
    /// What must not have happened, in words; a few of all.
    pub(super) faults: Vec<String>,
    late: Histogram<u64>,
    tickets: BTreeSet<String>,
}

/// One answer.
struct Answer {
    /// From the moment at which the question was due.
    after_us: u64,
    /// The right of its stream.
    ticket: String,
}

impl Asked {
    fn nothing() -> Self {
        // A minute in microseconds, to a thousandth.
        let late = Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds");
        Self { answered: 0, faults: Vec::new(), late, tickets: BTreeSet::new() }
    }

    /// How long the answer took, in milliseconds, at this share of them.
    pub(super) fn late_ms(&self, quantile: f64) -> f64 {
        self.late.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn take(&mut self, answer: anyhow::Result<Answer>) {
        match answer {
            Ok(Answer { after_us, ticket }) => {
                self.late.saturating_record(after_us.max(1));
                self.answered += 1;
                if !self.tickets.insert(ticket) {
                    self.fault("two calls got one ticket".to_owned());
                }
            }
            Err(error) => self.fault(format!("{error:#}")),
        }
    }

    fn fault(&mut self, what: String) {
        // A few say what is wrong; thousands say no more.
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what);
        }
    }
}

/// Asks about new calls at a rate, for so long, and waits for every answer.
///
/// # Errors
/// When a question's task panics.
pub(super) async fn ask(control: SocketAddr, rate: u64, time: Duration) -> anyhow::Result<Asked> {
    let (watch, mut asking, mut asked) = (Stopwatch::start(), JoinSet::new(), Asked::nothing());
    for number in 0..rate * time.as_secs() {
        let due_us = number * 1_000_000 / rate;
        tokio::time::sleep_until(watch.at_micros(due_us)).await;
        // Far more than a control that answers lets wait; the questions after it are late, and say so.
        if asking.len() >= ASKING_MAX
            && let Some(done) = asking.join_next().await
        {
            asked.take(done?);
        }
        asking.spawn(question(control, watch, due_us));
        while let Some(done) = asking.try_join_next() {
            asked.take(done?);
        }
    }
    while let Some(done) = asking.join_next().await {
        asked.take(done?);
    }
    Ok(asked)
}

/// One question, on a connection of its own, as long as the carrier waits for it.
async fn question(control: SocketAddr, watch: Stopwatch, due_us: u64) -> anyhow::Result<Answer> {
    let asked = tokio::time::timeout(CARRIER_WAITS, exchange(control)).await;
    let text = asked.context("no answer in the carrier's time")??;
    let after_us = watch.micros().saturating_sub(due_us);
    Ok(Answer { after_us, ticket: ticket(&text)? })
}

async fn exchange(control: SocketAddr) -> anyhow::Result<String> {
    let mut tcp = TcpStream::connect(control).await?;
    tcp.write_all(request(&sid("CA")).as_bytes()).await?;
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes).await?;
    Ok(String::from_utf8(bytes)?)
}

/// HTTP/1.0, so that the answer ends with its connection.
fn request(call_sid: &str) -> String {
    let fields: Vec<Field> = [
        ("AccountSid", ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", call_sid),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", "+15550101"),
        ("To", "+15550102"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let signature = sign(AUTH_TOKEN, &format!("{PUBLIC_URL}{PATH}"), &fields);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    format!(
        "POST {PATH} HTTP/1.0\r\nHost: control\r\nX-Twilio-Signature: {signature}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The ticket of the stream that an answer opens.
///
/// # Errors
/// When the answer is anything but a stream at a relay, and what to do when it is over.
fn ticket(answer: &str) -> anyhow::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "answered {status}: {body}");
    let document = Document::read(body).map_err(|fault| anyhow::anyhow!("{fault:?}: {body}"))?;
    let [Verb::Connect { stream, .. }, Verb::Redirect(_)] = document.verbs.as_slice() else {
        anyhow::bail!("no stream, or nothing behind it: {body}");
    };
    anyhow::ensure!(stream.url.starts_with("wss://media.test/"), "a stream to {}", stream.url);
    let parameter = stream.parameters.iter().find(|(name, _)| name == "ticket");
    Ok(parameter.context("a stream without a ticket")?.1.clone())
}

const PATH: &str = "/v1/twilio/voice";

/// What the carrier waits for an answer.
const CARRIER_WAITS: Duration = Duration::from_secs(15);

/// Questions that wait for their answer at most: five seconds of 200 a second.
const ASKING_MAX: usize = 1_000;

const FAULTS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> String {
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n{body}")
    }

    fn stream(url: &str, parameter: &str) -> String {
        answer(&format!(
            "<Response><Connect><Stream url=\"{url}\">{parameter}</Stream></Connect>\
             <Redirect method=\"POST\">https://linecard.test/v1/twilio/resume/p</Redirect></Response>"
        ))
    }

    #[test]
    fn an_answer_is_a_stream_at_a_relay_with_a_ticket_and_what_follows() {
        let parameter = "<Parameter name=\"ticket\" value=\"t1\"/>";
        let good = stream("wss://media.test/v1/m/events-0", parameter);
        assert_eq!(ticket(&good).unwrap(), "t1");
        let bad = [
            stream("wss://elsewhere.test/", parameter),
            stream("wss://media.test/v1/m/events-0", ""),
            answer("<Response><Reject/></Response>"),
            answer("nonsense"),
            "HTTP/1.0 503 Service Unavailable\r\n\r\n".to_owned(),
        ];
        for bad in bad {
            assert!(ticket(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_answer_is_counted_once_and_a_ticket_twice_is_a_fault() {
        let mut asked = Asked::nothing();
        let answer = |after_us| Ok(Answer { after_us, ticket: format!("t{after_us}") });
        asked.take(answer(1_000));
        asked.take(answer(9_000));
        assert_eq!((asked.answered, asked.faults.len()), (2, 0));
        assert!(asked.late_ms(1.0) >= 9.0 && asked.late_ms(0.5) < 2.0);
        asked.take(answer(9_000));
        asked.take(Err(anyhow::anyhow!("no answer")));
        assert_eq!((asked.answered, asked.faults.len()), (3, 2));
    }
}
