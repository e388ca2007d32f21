//! The task that dials: takes calls from the queue in the database when it is their turn, asks the
//! carrier, and writes down what it said.
//!
//! Every instance runs one; the database sees to it that each call is taken by one of them
//! (`store/queue.rs`). A call is taken before the carrier is asked, and what was asked and not
//! answered is looked for at the carrier before it is asked again: a restart loses no call and
//! places none twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use link::id::WallTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::plan::OnMachine;
use super::rules::{self, Callee};
use super::waiting::Outcome;
use super::{complete, problem};
use crate::clock;
use crate::metrics::{Asked, Dialled};
use crate::plane::Plane;
use crate::store::call::{Call, CallEnd, CallState, CarrierIds, CarrierWord};
use crate::store::dials::{Dial, DialState};
use crate::store::{Ending, Health, StoreError};
use crate::twilio::RETRIED;
use crate::twilio::rest::{Goal, Listed, Listening, Placing, RestError};
use crate::twilio::status::over;

/// Dials until the plane stops; then what is being asked may still be answered for a moment.
pub async fn run(plane: Arc<Plane>) {
    let (jobs, queue) = mpsc::channel(JOBS_MAX);
    let taking = take(&plane, jobs);
    let queue = stream::unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    let doing = queue.for_each_concurrent(JOBS_MAX, |job: Job| {
        let plane = Arc::clone(&plane);
        async move {
            job.run(&plane).await;
            // A slot is free, and what has failed may be due again.
            plane.dialler.wake();
        }
    });
    let stopped = async {
        plane.shutdown.cancelled().await;
        sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(taking, doing) } => {}
        // What is not answered by now is looked for by whoever comes next.
        () = stopped => {}
    }
}

/// A dial that this process has claimed.
struct Job {
    dial: Dial,
    _place: OwnedSemaphorePermit,
}

