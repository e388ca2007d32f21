//! Every metric of control, declared once: name, what it counts, what a rise means. Labels come
//! from enums only, never from an id; regions, which operators name, are told apart up to a bound.
//! `control metrics` prints the table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::fleet::nodes::{NodeState, Nodes};
use crate::fleet::orders::Unsent;
use crate::hub::Hub;
use crate::sequencer::{LeaseState, Sequencer};

mod labels;

pub use self::labels::{Answered, Asked, Dialled, Doing, Hearing, Moving, Route, Told};

/// One declared metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name; a counter is written with `_total` behind it.
    pub name: &'static str,
    /// What it counts, and how it adds up with others.
    pub counts: &'static str,
    /// What a rise means.
    pub rise: &'static str,
}

const fn metric(name: &'static str, counts: &'static str, rise: &'static str) -> Metric {
    Metric { name, counts, rise }
}

const HTTP_REQUESTS: Metric = metric(
    "control_http_requests",
    "Requests, by route and class of status.",
    "Traffic; `5xx`: the database or a bug; `4xx` on a hook: a wrong CONTROL_PUBLIC_URL or somebody trying.",
);
const HTTP_SECONDS: Metric = metric(
    "control_http_seconds",
    "From a request's head to its answer's head, by route.",
    "The database is slow: callers hear silence while a hook waits.",
);
const FORGED: Metric = metric(
    "control_signatures_refused",
    "Hooks without the carrier's signature, or with a wrong one.",
    "`wrong`: another origin or auth token than the carrier's; `missing`: somebody else.",
);
const TWIML: Metric = metric(
    "control_twiml",
    "Answers to the carrier, by what they say.",
    "`busy` or `wait`: no node takes calls; `crowded`: a tenant is at its limit; `apology`: calls that could not be helped.",
);
const UNAIDED: Metric = metric(
    "control_unaided",
    "Streams that were given out while the database was away; a part of control_twiml's `stream`.",
    "The database is away or slow; calls are written down when it is back.",
);
const RESCUED: Metric = metric(
    "control_rescued",
    "Calls that go on elsewhere because their node vanished without closing their streams.",
    "A machine or its network died; a process that dies alone leaves nothing to rescue.",
);
const CARRIER_REQUESTS: Metric = metric(
    "control_carrier_requests",
    "Requests to the carrier's REST API, by what became of them.",
    "`credentials`: a wrong auth token; `throttled`: too much at once; `silent`: the carrier or the way to it.",
);
const DIALS: Metric = metric(
    "control_dials",
    "Turns of outbound calls, by what they came to; a call has several when it waits or is dialled again.",
    "`late`: the pace or the slots are too few for what is wanted; `unsure`: the carrier or the way to it; `forbidden`: somebody tries where calls may not go.",
);
const HELLOS: Metric = metric(
    "control_link_hellos",
    "Relays that dialled in, by what they were told.",
    "`welcome` again and again: a link that does not hold; others: a wrong join token or release.",
);
const LINK_UNKNOWN: Metric = metric(
    "control_link_unknown",
    "Messages of relays that this version does not know; they are skipped.",
    "Relays are newer than control.",
);
const ANNOUNCEMENTS: Metric = metric(
    "control_announcements",
    "Streams that nodes were told of before they began, by whether the word went out; a fraction of control_twiml's `stream`.",
    "`full` or `away`: agents are dialled only when the caller is there, and callers wait longer.",
);
const COMMANDS: Metric = metric(
    "control_commands",
    "Commands of the API to running calls, by what they ask for and what became of them.",
    "`silent`: relays that are busy, or a slow database; `unsent`: links that are down.",
);
const MOVES: Metric = metric(
    "control_moves",
    "Calls that leave nodes which drain, by what became of their move; one that is given up begins again.",
    "Traffic, while nodes drain; `given_up`: a provider that opens no sessions, or calls in which nobody pauses; `forced`: the drain's deadline is short; `unplaced`: no other node takes calls.",
);
const NODES: Metric = metric(
    "control_nodes",
    "Relays whose link is up.",
    "A fall below the size of the fleet: a relay or the way to it is down.",
);
const NODES_READY: Metric = metric(
    "control_nodes_ready",
    "Relays that take new calls; the rest of control_nodes is full, draining or suspect.",
    "Zero: callers hear the busy tone.",
);
const NODES_SUSPECT: Metric = metric(
    "control_nodes_suspect",
    "Relays whose link is up and whose heartbeat says that something is wrong: they get no new calls.",
    "A network that loses one way, a machine without time, or a relay that hangs; /v1/nodes says which.",
);
const FREE_SLOTS: Metric = metric(
    "control_free_slots",
    "Calls that relays take beside those that they have and those on their way, by region; `none` says no region. Every control sees all relays: take one control's figure, not the sum.",
    "Relays came, or calls ended. A fall to zero: calls flow over into other regions, then are refused; add relays.",
);
const EVENTS: Metric =
    metric("control_events", "Events committed.", "Traffic: about ten a call, and two a turn.");
