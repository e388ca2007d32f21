//! Bodies of the fuzz targets: every decoder of what a peer, a customer or an operator writes, and
//! whole calls made of any inputs.
//!
//! A body takes any bytes and panics when something is wrong. libFuzzer calls it with inputs that
//! it makes up (`targets/`, a workspace of its own, `make fuzz`), and a plain test replays the
//! inputs that are kept in `corpus/` (`make test`). An input that found a bug is added there.

pub mod call;
pub mod codec_side;
pub mod control_side;
pub mod link_side;
pub mod relay_side;
pub mod ws;

/// A body and its name, which is also that of its folder in `corpus/` and of its binary.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them.
pub const TARGETS: [Target; 18] = [
    target("ws_frames", ws::frames),
    target("caller_wire", relay_side::caller_wire),
    target("opening", relay_side::opening),
    target("page", relay_side::page),
    target("agent_wire", relay_side::agent_wire),
    target("agent_file", relay_side::agent_file),
    target("tools_allow", relay_side::tools_allow),
    target("spool", relay_side::spool),
    target("link_frames", link_side::frames),
    target("ticket", link_side::ticket),
    target("join_token", link_side::join_token),
    target("base64", codec_side::base64),
    target("samples", codec_side::samples),
    target("opus", codec_side::opus),
    target("dtmf", codec_side::dtmf),
    target("signature", control_side::signature),
    target("access", control_side::access),
    target("call", call::call),
];
