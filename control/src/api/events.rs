//! Events, as server-sent events: `id` is the event's place, so that a client that comes back with
//! `Last-Event-ID` (browsers do) or `?after=` misses nothing. `?call=` keeps one call's only,
//! `?run=` those of calls that were started together.
//! Without any of them a client gets what happens from then on; `?after=0` begins at the beginning.
//! A client whose id is older than what is kept gets an event `reset` before what follows.
//! `?ephemeral=true` adds what is told for the moment: messages without an `id`, so that the client's
//! last one stays that of an event.
//!
//! Which records follow, and when a client is sent away, is in [`crate::sse`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use link::id::{CallId, RunId, TenantId};
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::sse::Event;
use warp::{Filter, Rejection, Reply};

use super::runs::no_run;
use super::tickets::{Watcher, watching};
use crate::error::Problem;
use crate::events::{Record, Seq};
use crate::http::queries;
use crate::plane::Plane;
use crate::sse::{self, Item, Watch};
use crate::tokens::watch::Watched;

/// `/v1/events`.
pub fn routes(plane: &Arc<Plane>) -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "events")
        .and(warp::get())
        .and(watching(plane))
        .and(warp::header::optional::<String>("last-event-id"))
        .and(queries())
        .and_then(|watcher: Watcher, last: Option<String>, queries| async move {
            let mut watch = watch(watcher.tenant.clone(), last.as_deref(), &queries)?;
            exists(&watcher.plane, &watch).await?;
            narrow(&mut watch, watcher.only.as_ref())?;
            Ok::<_, Rejection>(reply(watcher, watch, |record| record))
        })
        .boxed()
}

/// The last event that a client has seen. The header is the client's later word: it was in the
/// address when the client first came.
pub(super) fn place(
    last: Option<&str>,
    queries: &BTreeMap<String, String>,
) -> Result<Option<Seq>, Problem> {
    let after = last.or(queries.get("after").map(String::as_str)).filter(|text| !text.is_empty());
    after.map(str::parse).transpose().map_err(|_| {
        let detail = "`Last-Event-ID` and `after` are the `id` of an event.";
        Problem::new(StatusCode::BAD_REQUEST, "event_id_malformed", detail)
    })
}

fn watch(
    tenant: TenantId,
    last: Option<&str>,
    queries: &BTreeMap<String, String>,
) -> Result<Watch, Problem> {
    let after = place(last, queries)?;
    let call = queries.get("call").map(|text| CallId::new(text.as_str())).transpose();
    let call = call.map_err(|_| Problem::no_call())?;
    let run = queries.get("run").map(|text| RunId::new(text.as_str())).transpose();
    let run = run.map_err(|_| no_run())?;
    let ephemeral = match queries.get("ephemeral").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            let detail = "`ephemeral` is `true` or `false`.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "ephemeral_malformed", detail));
        }
    };
    Ok(Watch { tenant, after, call, run, ephemeral })
}

/// Whoever waits for the events of something that is not there would wait for ever.
async fn exists(plane: &Plane, watch: &Watch) -> Result<(), Problem> {
    let (store, tenant) = (&plane.store, &watch.tenant);
    if let Some(call) = &watch.call {
        store.call(tenant, call).await?.ok_or_else(Problem::no_call)?;
    }
    if let Some(run) = &watch.run {
        store.run(tenant, run).await?.ok_or_else(no_run)?;
    }
    Ok(())
}

/// A ticket shows what it was given for, whatever the address asks for besides.
fn narrow(watch: &mut Watch, only: Option<&Watched>) -> Result<(), Problem> {
    match only {
        None => Ok(()),
        Some(Watched::Call(call)) if watch.call.as_ref().is_none_or(|asked| asked == call) => {
            watch.call = Some(call.clone());
            Ok(())
        }
        Some(Watched::Run(run)) if watch.run.as_ref().is_none_or(|asked| asked == run) => {
            watch.run = Some(run.clone());
            Ok(())
        }
        Some(Watched::Call(_)) => Err(Problem::no_call()),
        Some(Watched::Run(_)) => Err(no_run()),
    }
}

