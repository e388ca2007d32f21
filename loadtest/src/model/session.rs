//! The session object: defaults, and updates that are taken whole or not at all.
//!
//! Rules by OpenAI's SDK types (3.51.0, read 2026-11-20). Fields that only reasoning models or
//! stored prompts need are checked for their type alone.

use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::vad::VadSettings;

/// An audio format that the service speaks and this fake can hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// G.711 mu-law, 8 kHz.
    Pcmu,
    /// 16-bit PCM, 24 kHz.
    Pcm24k,
}

impl Format {
    /// Reads a format. Only PCM has a rate, and only one; the texts of the Beta are no
    /// objects.
    fn read(path: &str, value: &Value) -> Result<Self, Refusal> {
        let fields = Fields::of(path, value, &["type", "rate"])?;
        match fields.one_of("type", &["audio/pcm", "audio/pcmu", "audio/pcma"])? {
            "audio/pcm" => match fields.maybe("rate").map(Value::as_u64) {
                None | Some(Some(24_000)) => Ok(Self::Pcm24k),
                Some(_) => Err(Refusal::value(&fields.name("rate"), "24000")),
            },
            _ if fields.maybe("rate").is_some() => Err(Refusal::unknown(&fields.name("rate"))),
            "audio/pcmu" => Ok(Self::Pcmu),
            _ => {
                Err(Refusal::value(&fields.name("type"), "audio/pcm and audio/pcmu, in this fake"))
            }
        }
    }

    /// As the session shows it.
    pub(crate) fn json(self) -> Value {
        match self {
            Self::Pcmu => json!({"type": "audio/pcmu"}),
            Self::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
        }
    }

    /// Bytes of one millisecond.
    pub(crate) fn bytes_per_ms(self) -> usize {
        match self {
            Self::Pcmu => 8,
            Self::Pcm24k => 48,
        }
    }

    /// Samples of one second.
    pub(crate) fn rate_hz(self) -> usize {
        match self {
            Self::Pcmu => 8_000,
            Self::Pcm24k => 24_000,
        }
    }
}

/// How turns are found, and what happens at their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TurnRules {
    /// The detector.
    pub(crate) vad: VadSettings,
    /// Whether the end of a turn is answered without being asked.
    pub(crate) create_response: bool,
    /// Whether the start of a turn cancels the answer that is being made.
    pub(crate) interrupt_response: bool,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    shown: Value,
    /// The format of appended audio.
    pub(crate) input: Format,
    /// The format of answers.
    pub(crate) output: Format,
    /// `None` when turn detection is off.
    pub(crate) turns: Option<TurnRules>,
    /// Whether what the caller says is written down.
    pub(crate) transcribes: bool,
}

impl Session {
    /// The session that a connection begins with. Its defaults are no phone's.
    pub(crate) fn new(id: &str, model: &str, expires_at: u64) -> Self {
        let turns = TurnRules {
            vad: VadSettings { threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 200 },
            create_response: true,
            interrupt_response: true,
        };
        let shown = json!({
            "type": "realtime", "object": "realtime.session", "id": id, "model": model,
            "output_modalities": ["audio"], "instructions": "You are a helpful assistant.",
            "tools": [], "tool_choice": "auto", "max_output_tokens": "inf", "tracing": null,
            "truncation": "auto", "prompt": null, "expires_at": expires_at,
            "audio": {
                "input": {
                    "format": Format::Pcm24k.json(), "transcription": null,
                    "noise_reduction": null, "turn_detection": turn_detection(turns),
                },
                "output": {"format": Format::Pcm24k.json(), "voice": "alloy", "speed": 1.0},
            },
            "include": null,
        });
        let (input, output) = (Format::Pcm24k, Format::Pcm24k);
        Self { shown, input, output, turns: Some(turns), transcribes: false }
    }

    /// The session as the service shows it.
    pub(crate) fn json(&self) -> &Value {
        &self.shown
    }

    /// The voice, as the service shows it.
    pub(crate) fn voice(&self) -> &Value {
        &self.shown["audio"]["output"]["voice"]
    }

