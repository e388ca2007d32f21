//! What a list is asked for in its address: which calls, how many, and behind which one.
//!
//! What is not known is refused: a misspelt filter would look like a list of everything.

use std::collections::BTreeMap;
use std::str::FromStr;

use http::StatusCode;
use jiff::Timestamp;
use link::id::{AgentName, RunId, WallTime};

use crate::dialer::is_e164;
use crate::error::Problem;
use crate::store::call::{Cursor, Filter, Number};

/// Where a page begins, and how long it is.
#[derive(Debug)]
pub(super) struct Place {
    /// The most that it holds.
    pub(super) limit: u32,
    /// Behind what it begins; `None` for the first one.
    pub(super) cursor: Option<Cursor>,
}

/// Reads the place of a page.
pub(super) fn place(queries: &BTreeMap<String, String>) -> Result<Place, Problem> {
    let limit = match queries.get("limit").map(|text| text.parse()) {
        None => PAGE,
        Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
        Some(_) => {
            let detail = format!("`limit` is a number from 1 to {PAGE_MAX}.");
            return Err(bad("limit_malformed", detail));
        }
    };
    let cursor = queries.get("cursor").map(|text| text.parse()).transpose();
    let cursor = cursor.map_err(|_| {
        bad("cursor_malformed", "`cursor` is not the `next` of an earlier answer.".to_owned())
    })?;
    Ok(Place { limit, cursor })
}

/// Reads which calls are wanted.
pub(super) fn read(queries: &BTreeMap<String, String>) -> Result<Filter, Problem> {
    if let Some(unknown) = queries.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        // Names that could be anything are not repeated at length.
        let unknown: String = unknown.chars().take(40).collect();
        let known = KNOWN.join("`, `");
        let detail = format!("`{unknown}` is no filter; there are `{known}`.");
        return Err(bad("filter_unknown", detail));
    }
    Ok(Filter {
        run: one(queries, "run", "the id of a run", |text| RunId::new(text).ok())?,
        state: one(queries, "state", "a state of a call: queued, starting, active ...", parsed)?,
        direction: one(queries, "direction", "inbound or outbound", parsed)?,
        agent: one(queries, "agent", "the name of an agent", |text| AgentName::new(text).ok())?,
        from: one(queries, "from", "a number in E.164", number)?,
        to: one(queries, "to", "a number in E.164", number)?,
        since: one(queries, "created_after", "a time like 2026-11-20T09:00:00Z", time)?,
        until: one(queries, "created_before", "a time like 2026-11-20T09:00:00Z", time)?,
    })
}

fn one<T>(
    queries: &BTreeMap<String, String>,
    name: &str,
    form: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let Some(text) = queries.get(name) else { return Ok(None) };
    match read(text) {
        Some(value) => Ok(Some(value)),
        None => Err(bad("filter_malformed", format!("`{name}` is not {form}."))),
    }
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A plus in an address means a space; who writes a number there seldom thinks of it.
fn number(text: &str) -> Option<Number> {
    let text = format!("+{}", text.trim_start_matches(['+', ' ']));
    is_e164(&text).then_some(Number(text))
}

fn time(text: &str) -> Option<WallTime> {
    // The same for the plus of an offset.
    let at: Timestamp = text.replace(' ', "+").parse().ok()?;
    Some(WallTime(at.as_microsecond()))
}

fn bad(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

const KNOWN: [&str; 10] = [
    "limit",
    "cursor",
    "run",
    "state",
    "direction",
    "agent",
    "from",
    "to",
    "created_after",
    "created_before",
];

const PAGE: u32 = 50;
const PAGE_MAX: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::call::{CallState, Direction};

    fn queries(address: &str) -> BTreeMap<String, String> {
        form_urlencoded::parse(address.as_bytes()).into_owned().collect()
    }

    #[test]
    fn every_filter_is_read_as_people_write_it() {
        let filter = read(&queries(
            "run=run_1&state=active&direction=inbound&agent=desk&from=+15550100&to=%2B15550101\
             &created_after=2026-11-20T09:00:00Z&created_before=2026-11-20T10:00:00+01:00",
        ));
        let filter = filter.unwrap();
        assert_eq!(filter.state, Some(CallState::Active));
        assert_eq!(filter.direction, Some(Direction::Inbound));
        assert_eq!(filter.from, Some(Number("+15550100".into())));
        assert_eq!(filter.to, Some(Number("+15550101".into())));
        assert_eq!(filter.since, filter.until, "the same moment, in two zones");
        assert!(read(&queries("")).unwrap().run.is_none());
    }

    #[test]
    fn what_is_no_filter_is_named() {
        for (address, code) in [
            ("stat=active", "filter_unknown"),
            ("state=asleep", "filter_malformed"),
            ("direction=up", "filter_malformed"),
            ("agent=a%20b", "filter_malformed"),
            ("run=", "filter_malformed"),
            ("to=555", "filter_malformed"),
            ("created_after=yesterday", "filter_malformed"),
        ] {
            assert_eq!(read(&queries(address)).unwrap_err().code, code, "{address}");
        }
        assert_eq!(place(&queries("limit=0")).unwrap_err().code, "limit_malformed");
        assert_eq!(place(&queries("cursor=x")).unwrap_err().code, "cursor_malformed");
    }
}
