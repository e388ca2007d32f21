//! What is run: one line a case.

use serde::{Deserialize, Serialize};

/// One thing under load, in one way, with so many calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// `way-calls`.
    pub name: String,
    /// What is under load, and how.
    pub way: Way,
    /// How many calls.
    pub calls: u32,
}

/// What is under load, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The byte copy.
    Floor,
    /// Mu-law as it is, plain sockets, one write a frame.
    PassThrough,
    /// The same with one write for 60 ms of the caller.
    BatchedWrites,
    /// The same, and the caller is read only as often.
    BatchedReads,
    /// Mu-law as it is, TLS on both legs.
    Tls,
    /// Mu-law to PCM at 24 kHz and back, plain sockets.
    Transcoded,
    /// As [`Way::PassThrough`], with the two cores that two shards are given.
    OneShard,
    /// The same, and a shard on each.
    TwoShards,
}

impl Way {
    /// As it stands in the name of a case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::PassThrough => "pass",
            Self::BatchedWrites => "writes60",
            Self::BatchedReads => "reads60",
            Self::Tls => "tls",
            Self::Transcoded => "transcode",
            Self::OneShard => "shard1",
            Self::TwoShards => "shard2",
        }
    }

    /// For a reader.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Floor => "the floor: bytes copied, nothing read",
            Self::PassThrough => "mu-law as it is",
            Self::BatchedWrites => "mu-law, one write for 60 ms",
            Self::BatchedReads => "mu-law, one read and one write for 60 ms",
            Self::Tls => "mu-law, TLS on both legs",
            Self::Transcoded => "mu-law to PCM 24 kHz and back",
            Self::OneShard => "one shard, two cores shared with the load test",
            Self::TwoShards => "two shards, the same cores",
        }
    }

    /// What its cost is divided by: the case of this way with as many calls, in the same round.
    #[must_use]
    pub fn yardstick(self) -> Option<Self> {
        match self {
            Self::Floor | Self::OneShard => None,
            Self::PassThrough | Self::BatchedWrites | Self::BatchedReads | Self::Tls => {
                Some(Self::Floor)
            }
            Self::Transcoded => Some(Self::PassThrough),
            Self::TwoShards => Some(Self::OneShard),
        }
    }

    /// The words of the load test's command line, besides binaries and cores.
    #[must_use]
    pub fn arguments(self) -> Vec<&'static str> {
        let mut words = match self {
            Self::Floor => return Vec::new(),
            Self::PassThrough | Self::BatchedWrites | Self::BatchedReads | Self::TwoShards => {
                Vec::new()
            }
            Self::Tls => vec!["--tls"],
            Self::Transcoded => vec!["--audio", "pcm24k"],
            Self::OneShard => vec!["--relay-env", "RELAY_SHARDS=1"],
        };
        // Never the default: a shard that is late would batch by itself, and cost less.
        words.extend(match self {
            Self::BatchedWrites => SIXTY_WRITES,
            Self::BatchedReads => SIXTY_READS,
            Self::Floor
            | Self::PassThrough
            | Self::Tls
            | Self::Transcoded
            | Self::OneShard
            | Self::TwoShards => TWENTY,
        });
        words
    }
}

const TWENTY: &[&str] = &["--relay-env", "RELAY_UPLINK_BATCH_MS=20"];
const SIXTY_WRITES: &[&str] =
    &["--relay-env", "RELAY_UPLINK_BATCH_MS=60", "--relay-env", "RELAY_UPLINK_BATCH=writes"];
const SIXTY_READS: &[&str] =
    &["--relay-env", "RELAY_UPLINK_BATCH_MS=60", "--relay-env", "RELAY_UPLINK_BATCH=reads"];

impl Case {
    /// A case.
    #[must_use]
    pub fn new(way: Way, calls: u32) -> Self {
        Self { name: format!("{}-{calls}", way.name()), way, calls }
    }
}

/// Every way on one core at each of these sizes, and shards at one.
#[must_use]
pub fn all(sizes: &[u32], shards: u32) -> Vec<Case> {
    let ways = [
        Way::Floor,
        Way::PassThrough,
        Way::BatchedWrites,
        Way::BatchedReads,
        Way::Tls,
        Way::Transcoded,
    ];
    let mut cases: Vec<_> =
        sizes.iter().flat_map(|calls| ways.map(|way| Case::new(way, *calls))).collect();
    cases.extend([Way::OneShard, Way::TwoShards].map(|way| Case::new(way, shards)));
    cases
}
