//! Whole calls as scripts: what happens, when, and what the call wants done about it. Read one,
//! say [`barge_in`], next to the machine of the same name.

mod record;
mod script;

mod barge_in;
mod browser;
mod commands;
mod endings;
mod failures;
mod limits;
mod moving;
mod opening;
mod playout;
mod prepared;
mod sessions;
mod tools;
mod turns;
mod uplink;
