//! What must hold before anybody is dialled: where calls may go, when, and what they may cost.
//!
//! It is looked at twice: when a call is wanted, so that whoever wants it is told at once, and when
//! its turn has come, since hours may pass in between.

use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use link::id::{TenantId, WallTime};

use super::country::{Country, place};
use super::hours::Hours;
use crate::error::Problem;
use crate::plane::Plane;
use crate::store::call::Number;
use crate::store::{Bounds, Pacing, StoreError, Tenant, TenantLimits};

/// The operator's rules for outbound calls.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How fast and how much may be dialled.
    pub pacing: Pacing,
    /// Where calls may go; `None` allows the country of the number that calls.
    pub places: Option<Places>,
    /// When anybody may be called, by the clocks there; `None` at any time.
    pub hours: Option<Hours>,
    /// What outbound calls of any one tenant may cost in a day (UTC), in hundredths of the account's
    /// currency; `None` leaves it to what is settled for each.
    pub spend_day_cents_max: Option<u32>,
    /// What a minute that has begun counts for that, in the same.
    pub minute_cents: u32,
    /// How long the carrier's list of calls may lag behind what the carrier did.
    pub settled: Duration,
    /// How long a call waits that the carrier has not taken because it has too much to do.
    pub pause: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            pacing: Pacing::default(),
            places: None,
            hours: None,
            spend_day_cents_max: None,
            minute_cents: 5,
            settled: Duration::from_secs(10),
            pause: Duration::from_secs(2),
        }
    }
}

/// A list of countries and of beginnings of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Country(Country),
    Beginning(String),
}

/// A text that is no list of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("places are countries of two letters and beginnings such as +49, separated by commas")]
pub struct NoPlaces;

impl FromStr for Places {
    type Err = NoPlaces;

    fn from_str(text: &str) -> Result<Self, NoPlaces> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let entries: Vec<Entry> = words.map(entry).collect::<Result<_, _>>()?;
        if entries.is_empty() { Err(NoPlaces) } else { Ok(Self(entries)) }
    }
}

fn entry(word: &str) -> Result<Entry, NoPlaces> {
    let Some(digits) = word.strip_prefix('+') else {
        return Country::of_code(word).map(Entry::Country).ok_or(NoPlaces);
    };
    let is_good = (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_good { Ok(Entry::Beginning(word.to_owned())) } else { Err(NoPlaces) }
}

impl Places {
    /// Whether a number is in one of them.
    #[must_use]
    pub fn contain(&self, number: &str) -> bool {
        let country = place(number).map(|place| place.country);
        self.0.iter().any(|entry| match entry {
            Entry::Country(known) => country == Some(*known),
            Entry::Beginning(beginning) => number.starts_with(beginning),
        })
    }
}

/// Why a call may not be dialled. Never with a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Calls do not go there.
    #[error("calls may not go to this country; CONTROL_DIAL_COUNTRIES lists where they may")]
    Place,
    /// The callee does not want to be called.
    #[error(
        "the number is on the do-not-call list; DELETE /v1/do_not_call/{{number}} takes it off"
    )]
    DoNotCall,
    /// There is no moment at which the whole country is within the hours.
    #[error(
        "no moment of the day is within the hours everywhere in the callee's country; widen them"
    )]
    Hours,
    /// The day's money is spent.
    #[error(
        "calls of this day (UTC) have cost what they may; CONTROL_SPEND_DAY_CENTS says how much"
    )]
    Spend {
        /// Seconds until the next day.
        again_s: u32,
    },
}

impl Forbidden {
    /// What the one who wants the call is told.
    #[must_use]
    pub fn problem(self) -> Problem {
        let mut detail = format!("{self}.");
        detail[..1].make_ascii_uppercase();
        let code = match self {
            Self::Place => "country_not_allowed",
            Self::DoNotCall => "do_not_call",
            Self::Hours => "hours_never_open",
            Self::Spend { again_s } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                return Problem::new(status, "spend_cap_reached", detail).again_after(again_s);
            }
        };
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }
}