const EVENT_COMMITS: Metric = metric(
    "control_event_commits",
    "Transactions of events committed.",
    "Traffic; events by commit say how well they are grouped.",
);
const EVENT_FAILURES: Metric = metric(
    "control_event_failures",
    "Transactions of events that failed and were tried again.",
    "The database; relays keep what is not committed.",
);
const EVENT_DUPLICATES: Metric = metric(
    "control_event_duplicates",
    "Events that came again and were dropped.",
    "Links that break before the acknowledgement arrives.",
);
const EVENT_GAPS: Metric = metric(
    "control_event_gaps",
    "Batches that did not follow what was committed; the relay sends again.",
    "A database that was set back.",
);
const EVENT_UNKNOWN: Metric = metric(
    "control_event_unknown",
    "Events of a kind that this version does not know; not stored.",
    "Relays are newer than control.",
);
const EPHEMERAL: Metric = metric(
    "control_ephemeral",
    "Ephemeral events (words of turns that are not complete) that were shown to whoever watches.",
    "Traffic, while somebody watches with `ephemeral=true`.",
);
const EPHEMERAL_MISSED: Metric = metric(
    "control_ephemeral_missed",
    "Batches of ephemeral events that a client had no time for, for each such client; records go first.",
    "Clients that read slowly; turns still come whole.",
);
const LEASE_HELD: Metric = metric(
    "control_lease_held",
    "1 while this process gives events their place.",
    "The sum over all controls of a database is 1; 0 for seconds: nobody does.",
);
const SSE_CLIENTS: Metric = metric("control_sse_clients", "Clients that watch events.", "Traffic.");

/// Every metric, in the order of a call's way.
pub const METRICS: &[&Metric] = &[
    &HTTP_REQUESTS,
    &HTTP_SECONDS,
    &FORGED,
    &TWIML,
    &UNAIDED,
    &RESCUED,
    &CARRIER_REQUESTS,
    &DIALS,
    &HELLOS,
    &LINK_UNKNOWN,
    &ANNOUNCEMENTS,
    &COMMANDS,
    &MOVES,
    &NODES,
    &NODES_READY,
    &NODES_SUSPECT,
    &FREE_SLOTS,
    &EVENTS,
    &EVENT_COMMITS,
    &EVENT_FAILURES,
    &EVENT_DUPLICATES,
    &EVENT_GAPS,
    &EVENT_UNKNOWN,
    &EPHEMERAL,
    &EPHEMERAL_MISSED,
    &LEASE_HELD,
    &SSE_CLIENTS,
];

