//! The demo's HTTP client: plain HTTP/1.1 to loopback, whole bodies or a stream of lines.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Fetches something.
///
/// # Errors
/// When nobody answers, or the answer is not a success.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Bytes> {
    whole(send(address, Method::GET, path, headers, Bytes::new()).await?, path).await
}

/// Posts JSON.
///
/// # Errors
/// When nobody answers, or the answer is not a success.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<Bytes> {
    let body = Bytes::from(serde_json::to_vec(body)?);
    let headers = [("content-type", "application/json")];
    whole(send(address, Method::POST, path, &headers, body).await?, path).await
}

/// Sends a request and gives the answer's head, its body still to come.
///
/// # Errors
/// When nobody answers.
pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> anyhow::Result<Response<Incoming>> {
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("dialling {address}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request =
        Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body))?).await;
    response.with_context(|| format!("asking {address}{path}"))
}

/// Reads the whole answer; a refusal becomes an error with its words.
async fn whole(response: Response<Incoming>, path: &str) -> anyhow::Result<Bytes> {
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading {path}: {error}"))?.to_bytes();
    if !status.is_success() {
        bail!("{path} answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

/// Ten minutes of stereo audio, and more than any JSON of ours.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
