//! Placeholder for the driver of a call; this is the contract that `shard` relies on.
//!
//! - `caller` is the phone's socket after its `start`; messages in `admitted.early` came behind
//!   `start` in the same read and are handled before the socket is read again.
//! - The shard gives clock, buffers ([`Shard::buffers`], borrowed for one poll), the TLS settings
//!   for dialling ([`Shard::agent_tls`]) and the playout lead.
//! - `mailbox` gives commands, committed records and the drain (`Mailbox::poll_take`).
//! - `log` takes every milestone ([`CallLog::note`]), frame counts ([`CallLog::frames`]) and the
//!   added delay ([`CallLog::added`]); [`CallLog::end`] is the last thing, once the caller's socket
//!   is closed. A log that is dropped without `end` says `relay_fault`.

use std::rc::Rc;

use link::event::EndReason;

use crate::admit::Admitted;
use crate::mailbox::Mailbox;
use crate::shard::Shard;
use crate::telemetry::CallLog;
use crate::ws::Socket;

/// Drives one call from its `start` to its end.
#[expect(clippy::unused_async, reason = "a placeholder")]
pub async fn run(
    _shard: &Rc<Shard>,
    caller: Socket,
    _admitted: Admitted,
    _mailbox: &Mailbox,
    log: CallLog,
) {
    drop(caller);
    log.end(EndReason::CallerHungUp);
}
