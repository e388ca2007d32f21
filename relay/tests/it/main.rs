//! Integration tests of the relay, one binary.

mod forward;
mod ws_dial;
mod ws_peer;
mod ws_interop;
mod ws_property;
mod ws_protocol;
mod ws_write;
mod config_mistakes;
mod process_rig;
mod process_life;
mod admission_stream;
mod node_rig;
mod node_link;
mod snr;
mod bridge_rig;
mod bridge_audio;
mod bridge_calls;
mod bridge_strict;
