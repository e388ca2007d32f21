//! The switchboard: every call of a fake Twilio, and its HTTP interfaces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Call, Command, Source};
use super::caller::Caller;
use super::line::{Dialling, Line, Reports};
use super::record::CallRecord;
use super::report::post_to;
use super::whim::{Mood, Whim};
use super::{CallOrder, CarrierSettings, Exchange, Step, rest, sid};
use crate::audio::stereo_wav;
use crate::serve::{self, Answer, Asked, Server};

/// A running fake Twilio. It stops, and every call with it, when it is dropped.
pub struct FakeTwilio {
    server: Server,
    board: Arc<Board>,
    _stop: DropGuard,
}

impl FakeTwilio {
    /// Starts one.
    ///
    /// # Errors
    /// When a capture file cannot be made or the address cannot be listened on.
    pub async fn start(settings: CarrierSettings) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let board = Arc::new(Board {
            exchange: Arc::new(Exchange::new(&settings)?),
            callee: settings.callee.clone(),
            answered_by: settings.answered_by.clone(),
            rest_delay: settings.rest_delay,
            requests_max: settings.requests_max,
            mood: Mood::default(),
            calls: Mutex::default(),
            stop: stop.clone(),
        });
        let server = Server::start(settings.listen, Arc::clone(&board)).await?;
        Ok(Self { server, board, _stop: stop.drop_guard() })
    }

    /// The base of its REST interface: what stands for `https://api.twilio.com`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Maps a public origin to where it really is, as [`super::Resolve::map`] does.
    pub fn resolve(&self, origin: &str, address: SocketAddr) {
        self.board.exchange.asker.resolve.map(origin, address);
    }

    /// Lets somebody call; gives Twilio's id of the call.
    ///
    /// # Errors
    /// When a sound of the script cannot be loaded.
    pub fn call(&self, order: CallOrder) -> anyhow::Result<String> {
        self.board.call_in(order)
    }

    /// Says what the next calls meet that are asked for by REST.
    pub fn plan(&self, whims: impl IntoIterator<Item = Whim>) {
        self.board.mood.plan(whims);
    }

    /// The most REST requests that there were at once.
    #[must_use]
    pub fn requests_at_once(&self) -> usize {
        self.board.mood.most()
    }

    /// What is known of a call; `None` when there is none.
    #[must_use]
    pub fn record(&self, sid: &str) -> Option<CallRecord> {
        self.board.find(sid).map(|call| call.read(CallRecord::clone))
    }

    /// Everything that is known of all calls, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<CallRecord> {
        self.board.records()
    }

    /// Forgets a call that is over: its recording is large.
    pub fn forget(&self, sid: &str) {
        self.board.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(sid);
    }

    /// Lets a caller hang up, whatever their script says; gives whether the call still lived.
    pub async fn hang_up(&self, sid: &str) -> bool {
        let Some(call) = self.board.find(sid) else { return false };
        call.command(Command::HangUp).await
    }

    /// Reads something of a call's record without a copy of it; `None` when there is none.
    pub(crate) fn read<T>(&self, sid: &str, look: impl FnOnce(&CallRecord) -> T) -> Option<T> {
        self.board.find(sid).map(|call| call.read(look))
    }

    /// Waits until a call's record is as wanted; gives it. `None` when there is no such call.
    pub async fn until(
        &self,
        sid: &str,
        wanted: impl Fn(&CallRecord) -> bool,
    ) -> Option<CallRecord> {
        let call = self.board.find(sid)?;
        call.until(wanted).await;
        Some(call.read(CallRecord::clone))
    }

    /// Waits until a call is over and everything about it was posted.
    pub async fn over(&self, sid: &str) -> Option<CallRecord> {
        self.until(sid, |record| record.over).await
    }
}

/// All calls.
pub(crate) struct Board {
    /// What every call needs.
    pub(crate) exchange: Arc<Exchange>,
    callee: Vec<Step>,
    /// Who picks up, in Twilio's word.
    pub(crate) answered_by: String,
    /// How long REST takes to answer.
    pub(crate) rest_delay: Duration,
    /// REST requests at once that are not refused.
    pub(crate) requests_max: usize,
    /// What the next calls meet.
    pub(crate) mood: Mood,
    calls: Mutex<BTreeMap<String, Arc<Call>>>,
    stop: CancellationToken,
}

impl Board {
    /// Finds a call by Twilio's id.
    pub(crate) fn find(&self, sid: &str) -> Option<Arc<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    /// The records of all calls, oldest first.
    pub(crate) fn records(&self) -> Vec<CallRecord> {
        let calls: Vec<Arc<Call>> = {
            let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.values().cloned().collect()
        };
        let mut records: Vec<_> = calls.iter().map(|call| call.read(CallRecord::clone)).collect();
        records.sort_by_key(|record| record.notes.first().map(|note| note.at_us));
        records
    }