/// The table as text, as `control metrics` prints it.
#[must_use]
pub fn page() -> String {
    let mut page = String::new();
    for Metric { name, counts, rise } in METRICS {
        let _ = write!(page, "{name}\n    {counts}\n    A rise: {rise}\n");
    }
    page
}

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// What the process counts, and where the rest is read at a scrape.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Two, Counter>,
    seconds: Family<One, Histogram>,
    forged: Family<One, Counter>,
    twiml: Family<One, Counter>,
    carrier: Family<One, Counter>,
    dials: Family<One, Counter>,
    hellos: Family<One, Counter>,
    announcements: Family<One, Counter>,
    commands: Family<Two, Counter>,
    moves: Family<One, Counter>,
    /// Messages of relays that were skipped.
    pub link_unknown: Counter,
    /// Calls that go on elsewhere because their node vanished.
    pub rescued: Counter,
    /// Streams that were given out without the database.
    pub unaided: Counter,
}

impl Metrics {
    /// Starts to count; nodes, events and clients are read from where they live.
    #[must_use]
    pub fn new(nodes: Nodes, sequencer: Sequencer, hub: Hub) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            forged: Family::default(),
            twiml: Family::default(),
            carrier: Family::default(),
            dials: Family::default(),
            hellos: Family::default(),
            announcements: Family::default(),
            commands: Family::default(),
            moves: Family::default(),
            link_unknown: Counter::default(),
            rescued: Counter::default(),
            unaided: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(HTTP_REQUESTS.name, HTTP_REQUESTS.counts, metrics.requests.clone());
        registry.register(HTTP_SECONDS.name, HTTP_SECONDS.counts, metrics.seconds.clone());
        registry.register(FORGED.name, FORGED.counts, metrics.forged.clone());
        registry.register(TWIML.name, TWIML.counts, metrics.twiml.clone());
        registry.register(CARRIER_REQUESTS.name, CARRIER_REQUESTS.counts, metrics.carrier.clone());
        registry.register(DIALS.name, DIALS.counts, metrics.dials.clone());
        registry.register(HELLOS.name, HELLOS.counts, metrics.hellos.clone());
        let announcements = metrics.announcements.clone();
        registry.register(ANNOUNCEMENTS.name, ANNOUNCEMENTS.counts, announcements);
        registry.register(COMMANDS.name, COMMANDS.counts, metrics.commands.clone());
        registry.register(RESCUED.name, RESCUED.counts, metrics.rescued.clone());
        registry.register(UNAIDED.name, UNAIDED.counts, metrics.unaided.clone());
        registry.register(MOVES.name, MOVES.counts, metrics.moves.clone());
        registry.register(LINK_UNKNOWN.name, LINK_UNKNOWN.counts, metrics.link_unknown.clone());
        // These live where they are used; two counts of one thing would drift apart.
        registry.register_collector(Box::new(Elsewhere { nodes, sequencer, hub }));
        metrics
    }

    /// Counts an answered request.
    pub fn request(&self, route: Route, status: StatusCode, took: Duration) {
        // Classes only: a label for each status would multiply series and say no more.
        let class = match status.as_u16() {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        let labels = [("route", route.value()), ("status", class)];
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&[labels[0]]).observe(took.as_secs_f64());
    }

    /// Counts a hook that was not the carrier's.
    pub fn forged(&self, why: crate::twilio::signature::Forged) {
        let why = match why {
            crate::twilio::signature::Forged::Missing => "missing",
            crate::twilio::signature::Forged::Wrong => "wrong",
        };
        self.forged.get_or_create(&[("why", why)]).inc();
    }

    /// Counts an answer to the carrier.
    pub fn told(&self, told: Told) {
        self.twiml.get_or_create(&[("answer", told.value())]).inc();
    }

    /// Counts a request to the carrier.
    pub fn asked(&self, asked: Asked) {
        self.carrier.get_or_create(&[("outcome", asked.value())]).inc();
    }

    /// Counts a turn of an outbound call.
    pub fn dialled(&self, dialled: Dialled) {
        self.dials.get_or_create(&[("outcome", dialled.value())]).inc();
    }

    /// Counts a relay that dialled in.
    pub fn hello(&self, hearing: Hearing) {
        self.hellos.get_or_create(&[("outcome", hearing.value())]).inc();
    }

    /// Counts a node that was told of a stream, or was not.
    pub fn announced(&self, sent: Result<(), Unsent>) {
        let outcome = match sent {
            Ok(()) => "sent",
            Err(Unsent::Full) => "full",
            Err(Unsent::Away) => "away",
        };
        self.announcements.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a command to a running call.
    pub fn commanded(&self, doing: Doing, answered: Answered) {
        let labels = [("command", doing.value()), ("outcome", answered.value())];
        self.commands.get_or_create(&labels).inc();
    }

    /// Counts moves of calls.
    pub fn moving(&self, moving: Moving, many: u32) {
        // A series that has never counted is not shown.
        if many > 0 {
            self.moves.get_or_create(&[("outcome", moving.value())]).inc_by(many.into());
        }
    }

    /// The scrape: OpenMetrics text.
    ///
    /// # Errors
    /// When a metric is declared in a way that the format cannot say.
    pub fn scrape(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// From the time of a page in memory to the carrier's patience.
fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 15.0])
}

