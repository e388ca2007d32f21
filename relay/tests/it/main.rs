//! Integration tests of the relay, one binary.

mod forward;
mod ws_dial;
mod ws_peer;
mod ws_interop;
mod ws_property;
mod ws_protocol;
mod ws_write;
