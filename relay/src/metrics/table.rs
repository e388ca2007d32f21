//! The table of metrics: what `/metrics` shows and `relay metrics` explains.

use std::fmt::Write as _;

use link::event::{EndReason, ReplacedBecause, ToolOutcome};

use super::labels::{Announced, Answered, Attempt, Connection, Lost, Prepared};
use super::labels::{Label, Refused, Speaker, Upgrade};
use super::{Metric, Read, Split, Unit, split};
use crate::call::output::{Flow, Oddity};
use crate::stream::Leg;

/// Every metric, in the order of a call's way.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "relay_connections",
        counts: "Public TCP connections, by what became of them.",
        rise: "`accept_failed`: raise LimitNOFILE; `shards_busy` or `too_many`: a flood, or too small a node.",
        read: split::<Connection>(|counters| counters.connections.all()),
    },
    Metric {
        name: "relay_tls_handshake_failures",
        counts: "TLS handshakes on the public port that failed or took longer than five seconds.",
        rise: "Scanners; with failing calls at the same time, a broken certificate chain.",
        read: Read::Total(|counters| &counters.tls_failures),
    },
    Metric {
        name: "relay_upgrades",
        counts: "Stream requests, by what became of them; `accepted` ends up in refusals or in started streams.",
        rise: "`forged` or `unsigned`: somebody else, or a wrong public URL or account token; `full`, `no_memory`, `no_files`, `late`: add nodes.",
        read: split::<Upgrade>(|counters| counters.upgrades.all()),
    },
    Metric {
        name: "relay_stream_refusals",
        counts: "Streams that were closed with 1008 before they became a call, by why.",
        rise: "`old` after a restart is normal; others mean clocks apart, a wrong node, or somebody trying.",
        read: split::<Refused>(|counters| counters.refusals.all()),
    },
    Metric {
        name: "relay_streams_started",
        counts: "Streams that became a call on this node.",
        rise: "Traffic.",
        read: Read::Total(|counters| &counters.streams_started),
    },
    Metric {
        name: "relay_streams_ended",
        counts: "Streams that ended, by why; started less ended are the calls with media.",
        rise: "`agent_*`: the model's service; `caller_lost`: the network; `relay_fault`: a bug, tell us.",
        read: split::<EndReason>(|counters| counters.streams_ended.all()),
    },
    Metric {
        name: "relay_frames",
        counts: "Media messages taken from callers (uplink) and given to them (playout).",
        rise: "Traffic: fifty a second and call each way while both speak.",
        read: split::<Flow>(|counters| counters.frames.all()),
    },
    Metric {
        name: "relay_audio_dropped_seconds",
        counts: "Audio that was thrown away because a queue was full.",
        rise: "A model that is slow to connect (uplink), or one that talks far ahead (playout).",
        read: Read::Split(Split {
            key: "flow",
            values: Flow::VALUES,
            unit: Unit::Milliseconds,
            read: |counters| counters.audio_dropped_ms.all(),
        }),
    },
    Metric {
        name: "relay_uplink_joined",
        counts: "Messages to a model that carry more than one frame of a caller: held while there was no model, or joined as RELAY_UPLINK_BATCH_MS says.",
        rise: "With `auto`, shards that are late (relay_shards_late_beats); otherwise traffic.",
        read: Read::Total(|counters| &counters.uplink_joined),
    },
    Metric {
        name: "relay_shards_late_beats",
        counts: "Tenths of a second in which a shard was late and, with RELAY_UPLINK_BATCH_MS=auto, joined its callers' audio.",
        rise: "A shard without time: too many calls, or a neighbour on its core.",
        read: Read::Total(|counters| &counters.late_beats),
    },
    Metric {
        name: "relay_uplink_added_seconds",
        counts: "From the read that brought caller audio to the write that carried it on.",
        rise: "A shard without time: too many calls, or a neighbour on its core.",
        read: Read::Time(|counters| &counters.added_delay[0]),
    },
    Metric {
        name: "relay_playout_added_seconds",
        counts: "From the read that brought a reply's audio to the write to the caller in the same wake; paced audio is not late and not counted.",
        rise: "A shard without time: too many calls, or a neighbour on its core.",
        read: Read::Time(|counters| &counters.added_delay[1]),
    },
    Metric {
        name: "relay_agent_ready_seconds",
        counts: "From a stream's start to a verified session of the model.",
        rise: "The model's service or the way to it is slow; callers wait in silence.",
        read: Read::Time(|counters| &counters.agent_ready),
    },
    Metric {
        name: "relay_reply_seconds",
        counts: "From the end of the caller's speech to the first audio of the answer leaving.",
        rise: "The model is slow; the relay's share is in the `added` histograms.",
        read: Read::Time(|counters| &counters.reply),
    },
    Metric {
        name: "relay_first_voice_seconds",
        counts: "From a stream's start to the first audio of its agent leaving, by whether a session was ready when the stream began.",
        rise: "With `prepared=\"no\"` the model's service is slow; with \"yes\" the greeting was not made in time.",
        read: Read::TimeSplit {
            key: "prepared",
            values: &["no", "yes"],
            read: |counters| &counters.first_voice,
        },
    },
    Metric {
        name: "relay_announcements",
        counts: "Streams that control announced, by what became of it; `prepared` ends up in relay_prepared.",
        rise: "`full`: more calls are placed than answered, or too small a node; `late`: the link is slower than the carrier.",
        read: split::<Announced>(|counters| counters.announcements.all()),
    },
    Metric {
        name: "relay_prepared",
        counts: "Sessions that were opened before their caller was here, by what became of them.",
        rise: "`expired`: calls that are announced and never come, or a service that closes idle sessions; `missed`: a shard without time.",
        read: split::<Prepared>(|counters| counters.prepared.all()),
    },
    Metric {
        name: "relay_handed_over",
        counts: "Prepared calls that moved to their caller's shard, sockets and all; part of relay_prepared's `claimed` and `spare_claimed`.",
        rise: "Traffic: with n shards, some (n - 1)/n of the prepared calls.",
        read: Read::Total(|counters| &counters.handed_over),
    },
    Metric {
        name: "relay_announced_waiting",
        counts: "Calls whose agent is dialled and whose stream is on its way.",
        rise: "Traffic; without streams, calls that are placed and not answered.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.announced).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_spares_ready",
        counts: "Sessions that are kept open for streams that nobody announces.",
        rise: "RELAY_SPARE_AGENTS, times agents; below it for long, the service refuses or closes them.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.spares).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_sockets_open",
        counts: "WebSockets that are open, by leg; a call has one and at least one.",
        rise: "Traffic; above what calls, announcements and spares need, a bug: tell us.",
        read: Read::Level {
            key: Leg::KEY,
            values: Leg::VALUES,
            read: |counters| &counters.sockets,
        },
    },
    Metric {
        name: "relay_agents_lost",
        counts: "Sessions of the model that were lost, or could not be opened, while their call went on.",
        rise: "The model's service, or the way to it.",
        read: Read::Total(|counters| &counters.agents_lost),
    },
    Metric {
        name: "relay_agents_replaced",
        counts: "Sessions of the model that took the place of another in a call, by why.",
        rise: "`lost`: the model's service; `rolled_over`: long calls.",
        read: split::<ReplacedBecause>(|counters| counters.agents_replaced.all()),
    },
    Metric {
        name: "relay_agent_gap_seconds",
        counts: "How long nobody heard the caller when a session was replaced; 0 for a roll-over.",
        rise: "The model's service is slow to open sessions.",
        read: Read::Time(|counters| &counters.agent_gap),
    },
    Metric {
        name: "relay_turns_forgotten",
        counts: "Turns that a new session was not told about, because no summary held them.",
        rise: "Summaries fail: look at `relay_oddities`.",
        read: Read::Total(|counters| &counters.turns_forgotten),
    },
    Metric {
        name: "relay_keys",
        counts: "Keys that callers pressed.",
        rise: "Traffic.",
        read: Read::Total(|counters| &counters.keys),
    },
    Metric {
        name: "relay_tools",
        counts: "Uses of tools by agents, by how they went.",
        rise: "`failed`, `timed_out`: the tool's server.",
        read: split::<ToolOutcome>(|counters| counters.tools.all()),
    },
    Metric {
        name: "relay_tool_seconds",
        counts: "From the request of a tool to its result.",
        rise: "The tool's server is slow; callers wait meanwhile.",
        read: Read::Time(|counters| &counters.tool_time),
    },
    Metric {
        name: "relay_commands",
        counts: "Commands to running calls that wanted an answer, by what it was.",
        rise: "`refused`: commands for calls that are over, or that ask for what cannot be done.",
        read: split::<Answered>(|counters| counters.commands.all()),
    },
    Metric {
        name: "relay_turns",
        counts: "Complete turns, by who spoke.",
        rise: "Traffic.",
        read: split::<Speaker>(|counters| counters.turns.all()),
    },
    Metric {
        name: "relay_barge_ins",
        counts: "Interruptions by callers.",
        rise: "Answers too long, or turn detection too eager for the line's noise.",
        read: Read::Total(|counters| &counters.barge_ins),
    },
    Metric {
        name: "relay_oddities",
        counts: "Unexpected things of either side that were tolerated, by kind.",
        rise: "A vendor changed something: look at the debug log of one call.",
        read: split::<Oddity>(|counters| counters.oddities.all()),
    },
    Metric {
        name: "relay_events_lost",
        counts: "Events that control will never see, by where they were lost.",
        rise: "`ring`: control was away for long, and there is no spool or it is full; `refusal_rate`: a flood of refused streams; `shard`: a stuck house thread.",
        read: split::<Lost>(|counters| counters.events_lost.all()),
    },
    Metric {
        name: "relay_spool_full",
        counts: "Events that were told while the spool was full, or its disk took nothing: in memory only.",
        rise: "RELAY_SPOOL_MAX_MIB is too small, or the disk is full, slow or broken: the log says which; calls go on.",
        read: Read::Total(|counters| &counters.spool_full),
    },
    Metric {
        name: "relay_spool_durable_seconds",
        counts: "From the write of an event to the end of the sync that makes it outlive the machine, 150 ms of which are waited for others; not counted when control has committed it by then.",
        rise: "A slow disk: above 0.25, a machine that dies takes turns with it that were finished 250 ms before.",
        read: Read::Time(|counters| &counters.spool_durable),
    },
    Metric {
        name: "relay_spool_damaged",
        counts: "Files of the spool that ended in something that is no event; what came before it was read.",
        rise: "One after a kill is normal: the process died while it wrote; more are a broken disk.",
        read: Read::Total(|counters| &counters.spool_damaged),
    },
    Metric {
        name: "relay_spool_filled",
        counts: "Events that were missing on file between others: lost, unless control had them.",
        rise: "A broken disk, or files that somebody removed.",
        read: Read::Total(|counters| &counters.spool_filled),
    },
    Metric {
        name: "relay_spool_replayed",
        counts: "Events that earlier lives of this node left on file and control has committed since; some it may have had.",
        rise: "The relay was killed, or stopped while control was away.",
        read: Read::Total(|counters| &counters.spool_replayed),
    },
    Metric {
        name: "relay_ephemeral_dropped",
        counts: "Ephemeral events (words of turns that are not complete) that found no room on their way to control; over several links each that missed one counts.",
        rise: "A stuck house thread, or a link too slow for its node; turns still come whole.",
        read: Read::Total(|counters| &counters.ephemeral_dropped),
    },
    Metric {
        name: "relay_link_attempts",
        counts: "Attempts to reach control, by what became of them.",
        rise: "`failed`: control or the way to it is down; `refused`: a wrong join token or two nodes of one name.",
        read: split::<Attempt>(|counters| counters.link_attempts.all()),
    },
    Metric {
        name: "relay_link_messages_unknown",
        counts: "Messages of control that this relay does not know; they are skipped.",
        rise: "Control is newer than this relay.",
        read: Read::Total(|counters| &counters.link_unknown),
    },
    Metric {
        name: "relay_calls",
        counts: "Seats taken: calls, and sockets that have been upgraded and owe their `start`.",
        rise: "Traffic; new streams get 503 at `relay_calls_max`.",
        read: Read::Gauge(|gauges| i64::from(gauges.calls)),
    },
    Metric {
        name: "relay_calls_max",
        counts: "The most calls that this node takes.",
        rise: "Somebody raised RELAY_CALLS_MAX.",
        read: Read::Gauge(|gauges| i64::from(gauges.calls_max)),
    },
    Metric {
        name: "relay_strained",
        counts: "1 while new streams get 503 though there are seats: for want of memory, files or time; `/health` says which.",
        rise: "Too small a node, or a neighbour that takes what is its own; relay_upgrades_total counts who was sent away for what.",
        read: Read::Gauge(|gauges| i64::from(gauges.strain.is_some())),
    },
    Metric {
        name: "relay_memory_bytes",
        counts: "Resident memory of the process, once a second.",
        rise: "Traffic: some 40 KiB a call; without more calls, a bug: tell us.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.memory_bytes).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_memory_max_bytes",
        counts: "Resident memory above which no call is taken.",
        rise: "Somebody raised RELAY_MEMORY_MAX_MIB, or the machine has more.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.memory_bytes_max).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_shard_lateness_seconds",
        counts: "How late the latest shard is with its own timer: nine beats in ten of the last three seconds were earlier.",
        rise: "A shard without time: too many calls, or a neighbour on its core; at RELAY_LATENESS_MAX_MS no call is taken.",
        read: Read::Seconds(|gauges| gauges.lateness),
    },
    Metric {
        name: "relay_ready",
        counts: "1 while the node takes new calls.",
        rise: "Good; 0 for longer than a start or a drain is not.",
        read: Read::Gauge(|gauges| i64::from(gauges.ready)),
    },
    Metric {
        name: "relay_draining",
        counts: "1 while the node lets its calls end and takes none.",
        rise: "A deploy or a stop.",
        read: Read::Gauge(|gauges| i64::from(gauges.draining)),
    },
    Metric {
        name: "relay_link_up",
        counts: "1 while control is reached; always 0 in a relay that runs alone.",
        rise: "Good; calls go on while it is 0.",
        read: Read::Gauge(|gauges| i64::from(gauges.link_up)),
    },
    Metric {
        name: "relay_link_controls",
        counts: "Controls that are reached; each of those that share a database should be.",
        rise: "A control was added; a fall: one is down, or the way to it.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.controls).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_events_waiting",
        counts: "Events that control has not acknowledged yet.",
        rise: "Control is away or slow; at the bound, events are lost.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.events_waiting).unwrap_or(i64::MAX)),
    },
    Metric {
        name: "relay_spool_bytes",
        counts: "Bytes of events on file that control has not committed, or not for long; 0 without RELAY_SPOOL_DIR.",
        rise: "Control is away; at RELAY_SPOOL_MAX_MIB, events are in memory only.",
        read: Read::Gauge(|gauges| i64::try_from(gauges.spool_bytes).unwrap_or(i64::MAX)),
    },
];

