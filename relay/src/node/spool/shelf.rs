//! The spool's files: named, written, synced, read back, removed. Nothing here decides when.
//!
//! A file is a segment: records of one life of one node, in the order of their numbers, appended
//! and never changed. Its name says whose it is, so that a folder needs no index:
//! `NODE.STARTED.EPOCH.NUMBER.spool`, the start in microseconds so that older lives sort first.
//! `NODE.lock` is locked by the process that writes.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use link::id::{Epoch, EventNumber, NodeId, WallTime};

use super::Page;
use super::record::{self, Rest};

/// A segment is closed at this length. Twice as much is twice as much to send again after a kill,
/// since only whole segments are removed.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// What is read from a file at once: longer than any record.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where a process keeps its spool, and what it writes there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The most bytes of all of this node's segments.
    pub(super) bytes_max: u64,
    /// Whose events these are.
    pub(super) node: NodeId,
    /// When this life began.
    pub(super) started: WallTime,
    /// This life.
    pub(super) epoch: Epoch,
}

/// Why the spool takes nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Its bound is reached.
    #[error("the spool is full; raise RELAY_SPOOL_MAX_MIB or bring control back")]
    Full,
    /// Another process has this node's spool.
    #[error("another process of this node holds the spool")]
    Held,
    /// The disk or the file system.
    #[error("the spool's disk takes nothing")]
    Disk(#[from] io::Error),
}

/// This node's part of the folder.
#[derive(Debug)]
pub(super) struct Shelf {
    place: Place,
    /// Holds the node's lock as long as the shelf lives.
    _lock: File,
    own: Life,
    /// Lives of earlier processes, the oldest first.
    old: Vec<Life>,
    /// The last segment of `own`, while it is written to.
    current: Option<File>,
    /// The highest event that was appended.
    last: EventNumber,
    /// The number of the next segment.
    next_segment: u32,
    /// Whether a name was made that the folder may forget when the machine dies.
    is_folder_dirty: bool,
    bytes: u64,
}

/// The segments of one life.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    segments: VecDeque<Segment>,
    cursor: Cursor,
}

#[derive(Debug)]
struct Segment {
    number: u32,
    path: PathBuf,
    bytes: u64,
    /// The highest event in it; `None` for one of an earlier life that was not read to its end.
    last: Option<EventNumber>,
}

/// Where reading goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    segment: u32,
    offset: u64,
    /// The event that was asked for next when it got here; another one begins anew.
    next: EventNumber,
}

