//! What the load test says of itself: a series over time, a line in the terminal while it runs,
//! JSON, one HTML page, and a comparison of two of them.
//!
//! Read `series` for what is recorded every second, `live` for the line, `record` for the file.

pub(crate) mod live;
pub(crate) mod series;
