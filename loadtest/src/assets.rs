//! The speech that is built in: three turns of a caller, a greeting and three answers.
//! Where the clips come from stands beside them, in `assets/README.md`.

/// Finds a clip by the name of its file without the ending.
pub(crate) fn find(name: &str) -> Option<&'static [u8]> {
    CLIPS.iter().find(|(known, _)| *known == name).map(|(_, wav)| *wav)
}

/// Every clip, by name. Together 0.5 MB, so that one binary is the whole demo.
const CLIPS: [(&str, &[u8]); 7] = [
    ("agent-greeting", include_bytes!("../assets/agent-greeting.wav")),
    ("agent-1", include_bytes!("../assets/agent-1.wav")),
    ("agent-2", include_bytes!("../assets/agent-2.wav")),
    ("agent-3", include_bytes!("../assets/agent-3.wav")),
    ("caller-1", include_bytes!("../assets/caller-1.wav")),
    ("caller-2", include_bytes!("../assets/caller-2.wav")),
    ("caller-3", include_bytes!("../assets/caller-3.wav")),
];
