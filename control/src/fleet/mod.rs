//! The relays: who they are, which of them takes a call, and how control talks to them.
//!
//! Suggested reading order: [`placement`] (the choice, pure), [`nodes`] (who is there), [`standing`]
//! (how each is), [`orders`] (what they are told), [`told`] (which agents they know), [`link`] (the
//! QUIC server), [`authority`] (what makes relays and control trust each other).

pub mod placement;

pub mod orders;

pub mod nodes;
pub mod standing;
pub mod told;

pub mod link;

pub mod authority;