/// Looks at the queue again and again, and hands out what is due.
async fn take(plane: &Plane, jobs: mpsc::Sender<Job>) {
    let places = Arc::new(Semaphore::new(JOBS_MAX));
    let longest = if plane.store.is_private() { LOOK_PRIVATE } else { LOOK_SHARED };
    loop {
        let pause = match look(plane, &jobs, &places).await {
            Ok(pause) => pause.map_or(longest, |pause| pause.clamp(LOOK_SOONEST, longest)),
            Err(error) => {
                tracing::warn!(error = error.explain(), "the queue of calls cannot be read");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = plane.shutdown.cancelled() => return,
            () = plane.dialler.woken() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Takes what is due; how long nothing more will be, if that is known.
async fn look(
    plane: &Plane,
    jobs: &mpsc::Sender<Job>,
    places: &Arc<Semaphore>,
) -> Result<Option<Duration>, StoreError> {
    let watched = plane.dialler.watched();
    let now = plane.store.time().await?;
    let pacing = rules::pacing(plane);
    let claimed = plane.store.claim(&pacing, places.available_permits(), now).await?;
    let taken: BTreeSet<_> = claimed.ask.iter().map(|dial| dial.call.clone()).collect();
    plane.dialler.looked(&watched, &taken);
    for dial in &claimed.late {
        let end = Ending { reason: CallEnd::NotDialled, detail: Some(LATE) };
        plane.store.end_call(&dial.tenant, &dial.call, end, clock::wall()).await?;
        plane.metrics.dialled(Dialled::Late);
        tracing::warn!(call = %dial.call, "a call's turn has not come in time");
    }
    for dial in claimed.look.into_iter().chain(claimed.ask) {
        // There are as many as was said to be room for, and nobody else takes it.
        let Ok(place) = Arc::clone(places).try_acquire_owned() else { break };
        if jobs.send(Job { dial, _place: place }).await.is_err() {
            break;
        }
    }
    let until = |next: WallTime| u64::try_from(next.0 - now.0).unwrap_or(0);
    Ok(claimed.next.map(|next| Duration::from_micros(until(next))))
}

impl Job {
    async fn run(self, plane: &Plane) {
        let dial = &self.dial;
        let done = match dial.state {
            DialState::Asking => ask(plane, dial).await,
            DialState::Unsure => find(plane, dial).await,
            DialState::Waiting | DialState::Placed => return,
        };
        match done {
            Ok((dialled, outcome)) => {
                plane.metrics.dialled(dialled);
                plane.dialler.tell(&dial.call, outcome);
            }
            Err(error) => {
                // The claim lapses, and then it is looked for.
                let error = error.explain();
                tracing::error!(call = %dial.call, error, "what became of a call is not stored");
                plane.dialler.tell(&dial.call, Outcome::Queued);
            }
        }
    }
}

/// What a turn came to, for the metrics and for whoever waits.
type Done = Result<(Dialled, Outcome), StoreError>;

/// Asks the carrier for a call, unless a rule forbids it by now.
async fn ask(plane: &Plane, dial: &Dial) -> Done {
    let callee =
        Callee { tenant: &dial.tenant, to: &dial.to, from: &dial.from, hours: dial.plan.hours };
    let now = plane.store.time().await?;
    match rules::check(plane, callee, now).await? {
        Ok(at) if at > now => {
            plane.store.move_dial(dial, DialState::Waiting, at).await?;
            return Ok((Dialled::Later, Outcome::Queued));
        }
        Ok(_) => {}
        Err(forbidden) => {
            let detail = forbidden.to_string();
            let end = Ending { reason: CallEnd::NotAllowed, detail: Some(&detail) };
            plane.store.end_call(&dial.tenant, &dial.call, end, clock::wall()).await?;
            return Ok((Dialled::Forbidden, Outcome::Refused(forbidden.problem())));
        }
    }
    let asked = timeout(ASK_WITHIN, plane.carrier.create(&placing(plane, dial))).await;
    match asked {
        Ok(Ok(carrier)) => placed(plane, dial, carrier).await,
        Ok(Err(error)) => refused(plane, dial, &error).await,
        Err(_) => {
            plane.metrics.asked(Asked::Silent);
            unsure(plane, dial).await
        }
    }
}

/// What the carrier is asked. Every address names the time that it was asked: a late word on an
/// earlier time is not taken for one on this.
fn placing<'a>(plane: &Plane, dial: &'a Dial) -> Placing<'a> {
    let address = |path: &str| {
        let Dial { tenant, call, attempt, .. } = dial;
        plane.public.url(&format!("{path}?tenant={tenant}&call={call}&attempt={attempt}"))
    };
    let goal = dial.plan.machine.as_ref().map(|policy| match policy {
        OnMachine::Continue {} | OnMachine::HangUp {} => Goal::Who,
        OnMachine::LeaveMessage { .. } => Goal::Beep,
    });
    let callback = address("/v1/twilio/machine") + RETRIED;
    Placing {
        to: &dial.to,
        from: &dial.from,
        url: address("/v1/twilio/voice"),
        status_callback: address("/v1/twilio/status") + RETRIED,
        listening: goal.map(|goal| Listening { goal, callback }),
    }
}

/// The carrier has taken the call.
async fn placed(plane: &Plane, dial: &Dial, carrier: CarrierIds) -> Done {
    plane.metrics.asked(Asked::Done);
    let named = adopt(plane, dial, &carrier).await?;
    plane.store.account_health(&dial.account, Health::Fine, clock::wall()).await?;
    match named {
        Some(call) if call.carrier.as_ref() == Some(&carrier) => {
            // Should the database be away when somebody picks up.
            plane.standby.keep(&call);
            // Somebody hung up before the carrier had a name for the call.
            if call.state == CallState::Ended
                && let Err(problem) = complete(plane, &call).await
            {
                let detail = problem.detail;
                tracing::error!(call = %dial.call, detail, "a call that is over goes on");
            }
            Ok((Dialled::Placed, Outcome::Placed))
        }
        // The call is another one of the carrier's, or gone. Nobody may be rung twice.
        Some(_) | None => {
            tracing::error!(call = %dial.call, "the carrier has a call that is nobody's");
            if plane.carrier.complete(&carrier).await.is_err() {
                tracing::error!(call = %dial.call, "it cannot be ended");
            }
            Ok((Dialled::Placed, Outcome::Queued))
        }
    }
}

async fn adopt(
    plane: &Plane,
    dial: &Dial,
    carrier: &CarrierIds,
) -> Result<Option<Call>, StoreError> {
    let (attempt, now) = (Some(dial.attempt), clock::wall());
    plane.store.name_call(&dial.tenant, &dial.call, attempt, carrier.clone(), now).await
}

/// The carrier has not taken the call, or has not said so.
async fn refused(plane: &Plane, dial: &Dial, error: &RestError) -> Done {
    plane.metrics.asked(error.asked());
    tracing::warn!(call = %dial.call, %error, "a call was not placed");
    let (health, pause) = match error {
        RestError::Silent(_) | RestError::Failed { .. } => return unsure(plane, dial).await,
        RestError::Throttled => (Health::Fine, Some(plane.rules.pause)),
        RestError::Unreachable(_) => (Health::Failed, Some(plane.rules.pause * 2)),
        RestError::Credentials => (Health::Failed, None),
        RestError::Refused { .. } | RestError::Gone => (Health::Fine, None),
    };
    let now = plane.store.time().await?;
    plane.store.account_health(&dial.account, health, now).await?;
    if let Some(pause) = pause {
        // Nothing was done, so it is as if it had never been asked.
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
        let due = now.plus_us(micros(pause.mul_f64(0.5 + share / 2.0)));
        plane.store.move_dial(dial, DialState::Waiting, due).await?;
        return Ok((Dialled::Later, Outcome::Queued));
    }
    let detail = error.to_string();
    let end = Ending { reason: CallEnd::CarrierFailed, detail: Some(&detail) };
    plane.store.end_call(&dial.tenant, &dial.call, end, clock::wall()).await?;
    Ok((Dialled::Refused, Outcome::Refused(problem(error))))
}

/// Nobody knows what the carrier did. It is looked for when its list has had time to show it.
async fn unsure(plane: &Plane, dial: &Dial) -> Done {
    let now = plane.store.time().await?;
    plane.store.account_health(&dial.account, Health::Failed, now).await?;
    let due = now.plus_us(micros(plane.rules.settled));
    plane.store.move_dial(dial, DialState::Unsure, due).await?;
    Ok((Dialled::Unsure, Outcome::Queued))
}

/// Looks for a call at the carrier that was asked for it and has not said what it did.
async fn find(plane: &Plane, dial: &Dial) -> Done {
    let now = plane.store.time().await?;
    let Some(call) = plane.store.call(&dial.tenant, &dial.call).await? else {
        return Ok((Dialled::Absent, Outcome::Queued));
    };
    if call.carrier.is_some() {
        // A hook of the carrier has named it meanwhile.
        plane.store.move_dial(dial, DialState::Placed, dial.due_at).await?;
        return Ok((Dialled::Found, Outcome::Placed));
    }
    let listed = match timeout(ASK_WITHIN, plane.carrier.placed(&dial.to, &dial.from)).await {
        Ok(Ok(listed)) => listed,
        // Not dialled again before it is known, however long that takes.
        Ok(Err(_)) | Err(_) => {
            plane.store.account_health(&dial.account, Health::Failed, now).await?;
            let due = now.plus_us(micros(plane.rules.settled));
            plane.store.move_dial(dial, DialState::Unsure, due).await?;
            return Ok((Dialled::Unsure, Outcome::Queued));
        }
    };
    plane.store.account_health(&dial.account, Health::Fine, now).await?;
    match ours(plane, dial, listed).await? {
        Some(found) => {
            tracing::info!(call = %dial.call, "a call was found at the carrier");
            adopt(plane, dial, &found.ids).await?;
            hear(plane, dial, &found).await?;
            Ok((Dialled::Found, Outcome::Placed))
        }
        None => {
            tracing::info!(call = %dial.call, "a call is not at the carrier; it is dialled again");
            plane.store.move_dial(dial, DialState::Waiting, now).await?;
            Ok((Dialled::Absent, Outcome::Queued))
        }
    }
}

/// The call of the list that is this one: placed since we asked, and nobody else's.
async fn ours(
    plane: &Plane,
    dial: &Dial,
    listed: Vec<Listed>,
) -> Result<Option<Listed>, StoreError> {
    let asked = dial.asked_at.unwrap_or_default().plus_us(-CLOCKS_US);
    // The oldest first: of several that nobody knows, each looks for its own in the same order.
    for found in listed.into_iter().rev() {
        if found.created_at < asked || dial.past.contains(&found.ids.call_sid) {
            continue;
        }
        if plane.store.call_by_carrier(&dial.tenant, &found.ids).await?.is_none() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}

/// What the carrier said about the call while nobody listened.
async fn hear(plane: &Plane, dial: &Dial, found: &Listed) -> Result<(), StoreError> {
    let Some(over) = over(&found.status) else { return Ok(()) };
    // Its own words may come yet, with numbers; the end is the same.
    let word = CarrierWord { status: found.status.clone(), seq: None, over: Some(over) };
    plane.store.carrier_word(&dial.tenant, &found.ids, &word, clock::wall()).await?;
    Ok(())
}

/// Requests to the carrier that this process has out at once. The carrier's own pace is one call a
/// second, so this is for accounts that were granted more.
const JOBS_MAX: usize = 16;

/// How long a request may take with all its tries, well below the lease of a claim.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// How far the carrier's clock may be from the database's.
const CLOCKS_US: i64 = 10_000_000;

/// How often to look for what other instances have queued.
const LOOK_SHARED: Duration = Duration::from_millis(250);

/// Only for what has become due: this process knows what it has queued.
const LOOK_PRIVATE: Duration = Duration::from_secs(1);

/// A look costs a transaction; none is worth more than a few milliseconds of patience.
const LOOK_SOONEST: Duration = Duration::from_millis(5);

/// How long to wait when the database fails.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long requests may go on when the process stops. The carrier answers within 300 ms.
const STOP_WITHIN: Duration = Duration::from_secs(3);

const LATE: &str =
    "the queue did not get to it in time; see CONTROL_DIAL_CPS and CONTROL_DIAL_SLOTS";
