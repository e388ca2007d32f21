//! The transcript, and what later sessions are told of it.

use std::collections::BTreeMap;

use relay::call::output::Recalled;

/// The transcript's side of the books.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Items by when the relay first heard of them.
    begun: BTreeMap<String, u64>,
    count: u64,
    /// Complete turns by their order.
    noted: BTreeMap<u32, Noted>,
    sessions: BTreeMap<usize, Session>,
    /// What began up to here is in a summary.
    summed: u64,
    /// Of each session, what had begun when each of its summaries was asked for.
    sums: BTreeMap<usize, Vec<u64>>,
    /// What the session that speaks is to be told before the step is over.
    due: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Noted {
    began: u64,
    item: String,
    text: String,
    is_forgotten: bool,
}

#[derive(Debug, Default)]
struct Session {
    recalled: Vec<String>,
    has_begun: bool,
    continues: bool,
}

impl Turns {
    /// The relay hears of an item.
    pub(super) fn begins(&mut self, item: &str) {
        if !self.begun.contains_key(item) {
            self.count += 1;
            self.begun.insert(item.to_owned(), self.count);
        }
    }

    /// The relay hears the words of an item.
    pub(super) fn caller_said(&mut self, item: &str, _words: &str) {
        // Words that come after their turn was told without them are another turn.
        if self.noted.values().any(|noted| noted.item == item) {
            self.count += 1;
            self.begun.insert(item.to_owned(), self.count);
        }
        self.begins(item);
    }

    /// A turn is told. What an earlier session said is to be told to the one that speaks.
    pub(super) fn noted(&mut self, order: u32, item: &str, text: &str, speaker: Option<usize>) {
        let began = *self.begun.get(item).unwrap_or_else(|| panic!("unknown item {item}"));
        let before = self.noted.range(..order).next_back().map(|(_, turn)| turn.began);
        let after = self.noted.range(order + 1..).next().map(|(_, turn)| turn.began);
        assert!(before.is_none_or(|before| before < began), "{item} is told out of order");
        assert!(after.is_none_or(|after| began < after), "{item} is told out of order");
        let (item, text) = (item.to_owned(), text.trim().to_owned());
        // What an earlier session has said, of which the end was heard in this one's time.
        if let Some(conn) = speaker.filter(|conn| !item.starts_with(&format!("item_{conn}_")))
            && self.sessions.get(&conn).is_some_and(|session| session.has_begun)
            && !item.contains("_u")
            && !text.is_empty()
        {
            self.due.push((conn, text.clone()));
        }
        let known = self.noted.insert(order, Noted { began, item, text, is_forgotten: false });
        assert!(known.is_none(), "order {order} is told twice");
    }

    /// The oldest turns are forgotten.
    pub(super) fn forgotten(&mut self, turns: u32) {
        let summed = self.summed;
        let kept = self.noted.values_mut().filter(|turn| !turn.is_forgotten && turn.began > summed);
        for turn in kept.take(turns as usize) {
            turn.is_forgotten = true;
        }
    }

    /// A summary is asked for.
    pub(super) fn sums_up(&mut self, conn: usize) {
        self.sums.entry(conn).or_default().push(self.count);
    }

    /// A summary is about to be heard of.
    pub(super) fn summarised(&mut self, conn: usize, number: usize, is_made: bool) {
        let through = self.sums.get(&conn).and_then(|sums| sums.get(number)).copied();
        if is_made {
            self.summed = self.summed.max(through.expect("a summary was asked for"));
        }
    }

    /// A session is told something.
    pub(super) fn recalled(&mut self, conn: usize, recalled: &Recalled<'_>) {
        let session = self.sessions.entry(conn).or_default();
        match recalled {
            Recalled::Caller(text) | Recalled::Agent(text) => {
                session.recalled.push(text.trim().to_owned());
                self.due.retain(|(to, due)| (*to, due.as_str()) != (conn, text.trim()));
            }
            Recalled::CallContinues => {
                assert!(!session.continues, "a call continues once");
                session.continues = true;
            }
            Recalled::Summary(_) => {
                assert!(session.recalled.is_empty(), "a summary comes first");
            }
            Recalled::Call { .. } | Recalled::Result { .. } | Recalled::System(_) => {}
        }
    }

    /// A step is over.
    pub(super) fn look(&self) {
        assert_eq!(self.due, [], "a session was not told what an earlier one has said");
    }

    /// The call ends: nobody has to be told anything any more.
    pub(super) fn ends(&mut self) {
        self.due.clear();
    }

    /// A session hears or is asked something: by now it knows what was said.
    pub(super) fn session_begins(&mut self, conn: usize) {
        let session = self.sessions.entry(conn).or_default();
        if std::mem::replace(&mut session.has_begun, true) {
            return;
        }
        let its_own = format!("item_{conn}_");
        let mut told = session.recalled.iter();
        for turn in self.noted.values() {
            let is_known = turn.is_forgotten || turn.began <= self.summed || turn.text.is_empty();
            if is_known || turn.item.starts_with(&its_own) {
                continue;
            }
            assert!(
                told.any(|text| *text == turn.text),
                "session {conn} was not told {:?} ({}), or not in its place",
                turn.text,
                turn.item
            );
        }
    }
}
