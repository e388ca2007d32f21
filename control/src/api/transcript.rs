//! What was said in a call: `GET /v1/calls/{id}/transcript`, and part of the call itself.
//!
//! A turn is told when it is complete, which is another order than that of the conversation: an
//! answer that is still being heard is complete after the words that interrupt it. The order is the
//! one that the relay gives: by the generation of the stream, and within it by `order`.

use std::sync::Arc;

use http::StatusCode;
use link::id::CallId;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use crate::error::Problem;
use crate::events::{Record, rfc3339};
use crate::plane::Plane;

/// `/v1/calls/{id}/transcript`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "calls" / String / "transcript")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|id: String, client: Client| async move { done(show(&client, &id).await) })
        .boxed()
}

async fn show(client: &Client, id: &str) -> Result<(StatusCode, Value), Problem> {
    let id = CallId::new(id).map_err(|_| Problem::no_call())?;
    client.plane.store.call(&client.tenant, &id).await?.ok_or_else(Problem::no_call)?;
    let Transcript { turns, is_whole } = turns(client, &id).await?;
    Ok((StatusCode::OK, json!({"call": id.as_str(), "turns": turns, "whole": is_whole})))
}

/// The turns of a call.
pub(super) struct Transcript {
    /// In the order of the conversation.
    pub(super) turns: Vec<Value>,
    /// Whether there are no more.
    pub(super) is_whole: bool,
}

/// What was said in a call so far.
pub(super) async fn turns(client: &Client, id: &CallId) -> Result<Transcript, Problem> {
    // One more than is shown says whether there are more.
    let mut records = client.plane.store.turns(&client.tenant, id, TURNS_MAX + 1).await?;
    let is_whole = records.len() <= TURNS_MAX as usize;
    records.truncate(TURNS_MAX as usize);
    Ok(Transcript { turns: in_order(&records), is_whole })
}

fn in_order(records: &[Record]) -> Vec<Value> {
    let mut turns: Vec<(_, Value)> = records
        .iter()
        .map(|record| {
            // The text of a JSON object, by construction; a turn that is none would be empty.
            let mut turn: Value = serde_json::from_str(&record.data).unwrap_or_default();
            let generation = record.generation.unwrap_or_default();
            turn["generation"] = generation.0.into();
            turn["at"] = rfc3339(record.at).into();
            turn["seq"] = record.seq.0.into();
            // A relay that gives no order tells its turns in order.
            let order = turn.get("order").and_then(Value::as_u64).unwrap_or(0);
            ((generation, order, record.seq), turn)
        })
        .collect();
    turns.sort_by_key(|(place, _)| *place);
    turns.into_iter().map(|(_, turn)| turn).collect()
}

/// Turns that are shown of one call: a day of quick talk is about so many.
const TURNS_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Seq;
    use link::id::{Gen, WallTime};

    fn turn(seq: u64, generation: u32, data: &str) -> Record {
        Record {
            seq: Seq(seq),
            kind: "turn".into(),
            call: None,
            generation: Some(Gen(generation)),
            at: WallTime(0),
            data: data.into(),
        }
    }

    #[test]
    fn turns_are_in_the_order_of_the_conversation_not_of_their_ends() {
        let told = [
            turn(1, 0, r#"{"order":1,"text":"b"}"#),
            turn(2, 1, r#"{"order":0,"text":"d"}"#),
            turn(3, 0, r#"{"order":0,"text":"a"}"#),
            turn(4, 0, r#"{"order":2,"text":"c"}"#),
        ];
        let texts: Vec<_> = in_order(&told).iter().map(|turn| turn["text"].clone()).collect();
        assert_eq!(texts, ["a", "b", "c", "d"]);
        let old = [turn(7, 0, r#"{"text":"x"}"#), turn(8, 0, r#"{"text":"y"}"#)];
        let texts: Vec<_> = in_order(&old).iter().map(|turn| turn["text"].clone()).collect();
        assert_eq!(texts, ["x", "y"]);
    }
}