/// The table as text, as `relay metrics` prints it.
#[must_use]
pub fn page() -> String {
    let mut page = String::new();
    for metric in METRICS {
        let name = metric.name;
        let labels = match metric.read {
            Read::Split(Split { key, values, .. })
            | Read::TimeSplit { key, values, .. }
            | Read::Level { key, values, .. } => format!(" {{{key}={}}}", values.join("|")),
            Read::Total(_) | Read::Time(_) | Read::Gauge(_) | Read::Seconds(_) => String::new(),
        };
        let suffix = match metric.read {
            Read::Total(_) | Read::Split(_) => "_total",
            Read::Time(_)
            | Read::TimeSplit { .. }
            | Read::Level { .. }
            | Read::Gauge(_)
            | Read::Seconds(_) => "",
        };
        let (counts, rise) = (metric.counts, metric.rise);
        let _ = write!(page, "{name}{suffix}{labels}\n    {counts}\n    A rise: {rise}\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Counters, Gauges, Metrics, OpenSocket};

    #[test]
    fn a_scrape_adds_up_what_the_threads_counted() {
        let threads = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        for (counters, n) in threads.iter().zip([2, 3]) {
            counters.streams_started.add(n);
            counters.frames.of(Flow::Playout).add(n);
            counters.audio_dropped_ms.of(Flow::Uplink).add(n * 100);
            counters.reply.observe(Duration::from_millis(250));
            counters.first_voice[1].observe(Duration::from_millis(250));
            std::mem::forget(OpenSocket::new(counters.clone(), Leg::Agent));
        }
        let gauges = || Gauges { calls: 7, ..Gauges::default() };
        let page = Arc::new(Metrics::new(threads.to_vec(), gauges)).scrape().unwrap();
        for line in [
            "relay_streams_started_total 5",
            "relay_frames_total{flow=\"playout\"} 5",
            "relay_frames_total{flow=\"uplink\"} 0",
            "relay_audio_dropped_seconds_total{flow=\"uplink\"} 0.5",
            "relay_reply_seconds_count 2",
            "relay_reply_seconds_bucket{le=\"0.2\"} 0",
            "relay_reply_seconds_bucket{le=\"0.3\"} 2",
            "relay_calls 7",
            "relay_first_voice_seconds_count{prepared=\"yes\"} 2",
            "relay_first_voice_seconds_bucket{le=\"0.3\",prepared=\"yes\"} 2",
            "relay_sockets_open{leg=\"agent\"} 2",
            "relay_sockets_open{leg=\"caller\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn names_follow_one_form_and_are_declared_once() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        for name in &names {
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(name.starts_with("relay_") && name.bytes().all(plain), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the format adds it");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(page().contains("relay_streams_ended_total {reason=caller_hung_up|"));
    }
}
