//! The rules for outbound calls.

use std::time::Duration;

use super::Reader;
use crate::dialer::rules::Rules;
use crate::store::Pacing;

impl Reader<'_> {
    pub(super) fn rules(&mut self) -> Option<Rules> {
        let account_every = self.parsed("CONTROL_DIAL_CPS", every);
        let number_every = self.parsed("CONTROL_DIAL_NUMBER_CPS", every);
        let slots = self.parsed("CONTROL_DIAL_SLOTS", |text| {
            text.parse().ok().filter(|slots| (1..=100_000).contains(slots))
        });
        let places = self.parsed("CONTROL_DIAL_COUNTRIES", |text| text.parse().ok());
        let hours = self.parsed("CONTROL_DIAL_HOURS", |text| text.parse().ok());
        let cents = |text: &str| text.parse().ok().filter(|cents: &u32| *cents > 0);
        let spend_day_cents_max = self.parsed("CONTROL_SPEND_DAY_CENTS", cents);
        let minute_cents = self.parsed("CONTROL_DIAL_MINUTE_CENTS", cents)?;
        let pacing = Pacing {
            account_every: account_every?,
            number_every: number_every?,
            account_slots: slots?,
            ..Pacing::default()
        };
        Some(Rules { pacing, places, hours, spend_day_cents_max, minute_cents, ..Rules::default() })
    }
}

/// The time between two calls, of how many there are a second.
fn every(text: &str) -> Option<Duration> {
    let a_second: f64 = text.parse().ok()?;
    let is_good = (0.01..=1_000.0).contains(&a_second);
    is_good.then(|| Duration::from_secs_f64(1.0 / a_second))
}
