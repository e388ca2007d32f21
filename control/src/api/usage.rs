//! What was used: calls and their minutes, by day.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use crate::clock;
use crate::error::Problem;
use crate::http::queries;
use crate::plane::Plane;
use crate::store::Usage;

/// `/v1/usage`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "usage")
        .and(warp::get())
        .and(keyed(plane))
        .and(queries())
        .and_then(|client: Client, queries| async move { done(show(&client, &queries).await) })
        .boxed()
}

async fn show(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let now = clock::wall();
    let today = EPOCH.saturating_add((now.0 / DAY_US).days());
    let last = day(queries, "to")?.unwrap_or(today);
    let first = day(queries, "from")?.unwrap_or(last.saturating_sub(29.days()));
    let span = (since_epoch(first), since_epoch(last));
    if !(0..DAYS_MAX).contains(&(span.1 - span.0)) {
        let detail = format!("`from` is not after `to`, and at most {DAYS_MAX} days are shown.");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "days_malformed", detail));
    }
    let days = client.plane.store.usage(&client.tenant, span, now).await?;
    let (from, to) = (first.to_string(), last.to_string());
    let days: Vec<Value> = days.iter().map(json_of).collect();
    Ok((StatusCode::OK, json!({"from": from, "to": to, "days": days})))
}

fn json_of(usage: &Usage) -> Value {
    json!({
        "day": EPOCH.saturating_add(usage.day.days()).to_string(),
        "direction": if usage.inbound { "inbound" } else { "outbound" },
        "calls": usage.calls,
        "answered": usage.answered,
        "talk_seconds": usage.talk_us / 1_000_000,
    })
}

fn day(queries: &BTreeMap<String, String>, name: &str) -> Result<Option<Date>, Problem> {
    let Some(text) = queries.get(name) else { return Ok(None) };
    let date: Option<Date> = text.parse().ok();
    // What a calendar holds and a count of microseconds does not is no day either.
    let date = date.filter(|date| (1970..=9_000).contains(&date.year()));
    date.map(Some).ok_or_else(|| {
        let detail = format!("`{name}` is a day, for instance 2026-11-28.");
        Problem::new(StatusCode::BAD_REQUEST, "day_malformed", detail)
    })
}

fn since_epoch(date: Date) -> i64 {
    i64::from(date.since(EPOCH).map_or(0, |span| span.get_days()))
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// A year, leap or not.
const DAYS_MAX: i64 = 366;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_store_counts_them() {
        assert_eq!(since_epoch("1970-01-02".parse().unwrap()), 1);
        assert_eq!(since_epoch("2026-11-28".parse().unwrap()), 20_785);
        let shown = json_of(&Usage {
            day: 20_785,
            inbound: true,
            calls: 2,
            answered: 1,
            talk_us: 61_999_999,
        });
        assert_eq!((&shown["day"], &shown["talk_seconds"]), (&json!("2026-11-28"), &json!(61)));
    }

    #[test]
    fn what_is_no_day_is_a_problem() {
        let queries = |text: &str| BTreeMap::from([("to".to_owned(), text.to_owned())]);
        for bad in ["", "yesterday", "2026-02-30", "1969-12-31", "9999-01-01"] {
            assert_eq!(day(&queries(bad), "to").unwrap_err().code, "day_malformed", "{bad}");
        }
    }
}
