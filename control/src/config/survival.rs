//! What calls survive: how often one comes back, and how many at once.

use super::Reader;
use crate::fleet::openings::Survival;
use crate::store::call::ResumeLimits;

impl Reader<'_> {
    pub(super) fn survival(&mut self) -> Option<Survival> {
        let max = self.parsed("CONTROL_RESUMES_MAX", |text| {
            text.parse().ok().filter(|max| (1..=20).contains(max))
        });
        let window_us = self.parsed("CONTROL_RESUMES_SECONDS", |text| {
            let seconds: i64 = text.parse().ok()?;
            (10..=3_600).contains(&seconds).then_some(seconds * 1_000_000)
        });
        let openings_per_second = self.parsed("CONTROL_RESUMES_CPS", |text| text.parse().ok());
        Some(Survival {
            resumes: ResumeLimits { max: max?, window_us: window_us? },
            openings_per_second: openings_per_second?,
        })
    }
}