impl Shelf {
    /// Takes the node's place in the folder and looks what earlier lives have left.
    pub(super) fn open(place: Place) -> Result<Self, Trouble> {
        // What callers said stands in these files: they are the owner's alone.
        DirBuilder::new().recursive(true).mode(0o700).create(&place.folder)?;
        let lock = place.folder.join(format!("{}.lock", place.node));
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Trouble::Held,
            TryLockError::Error(error) => Trouble::Disk(error),
        })?;
        let old = lives(&place)?;
        let bytes = old.iter().flat_map(|life| &life.segments).map(|segment| segment.bytes).sum();
        let own = Life::new(place.epoch);
        Ok(Self {
            place,
            _lock: lock,
            own,
            old,
            current: None,
            last: EventNumber(0),
            next_segment: 0,
            is_folder_dirty: false,
            bytes,
        })
    }

    /// The lives of earlier processes, the oldest first.
    pub(super) fn old_lives(&self) -> Vec<Epoch> {
        self.old.iter().map(|life| life.epoch).collect()
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends records, all of them or none, the last of which is the event `last`.
    pub(super) fn append(&mut self, records: &[u8], last: EventNumber) -> Result<(), Trouble> {
        let more = records.len() as u64;
        if self.bytes + more > self.place.bytes_max {
            return Err(Trouble::Full);
        }
        let is_long = |segment: &Segment| segment.bytes + more > SEGMENT_BYTES_MAX;
        if self.current.is_none() || self.own.segments.back().is_some_and(is_long) {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&mut self.current, self.own.segments.back_mut()) else {
            return Err(io::Error::other("no file was begun").into());
        };
        if let Err(error) = file.write_all(records) {
            // Half a record must not stand before what is written next.
            if file.set_len(segment.bytes).is_err() {
                self.current = None;
            }
            return Err(error.into());
        }
        segment.bytes += more;
        segment.last = Some(last);
        self.last = last;
        self.bytes += more;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), Trouble> {
        // What is closed is never synced again.
        self.sync()?;
        self.current = None;
        let number = self.next_segment;
        let path = self.place.folder.join(self.place.name(number));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        self.next_segment += 1;
        self.is_folder_dirty = true;
        self.current = Some(file);
        let last = Some(self.last);
        self.own.segments.push_back(Segment { number, path, bytes: 0, last });
        Ok(())
    }

    /// Makes what was appended outlive the machine.
    pub(super) fn sync(&mut self) -> Result<(), Trouble> {
        let Some(file) = &self.current else { return Ok(()) };
        if let Err(error) = file.sync_data() {
            // After that nobody knows what the file holds: what comes next stands in another one.
            self.current = None;
            return Err(error.into());
        }
        if std::mem::take(&mut self.is_folder_dirty)
            && let Err(error) = File::open(&self.place.folder).and_then(|folder| folder.sync_all())
        {
            self.is_folder_dirty = true;
            return Err(error.into());
        }
        Ok(())
    }

    /// Removes the segments of this life that hold nothing but what control has committed; the one
    /// that is written to only when nothing is written, or its room is needed.
    pub(super) fn acknowledge(&mut self, through: EventNumber, idle: Idle) -> io::Result<()> {
        let is_needed = idle == Idle::Yes || self.bytes > self.place.bytes_max / 2;
        let kept = usize::from(self.current.is_some() && !is_needed);
        while self.own.segments.len() > kept && self.own.is_done(through) {
            if self.own.segments.len() == 1 {
                self.current = None;
            }
            self.bytes -= self.own.remove_first()?;
        }
        Ok(())
    }

    /// Removes the segments of an earlier life that hold nothing but what control has committed.
    pub(super) fn acknowledge_old(&mut self, life: Epoch, through: EventNumber) -> io::Result<()> {
        let Some(life) = self.old.iter_mut().find(|old| old.epoch == life) else { return Ok(()) };
        while life.is_done(through) {
            self.bytes -= life.remove_first()?;
        }
        Ok(())
    }

    /// Removes all that is left of an earlier life.
    pub(super) fn forget(&mut self, life: Epoch) -> io::Result<()> {
        let Some(at) = self.old.iter().position(|old| old.epoch == life) else { return Ok(()) };
        while !self.old[at].segments.is_empty() {
            self.bytes -= self.old[at].remove_first()?;
        }
        self.old.remove(at);
        Ok(())
    }

    /// Reads on in a life, from an event on, into a page. Says how many segments ended in
    /// something that is no record.
    pub(super) fn read(&mut self, life: Epoch, page: &mut Page) -> u64 {
        let is_own = life == self.own.epoch;
        let life = if is_own {
            Some(&mut self.own)
        } else {
            self.old.iter_mut().find(|old| old.epoch == life)
        };
        life.map_or(0, |life| life.read(page))
    }
}

/// Whether nothing was written for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nothing was.
    Yes,
    /// Something was, or may be at once.
    No,
}

impl Life {
    fn new(epoch: Epoch) -> Self {
        Self { epoch, segments: VecDeque::new(), cursor: Cursor::default() }
    }

    /// Whether the first segment holds nothing above `through`.
    fn is_done(&self, through: EventNumber) -> bool {
        let last = self.segments.front().and_then(|segment| segment.last);
        last.is_some_and(|last| last <= through)
    }

