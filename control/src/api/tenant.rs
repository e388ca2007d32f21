//! The tenant of the key that asks: which web pages may ask for it, and what bounds it. Its limits
//! are the operator's to set.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Client, keyed};
use super::{done, read_body};
use crate::access::origin::Origin;
use crate::clock;
use crate::error::Problem;
use crate::events::rfc3339;
use crate::http::body;
use crate::operator::is_calling_code;
use crate::plane::Plane;
use crate::store::{Changed, Tenant, TenantLimits};

/// `/v1/tenant`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    let show = warp::path!("v1" / "tenant")
        .and(warp::get())
        .and(keyed(plane))
        .and_then(|client: Client| async move { done(show(&client)) });
    let change = warp::path!("v1" / "tenant")
        .and(warp::patch())
        .and(keyed(plane))
        .and(warp::header::optional::<String>("if-match"))
        .and(body(BODY_BYTES_MAX))
        .and_then(|client: Client, expected: Option<String>, body: Bytes| async move {
            done(change(&client, expected.as_deref(), &body).await)
        });
    show.or(change).unify().boxed()
}

/// The body of `PATCH /v1/tenant`: what is absent stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    origins: Option<Vec<String>>,
    limits: Option<LimitsPatch>,
}

/// A limit of `null` is none; an absent one stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsPatch {
    #[serde(default, deserialize_with = "given")]
    countries: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    calls_minute_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    calls_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    spend_day_cents_max: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    requests_second_max: Option<Option<u32>>,
}

/// Tells `null`, which is given, from what is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `GET /v1/tenant`, from memory.
fn show(client: &Client) -> Result<(StatusCode, Value), Problem> {
    let tenant = client.plane.tenants.get(&client.tenant).ok_or_else(no_tenant)?;
    Ok((StatusCode::OK, json_of(&tenant)))
}

/// `PATCH /v1/tenant`.
async fn change(
    client: &Client,
    expected: Option<&str>,
    body: &[u8],
) -> Result<(StatusCode, Value), Problem> {
    let patch: Patch = read_body(body)?;
    let expected = expected.map(version).transpose()?;
    let origins = patch.origins.map(|texts| origins(&texts)).transpose()?;
    if let Some(limits) = &patch.limits {
        client.must_be_operator()?;
        check(limits)?;
    }
    let plane = &client.plane;
    let apply = |tenant: &mut Tenant| {
        if let Some(origins) = origins {
            tenant.origins = origins;
        }
        if let Some(limits) = patch.limits {
            limits.apply(&mut tenant.limits);
        }
    };
    let (store, now) = (&plane.store, clock::wall());
    match store.change_tenant(&client.tenant, expected, &client.key, now, apply).await? {
        Changed::Done(tenant) => {
            // It stands in the store; here it holds at once, elsewhere within seconds.
            plane.tenants.refresh().await?;
            Ok((StatusCode::OK, json_of(&tenant)))
        }
        Changed::Outdated(version) => {
            let detail =
                format!("It has version {version} by now. GET /v1/tenant, then try again.");
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "version_outdated", detail))
        }
        Changed::Unknown => Err(no_tenant()),
    }
}

impl LimitsPatch {
    fn apply(self, limits: &mut TenantLimits) {
        fn set<T>(limit: &mut Option<T>, given: Option<Option<T>>) {
            if let Some(given) = given {
                *limit = given;
            }
        }
        set(&mut limits.countries, self.countries);
        set(&mut limits.calls_minute_max, self.calls_minute_max);
        set(&mut limits.calls_max, self.calls_max);
        set(&mut limits.spend_day_cents_max, self.spend_day_cents_max);
        set(&mut limits.requests_second_max, self.requests_second_max);
    }
}

/// `If-Match: "7"`, with or without its quotes.
fn version(text: &str) -> Result<u32, Problem> {
    text.trim().trim_matches('"').parse().map_err(|_| {
        let detail = "`If-Match` is the `version` of an earlier answer.";
        Problem::new(StatusCode::BAD_REQUEST, "version_malformed", detail)
    })
}

fn origins(texts: &[String]) -> Result<Vec<Origin>, Problem> {
    if texts.len() > ORIGINS_MAX {
        let detail = format!("`origins` holds more than {ORIGINS_MAX}.");
        return Err(unprocessable("origin_malformed", detail));
    }
    let read = |(n, text): (usize, &String)| {
        Origin::parse(text).ok_or_else(|| {
            let detail = format!(
                "`origins[{n}]` is not https://host[:port] as a browser says it (no path, no \
                 wildcard, no default port; http:// on loopback only)."
            );
            unprocessable("origin_malformed", detail)
        })
    };
    texts.iter().enumerate().map(read).collect()
}

fn check(limits: &LimitsPatch) -> Result<(), Problem> {
    let Some(Some(countries)) = &limits.countries else { return Ok(()) };
    let are_codes = countries.iter().all(|code| is_calling_code(code));
    if countries.len() <= COUNTRIES_MAX && are_codes {
        return Ok(());
    }
    let detail = format!(
        "`limits.countries` is a list of at most {COUNTRIES_MAX} calling codes such as \"+49\" \
         or \"+1684\"."
    );
    Err(unprocessable("country_malformed", detail))
}

/// A tenant as the API shows it.
fn json_of(tenant: &Tenant) -> Value {
    let origins: Vec<_> = tenant.origins.iter().map(Origin::as_str).collect();
    let limits = &tenant.limits;
    json!({
        "id": tenant.id.as_str(),
        "version": tenant.version,
        "origins": origins,
        "limits": {
            "countries": limits.countries,
            "calls_minute_max": limits.calls_minute_max,
            "calls_max": limits.calls_max,
            "spend_day_cents_max": limits.spend_day_cents_max,
            "requests_second_max": limits.requests_second_max,
        },
        // The first tenant was there before anybody made one.
        "created_at": (tenant.created_at.0 > 0).then(|| rfc3339(tenant.created_at)),
    })
}

fn no_tenant() -> Problem {
    let detail = "The key's tenant is not known yet. Try again.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "tenant_unknown", detail).again_after(2)
}

fn unprocessable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

const BODY_BYTES_MAX: usize = 64 * 1024;

/// Every request of a page is compared with all of them.
const ORIGINS_MAX: usize = 100;

/// Every country, and some that are only allowed in part.
const COUNTRIES_MAX: usize = 500;
