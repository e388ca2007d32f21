//! The carrier's REST API for one test: it writes down what it was asked and answers what it was
//! told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;
use warp::{Filter, Reply};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) form: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.form.iter().filter(|(field, _)| field == name);
        values.map(|(_, value)| value.as_str()).collect()
    }
}

/// A REST API that answers 201 with the call `CAnew`, unless it was told something else.
#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    answers: VecDeque<(u16, &'static str)>,
}

#[derive(Clone)]
pub(crate) struct Carrier {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Carrier {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let routes = warp::post()
            .and(warp::path::full())
            .and(warp::header("authorization"))
            .and(control::http::body(64 * 1024))
            .map(move |path: warp::path::FullPath, authorization: String, body: Bytes| {
                let form = form_urlencoded::parse(&body).into_owned().collect();
                let mut state = shared.lock().unwrap();
                state.asked.push(Asked { path: path.as_str().to_owned(), authorization, form });
                let (status, body) = state.answers.pop_front().unwrap_or((201, CREATED));
                let status = StatusCode::from_u16(status).unwrap();
                warp::reply::with_status(body, status).into_response() as Response
            })
            .boxed();
        let never = CancellationToken::new();
        tokio::spawn(control::http::serve::serve(listener, routes, never));
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next answer.
    pub(crate) fn will_answer(&self, status: u16, body: &'static str) {
        self.state.lock().unwrap().answers.push_back((status, body));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

const CREATED: &str = r#"{"sid":"CAnew","account_sid":"AC00000000000000000000000000000001",
    "status":"queued","direction":"outbound-api","duration":null,"queue_time":"0"}"#;