    /// Dials out for somebody who asked by REST. Whoever answers follows the callee's script.
    pub(crate) fn dial_out(&self, record: CallRecord, dialling: Dialling, reports: Reports) {
        // The sounds of the callee's script were loaded once before, when the fake started.
        if let Ok(callee) = Caller::new(self.callee.clone()) {
            let line = self.line(record, callee, reports);
            self.live(line.live_outbound(dialling));
        }
    }

    /// `["throttled", "busy"]`
    fn fake_whims(&self, asked: &Asked) -> Answer {
        match serde_json::from_slice::<Vec<Whim>>(&asked.body) {
            Ok(whims) => self.mood.plan(whims),
            Err(error) => return serve::text(StatusCode::BAD_REQUEST, &error.to_string()),
        }
        serve::text(StatusCode::OK, "planned")
    }

    /// Lets somebody call a number of ours.
    fn call_in(&self, order: CallOrder) -> anyhow::Result<String> {
        let caller = Caller::new(order.caller)?;
        let record = CallRecord {
            sid: sid("CA"),
            direction: "inbound".into(),
            from: order.from,
            to: order.to,
            status: "queued".into(),
            ..CallRecord::default()
        };
        let sid = record.sid.clone();
        let reports = Reports {
            target: order.status_url.as_deref().map(post_to),
            events: vec!["completed".into()],
        };
        let line = self.line(record, caller, reports);
        self.live(line.live_inbound(Source::url(post_to(&order.voice_url))));
        Ok(sid)
    }

    /// Makes a call known and gives what lives it.
    fn line(&self, record: CallRecord, caller: Caller, reports: Reports) -> Line {
        let sid = record.sid.clone();
        let (call, commands) = Call::new(record);
        let call = Arc::new(call);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(sid, Arc::clone(&call));
        Line::new(Arc::clone(&self.exchange), call, caller, commands, reports)
    }

    /// Lets a call live until it ends or the fake is dropped.
    fn live(&self, life: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(life));
    }

    /// `{"https://name": "127.0.0.1:4000"}`
    fn fake_resolve(&self, asked: &Asked) -> Answer {
        let map: BTreeMap<String, SocketAddr> = match serde_json::from_slice(&asked.body) {
            Ok(map) => map,
            Err(error) => return serve::text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        for (origin, address) in map {
            self.exchange.asker.resolve.map(&origin, address);
        }
        serve::text(StatusCode::OK, "mapped")
    }

    /// `POST /_fake/calls`: somebody calls.
    fn fake_call(&self, asked: &Asked) -> Answer {
        let order: CallOrder = match serde_json::from_slice(&asked.body) {
            Ok(order) => order,
            Err(error) => return serve::text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self.call_in(order) {
            Ok(sid) => serve::json(StatusCode::CREATED, &json!({"sid": sid})),
            Err(error) => serve::text(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    /// A call's record; with `?after=COUNT` the answer waits until there are more notes than
    /// that, or the call is over, or five seconds have passed.
    async fn fake_record(&self, asked: &Asked, sid: &str) -> Answer {
        let Some(call) = self.find(sid) else {
            return serve::text(StatusCode::NOT_FOUND, "there is no such call");
        };
        if let Some(after) = asked.query("after").and_then(|text| text.parse::<usize>().ok()) {
            let news = call.until(|record| record.over || record.notes.len() > after);
            let _ = tokio::time::timeout(Duration::from_secs(5), news).await;
        }
        serve::json(StatusCode::OK, &call.read(CallRecord::clone))
    }

    /// `GET /_fake/calls/{sid}/audio`: the streams of a call one after the other, the
    /// caller left and the agent right.
    fn fake_audio(&self, sid: &str) -> Answer {
        let Some(call) = self.find(sid) else {
            return serve::text(StatusCode::NOT_FOUND, "there is no such call");
        };
        let (mut caller, mut agent) = (Vec::new(), Vec::new());
        call.read(|record| {
            for stream in &record.streams {
                caller.extend_from_slice(&stream.caller_audio);
                agent.extend_from_slice(&stream.agent_audio);
                let longer = caller.len().max(agent.len());
                caller.resize(longer, codec::g711::ULAW_SILENCE);
                agent.resize(longer, codec::g711::ULAW_SILENCE);
            }
        });
        match stereo_wav(&caller, &agent) {
            Ok(wav) => serve::answer(StatusCode::OK, "audio/wav", wav.into()),
            Err(error) => serve::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

impl serve::Service for Board {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        let path = asked.path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (asked.method.clone(), parts.as_slice()) {
            (_, ["2010-04-01", ..]) => rest::answer(&self, &asked).await,
            (Method::POST, ["_fake", "resolve"]) => self.fake_resolve(&asked),
            (Method::POST, ["_fake", "whims"]) => self.fake_whims(&asked),
            (Method::POST, ["_fake", "calls"]) => self.fake_call(&asked),
            (Method::GET, ["_fake", "calls", sid]) => self.fake_record(&asked, sid).await,
            (Method::GET, ["_fake", "calls", sid, "audio"]) => self.fake_audio(sid),
            _ => serve::text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}
