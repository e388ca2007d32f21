//! The relays: who they are, which of them takes a call, and how control talks to them.
//!
//! Suggested reading order: [`placement`] (the choice, pure), [`regions`] (what is near), [`canary`]
//! (what gets a share of its own), [`openings`] (how many calls come back at once), [`nodes`] (who is
//! there), [`standing`] and [`vital`] (how each is), [`zombie`] (which node is gone, pure), [`trial`] and
//! [`tally`] (how streams fare), [`moves`] and [`mover`] (how calls leave a node that drains), [`orders`] (what they are told), [`told`] (which agents they know),
//! [`link`] (the QUIC server), [`authority`] (what makes relays and control trust each other).

pub mod placement;

pub mod canary;
pub mod openings;
pub mod regions;

pub mod orders;

pub mod nodes;
mod promises;
pub mod standing;
pub mod told;
pub mod vital;
pub mod zombie;

pub mod tally;
pub mod trial;

pub mod mover;
pub mod moves;

pub mod link;

pub mod authority;