/// Who is to be called, and how.
#[derive(Debug, Clone, Copy)]
pub struct Callee<'a> {
    /// Whose call it is.
    pub tenant: &'a TenantId,
    /// Who is called.
    pub to: &'a Number,
    /// Who calls.
    pub from: &'a Number,
    /// When the one who wants the call says that it may be made.
    pub hours: Option<Hours>,
}

/// When somebody may be called: `now`, or later.
///
/// # Errors
/// Why never, or that the database failed.
pub async fn check(
    plane: &Plane,
    callee: Callee<'_>,
    now: WallTime,
) -> Result<Result<WallTime, Forbidden>, StoreError> {
    let rules = &plane.rules;
    let limits = plane.tenants.get(callee.tenant).map(|tenant| tenant.limits.clone());
    let limits = limits.unwrap_or_default();
    if !may_go(rules.places.as_ref(), &limits, callee) {
        return Ok(Err(Forbidden::Place));
    }
    if plane.store.is_unwanted(callee.tenant, callee.to).await? {
        return Ok(Err(Forbidden::DoNotCall));
    }
    if let Some(cents_max) = cents_max(rules, &limits) {
        let minutes = plane.store.minutes_since(callee.tenant, midnight(now), now).await?;
        if let Err(forbidden) = within_cap(rules, cents_max, minutes, now) {
            return Ok(Err(forbidden));
        }
    }
    Ok(within(callee.to, [rules.hours, callee.hours], now))
}

/// Whether the day's money is not spent by outbound calls and by sessions of pages together: what
/// somebody may have made who has no key.
///
/// # Errors
/// That it is, or that the database failed.
pub async fn check_spend(
    plane: &Plane,
    tenant: &TenantId,
    now: WallTime,
) -> Result<Result<(), Forbidden>, StoreError> {
    let limits = plane.tenants.get(tenant).map(|tenant| tenant.limits.clone());
    let Some(cents_max) = cents_max(&plane.rules, &limits.unwrap_or_default()) else {
        return Ok(Ok(()));
    };
    let since = midnight(now);
    let calls = plane.store.minutes_since(tenant, since, now).await?;
    let sessions = plane.store.session_minutes_since(tenant, since, now).await?;
    Ok(within_cap(&plane.rules, cents_max, calls.saturating_add(sessions), now))
}

/// What a tenant's day may cost; `None` when nothing bounds it.
fn cents_max(rules: &Rules, limits: &TenantLimits) -> Option<u32> {
    [rules.spend_day_cents_max, limits.spend_day_cents_max].into_iter().flatten().min()
}

/// Whether so many minutes of a day cost less than they may.
fn within_cap(rules: &Rules, cents_max: u32, minutes: u64, now: WallTime) -> Result<(), Forbidden> {
    if minutes.saturating_mul(rules.minute_cents.into()) < cents_max.into() {
        return Ok(());
    }
    let again_s = (midnight(now).0 + DAY_US - now.0) / 1_000_000 + 1;
    Err(Forbidden::Spend { again_s: u32::try_from(again_s).unwrap_or(u32::MAX) })
}

/// When the day (UTC) began.
fn midnight(now: WallTime) -> WallTime {
    WallTime(now.0 - now.0.rem_euclid(DAY_US))
}

const DAY_US: i64 = 86_400 * 1_000_000;

/// Whether a call may go there: where the operator's list and the tenant's say so. Without any, in
/// the country of the number that calls.
fn may_go(places: Option<&Places>, limits: &TenantLimits, callee: Callee<'_>) -> bool {
    let (from, to) = (callee.from.as_str(), callee.to.as_str());
    match (places, &limits.countries) {
        (None, None) => is_same_country(from, to),
        (Some(places), _) => places.contain(to) && limits.may_call(to),
        (None, Some(_)) => limits.may_call(to),
    }
}

