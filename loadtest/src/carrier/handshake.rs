//! The upgrade of a media stream: a signed GET with exactly the headers that Twilio sends.

use http::Request;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use url::Url;

use super::Exchange;
use super::call::Call;
use super::record::{Fault, Hook};
use super::sign::sign;
use crate::clock::wall_us;
use crate::serve::socket_config;

/// Opens the socket that a document names.
///
/// # Errors
/// The status of the answer, 0 when there was none, and the fault that Twilio logs.
pub(crate) async fn shake_hands(
    exchange: &Exchange,
    call: &Call,
    text: &str,
) -> Result<WebSocketStream<TcpStream>, (u16, Fault)> {
    let fault = |code, why: &dyn std::fmt::Display| (0, Fault::new(code, why.to_string()));
    let url = Url::parse(text).map_err(|error| fault(31923, &error))?;
    let resolve = &exchange.asker.resolve;
    let address =
        resolve.find(&url).ok_or_else(|| fault(31904, &"the stream's name does not resolve"))?;
    let stream = TcpStream::connect(address).await.map_err(|error| fault(31902, &error))?;
    let _ = stream.set_nodelay(true);
    let signature = sign(&exchange.asker.token, text, &[]);
    let request = Request::builder()
        .uri(text)
        .header("host", &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header("user-agent", "Twilio.TmeWs/1.0")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", generate_key())
        .header("sec-websocket-version", "13")
        .header("x-twilio-signature", &signature)
        .body(())
        .map_err(|error| fault(31923, &error))?;
    let config = Some(socket_config());
    let shaken = tokio_tungstenite::client_async_with_config(request, stream, config).await;
    let status = match &shaken {
        Ok((_, response)) => response.status().as_u16(),
        Err(WsError::Http(response)) => response.status().as_u16(),
        Err(_) => 0,
    };
    let hook = Hook {
        at_us: wall_us(),
        url: text.to_owned(),
        method: "GET".into(),
        params: Vec::new(),
        signature,
        idempotency_token: String::new(),
        status,
        attempts: 1,
        twiml: None,
    };
    exchange.capture_hook(&hook);
    call.hook(hook);
    match shaken {
        Ok((socket, response)) => match extras(&response) {
            Some(header) => {
                let why = format!("the answer has {header}, which was not asked for");
                Err((status, Fault::new(31920, why)))
            }
            None => Ok(socket),
        },
        Err(_) if status != 0 => {
            Err((status, Fault::new(31920, format!("the handshake was answered with {status}"))))
        }
        Err(error) => Err((0, Fault::new(31924, error.to_string()))),
    }
}

/// A subprotocol or an extension that nobody offered.
fn extras<T>(response: &http::Response<T>) -> Option<&'static str> {
    ["sec-websocket-protocol", "sec-websocket-extensions"]
        .into_iter()
        .find(|name| response.headers().contains_key(*name))
}