    /// Applies an update: all of it, or, when anything in it is refused, nothing.
    ///
    /// # Errors
    /// The first field that is refused.
    pub(crate) fn updated(&self, update: &Value, spoken: Spoken) -> Result<Self, Refusal> {
        let fields = Fields::of("session", update, &SESSION_FIELDS)?;
        fields.one_of("type", &["realtime"])?;
        let mut next = self.clone();
        if let Some(model) = fields.maybe_text("model")?
            && self.shown["model"] != model
        {
            return Err(Refusal::value("session.model", "the model that the session began with"));
        }
        if let Some(modalities) = fields.maybe("output_modalities")
            && modalities != &json!(["audio"])
        {
            return Err(Refusal::value("session.output_modalities", "[\"audio\"], in this fake"));
        }
        if let Some(text) = fields.maybe_text("instructions")? {
            next.shown["instructions"] = text.into();
        }
        if let Some(tools) = fields.maybe("tools") {
            check_tools(tools)?;
            next.shown["tools"] = tools.clone();
        }
        if let Some(choice) = fields.maybe("tool_choice") {
            check_tool_choice("session.tool_choice", choice)?;
            next.shown["tool_choice"] = choice.clone();
        }
        if let Some(most) = fields.maybe("max_output_tokens") {
            check_max_tokens("session.max_output_tokens", most)?;
            next.shown["max_output_tokens"] = most.clone();
        }
        fields.maybe_flag("parallel_tool_calls")?;
        for key in ["truncation", "tracing", "prompt", "include", "reasoning"] {
            if let Some(value) = fields.maybe(key) {
                next.shown[key] = value.clone();
            }
        }
        if let Some(audio) = fields.maybe("audio") {
            let audio = Fields::of("session.audio", audio, &["input", "output"])?;
            audio.maybe("input").map_or(Ok(()), |input| next.set_input(input))?;
            audio.maybe("output").map_or(Ok(()), |output| next.set_output(output, spoken))?;
        }
        Ok(next)
    }

    /// Takes the part of an update that concerns what the client sends.
    fn set_input(&mut self, input: &Value) -> Result<(), Refusal> {
        const KNOWN: [&str; 4] = ["format", "noise_reduction", "transcription", "turn_detection"];
        let fields = Fields::of("session.audio.input", input, &KNOWN)?;
        let shown = &mut self.shown["audio"]["input"];
        if let Some(format) = fields.maybe("format") {
            self.input = Format::read("session.audio.input.format", format)?;
            shown["format"] = self.input.json();
        }
        if let Some(reduction) = fields.maybe("noise_reduction") {
            check_noise_reduction(reduction)?;
            shown["noise_reduction"] = reduction.clone();
        }
        if let Some(transcription) = fields.maybe("transcription") {
            check_transcription(transcription)?;
            self.transcribes = !transcription.is_null();
            shown["transcription"] = transcription.clone();
        }
        if let Some(detection) = fields.maybe("turn_detection") {
            self.turns = read_turn_detection(detection)?;
            shown["turn_detection"] = self.turns.map_or(Value::Null, turn_detection);
        }
        Ok(())
    }

    /// Takes the part of an update that concerns what the service sends.
    fn set_output(&mut self, output: &Value, spoken: Spoken) -> Result<(), Refusal> {
        let fields = Fields::of("session.audio.output", output, &["format", "voice", "speed"])?;
        let shown = &mut self.shown["audio"]["output"];
        if let Some(format) = fields.maybe("format") {
            self.output = Format::read("session.audio.output.format", format)?;
            shown["format"] = self.output.json();
        }
        if let Some(voice) = fields.maybe("voice") {
            check_voice("session.audio.output.voice", voice)?;
            if spoken == Spoken::Already && shown["voice"] != *voice {
                return Err(Refusal::new(
                    "cannot_update_voice",
                    "Cannot update a conversation's voice if assistant audio is present.",
                ));
            }
            shown["voice"] = voice.clone();
        }
        if let Some(speed) = fields.number_in("speed", 0.25..=1.5)? {
            shown["speed"] = speed.into();
        }
        Ok(())
    }
}

/// Whether the model has spoken: from then on its voice is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// It has not.
    NotYet,
    /// It has.
    Already,
}

/// Turn detection as the session shows it, every default filled in.
fn turn_detection(rules: TurnRules) -> Value {
    json!({
        "type": "server_vad", "threshold": rules.vad.threshold,
        "prefix_padding_ms": rules.vad.prefix_padding_ms,
        "silence_duration_ms": rules.vad.silence_duration_ms, "idle_timeout_ms": null,
        "create_response": rules.create_response, "interrupt_response": rules.interrupt_response,
    })
}

