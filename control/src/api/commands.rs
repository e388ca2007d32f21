//! `POST /v1/calls/{id}/commands`: something to do in a running call.
//!
//! What is wrong with a command is said before anything is sent. The answer is the relay's: done,
//! why not, or, when it takes longer than a request should, a promise that an event will tell.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use link::id::CallId;
use link::message::{Command, Side};
use link::tool::Address;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::done;
use crate::commands::{self, Outcome, Wanted};
use crate::error::Problem;
use crate::http::body;
use crate::metrics::Doing;
use crate::plane::Plane;

/// `/v1/calls/{id}/commands`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "calls" / String / "commands")
        .and(warp::post())
        .and(keyed(plane))
        .and(body(BODY_BYTES_MAX))
        .and_then(|id: String, client: Client, body: Bytes| async move {
            done(command(&client, &id, &body).await)
        })
        .boxed()
}

async fn command(client: &Client, id: &str, body: &[u8]) -> Result<(StatusCode, Value), Problem> {
    let id = CallId::new(id).map_err(|_| Problem::no_call())?;
    let (command, outcome) = commands::run(&client.plane, &client.tenant, &id, read(body)?).await?;
    let id = command.as_str();
    Ok(match outcome {
        Outcome::Done => (StatusCode::OK, json!({"id": id, "done": true})),
        Outcome::Pending => {
            let detail = "The relay has not answered yet. Its answer will be the `command.done` \
                event of this id.";
            (StatusCode::ACCEPTED, json!({"id": id, "done": null, "detail": detail}))
        }
    })
}

/// The body of a command. Unknown fields are refused: a misspelt one must not be overlooked.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    HangUp {},
    Say { text: String },
    Inject { text: String },
    Instruct { instructions: String },
    Mute { side: Side, on: bool },
    Transfer { to: String },
}

/// Each command with its fields, as a person is told of them.
const FIELDS: [(&str, &str); 6] = [
    ("hang_up", "{}"),
    ("say", "{\"text\"}"),
    ("inject", "{\"text\"}"),
    ("instruct", "{\"instructions\"}"),
    ("mute", "{\"side\": \"caller\" or \"agent\", \"on\": true or false}"),
    ("transfer", "{\"to\"}"),
];

/// Reads a command. No refusal repeats what was written: it may hold numbers and words of a caller.
fn read(body: &[u8]) -> Result<Wanted, Problem> {
    // Whatever is no JSON is refused below like JSON without `do`.
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(word) = value.get("do").and_then(Value::as_str) else {
        let detail = "The body is not a JSON object with a text `do`.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail));
    };
    // Told apart from a wrong field: a client of a newer release sees that this one is older.
    let Some((word, fields)) = FIELDS.into_iter().find(|(known, _)| *known == word) else {
        let known: Vec<_> = FIELDS.iter().map(|(word, _)| *word).collect();
        let detail = format!("`do` is none of {}.", known.join(", "));
        return Err(unprocessable("command_unknown", detail));
    };
    let wish = serde_json::from_value(value).map_err(|_| {
        let detail = format!("Beside `do`, {word} takes exactly {fields}.");
        unprocessable("command_malformed", detail)
    })?;
    check(wish)
}

fn check(wish: Wish) -> Result<Wanted, Problem> {
    let (doing, command) = match wish {
        // A field of its own type each, so that the link carries only what was checked.
        Wish::HangUp {} => (Doing::HangUp, Command::HangUp),
        Wish::Say { text } => (Doing::Say, Command::Say { text: checked("text", text)? }),
        Wish::Inject { text } => (Doing::Inject, Command::Inject { text: checked("text", text)? }),
        Wish::Instruct { instructions } => {
            let instructions = checked("instructions", instructions)?;
            (Doing::Instruct, Command::Instruct { instructions })
        }
        Wish::Mute { side, on } => (Doing::Mute, Command::Mute { side, on }),
        Wish::Transfer { to } => {
            let to = Address::new(to).map_err(|error| {
                unprocessable("address_malformed", format!("`to` is no address: {error}."))
            })?;
            (Doing::Transfer, Command::Transfer { to })
        }
    };
    Ok(Wanted { command, doing })
}

fn checked(field: &str, text: String) -> Result<String, Problem> {
    if text.trim().is_empty() {
        return Err(unprocessable("text_empty", format!("`{field}` is empty; say something.")));
    }
    // In bytes, as the link and the relay bound it; a character takes up to four.
    if text.len() > Command::TEXT_BYTES_MAX {
        let detail = format!(
            "`{field}` is longer than {} bytes; split it into several commands.",
            Command::TEXT_BYTES_MAX
        );
        return Err(unprocessable("text_too_long", detail));
    }
    Ok(text)
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

/// The longest text with every character escaped takes six times its bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (u16, &'static str) {
        let problem = read(body.as_bytes()).unwrap_err();
        (problem.status.as_u16(), problem.code)
    }

    #[test]
    fn each_command_is_read() {
        for (body, command) in [
            (r#"{"do":"hang_up"}"#, Command::HangUp),
            (r#"{"do":"say","text":"Hi."}"#, Command::Say { text: "Hi.".into() }),
            (r#"{"text":"Hi.","do":"inject"}"#, Command::Inject { text: "Hi.".into() }),
            (
                r#"{"do":"instruct","instructions":"Be brief."}"#,
                Command::Instruct { instructions: "Be brief.".into() },
            ),
            (
                r#"{"do":"mute","side":"agent","on":false}"#,
                Command::Mute { side: Side::Agent, on: false },
            ),
            (
                r#"{"do":"transfer","to":"sip:desk@example.com"}"#,
                Command::Transfer { to: Address::new("sip:desk@example.com").unwrap() },
            ),
        ] {
            let wanted = read(body.as_bytes()).unwrap();
            assert_eq!(wanted.command, command);
            assert!(body.contains(wanted.doing.value()), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_command_has_a_code() {
        let long = format!(r#"{{"do":"say","text":"{}"}}"#, "x".repeat(8_193));
        for (body, status, code) in [
            ("", 400, "body_malformed"),
            ("[]", 400, "body_malformed"),
            (r#"{"do":7}"#, 400, "body_malformed"),
            (r#"{"do":"sing"}"#, 422, "command_unknown"),
            (r#"{"do":"yield"}"#, 422, "command_unknown"),
            (r#"{"do":"say"}"#, 422, "command_malformed"),
            (r#"{"do":"say","text":"a","loud":true}"#, 422, "command_malformed"),
            (r#"{"do":"hang_up","now":true}"#, 422, "command_malformed"),
            (r#"{"do":"mute","side":"both","on":true}"#, 422, "command_malformed"),
            (r#"{"do":"say","text":" \n"}"#, 422, "text_empty"),
            (r#"{"do":"instruct","instructions":""}"#, 422, "text_empty"),
            (&long, 422, "text_too_long"),
            (r#"{"do":"transfer","to":"030 123"}"#, 422, "address_malformed"),
        ] {
            assert_eq!(refused(body), (status, code), "{body:.60}");
        }
        let longest = format!(r#"{{"do":"say","text":"{}"}}"#, "x".repeat(8_192));
        assert!(read(longest.as_bytes()).is_ok());
    }
}
