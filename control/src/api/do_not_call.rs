//! Numbers that may not be called: `/v1/do_not_call`, and `/v1/do_not_call/{number}` for each.
//!
//! A call to a number on the list is refused when it is wanted, and ended when the number came there
//! while the call waited for its turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use crate::clock;
use crate::dialer::is_e164;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::queries;
use crate::plane::Plane;
use crate::store::call::Number;

/// `/v1/do_not_call`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("v1" / "do_not_call")
        .and(warp::get())
        .and(keyed(plane))
        .and(queries())
        .and_then(|client: Client, queries| async move { done(list(&client, &queries).await) });
    let add = warp::path!("v1" / "do_not_call" / String)
        .and(warp::put())
        .and(keyed(plane))
        .and_then(|number: String, client: Client| async move { done(add(&client, number).await) });
    let remove =
        warp::path!("v1" / "do_not_call" / String).and(warp::delete()).and(keyed(plane)).and_then(
            |number: String, client: Client| async move { done(remove(&client, number).await) },
        );
    list.or(add).unify().or(remove).unify().boxed()
}

/// `GET /v1/do_not_call`: by pages in the order of the numbers; `next` is the cursor of the next.
async fn list(
    client: &Client,
    queries: &BTreeMap<String, String>,
) -> Result<(StatusCode, Value), Problem> {
    let after = queries.get("cursor").map_or("", String::as_str);
    // One more than a page tells whether there is another.
    let mut found = client.plane.store.unwanted(&client.tenant, after, PAGE_NUMBERS + 1).await?;
    let has_more = found.len() > PAGE_NUMBERS as usize;
    found.truncate(PAGE_NUMBERS as usize);
    let next = found.last().filter(|_| has_more).map(|(number, _)| number.as_str().to_owned());
    let shown =
        |(number, at): &(Number, _)| json!({"number": number.as_str(), "added_at": rfc3339(*at)});
    let numbers: Vec<Value> = found.iter().map(shown).collect();
    Ok((StatusCode::OK, json!({"numbers": numbers, "next": next})))
}

/// `PUT /v1/do_not_call/{number}`. The same again changes nothing.
async fn add(client: &Client, number: String) -> Result<(StatusCode, Value), Problem> {
    let number = checked(number)?;
    client.plane.store.add_unwanted(&client.tenant, &number, clock::wall()).await?;
    Ok((StatusCode::OK, json!({"number": number.as_str()})))
}

/// `DELETE /v1/do_not_call/{number}`.
async fn remove(client: &Client, number: String) -> Result<(StatusCode, Value), Problem> {
    let number = checked(number)?;
    if client.plane.store.remove_unwanted(&client.tenant, &number).await? {
        return Ok((StatusCode::OK, json!({"number": number.as_str()})));
    }
    let detail = "The number is not on the list. GET /v1/do_not_call shows it.";
    Err(Problem::new(StatusCode::NOT_FOUND, "number_not_listed", detail))
}

/// The number of an address, where `+` may be written as `%2B`.
fn checked(text: String) -> Result<Number, Problem> {
    let text = match text.get(..3) {
        Some("%2B" | "%2b") => format!("+{}", &text[3..]),
        Some(_) | None => text,
    };
    if is_e164(&text) {
        return Ok(Number(text));
    }
    let detail = "The address does not end with a number in E.164: + and 7 to 15 digits.";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "number_malformed", detail))
}

const PAGE_NUMBERS: u32 = 200;
