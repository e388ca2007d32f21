//! Answers of the load test's model: made at the pace of the real service, of blocks that name
//! themselves.

use std::time::Duration;

use serde_json::json;

use super::Session;
use crate::demo::Audio;
use crate::run::board::Board;
use crate::run::caller::REPLY_BLOCKS;
use crate::run::stamp::{Stamp, plain};

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Reply {
    number: u16,
    response: String,
    item: String,
    made: u32,
    pub(super) due_us: u64,
    /// Whether its beginning was announced.
    begun: bool,
}

impl Session {
    /// Plans the answer.
    pub(super) fn begin_reply(&mut self, now_us: u64, board: &Board) {
        // A session that takes over goes on counting where the one before it ended.
        let told = self.ear.call.and_then(|call| board.reply(call)).map_or(0, |(reply, _)| reply);
        self.replies = self.replies.max(told) + 1;
        self.last_item = self.id("item");
        self.reply = Some(Reply {
            number: self.replies,
            response: self.id("resp"),
            item: self.last_item.clone(),
            made: 0,
            due_us: now_us + u64::from(self.pace.latency_ms) * 1_000,
            begun: false,
        });
    }

    /// The answer in the making is over, and says why.
    pub(super) fn cut(&mut self, why: &str, out: &mut Vec<String>) {
        if let Some(reply) = self.reply.take().filter(|reply| reply.begun) {
            self.end_reply(&reply, Some(why), out);
        }
    }

    /// What the service says at the end of an answer.
    fn end_reply(&mut self, reply: &Reply, cut: Option<&str>, out: &mut Vec<String>) {
        let status = if cut.is_some() { "cancelled" } else { "completed" };
        let within = |kind: &str| {
            json!({"type": kind, "response_id": reply.response, "output_index": 0,
                   "item_id": reply.item, "content_index": 0})
        };
        let item = json!({"id": reply.item, "object": "realtime.item", "type": "message",
            "status": if status == "completed" { "completed" } else { "incomplete" },
            "role": "assistant", "content": [{"type": "output_audio", "transcript": "Words."}]});
        let details = cut.map(|why| json!({"type": "cancelled", "reason": why}));
        let mut words = within("response.output_audio_transcript.done");
        words["transcript"] = "Words.".into();
        let mut part = within("response.content_part.done");
        part["part"] = json!({"type": "audio", "transcript": "Words."});
        for event in [
            within("response.output_audio.done"),
            words,
            part,
            json!({"type": "response.output_item.done", "response_id": reply.response,
                   "output_index": 0, "item": item}),
            json!({"type": "conversation.item.done", "previous_item_id": null, "item": item}),
            json!({"type": "response.done", "response": {"id": reply.response,
                   "object": "realtime.response", "status": status, "status_details": details,
                   "output": [item]}}),
        ] {
            self.say(event, out);
        }
    }

    /// Makes the next piece of the answer, when it is due.
    pub(crate) fn tick(&mut self, now_us: u64, board: &Board, out: &mut Vec<String>) {
        let Some(mut reply) = self.reply.take() else { return };
        if reply.due_us > now_us {
            self.reply = Some(reply);
            return;
        }
        if !reply.begun {
            reply.begun = true;
            self.announce(&reply, out);
            if let Some(call) = self.ear.call {
                board.reply_begun(call, reply.number, now_us);
            }
        }
        let blocks = (self.pace.delta_ms / 20).clamp(1, REPLY_BLOCKS - reply.made);
        let delta = self.delta(&reply, blocks);
        let id = self.id("event");
        out.push(format!(
            "{{\"type\":\"response.output_audio.delta\",\"event_id\":\"{id}\",\
             \"response_id\":\"{}\",\"output_index\":0,\"item_id\":\"{}\",\"content_index\":0,\
             \"delta\":\"{delta}\"}}",
            reply.response, reply.item
        ));
        reply.made += blocks;
        if reply.made == REPLY_BLOCKS {
            self.end_reply(&reply, None, out);
            return;
        }
        let spoken = Duration::from_millis(u64::from(blocks) * 20);
        let made = spoken.div_f64(self.pace.speed);
        reply.due_us += u64::try_from(made.as_micros()).unwrap_or(u64::MAX);
        self.reply = Some(reply);
    }

    /// What the service says at the beginning of an answer.
    fn announce(&mut self, reply: &Reply, out: &mut Vec<String>) {
        let item = json!({"id": reply.item, "object": "realtime.item", "type": "message",
            "status": "in_progress", "role": "assistant", "content": []});
        let format = match self.audio {
            Audio::Mulaw => json!({"type": "audio/pcmu"}),
            Audio::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
        };
        for event in [
            json!({"type": "response.created", "response": {"id": reply.response,
                   "object": "realtime.response", "status": "in_progress", "output": [],
                   "audio": {"output": {"format": format}}}}),
            json!({"type": "response.output_item.added", "response_id": reply.response,
                   "output_index": 0, "item": item}),
            json!({"type": "conversation.item.added", "previous_item_id": null, "item": item}),
            json!({"type": "response.content_part.added", "response_id": reply.response,
                   "output_index": 0, "item_id": reply.item, "content_index": 0,
                   "part": {"type": "audio", "transcript": ""}}),
            json!({"type": "response.output_audio_transcript.delta",
                   "response_id": reply.response, "output_index": 0, "item_id": reply.item,
                   "content_index": 0, "delta": "Words."}),
        ] {
            self.say(event, out);
        }
    }

    /// The audio of the next blocks, as base64.
    fn delta(&self, reply: &Reply, blocks: u32) -> String {
        let mut bytes = Vec::with_capacity(blocks as usize * self.ear.block_bytes());
        for block in reply.made..reply.made + blocks {
            match self.audio {
                Audio::Mulaw => {
                    let call = self.ear.call.unwrap_or_default();
                    let stamp = Stamp { call, reply: reply.number, block, loud: false };
                    bytes.extend_from_slice(&stamp.write());
                }
                Audio::Pcm24k => wide(&plain(true), &mut bytes),
            }
        }
        let mut text = Vec::new();
        codec::base64::encode(&bytes, &mut text);
        String::from_utf8(text).expect("base64 is ASCII")
    }
}

/// Repeats every sample three times: a tone is a tone, and nobody listens.
pub(super) fn wide(ulaw: &[u8], out: &mut Vec<u8>) {
    let mut samples = Vec::with_capacity(ulaw.len());
    codec::g711::ulaw_decode(ulaw, &mut samples);
    for sample in samples {
        for _ in 0..3 {
            out.extend_from_slice(&sample.to_le_bytes());
        }
    }
}
