//! Businesses, looked up by what they are and where: Google Places, Text Search (New).
//!
//! Asked with a mask of fields, because without one it refuses, and each field has its price.
//! Source: Google Maps Platform, "Text Search (New)" and "Choose fields to return", read 2026-11-28.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderValue;
use link::secret::Secret;
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::PlacesAccount;
use crate::dialer::is_e164;
use crate::error::{Problem, chain};

/// Who looks businesses up.
#[derive(Debug)]
pub struct Search {
    http: Client,
    url: String,
    key: Secret,
}

/// What is known of a business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    id: Option<String>,
    display_name: Option<Text>,
    formatted_address: Option<String>,
    international_phone_number: Option<String>,
    website_uri: Option<String>,
    rating: Option<f64>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

/// When there is nothing, the list is missing, too.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    places: Vec<Place>,
}

impl Search {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the machine's TLS roots cannot be read.
    pub fn new(account: PlacesAccount) -> Result<Self, reqwest::Error> {
        let PlacesAccount { key, url } = account;
        let http = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .pool_max_idle_per_host(2)
            .redirect(reqwest::redirect::Policy::none());
        // A fake on loopback needs neither the machine's certificates nor its proxy.
        let http = if url.starts_with("https://") {
            http.https_only(true)
        } else {
            http.tls_certs_only(std::iter::empty()).no_proxy()
        };
        Ok(Self { http: http.build()?, url, key })
    }

    /// Looks for businesses; ten at most, as good as the service can tell.
    ///
    /// # Errors
    /// When the service does not answer, or refuses.
    pub(super) async fn find(&self, words: &str) -> Result<Vec<Value>, Problem> {
        let mut key = HeaderValue::from_str(self.key.reveal()).map_err(|_| refused())?;
        key.set_sensitive(true);
        let request = self
            .http
            .post(format!("{}/v1/places:searchText", self.url))
            .header("x-goog-api-key", key)
            .header("x-goog-fieldmask", FIELDS)
            .json(&json!({"textQuery": words, "pageSize": RESULTS_MAX}));
        let answer = request.send().await.map_err(silent)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => return Err(throttled()),
            status if status.is_client_error() => {
                tracing::error!(%status, "the service that looks businesses up refuses");
                return Err(refused());
            }
            status => {
                tracing::warn!(%status, "the service that looks businesses up fails");
                return Err(failed());
            }
        }
        let text = bounded(answer).await?;
        let found: Found = serde_json::from_slice(&text).map_err(|_| failed())?;
        Ok(found.places.iter().take(RESULTS_MAX).map(json_of).collect())
    }
}

/// What is looked for, of an address.
///
/// # Errors
/// When it says nothing, or too much.
pub(super) fn words(queries: &BTreeMap<String, String>) -> Result<String, Problem> {
    let word = |name: &str| queries.get(name).map(|text| text.trim()).unwrap_or_default();
    let (query, location) = (word("query"), word("location"));
    if query.is_empty() || query.len() > WORD_BYTES_MAX || location.len() > WORD_BYTES_MAX {
        let detail = format!(
            "`query` says what is looked for and `location` where, for instance \
             ?query=bakery&location=Lyon; at most {WORD_BYTES_MAX} bytes each.",
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query_malformed", detail));
    }
    Ok(if location.is_empty() { query.to_owned() } else { format!("{query} in {location}") })
}

/// Nobody looks businesses up.
pub(super) fn off() -> Problem {
    let detail = "Nothing looks businesses up here. The operator sets GOOGLE_PLACES_API_KEY to a \
        Google Maps Platform key whose project has the Places API (New).";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "search_off", detail)
}

/// The whole body, as long as it is not too long.
async fn bounded(mut answer: Response) -> Result<Vec<u8>, Problem> {
    let mut whole = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(silent)? {
        if whole.len() + piece.len() > ANSWER_BYTES_MAX {
            tracing::warn!("the service that looks businesses up answers without end");
            return Err(failed());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// A business as it is shown. A number that cannot be called is none.
fn json_of(place: &Place) -> Value {
    let phone = place.international_phone_number.as_deref().map(dialled);
    json!({
        "name": place.display_name.as_ref().map(|name| &name.text),
        "phone": phone.filter(|phone| is_e164(phone)),
        "address": place.formatted_address,
        "website": place.website_uri,
        "rating": place.rating,
        "placeId": place.id,
    })
}

/// A number as it is dialled, of how people read it.
fn dialled(written: &str) -> String {
    written.chars().filter(|c| *c == '+' || c.is_ascii_digit()).collect()
}

fn silent(error: reqwest::Error) -> Problem {
    let (is_late, error) = (error.is_timeout(), error.without_url());
    tracing::warn!(error = chain(&error), "the service that looks businesses up is silent");
    let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
    let detail = "The service that looks businesses up does not answer. Try again.";
    Problem::new(status, "search_silent", detail).again_after(2)
}

fn throttled() -> Problem {
    let detail = "The service that looks businesses up is asked too much. Try again.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "search_throttled", detail).again_after(10)
}

fn refused() -> Problem {
    let detail = "The service that looks businesses up refuses. The operator compares \
        GOOGLE_PLACES_API_KEY with the console: it needs the Places API (New), and billing.";
    Problem::new(StatusCode::BAD_GATEWAY, "search_refused", detail)
}

fn failed() -> Problem {
    let detail = "The service that looks businesses up has failed. Try again.";
    Problem::new(StatusCode::BAD_GATEWAY, "search_failed", detail).again_after(2)
}

const FIELDS: &str = "places.id,places.displayName,places.formattedAddress,\
    places.internationalPhoneNumber,places.websiteUri,places.rating";

/// What one page of a list shows; the service gives twenty at most.
const RESULTS_MAX: usize = 10;

/// Ten businesses take some 10 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

const WORD_BYTES_MAX: usize = 200;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Somebody waits at a page.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_may_have_a_place() {
        let of = |pairs: &[(&str, &str)]| {
            let queries = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            words(&queries.collect()).map_err(|problem| problem.code)
        };
        assert_eq!(of(&[("query", "bakery"), ("location", " Lyon ")]), Ok("bakery in Lyon".into()));
        assert_eq!(of(&[("query", "bakery"), ("location", "")]), Ok("bakery".into()));
        let long = "x".repeat(201);
        for bad in [&[("location", "Lyon")][..], &[("query", " ")], &[("query", &long)]] {
            assert_eq!(of(bad), Err("query_malformed"));
        }
    }

    #[test]
    fn a_business_has_a_number_that_can_be_dialled_or_none() {
        let phone = |text: &str| {
            let place = json!({"internationalPhoneNumber": text, "priceLevel": "x"});
            json_of(&serde_json::from_value(place).unwrap())["phone"].clone()
        };
        assert_eq!(phone("+33 4 78 00 00 00"), "+33478000000");
        assert_eq!(phone("+1 555-123-0002"), "+15551230002");
        assert_eq!(phone("04 78 00"), Value::Null);
    }
}
