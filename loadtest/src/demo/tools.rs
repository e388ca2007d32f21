//! The agent owner's server in the demo: answers a tool's requests and keeps them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;

use super::scenes::tool::SLOT;
use crate::serve::{self, Answer, Asked, Server};

/// A running server.
pub(crate) struct ToolServer {
    server: Server,
    kept: Arc<Kept>,
}

/// What was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolRequest {
    /// The method.
    pub(crate) method: String,
    /// The body's type.
    pub(crate) content_type: String,
    /// The key of the effect.
    pub(crate) idempotency_key: String,
    /// `Linecard-Signature`.
    pub(crate) signature: String,
    /// The body.
    pub(crate) body: String,
}

/// The requests so far.
#[derive(Default)]
struct Kept(Mutex<Vec<ToolRequest>>);

impl ToolServer {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let kept = Arc::new(Kept::default());
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&kept)).await?;
        Ok(Self { server, kept })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<ToolRequest> {
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl serve::Service for Kept {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        let header = |name: &str| asked.header(name).unwrap_or_default().to_owned();
        let request = ToolRequest {
            method: asked.method.to_string(),
            content_type: header("content-type"),
            idempotency_key: header("idempotency-key"),
            signature: header("linecard-signature"),
            body: String::from_utf8_lossy(&asked.body).into_owned(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        serve::text(StatusCode::OK, SLOT)
    }
}
