//! Files of what was on the wire, one JSON value a line: what the conformance check reads.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::json;

use crate::clock::wall_us;

/// A file that lines are added to; nothing when no file was asked for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture(Option<Arc<Mutex<BufWriter<File>>>>);

impl Capture {
    /// Makes the file, or nothing.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(path: Option<&Path>) -> std::io::Result<Self> {
        let open = |path: &Path| Ok(Arc::new(Mutex::new(BufWriter::new(File::create(path)?))));
        path.map(open).transpose().map(Self)
    }

    /// Adds a line with the wall clock's time, and hands it to the system, so that a reader finds it
    /// at once.
    pub(crate) fn line(&self, value: &impl Serialize) {
        let Some(file) = &self.0 else { return };
        let mut value = json!(value);
        value["at_us"] = json!(wall_us());
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let text = value.to_string();
        // A full disk shows as a missing line, which the reader of the file reports.
        let _ = writeln!(file, "{text}").and_then(|()| file.flush());
    }
}
