//! A look at the account and its number, for the doctor: nothing is changed, nothing is spent.

use http::StatusCode;
use link::finding::Finding;
use serde_json::Value;

use super::signature::PublicOrigin;
use crate::config::Account;
use crate::doctor::client;
use crate::error::chain;
use crate::store::call::Number;

/// How the account and its number are, and what belongs into the console.
/// Source: Twilio, "Accounts resource" and "IncomingPhoneNumber resource", read 2026-11-20.
pub(crate) async fn look(
    account: &Account,
    public: &PublicOrigin,
    number: Option<&Number>,
) -> Vec<Finding> {
    let mut findings = vec![to_paste(public)];
    let whose = match get(account, ".json").await {
        Ok(page) => self::account(&page),
        Err(finding) => return [findings, vec![finding]].concat(),
    };
    findings.push(whose);
    // Every number, and not only the one that calls: whoever calls any of them hears its fallback.
    match get(account, "/IncomingPhoneNumbers.json?PageSize=1000").await {
        Ok(page) => findings.extend(fallbacks(&page["incoming_phone_numbers"], public)),
        Err(finding) => findings.push(finding),
    }
    let Some(number) = number else {
        let words = "no number of our own is set: each outbound call must say `from`";
        findings.push(Finding::warning("number", words, "set CONTROL_FROM_NUMBER"));
        return findings;
    };
    // The only character of a number that a query would read in its own way.
    let digits = number.as_str().trim_start_matches('+');
    match get(account, &format!("/IncomingPhoneNumbers.json?PhoneNumber=%2B{digits}")).await {
        Ok(page) => findings.extend(self::number(&page["incoming_phone_numbers"][0], public)),
        Err(finding) => findings.push(finding),
    }
    findings
}

/// Always said: whoever runs a doctor for the first time is about to paste these.
fn to_paste(public: &PublicOrigin) -> Finding {
    let (voice, status) = (public.url(VOICE), public.url(STATUS));
    let words = format!(
        "a call comes in: Webhook, POST {voice}\nprimary handler fails: a TwiML Bin that speaks, \
         of another host\ncall status changes: POST {status}"
    );
    Finding::ok("the number's page in the carrier's console", words)
}

fn account(page: &Value) -> Finding {
    let what = "carrier's account";
    match (page["status"].as_str(), page["type"].as_str()) {
        (Some("active"), Some("Trial")) => Finding::warning(
            what,
            "good, and a trial",
            "a trial calls verified numbers only and speaks before the agent does",
        ),
        (Some("active"), _) => Finding::ok(what, "its name and token are good"),
        (status, _) => {
            let words = format!("it is {}", status.unwrap_or("in no state that is known"));
            Finding::failed(what, words, "look at the console")
        }
    }
}

fn number(page: &Value, public: &PublicOrigin) -> Vec<Finding> {
    let what = "number";
    if page.is_null() {
        let mend = "another CONTROL_FROM_NUMBER, or another account";
        return vec![Finding::failed(what, "the account does not own it", mend)];
    }
    let of = |key: &str| page[key].as_str().unwrap_or_default();
    let mut findings = Vec::new();
    let wanted = public.url(VOICE);
    if of("voice_url") == wanted {
        findings.push(Finding::ok(what, "its calls come here"));
    } else {
        let words = "its calls go elsewhere";
        findings.push(Finding::failed(what, words, format!("voice webhook: POST {wanted}")));
    }
    let wanted = public.url(STATUS);
    if of("status_callback") != wanted {
        let words = "nobody hears here when its calls end without a stream";
        findings.push(Finding::warning(what, words, format!("status callback: POST {wanted}")));
    }
    if !has_fallback(page, public) {
        let words = "it has no fallback elsewhere: callers hear an error when control is away";
        findings.push(Finding::warning(what, words, FALLBACK));
    }
    findings
}

/// Whether somebody else speaks when no control does.
fn has_fallback(number: &Value, public: &PublicOrigin) -> bool {
    let fallback = number["voice_fallback_url"].as_str().unwrap_or_default();
    !fallback.is_empty() && !fallback.starts_with(public.as_str())
}

/// How many numbers lead here, and whether each has a fallback.
fn fallbacks(numbers: &Value, public: &PublicOrigin) -> Option<Finding> {
    let what = "fallbacks of the account's numbers";
    let voice = public.url(VOICE);
    let leads_here =
        |number: &&Value| number["voice_url"].as_str().is_some_and(|url| url.starts_with(&voice));
    let here: Vec<&Value> = numbers.as_array()?.iter().filter(leads_here).collect();
    let without = here.iter().filter(|number| !has_fallback(number, public)).count();
    match (here.len(), without) {
        (0, _) => None,
        (all, 0) => Some(Finding::ok(what, format!("all {all} that lead here have one"))),
        (all, without) => {
            let words = format!(
                "{without} of {all} that lead here have none elsewhere: callers hear an error when \
                 control is away"
            );
            Some(Finding::warning(what, words, FALLBACK))
        }
    }
}

/// Asks for a page of the account.
async fn get(account: &Account, rest: &str) -> Result<Value, Finding> {
    let what = "carrier's account";
    let Account { sid, auth_tokens, api_url } = account;
    let url = format!("{api_url}/2010-04-01/Accounts/{sid}{rest}");
    let stuck = |error: reqwest::Error| {
        let words = format!("cannot be reached: {}", chain(&error.without_url()));
        Finding::failed(what, words, "look at DNS, the network and TWILIO_API_URL")
    };
    let token = auth_tokens.primary.reveal();
    let request = client(&url).map_err(stuck)?.get(&url).basic_auth(sid, Some(token));
    let answer = request.send().await.map_err(stuck)?;
    match answer.status() {
        StatusCode::OK => answer.json().await.map_err(stuck),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Finding::failed(
            what,
            "its name or token is refused",
            "compare TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN with the console",
        )),
        status => {
            Err(Finding::failed(what, format!("it answers with {status}"), "look at the console"))
        }
    }
}

const FALLBACK: &str = "primary handler fails: a TwiML Bin that speaks";
const VOICE: &str = "/v1/twilio/voice";
const STATUS: &str = "/v1/twilio/status";