/// The answer, with each record as it is `shown`; its body goes on until the client leaves or is
/// sent away.
pub(super) fn reply(
    watcher: Watcher,
    watch: Watch,
    shown: impl Fn(Arc<Record>) -> Arc<Record> + Send + 'static,
) -> Response {
    let Watcher { plane, until, .. } = watcher;
    let items = sse::stream(plane.store.clone(), &plane.hub, watch, plane.shutdown.clone());
    // Sends the head and the first bytes at once, and says how soon to come back.
    let hello = Event::default().retry(RETRY).comment("linecard events");
    let hello = futures_util::stream::once(async { hello });
    // A stream outlives its request's check: it ends when the right to it does.
    let items = items.take_until(until).map(move |item| match item {
        Item::Record(record) => Item::Record(shown(record)),
        item @ (Item::Passing(_) | Item::Reset(_) | Item::Ping | Item::End(_)) => item,
    });
    let events = Exclusive::new(hello.chain(items.map(event)).map(Ok::<_, Infallible>));
    let mut response = warp::sse::reply(events).into_response();
    let headers = response.headers_mut();
    // Without it nginx holds events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// A message of the stream. Comments keep the connection busy and are not seen by programs.
fn event(item: Item) -> Event {
    match item {
        Item::Record(record) => Event::default()
            .id(record.seq.to_string())
            .event(record.kind.clone())
            .data(record.json()),
        // No id: a client that comes back asks for what follows the last event.
        Item::Passing(passing) => {
            Event::default().event(passing.kind.clone()).data(passing.json.clone())
        }
        Item::Reset(reset) => {
            Event::default().id(reset.resumes_after.to_string()).event("reset").data(reset.json())
        }
        Item::Ping => Event::default().comment("ping"),
        Item::End(end) => Event::default().comment(match end {
            sse::End::Shutdown => "this server stops; come back with the last id",
            sse::End::TooSlow => "too slow; come back with the last id",
            sse::End::StoreFailed => "the database failed; come back with the last id",
        }),
    }
}

/// A stream that whoever holds it may share, which warp asks for; it is only ever polled by its
/// owner, so that the lock is never taken.
struct Exclusive<S>(Mutex<Pin<Box<S>>>);

impl<S> Exclusive<S> {
    fn new(stream: S) -> Self {
        Self(Mutex::new(Box::pin(stream)))
    }
}

impl<S: Stream> Stream for Exclusive<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let stream = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.as_mut().poll_next(cx)
    }
}

/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::tenant;

    fn queries(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn the_header_counts_before_the_address() {
        let after = |last, pairs: &[_]| watch(tenant(), last, &queries(pairs)).unwrap().after;
        assert_eq!(after(Some("9"), &[("after", "3")]), Some(Seq(9)));
        assert_eq!(after(None, &[("after", "3")]), Some(Seq(3)));
        assert_eq!(after(Some(""), &[]), None);
    }

    #[test]
    fn a_ticket_shows_what_it_was_given_for_and_no_more() {
        let narrowed = |pairs: &[_], only: &Watched| {
            let mut watch = watch(tenant(), None, &queries(pairs)).unwrap();
            narrow(&mut watch, Some(only)).map(|()| (watch.call, watch.run))
        };
        let (call, run) = (CallId::new("c_1").unwrap(), RunId::new("run_1").unwrap());
        let (of_call, of_run) = (Watched::Call(call.clone()), Watched::Run(run.clone()));
        assert_eq!(narrowed(&[], &of_call), Ok((Some(call.clone()), None)));
        assert_eq!(narrowed(&[("run", "run_1")], &of_run), Ok((None, Some(run.clone()))));
        // Both: one call of the run.
        assert_eq!(narrowed(&[("call", "c_1")], &of_run), Ok((Some(call), Some(run))));
        assert_eq!(narrowed(&[("call", "c_2")], &of_call).unwrap_err().code, "call_not_found");
        assert_eq!(narrowed(&[("run", "run_2")], &of_run).unwrap_err().code, "run_not_found");
    }

    #[test]
    fn only_who_asks_for_it_gets_what_is_told_for_the_moment() {
        let wants = |pairs: &[_]| watch(tenant(), None, &queries(pairs)).map(|it| it.ephemeral);
        assert!(!wants(&[]).unwrap() && !wants(&[("ephemeral", "false")]).unwrap());
        assert!(wants(&[("ephemeral", "true")]).unwrap());
        assert_eq!(wants(&[("ephemeral", "yes")]).unwrap_err().code, "ephemeral_malformed");
    }

    #[test]
    fn an_id_that_is_none_is_a_problem() {
        assert_eq!(
            watch(tenant(), Some("x"), &queries(&[])).unwrap_err().code,
            "event_id_malformed"
        );
        let other = watch(tenant(), None, &queries(&[("call", "a b")]));
        assert_eq!(other.unwrap_err().code, "call_not_found");
        let other = watch(tenant(), None, &queries(&[("run", "a b")]));
        assert_eq!(other.unwrap_err().code, "run_not_found");
    }
}
