//! What happens to a call, over and over, on whatever it is driven by.

use std::time::Duration;

use super::Work;
use crate::SPEECH;
use crate::line::{Media, delta_of, mark};

/// A call that is up, and both ends of it.
pub(super) trait Rig {
    /// The caller's stream says something; the call has not heard it yet.
    fn caller_says(&mut self, text: &str);
    /// The agent's service does.
    fn agent_says(&mut self, text: &str);
    /// Time goes on, and the call does not know yet.
    fn pass(&mut self, span: Duration);
    /// The call hears what was said and does what is due: what is measured.
    fn act(&mut self);
    /// How many bytes the caller was told since the last time.
    fn take_said_to_caller(&mut self) -> usize;
    /// How many bytes the agent was told since the last time.
    fn take_said_to_agent(&mut self) -> usize;
}

/// A caller who only listens sends frames all the same, and here all of a span at once.
fn listen(rig: &mut impl Rig, media: &mut Media, span: Duration) {
    for _ in 0..span.as_millis() / FRAME.as_millis() {
        rig.caller_says(media.following());
        rig.act();
    }
    rig.take_said_to_agent();
}

/// What happens in 60 ms of a long answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// As much more of it comes, and waits.
    Delta,
    /// Its next chunk leaves, with a mark.
    Chunk,
    /// A mark comes back.
    Mark,
}

/// A long answer in the middle: for each chunk of 60 ms that leaves, as much comes in.
pub(super) struct Talk<R> {
    pub(super) rig: R,
    delta: String,
    /// The mark that comes back next.
    mark: u32,
    media: Media,
    measured: Step,
}

/// Every chunk is as long; the lead is 400 ms.
const CHUNK: Duration = Duration::from_millis(60);
const CHUNK_BYTES: usize = 480;
const FRAME: Duration = Duration::from_millis(20);

impl<R: Rig> Talk<R> {
    /// Up to the first step of this kind.
    pub(super) fn before(measured: Step, mut rig: R) -> Self {
        let delta = delta_of(1, &SPEECH[8_000..][..CHUNK_BYTES]);
        // Two seconds wait, so that what is measured never runs dry.
        for _ in 0..33 {
            rig.agent_says(&delta);
            rig.act();
        }
        Self { rig, delta, mark: 0, media: Media::new(), measured }
    }

    /// Everything that the step is about, and not the step itself.
    fn prepare(&mut self, step: Step) {
        self.rig.take_said_to_caller();
        match step {
            Step::Delta => self.rig.agent_says(&self.delta),
            Step::Chunk => self.rig.pass(CHUNK),
            Step::Mark => {
                self.mark += 1;
                self.rig.caller_says(&mark(self.mark));
            }
        }
    }
}

impl<R: Rig> Work for Talk<R> {
    fn ready(&mut self) {
        let others = match self.measured {
            Step::Delta => [Step::Chunk, Step::Mark],
            Step::Chunk => [Step::Mark, Step::Delta],
            Step::Mark => [Step::Delta, Step::Chunk],
        };
        listen(&mut self.rig, &mut self.media, CHUNK);
        for step in others {
            self.prepare(step);
            self.rig.act();
            // A delta waits, a chunk leaves, a mark makes room that is known already.
            let said = self.rig.take_said_to_caller();
            assert_eq!(said == 0, step != Step::Chunk, "{step:?}");
        }
        self.prepare(self.measured);
    }

    fn work(&mut self) {
        self.rig.act();
    }
}

/// A caller who interrupts every answer.
pub(super) struct Interrupted<R> {
    pub(super) rig: R,
    media: Media,
    /// The answer that runs.
    answer: u32,
}

impl<R: Rig> Interrupted<R> {
    /// The first answer runs.
    pub(super) fn new(rig: R) -> Self {
        Self { rig, media: Media::new(), answer: 1 }
    }
}

impl<R: Rig> Work for Interrupted<R> {
    fn ready(&mut self) {
        let Self { rig, media, answer } = self;
        let quiet = Duration::from_millis(360);
        rig.pass(quiet);
        listen(rig, media, quiet + 2 * CHUNK);
        for text in [&ended(*answer), STOPPED, &begun(*answer + 1)] {
            rig.agent_says(text);
            rig.act();
        }
        *answer += 1;
        rig.take_said_to_caller();
        // 600 ms of speech, of which the lead leaves at once.
        rig.agent_says(&delta_of(*answer, &SPEECH[8_000..][..10 * CHUNK_BYTES]));
        rig.act();
        assert_ne!(rig.take_said_to_caller(), 0, "the answer is not heard");
        rig.pass(2 * CHUNK);
        rig.agent_says(STARTED);
    }

    fn work(&mut self) {
        self.rig.act();
    }
}

/// A caller who speaks.
pub(super) struct Up<R> {
    pub(super) rig: R,
    media: Media,
    /// How many frames each time.
    frames: u32,
}

impl<R: Rig> Up<R> {
    /// So many frames at a time.
    pub(super) fn new(rig: R, frames: u32) -> Self {
        Self { rig, media: Media::new(), frames }
    }
}

impl<R: Rig> Work for Up<R> {
    fn ready(&mut self) {
        // Once for each frame, unless they wait for one another.
        self.rig.take_said_to_agent();
        self.rig.pass(FRAME * self.frames);
        for _ in 0..self.frames {
            self.rig.caller_says(self.media.following());
        }
    }

    fn work(&mut self) {
        self.rig.act();
    }
}

const STARTED: &str = r#"{"type":"input_audio_buffer.speech_started","event_id":"event_1","audio_start_ms":1000,"item_id":"item_0"}"#;
const STOPPED: &str = r#"{"type":"input_audio_buffer.speech_stopped","event_id":"event_1","audio_end_ms":1500,"item_id":"item_0"}"#;

fn begun(answer: u32) -> String {
    format!(
        r#"{{"type":"response.created","event_id":"event_1","response":{{"id":"resp_{answer}","status":"in_progress"}}}}"#
    )
}

fn ended(answer: u32) -> String {
    format!(
        r#"{{"type":"response.done","event_id":"event_1","response":{{"id":"resp_{answer}","status":"cancelled","output":[]}}}}"#
    )
}