/// Reads turn detection. The semantic kind is not understood here: it is no choice for a phone
/// line, where it has been seen never to fire.
fn read_turn_detection(value: &Value) -> Result<Option<TurnRules>, Refusal> {
    const PATH: &str = "session.audio.input.turn_detection";
    if value.is_null() {
        return Ok(None);
    }
    let fields = Fields::of(PATH, value, &TURN_FIELDS)?;
    fields.one_of("type", &["server_vad"])?;
    let whole = |key: &str, default: u64| match fields.maybe(key) {
        Some(_) => fields.whole(key),
        None => Ok(default),
    };
    if let Some(idle) = fields.maybe("idle_timeout_ms")
        && !idle.is_null()
    {
        let idle = fields.number_in("idle_timeout_ms", 5_000.0..=30_000.0)?;
        if idle.is_some_and(|ms| ms.fract() != 0.0) {
            return Err(Refusal::value(&fields.name("idle_timeout_ms"), "an integer"));
        }
    }
    Ok(Some(TurnRules {
        vad: VadSettings {
            threshold: fields.number_in("threshold", 0.0..=1.0)?.unwrap_or(0.5),
            prefix_padding_ms: whole("prefix_padding_ms", 300)?,
            silence_duration_ms: whole("silence_duration_ms", 500)?,
        },
        create_response: fields.maybe_flag("create_response")?.unwrap_or(true),
        interrupt_response: fields.maybe_flag("interrupt_response")?.unwrap_or(true),
    }))
}

/// Checks noise reduction, which this fake does not do.
fn check_noise_reduction(value: &Value) -> Result<(), Refusal> {
    if value.is_null() {
        return Ok(());
    }
    let fields = Fields::of("session.audio.input.noise_reduction", value, &["type", "strength"])?;
    fields.one_of("type", &["near_field", "far_field"])?;
    fields.number_in("strength", 0.0..=1.0).map(|_| ())
}

/// Checks transcription. The model's name is what most often goes out of date.
fn check_transcription(value: &Value) -> Result<(), Refusal> {
    const KNOWN: [&str; 6] = ["model", "language", "prompt", "languages", "keywords", "delay"];
    if value.is_null() {
        return Ok(());
    }
    let fields = Fields::of("session.audio.input.transcription", value, &KNOWN)?;
    let models = ["gpt-transcribe", "gpt-live-transcribe", "whisper-1", "gpt-4o-transcribe"];
    fields.one_of("model", &models)?;
    fields.maybe_text("language")?;
    fields.maybe_text("prompt").map(|_| ())
}

/// Checks a voice: a name of the list, or an object with the id of a custom one.
///
/// # Errors
/// When it is neither.
pub(crate) fn check_voice(path: &str, value: &Value) -> Result<(), Refusal> {
    if value.is_object() {
        return Fields::of(path, value, &["id"])?.text("id").map(|_| ());
    }
    let listed = value.as_str().is_some_and(|name| VOICES.contains(&name));
    if listed { Ok(()) } else { Err(Refusal::value(path, &VOICES.join(", "))) }
}

/// Checks every tool. MCP tools are not understood here.
fn check_tools(value: &Value) -> Result<(), Refusal> {
    let Value::Array(tools) = value else {
        return Err(Refusal::wrong_type("session.tools", "an array", value));
    };
    for (at, tool) in tools.iter().enumerate() {
        let path = format!("session.tools[{at}]");
        let fields = Fields::of(&path, tool, &["type", "name", "description", "parameters"])?;
        fields.one_of("type", &["function"])?;
        let name = fields.text("name")?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(Refusal::value(&fields.name("name"), "1 to 64 of a-z, A-Z, 0-9, _ and -"));
        }
        fields.maybe_text("description")?;
        if let Some(schema) = fields.maybe("parameters")
            && schema["type"] != "object"
        {
            return Err(Refusal::value(&fields.name("parameters"), "a JSON Schema of an object"));
        }
    }
    Ok(())
}

/// Checks a tool choice.
///
/// # Errors
/// When it is neither a word of the list nor the name of a function.
pub(crate) fn check_tool_choice(path: &str, value: &Value) -> Result<(), Refusal> {
    if let Value::Object(_) = value {
        let fields = Fields::of(path, value, &["type", "name"])?;
        fields.one_of("type", &["function"])?;
        return fields.text("name").map(|_| ());
    }
    match value.as_str() {
        Some("auto" | "none" | "required") => Ok(()),
        _ => Err(Refusal::value(path, "auto, none, required, or a function")),
    }
}

/// Checks a bound of an answer's tokens.
///
/// # Errors
/// When it is outside 1 to 4,096 and not `"inf"`.
pub(crate) fn check_max_tokens(path: &str, value: &Value) -> Result<(), Refusal> {
    let allowed = value == "inf" || value.as_u64().is_some_and(|most| (1..=4_096).contains(&most));
    if allowed { Ok(()) } else { Err(Refusal::value(path, "1 to 4096, or \"inf\"")) }
}

/// Every field of a session that a client may set. There is no `temperature`.
const SESSION_FIELDS: [&str; 14] = [
    "type",
    "model",
    "output_modalities",
    "instructions",
    "audio",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_output_tokens",
    "truncation",
    "prompt",
    "tracing",
    "include",
];

