//! Integration tests of the relay, one binary.

mod admission_stream;
mod announced;
mod bridge_audio;
mod bridge_calls;
mod bridge_rig;
mod bridge_strict;
mod bridge_tools;
mod config_mistakes;
mod forward;
mod node_link;
mod node_rig;
mod process_life;
mod process_rig;
mod replay;
mod snr;
mod sockets_closed;
mod spares;
mod storm;
mod tools_http;
mod ws_dial;
mod ws_interop;
mod ws_move;
mod ws_peer;
mod ws_property;
mod ws_protocol;
mod ws_write;
