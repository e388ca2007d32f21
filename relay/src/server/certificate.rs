//! Looks whether the relay's own certificate was renewed.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::{Own, Renewal};

/// How often two files are looked at. Who renews certificates does so days ahead; a person
/// who repairs one watches the log.
const EVERY: Duration = Duration::from_secs(1);

/// Follows the files for ever.
pub(super) async fn follow(own: Arc<Own>) {
    let mut renewal = Renewal::of(own);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match renewal.look() {
            Some(Ok(())) => tracing::info!("the certificate is renewed"),
            Some(Err(error)) => {
                let cause = error.source().map(ToString::to_string);
                tracing::error!(
                    %error,
                    cause,
                    "the new certificate cannot be used; the old one is served on"
                );
            }
            None => {}
        }
    }
}