/// What is counted elsewhere and only read here, at each scrape.
#[derive(Debug)]
struct Elsewhere {
    nodes: Nodes,
    sequencer: Sequencer,
    hub: Hub,
}

impl Collector for Elsewhere {
    /// Reads and writes what is counted elsewhere: gauges first, then counters.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Read at the scrape: a gauge that is set elsewhere goes stale when its setter stops.
        let nodes = self.nodes.list();
        let ready = nodes.iter().filter(|node| node.free > 0).count();
        let suspect = nodes.iter().filter(|node| node.suspicion.is_some()).count();
        let is_held = *self.sequencer.state().borrow() == LeaseState::Held;
        let gauges = [
            (&NODES, nodes.len()),
            (&NODES_READY, ready),
            (&NODES_SUSPECT, suspect),
            (&LEASE_HELD, usize::from(is_held)),
            (&SSE_CLIENTS, self.hub.clients()),
        ];
        for (metric, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let one =
                encoder.encode_descriptor(metric.name, metric.counts, None, gauge.metric_type())?;
            gauge.encode(one)?;
        }
        encode_free_slots(&nodes, &mut encoder)?;
        let (counts, ephemeral) = (self.sequencer.counts(), self.hub.ephemeral());
        let counters = [
            (&EVENTS, &counts.events),
            (&EVENT_COMMITS, &counts.commits),
            (&EVENT_FAILURES, &counts.failures),
            (&EVENT_DUPLICATES, &counts.duplicates),
            (&EVENT_GAPS, &counts.gaps),
            (&EVENT_UNKNOWN, &counts.unknown),
            (&EPHEMERAL, &ephemeral.told),
            (&EPHEMERAL_MISSED, &ephemeral.missed),
        ];
        for (metric, value) in counters {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            let one = encoder.encode_descriptor(
                metric.name,
                metric.counts,
                None,
                counter.metric_type(),
            )?;
            counter.encode(one)?;
        }
        Ok(())
    }
}

/// Writes the free slots of each region. A region whose relays are all full or draining is there, with
/// zero: whoever scales it must see that.
fn encode_free_slots(nodes: &[NodeState], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut regions = BTreeMap::<&str, i64>::new();
    for node in nodes {
        let region = node.region.as_deref().unwrap_or("none");
        let is_told_apart = regions.contains_key(region) || regions.len() < REGIONS_MAX;
        let region = if is_told_apart { region } else { "other" };
        *regions.entry(region).or_default() += i64::from(node.free);
    }
    let kind = ConstGauge::new(0_i64).metric_type();
    let (name, counts) = (FREE_SLOTS.name, FREE_SLOTS.counts);
    let mut family = encoder.encode_descriptor(name, counts, None, kind)?;
    for (region, free) in regions {
        ConstGauge::new(free).encode(family.encode_family(&[("region", region)])?)?;
    }
    Ok(())
}

/// Regions that are told apart; the relays of further ones are counted together.
const REGIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_printed_once() {
        let page = page();
        for metric in METRICS {
            assert_eq!(page.lines().filter(|line| *line == metric.name).count(), 1);
        }
    }
}
