//! Who may use the compatible routes: nobody while they are off, everybody for looking at what they
//! have the id of, and for having something made the pages of `CONTROL_COMPAT_ORIGIN`, so many times
//! a second.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::StatusCode;
use http::header;
use warp::{Filter, Rejection};

use super::Compat;
use crate::access::key::KeyId;
use crate::access::rates::{KEYLESS_COSTS, KEYLESS_PER_SECOND, PLACE_PER_SECOND, Who};
use crate::access::scope::Scopes;
use crate::api::auth::{Asked, Client, Holder, arrive, asked};
use crate::error::Problem;
use crate::http::with;
use crate::plane::{Plane, tenant};

/// A page that may have something made.
#[derive(Debug)]
pub(super) struct Maker {
    /// Who asks, as far as v1 wants to know.
    pub(super) client: Client,
    /// The page's origin.
    pub(super) origin: String,
}

/// Whether a path is one of the compatible routes.
#[must_use]
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/api/")
}

/// Lets requests pass while the routes are on.
pub(crate) fn on(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (), Error = Rejection> + Clone + use<> {
    let is_on = with(plane).and_then(|plane: Arc<Plane>| async move {
        if plane.compat.is_on() { Ok(()) } else { Err(Rejection::from(off())) }
    });
    is_on.untuple_one()
}

/// Lets everybody pass who does not ask too much. What is shown is found by an id that nobody
/// guesses.
pub(super) fn visiting(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Client,), Error = Rejection> + Clone + use<> {
    asked().and(with(plane)).and_then(|asked: Asked, plane: Arc<Plane>| async move {
        arrive(&plane, &asked)?;
        Ok::<_, Rejection>(client(plane))
    })
}

/// Lets pages pass that may have something made.
pub(super) fn making(
    plane: &Arc<Plane>,
) -> impl Filter<Extract = (Maker,), Error = Rejection> + Clone + use<> {
    asked().and(with(plane)).and_then(|asked: Asked, plane: Arc<Plane>| async move {
        Ok::<_, Rejection>(enter(plane, &asked)?)
    })
}

/// Checks the origin first: whoever has none takes nothing from those who have.
fn enter(plane: Arc<Plane>, asked: &Asked) -> Result<Maker, Problem> {
    let place = arrive(&plane, asked)?;
    let origin = asked.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.filter(|origin| plane.compat.is_open_to(origin));
    let origin = origin.ok_or_else(|| plane.compat.refusal())?.to_owned();
    if let Some(place) = place {
        plane.rates.take_many(Who::Place(place), PLACE_PER_SECOND, KEYLESS_COSTS)?;
    }
    charge(&plane, 1)?;
    Ok(Maker { client: client(plane), origin })
}

/// Counts what is made, by all who have no key together.
///
/// # Errors
/// When there was too much of it.
pub(super) fn charge(plane: &Plane, many: usize) -> Result<(), Problem> {
    let many = u32::try_from(many).unwrap_or(u32::MAX);
    let Some(many) = NonZeroU32::new(many) else { return Ok(()) };
    plane.rates.take_many(Who::Keyless, KEYLESS_PER_SECOND, many)
}

impl Compat {
    fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Why a page may not: its origin is another, or there is none that may.
    #[must_use]
    pub(crate) fn refusal(&self) -> Problem {
        if self.is_on() { foreign() } else { off() }
    }
}

/// Whoever asks, for v1: it belongs to the tenant `default`, and has no right of its own.
fn client(plane: Arc<Plane>) -> Client {
    let key = KeyId::new(NAME).expect("letters are a name");
    let (scopes, holder) = (Scopes::Some(BTreeSet::new()), Holder::Page);
    Client { plane, tenant: tenant(), key, scopes, holder }
}

fn off() -> Problem {
    let detail = "The compatible routes are off. The operator sets CONTROL_COMPAT_ORIGIN to the \
        origin of the app's pages; /v1 does the same with a key, and GET /docs lists it.";
    Problem::new(StatusCode::NOT_FOUND, "compat_off", detail)
}

fn foreign() -> Problem {
    let detail = "This takes the `Origin` of a page in CONTROL_COMPAT_ORIGIN, exactly as its \
        browser says it; a program that is no page uses /v1 with a key.";
    Problem::new(StatusCode::FORBIDDEN, "compat_origin_refused", detail)
}

/// Who did it, in the audit log.
const NAME: &str = "compat";
