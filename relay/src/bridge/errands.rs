//! The tools that an agent has asked for: futures of the call's own task, polled in its loop.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use link::agent::AgentSpec;
use link::id::CallId;
use link::tool::{HttpTool, Tool};

use crate::call::input::ToolId;
use crate::call::output::ToolRequest;
use crate::shard::Shard;
use crate::tools::{ToolEnd, Tools};

type Errand = Pin<Box<dyn Future<Output = ToolEnd> + Send>>;

/// The tools that run for one call.
pub(super) struct Errands {
    running: Vec<(ToolId, Errand)>,
    agent: Arc<AgentSpec>,
    tools: Tools,
    /// `None` until the call has a name.
    call: Option<CallId>,
}

impl Errands {
    /// Nothing runs yet.
    pub(super) fn new(shard: &Shard, agent: &Arc<AgentSpec>) -> Self {
        let (agent, tools) = (agent.clone(), shard.tools().clone());
        Self { running: Vec::new(), agent, tools, call: None }
    }

    /// The call has a name.
    pub(super) fn name(&mut self, call: &CallId) {
        self.call = Some(call.clone());
    }

    /// Starts a tool. One that cannot be started fails in the next round.
    pub(super) fn run(&mut self, id: ToolId, request: &ToolRequest<'_>) {
        let errand: Errand = match self.start(request) {
            Ok(errand) => errand,
            Err(why) => Box::pin(ready(ToolEnd::Failed(why.into()))),
        };
        self.running.push((id, errand));
    }

    fn start(&self, request: &ToolRequest<'_>) -> Result<Errand, &'static str> {
        if self.running.len() >= ERRANDS_MAX {
            return Err("too many tools run at once");
        }
        // A model that is alone with its greeting has nobody to use a tool for, and a request
        // without the call's name could not be told from another's.
        let call = self.call.as_ref().ok_or("the caller is not here yet")?;
        let tool = self.tool(request.name).ok_or("there is no such tool")?;
        Ok(Box::pin(self.tools.run(tool, call, request)))
    }

    fn tool(&self, name: &str) -> Option<&HttpTool> {
        self.agent.tools.iter().find_map(|tool| match tool {
            Tool::Http(tool) if tool.name == name => Some(tool),
            Tool::Http(_) | Tool::HangUp | Tool::Transfer { .. } | Tool::SendDtmf => None,
        })
    }

    /// Stops waiting for a tool.
    pub(super) fn drop_one(&mut self, id: ToolId) {
        self.running.retain(|(running, _)| *running != id);
    }

    /// Stops waiting for all of them.
    pub(super) fn drop_all(&mut self) {
        self.running.clear();
    }

    /// Waits for the end of any of them.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(ToolId, ToolEnd)> {
        for n in 0..self.running.len() {
            let (id, errand) = &mut self.running[n];
            // The others are asked in the next round, which follows at once.
            if let Poll::Ready(end) = errand.as_mut().poll(cx) {
                let id = *id;
                drop(self.running.swap_remove(n));
                return Poll::Ready((id, end));
            }
        }
        Poll::Pending
    }
}

/// The most tools of one call at a time. A model asks for a handful in one answer; more wait for
/// nothing but each other.
const ERRANDS_MAX: usize = 8;
