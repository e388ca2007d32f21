//! What the bodies of the compatible routes say. They are read leniently, since the apps that send
//! them were written for other servers: there are several words for one thing, and what has no
//! meaning here is passed over.
//!
//! Callees are a list under one of `LISTS` or the body itself, or the body is one callee. Each is a
//! number, or an object with it under one of `NUMBERS` and with `name` and a prompt if it likes. A
//! prompt stands under one of `PROMPTS`, for one callee or for all.

use http::StatusCode;
use serde_json::Value;

use crate::access::rates::{BURST_SECONDS, KEYLESS_PER_SECOND};
use crate::api::numbers::e164;
use crate::error::Problem;
use crate::store::call::Number;

/// Somebody who shall be called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Callee {
    /// The number.
    pub(super) to: Number,
    /// What the app calls them; only repeated in the answer.
    pub(super) name: Option<String>,
    /// What the agent is to be told; `None` leaves it to the default agent.
    pub(super) prompt: Option<String>,
}

/// Reads whom a body wants called.
///
/// # Errors
/// Which of them is none, and by its place.
pub(super) fn read(body: &[u8]) -> Result<Vec<Callee>, Problem> {
    let body: Value = serde_json::from_slice(body).map_err(|_| malformed())?;
    let entries = entries(&body).ok_or_else(malformed)?;
    if !(1..=CALLEES_MAX).contains(&entries.len()) {
        let detail = format!("1 to {CALLEES_MAX} people are called at once; more take several.");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "calls_too_many", detail));
    }
    let prompt = first(&body, &PROMPTS);
    let callee = |(place, entry)| callee(entry, place, prompt);
    entries.into_iter().enumerate().map(callee).collect()
}

/// Reads a body that may hold a prompt and nothing else that matters.
///
/// # Errors
/// When it is no JSON object.
pub(super) fn read_prompt(body: &[u8]) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let read: Option<Value> = serde_json::from_slice(body).ok();
    let read = read.filter(Value::is_object).ok_or_else(|| {
        let detail = "The body is not a JSON object such as {\"prompt\": \"...\"}.";
        Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
    })?;
    Ok(first(&read, &PROMPTS).map(str::to_owned))
}

fn entries(body: &Value) -> Option<Vec<&Value>> {
    let listed = LISTS.iter().find_map(|field| body.get(field)?.as_array());
    if let Some(list) = body.as_array().or(listed) {
        return Some(list.iter().collect());
    }
    first(body, &NUMBERS).map(|_| vec![body])
}

fn callee(entry: &Value, place: usize, prompt: Option<&str>) -> Result<Callee, Problem> {
    let written = entry.as_str().or_else(|| first(entry, &NUMBERS)).unwrap_or_default();
    let is_filling = |c: &char| matches!(c, ' ' | '-' | '.' | '(' | ')');
    let digits: String = written.chars().filter(|c| !is_filling(c)).collect();
    let to = e164(digits, &format!("calls.{place}"))?;
    let name = entry.get("name").and_then(Value::as_str);
    let name = name.map(|name| name.chars().take(NAME_CHARS_MAX).collect());
    let prompt = first(entry, &PROMPTS).or(prompt).map(str::to_owned);
    Ok(Callee { to, name, prompt })
}

/// The first of these fields that holds a text.
fn first<'v>(value: &'v Value, fields: &[&str]) -> Option<&'v str> {
    let text = |field: &&str| value.get(field)?.as_str().filter(|text| !text.trim().is_empty());
    fields.iter().find_map(text)
}

fn malformed() -> Problem {
    let detail = "The body says nobody to call. It is {\"phoneNumbers\": [\"+15551230002\", ...], \
        \"prompt\"?} or {\"calls\": [{\"to\", \"name\"?, \"prompt\"?}, ...]}.";
    Problem::new(StatusCode::BAD_REQUEST, "body_malformed", detail)
}

/// Where a body has its list.
const LISTS: [&str; 6] = ["calls", "callees", "contacts", "phoneNumbers", "numbers", "to"];

/// Where a callee has its number.
const NUMBERS: [&str; 4] = ["to", "phone", "phoneNumber", "number"];

/// Where a prompt stands.
const PROMPTS: [&str; 2] = ["prompt", "instructions"];

/// As many as may be made at once without a key.
const CALLEES_MAX: usize = 20;

const _: () = assert!(CALLEES_MAX as u32 <= KEYLESS_PER_SECOND.get() * BURST_SECONDS.get());

/// A name is shown, and no more.
const NAME_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn callees(body: &Value) -> Vec<Callee> {
        read(body.to_string().as_bytes()).unwrap()
    }

    fn callee(to: &str, name: Option<&str>, prompt: Option<&str>) -> Callee {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Callee { to: Number(to.into()), name: text(name), prompt: text(prompt) }
    }

    #[test]
    fn one_thing_may_be_said_in_several_ways() {
        let one = || vec![callee("+15551230002", None, None)];
        for body in [
            json!({"phoneNumbers": ["+15551230002"]}),
            json!({"numbers": ["+1 (555) 123-0002"], "userId": 7}),
            json!({"calls": [{"to": "+15551230002"}]}),
            json!({"callees": [{"phone": "+1.555.123.0002"}]}),
            json!({"contacts": [{"phoneNumber": "+15551230002", "name": 3}]}),
            json!({"to": ["+15551230002"]}),
            json!({"to": "+15551230002"}),
            json!({"phoneNumber": "+15551230002"}),
            json!(["+15551230002"]),
        ] {
            assert_eq!(callees(&body), one(), "{body}");
        }
    }

    #[test]
    fn a_callees_own_prompt_goes_before_that_of_all() {
        let body = json!({
            "instructions": "Be kind.",
            "calls": [
                {"to": "+15551230002", "name": "Ann", "prompt": "Sell."},
                {"to": "+15551230003", "prompt": " "},
            ],
        });
        let wanted = [
            callee("+15551230002", Some("Ann"), Some("Sell.")),
            callee("+15551230003", None, Some("Be kind.")),
        ];
        assert_eq!(callees(&body), wanted);
    }

    #[test]
    fn what_cannot_be_called_is_named_by_its_place_and_not_repeated() {
        let many = json!({"numbers": vec!["+15551230002"; CALLEES_MAX + 1]});
        for (body, code) in [
            (json!({}), "body_malformed"),
            (json!("+15551230002"), "body_malformed"),
            (json!({"numbers": []}), "calls_too_many"),
            (many, "calls_too_many"),
            (json!({"numbers": ["+15551230002", "5551230003"]}), "number_malformed"),
            (json!({"calls": [{"name": "Ann"}]}), "number_malformed"),
        ] {
            let problem = read(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(problem.code, code, "{body}");
            assert!(!problem.detail.contains("1230003"), "{}", problem.detail);
        }
        assert_eq!(read(b"{").unwrap_err().code, "body_malformed");
    }

    #[test]
    fn a_prompt_is_read_and_may_be_missing() {
        let prompt = |text: &str| read_prompt(text.as_bytes()).map_err(|problem| problem.code);
        assert_eq!(prompt(r#"{"prompt": "Sing.", "voice": "x"}"#), Ok(Some("Sing.".into())));
        for text in ["", "{}", r#"{"prompt": ""}"#, r#"{"prompt": 3}"#] {
            assert_eq!(prompt(text), Ok(None), "{text}");
        }
        assert_eq!(prompt("[]"), Err("body_malformed"));
    }
}
