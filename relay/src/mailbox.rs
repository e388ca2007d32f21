//! What the outside has to say to one call, until the call's task takes it.
//!
//! Not a channel: both ends live on the call's shard, so it is a cell and a waker. The letters
//! become inputs of the call ([`Input`](crate::call::input::Input)) in the bridge's loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use link::id::CommandId;

use crate::call::input::{Command, RecordId};

/// Something the outside says to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// Somebody wants something of the call, and perhaps an answer by that id.
    Command(Option<CommandId>, Command),
    /// Control has committed a decision of the call.
    Recorded(RecordId),
    /// The process goes away and waits no longer.
    Drain,
}

/// The letters of one call. Bounded by [`LETTERS_MAX`]; a letter that waits already is not put in
/// twice.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    letters: VecDeque<Letter>,
    reader: Option<Waker>,
}

/// The most letters that wait. A call takes one a round, so that one which lets more wait is stuck,
/// or somebody sends it commands without end; the newest is given back.
pub const LETTERS_MAX: usize = 16;

impl Mailbox {
    /// Leaves a letter and wakes the call's task.
    ///
    /// # Errors
    /// The letter, when there is no room for it.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        let mut inner = self.inner.borrow_mut();
        // Two drains are one. Two commands have ids of their own, unless nobody waits for an answer.
        if !inner.letters.contains(&letter) {
            if inner.letters.len() == LETTERS_MAX {
                return Err(letter);
            }
            inner.letters.push_back(letter);
        }
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Takes what nobody will read any more.
    pub fn empty(&self) -> impl Iterator<Item = Letter> {
        std::mem::take(&mut self.inner.borrow_mut().letters).into_iter()
    }

    /// Takes the oldest letter, or leaves word to be woken for the next one.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Letter> {
        let mut inner = self.inner.borrow_mut();
        if let Some(letter) = inner.letters.pop_front() {
            return Poll::Ready(letter);
        }
        if !inner.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn letters_come_in_order_and_wake_a_waiting_reader_once() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mailbox = Mailbox::default();
        assert!(mailbox.poll_take(&mut cx).is_pending());
        mailbox.post(Letter::Recorded(RecordId(1))).unwrap();
        mailbox.post(Letter::Drain).unwrap();
        mailbox.post(Letter::Drain).expect("a letter that waits already is no overflow");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(mailbox.poll_take(&mut cx), Poll::Ready(Letter::Recorded(RecordId(1))));
        assert_eq!(mailbox.poll_take(&mut cx), Poll::Ready(Letter::Drain));
        assert!(mailbox.poll_take(&mut cx).is_pending());
    }

    #[test]
    fn a_full_mailbox_refuses_and_says_so() {
        let mailbox = Mailbox::default();
        for n in 0..LETTERS_MAX {
            mailbox.post(Letter::Recorded(RecordId(u32::try_from(n).unwrap()))).unwrap();
        }
        let more = Letter::Command(None, Command::HangUp);
        assert_eq!(mailbox.post(more.clone()), Err(more));
        assert_eq!(mailbox.empty().count(), LETTERS_MAX);
    }
}
