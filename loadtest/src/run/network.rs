//! The network between relay and fake model, where a scenario wants a bad one: the proxy, on a
//! thread of its own.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;

use super::scenario::Scenario;
use crate::proxy::{FaultProxy, Plan, ProxySettings};

/// A proxy. It ends when it is dropped.
pub(crate) struct Network {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The thread waits for its end.
    _alive: SyncSender<()>,
}

impl Network {
    /// Starts one before the far end; none where nothing is to go wrong.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(target: SocketAddr, scenario: &Scenario) -> anyhow::Result<Option<Self>> {
        if scenario.faults.is_empty() {
            return Ok(None);
        }
        let (seed, every) = (scenario.seed, scenario.faults_every);
        let plan = Plan { seed, every, faults: scenario.faults.clone() };
        let settings = ProxySettings { plan, ..ProxySettings::to(target) };
        let (alive, ended) = sync_channel(1);
        let (told, address) = sync_channel(1);
        let run = move || serve(settings, &told, &ended);
        std::thread::Builder::new().name("network".into()).spawn(run)?;
        let address = address.recv().context("the proxy did not start")??;
        Ok(Some(Self { address, _alive: alive }))
    }
}

/// The thread's life.
fn serve(
    settings: ProxySettings,
    told: &SyncSender<std::io::Result<SocketAddr>>,
    ended: &Receiver<()>,
) {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let started = built.and_then(|runtime| {
        let proxy = runtime.block_on(FaultProxy::start(settings))?;
        Ok((runtime, proxy))
    });
    let (address, kept) = match started {
        Ok((runtime, proxy)) => (Ok(proxy.address()), Some((runtime, proxy))),
        Err(error) => (Err(error), None),
    };
    // Whoever asked may have gone; then this ends as well.
    let _ = told.send(address);
    let _ = ended.recv();
    drop(kept);
}