/// The operator's pace, with what is settled for each tenant: so many calls a minute are one every
/// so many seconds, and calls that came in leave fewer slots to those that go out.
#[must_use]
pub fn pacing(plane: &Plane) -> Pacing {
    let bounds = |tenant: &Tenant| {
        let every = |calls: u32| Duration::from_secs(60) / calls.max(1);
        let limits = &tenant.limits;
        let slots = limits.at_once().unwrap_or(u32::MAX);
        let slots = slots.saturating_sub(plane.crowd.inbound(&tenant.id));
        Bounds { every: limits.calls_minute_max.map_or(Duration::ZERO, every), slots }
    };
    let tenants = plane.tenants.all();
    let bounds = tenants.iter().map(|tenant| (tenant.id.clone(), bounds(tenant)));
    Pacing { tenants: bounds.collect(), ..plane.rules.pacing.clone() }
}

/// The first moment that is within all hours.
fn within(to: &Number, hours: [Option<Hours>; 2], now: WallTime) -> Result<WallTime, Forbidden> {
    let hours: Vec<Hours> = hours.into_iter().flatten().collect();
    if hours.is_empty() {
        return Ok(now);
    }
    let place = place(to.as_str()).ok_or(Forbidden::Hours)?;
    let mut at = now;
    // Each may push it on, at most once around the day; what does not settle never will.
    for _ in 0..4 {
        let before = at;
        for hours in &hours {
            at = hours.next_open(place, at).ok_or(Forbidden::Hours)?;
        }
        if at == before {
            return Ok(at);
        }
    }
    Err(Forbidden::Hours)
}

/// Whether two numbers are in one country; what is in none is in no other's.
fn is_same_country(one: &str, other: &str) -> bool {
    let country = |number| place(number).map(|place| place.country);
    country(one).is_some_and(|here| country(other) == Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_countries_and_beginnings() {
        let places: Places = "US, de,+4420".parse().unwrap();
        for number in ["+14155550100", "+4930123456", "+442071838750"] {
            assert!(places.contain(number), "{number}");
        }
        // Canada and the islands share +1 with the US, and are not it.
        for number in ["+14165550100", "+18765550100", "+19005550100", "+441212345678", "+33123456"]
        {
            assert!(!places.contain(number), "{number}");
        }
        for bad in ["", ",", "USA", "XX", "49", "+", "+49x", "US,+"] {
            assert_eq!(bad.parse::<Places>(), Err(NoPlaces), "{bad}");
        }
    }

    #[test]
    fn without_a_list_calls_stay_in_the_country_of_the_number_that_calls() {
        assert!(is_same_country("+15550100", "+14155550100"));
        assert!(!is_same_country("+15550100", "+18765550100"));
        assert!(!is_same_country("+15550100", "+4930123456"));
        assert!(!is_same_country("+88213300655", "+88213300656"), "no country is not a country");
    }

    #[test]
    fn all_hours_count() {
        let now =
            WallTime("2026-11-28T07:30:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let to = Number("+4930123456".into());
        let hours = |text: &str| Some(text.parse().unwrap());
        assert_eq!(within(&to, [None, None], now), Ok(now));
        let at = within(&to, [hours("08:00-20:00"), hours("10:00-21:00")], now).unwrap();
        assert_eq!(crate::events::rfc3339(at), "2026-11-28T09:00:00.000000Z");
        let never = within(&to, [hours("08:00-10:00"), hours("18:00-21:00")], now);
        assert_eq!(never, Err(Forbidden::Hours));
    }

    #[test]
    fn a_refusal_is_a_sentence_with_a_code() {
        let problem = Forbidden::Place.problem();
        assert_eq!((problem.status.as_u16(), problem.code), (422, "country_not_allowed"));
        assert!(problem.detail.starts_with("Calls may not") && problem.detail.ends_with('.'));
    }
}
