//! What relay and control say to each other: tickets, agent specs, events, commands, framing.
//!
//! Pure: bytes and values in, bytes and values out. Nothing here opens a socket, reads a clock
//! or logs; the two ends of the link (QUIC) sit in `relay/src/node.rs` and
//! `control/src/fleet/link.rs`. Both are compiled against the types below, so a message that one
//! side cannot say does not compile on the other.
//!
//! Suggested reading order: [`id`], [`ticket`], [`agent`], [`tool`], [`event`],
//! [`ephemeral`], [`message`], [`beat`], [`frame`].

pub mod id;
pub mod secret;

pub mod guard;

pub mod ticket;

pub mod agent;
pub mod agent_file;
pub mod ephemeral;
pub mod event;
pub mod strict;
pub mod tool;

pub mod beat;
pub mod message;

pub mod credential;
pub mod finding;
pub mod frame;
pub mod join;
