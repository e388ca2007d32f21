//! When a callee may be called, by the clocks where the callee's number is. Pure.
//!
//! A number tells its country and no more, so a call goes out only while every clock of that
//! country is within the hours.

use std::fmt;
use std::str::FromStr;

use link::id::WallTime;
use serde::{Deserialize, Serialize};

use super::country::Place;

/// The hours within which somebody may be called: from this time of the day until before that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// From when on.
    pub from: Clock,
    /// Until when.
    pub to: Clock,
}

/// A time of the day, in minutes; written `HH:MM`, and `24:00` is its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(u16);

/// A text that is no time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time of the day is HH:MM, from 00:00 to 24:00")]
pub struct NoClock;

impl FromStr for Clock {
    type Err = NoClock;

    fn from_str(text: &str) -> Result<Self, NoClock> {
        let (hours, minutes) = text.split_once(':').ok_or(NoClock)?;
        let number = |text: &str| {
            let is_good = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_good { text.parse::<u16>().map_err(|_| NoClock) } else { Err(NoClock) }
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let all = hours * 60 + minutes;
        if minutes < 60 && all <= DAY_MINUTES { Ok(Self(all)) } else { Err(NoClock) }
    }
}

impl TryFrom<String> for Clock {
    type Error = NoClock;

    fn try_from(text: String) -> Result<Self, NoClock> {
        text.parse()
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> Self {
        clock.to_string()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for Hours {
    type Err = NoClock;

    /// Reads `HH:MM-HH:MM`.
    fn from_str(text: &str) -> Result<Self, NoClock> {
        let (from, to) = text.split_once('-').ok_or(NoClock)?;
        let hours = Self { from: from.trim().parse()?, to: to.trim().parse()? };
        if hours.from < hours.to { Ok(hours) } else { Err(NoClock) }
    }
}

impl Hours {
    /// How long there is between the westernmost clock's beginning and the easternmost one's end, in
    /// minutes; none when the country is too wide for these hours.
    #[must_use]
    pub fn minutes(&self, place: Place) -> Option<u16> {
        let span = (self.end(place) - self.begin(place)).min(i64::from(DAY_MINUTES));
        u16::try_from(span).ok().filter(|span| *span > 0)
    }

    /// The next moment at which everybody in the country may be called; `now` when that is so.
    /// `None` when it never is.
    #[must_use]
    pub fn next_open(&self, place: Place, now: WallTime) -> Option<WallTime> {
        let open = i64::from(self.minutes(place)?);
        let minute = now.0.div_euclid(MINUTE_US);
        let since = (minute - self.begin(place)).rem_euclid(i64::from(DAY_MINUTES));
        if since < open {
            return Some(now);
        }
        Some(WallTime((minute + i64::from(DAY_MINUTES) - since) * MINUTE_US))
    }

    /// In minutes of UTC's day, which may be another day.
    fn begin(&self, place: Place) -> i64 {
        i64::from(self.from.0) - i64::from(place.offset_min)
    }

    fn end(&self, place: Place) -> i64 {
        i64::from(self.to.0) - i64::from(place.offset_max)
    }
}

const DAY_MINUTES: u16 = 24 * 60;
const MINUTE_US: i64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::super::country::place;
    use super::*;
    use crate::events::rfc3339;

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn next(hours: &str, number: &str, now: &str) -> Option<String> {
        let hours: Hours = hours.parse().unwrap();
        Some(rfc3339(hours.next_open(place(number).unwrap(), at(now))?)[..16].to_owned())
    }

    #[test]
    fn a_call_waits_until_every_clock_of_the_country_is_within_the_hours() {
        // Germany is one or two hours ahead: 09:00 there is 08:00 in winter, and 20:00 is 18:00 in
        // summer.
        for (now, open) in [
            ("2026-11-28T07:59:00Z", "2026-11-28T08:00"),
            ("2026-11-28T08:00:00Z", "2026-11-28T08:00"),
            ("2026-11-28T17:59:00Z", "2026-11-28T17:59"),
            ("2026-11-28T18:00:00Z", "2026-11-29T08:00"),
            ("2026-11-28T23:30:00Z", "2026-11-29T08:00"),
        ] {
            assert_eq!(next("09:00-20:00", "+4930123456", now).as_deref(), Some(open), "{now}");
        }
        // From Hawaii to the east coast: 19:00 to midnight UTC.
        for (now, open) in [
            ("2026-11-28T18:00:00Z", "2026-11-28T19:00"),
            ("2026-11-28T23:59:00Z", "2026-11-28T23:59"),
            ("2026-11-29T00:00:00Z", "2026-11-29T19:00"),
        ] {
            assert_eq!(next("09:00-20:00", "+14155550100", now).as_deref(), Some(open), "{now}");
        }
        // Ahead of UTC by more than the hours begin with.
        let (now, open) = ("2026-11-28T12:00:00Z", "2026-11-29T00:00");
        assert_eq!(next("09:00-20:00", "+81312345678", now).as_deref(), Some(open));
    }

    #[test]
    fn a_country_that_is_wider_than_the_hours_is_never_called() {
        assert_eq!(next("09:00-17:00", "+79161234567", "2026-11-28T12:00:00Z"), None);
        let whole: Hours = "00:00-24:00".parse().unwrap();
        let (now, russia) = (at("2026-11-28T12:00:00Z"), place("+79161234567").unwrap());
        assert_eq!(whole.minutes(russia), Some(14 * 60));
        let germany = Place { offset_min: 60, offset_max: 60, ..russia };
        assert_eq!(whole.next_open(germany, now), Some(now));
    }

    #[test]
    fn a_time_of_the_day_has_two_digits_twice() {
        for bad in ["", "9:00", "09:60", "24:01", "09-00", "+9:00", "0900", "09:00:00"] {
            assert_eq!(bad.parse::<Clock>(), Err(NoClock), "{bad}");
        }
        for bad in ["20:00-09:00", "09:00-09:00", "09:00", "-"] {
            assert_eq!(bad.parse::<Hours>(), Err(NoClock), "{bad}");
        }
        let hours: Hours = " 09:05 - 24:00 ".parse().unwrap();
        let text = serde_json::to_string(&hours).unwrap();
        assert_eq!(text, r#"{"from":"09:05","to":"24:00"}"#);
        assert_eq!(serde_json::from_str::<Hours>(&text).unwrap(), hours);
    }
}