/// Every field of server-side turn detection.
const TURN_FIELDS: [&str; 7] = [
    "type",
    "threshold",
    "prefix_padding_ms",
    "silence_duration_ms",
    "idle_timeout_ms",
    "create_response",
    "interrupt_response",
];

/// Every voice of the interface; names of other products' voices give noise on the real
/// service.
const VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

#[cfg(test)]
mod tests {
    use super::*;

    fn update(update: &Value) -> Result<Session, Refusal> {
        Session::new("sess_1", "m", 0).updated(update, Spoken::NotYet)
    }

    fn refused(change: &Value) -> (Option<&'static str>, Option<String>) {
        let mut whole = json!({"type": "realtime"});
        let whole_map = whole.as_object_mut().unwrap();
        whole_map.extend(change.as_object().unwrap().clone());
        let refusal = update(&whole).unwrap_err();
        (refusal.code, refusal.param)
    }

    #[test]
    fn a_phone_session_is_shown_back() {
        let session = update(&json!({
            "type": "realtime", "instructions": "Be brief.", "max_output_tokens": 1024,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"}, "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
        }))
        .unwrap();
        assert_eq!(session.input, Format::Pcmu);
        assert_eq!(session.turns.unwrap().vad.silence_duration_ms, 500);
        assert!(session.transcribes);
        assert_eq!(session.json()["audio"]["output"]["format"], json!({"type": "audio/pcmu"}));
        assert_eq!(session.json()["audio"]["input"]["turn_detection"]["create_response"], true);
    }

    #[test]
    fn the_type_is_needed_on_every_update() {
        let refusal = update(&json!({"instructions": "x"})).unwrap_err();
        assert_eq!(refusal.code, Some("missing_required_parameter"));
        assert_eq!(refusal.param.as_deref(), Some("session.type"));
    }

    #[test]
    fn one_unknown_field_refuses_everything() {
        let beta = refused(&json!({"instructions": "x", "input_audio_format": "g711_ulaw"}));
        assert_eq!(beta, (Some("unknown_parameter"), Some("session.input_audio_format".into())));
        let deep = refused(&json!({"audio": {"input": {"turn_detection":
            {"type": "server_vad", "treshold": 0.5}}}}));
        assert_eq!(deep.1.unwrap(), "session.audio.input.turn_detection.treshold");
        assert_eq!(refused(&json!({"temperature": 0.8})).0, Some("unknown_parameter"));
    }

    #[test]
    fn formats_are_objects_without_a_rate_for_mu_law() {
        let input = |format: Value| refused(&json!({"audio": {"input": {"format": format}}}));
        assert_eq!(input(json!("g711_ulaw")).0, Some("invalid_type"));
        let (code, param) = input(json!({"type": "audio/pcmu", "rate": 8000}));
        assert_eq!(code, Some("unknown_parameter"));
        assert_eq!(param.unwrap(), "session.audio.input.format.rate");
        assert_eq!(input(json!({"type": "audio/pcm", "rate": 16000})).0, Some("invalid_value"));
    }

    #[test]
    fn values_outside_their_bounds_are_refused() {
        for change in [
            json!({"max_output_tokens": 0}),
            json!({"max_output_tokens": 4097}),
            json!({"output_modalities": ["audio", "text"]}),
            json!({"audio": {"output": {"voice": "onyx"}}}),
            json!({"audio": {"output": {"speed": 2.0}}}),
            json!({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}}),
            json!({"audio": {"input": {"transcription": {"model": "whisper-9"}}}}),
            json!({"tools": [{"type": "function", "name": "end call"}]}),
            json!({"tool_choice": "always"}),
            json!({"model": "another"}),
        ] {
            assert_eq!(refused(&change).0, Some("invalid_value"), "{change}");
        }
        for change in [
            json!({"tools": {}}),
            json!({"audio": {"input": {"turn_detection":
                {"type": "server_vad", "prefix_padding_ms": 300.5}}}}),
        ] {
            assert_eq!(refused(&change).0, Some("invalid_type"), "{change}");
        }
    }

    #[test]
    fn the_voice_is_fixed_once_it_was_heard() {
        let session = Session::new("sess_1", "m", 0);
        let change = json!({"type": "realtime", "audio": {"output": {"voice": "marin"}}});
        assert!(session.updated(&change, Spoken::NotYet).is_ok());
        let refusal = session.updated(&change, Spoken::Already).unwrap_err();
        assert_eq!(refusal.code, Some("cannot_update_voice"));
    }
}
