//! The receipt: what one node carries, measured against the floor of the same minutes.
//!
//! On a shared or unknown machine a single figure says little. So every figure is measured in
//! rounds, the floor (a relay that only copies bytes) is measured in each of them at the same number
//! of calls, and what is compared is the ratio within a round: a machine that is slow for a while
//! is slow for both.
//!
//! [`cases`] says what is run, [`rounds`] runs it and shows how far it is, [`figures`] takes the
//! figures out of the load test's reports, [`summary`] is what is kept of them, and [`table`] is how
//! it is shown, in README as well.

pub mod cases;
pub mod rounds;

pub mod figures;
pub mod summary;
pub mod table;

pub mod machine;