    /// Removes the first segment; its length. On an error it stays, and is tried again.
    fn remove_first(&mut self) -> io::Result<u64> {
        let Some(segment) = self.segments.front() else { return Ok(0) };
        match fs::remove_file(&segment.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(self.segments.pop_front().map_or(0, |segment| segment.bytes))
    }

    fn read(&mut self, page: &mut Page) -> u64 {
        if self.cursor.next != page.next() {
            self.cursor = Cursor { next: page.next(), ..Cursor::default() };
        }
        let mut damaged = 0;
        while !page.is_full() {
            let place = self.cursor.segment;
            let here = self.segments.iter().find(|segment| segment.number >= place);
            let Some(segment) = here else { break };
            let (number, length) = (segment.number, segment.bytes);
            if number > place {
                // What was read before it is gone.
                (self.cursor.segment, self.cursor.offset) = (number, 0);
            }
            let chunk = chunk(&segment.path, self.cursor.offset, length);
            let found = chunk.map(|chunk| {
                let found = record::read(&chunk, page.room());
                let ends = self.cursor.offset + chunk.len() as u64 >= length;
                (found, ends)
            });
            let over = match found {
                Ok((found, ends)) => {
                    let is_full = found.events.len() >= page.room();
                    page.take(found.events);
                    self.cursor.offset += found.used as u64;
                    match found.rest {
                        Rest::Nothing => Over::of(ends && !is_full),
                        Rest::Torn if !ends => Over::No,
                        Rest::Torn | Rest::Bad => Over::Damaged,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a file of the spool cannot be read");
                    Over::Damaged
                }
            };
            if over == Over::Damaged {
                damaged += 1;
                // What may be appended after it is whole again.
                self.cursor.offset = length;
            }
            if over != Over::No && !self.next_segment(number, page.last()) {
                break;
            }
        }
        self.cursor.next = page.next();
        damaged
    }

    /// Goes on to the segment after this one, all of which was read, if there is one.
    fn next_segment(&mut self, number: u32, last: EventNumber) -> bool {
        let has_next = self.segments.back().is_some_and(|segment| segment.number > number);
        if let Some(read) = self.segments.iter_mut().find(|segment| segment.number == number) {
            // One of this life knows it from writing.
            read.last.get_or_insert(last);
        }
        if has_next {
            (self.cursor.segment, self.cursor.offset) = (number + 1, 0);
        }
        has_next
    }
}

/// Whether a segment was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    Yes,
    /// Up to something that is no record.
    Damaged,
}

impl Over {
    fn of(is_over: bool) -> Self {
        if is_over { Self::Yes } else { Self::No }
    }
}

/// A piece of a file, up to where its records end.
fn chunk(path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(CHUNK_BYTES);
    let mut bytes = vec![0; left.min(CHUNK_BYTES)];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Place {
    fn name(&self, number: u32) -> String {
        let Self { node, started, epoch, .. } = self;
        format!("{node}.{:016}.{:014x}.{number:06}.spool", started.0, epoch.0)
    }
}

/// What the name of a segment says: when its life began, which life, which segment of it. `None`
/// for another node's, and for what is no segment.
fn parse(name: &str, node: &NodeId) -> Option<(i64, Epoch, u32)> {
    let name = name.strip_suffix(".spool")?;
    // A node's name may hold dots.
    let mut parts = name.rsplitn(4, '.');
    let (number, epoch, started) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next()? != node.as_str() {
        return None;
    }
    let epoch = Epoch(u64::from_str_radix(epoch, 16).ok()?);
    Some((started.parse().ok()?, epoch, number.parse().ok()?))
}

/// What earlier lives of the node have left, the oldest first.
fn lives(place: &Place) -> io::Result<Vec<Life>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&place.folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(parsed) = name.to_str().and_then(|name| parse(name, &place.node)) else {
            continue;
        };
        found.push((parsed, entry.path(), entry.metadata()?.len()));
    }
    found.sort();
    let mut lives: Vec<Life> = Vec::new();
    for ((_, epoch, number), path, bytes) in found {
        let segment = Segment { number, path, bytes, last: None };
        match lives.last_mut().filter(|life| life.epoch == epoch) {
            Some(life) => life.segments.push_back(segment),
            None => {
                let mut life = Life::new(epoch);
                life.segments.push_back(segment);
                lives.push(life);
            }
        }
    }
    Ok(lives)
}
