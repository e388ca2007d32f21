//! What the service says no with.

use serde::Serialize;
use serde_json::{Value, json};

/// An `error` event in the making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refusal {
    /// The service's code; some errors have none.
    pub(crate) code: Option<&'static str>,
    /// A sentence.
    pub(crate) message: String,
    /// The field that is meant, where there is one.
    pub(crate) param: Option<String>,
}

impl Refusal {
    /// A refusal that concerns no field.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into(), param: None }
    }

    /// A field that the interface does not have.
    pub(crate) fn unknown(param: &str) -> Self {
        Self::about("unknown_parameter", format!("Unknown parameter: '{param}'."), param)
    }

    /// A field that must be there.
    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::about("missing_required_parameter", message, param)
    }

    /// A field of the wrong JSON type.
    pub(crate) fn wrong_type(param: &str, wanted: &str, given: &Value) -> Self {
        let kind = match given {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_f64() => "a decimal",
            Value::Number(_) => "an integer",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let message = format!("Invalid type for '{param}': expected {wanted}, got {kind} instead.");
        Self::about("invalid_type", message, param)
    }

    /// A field with a value that is not allowed.
    pub(crate) fn value(param: &str, allowed: &str) -> Self {
        let message = format!("Invalid value for '{param}'. Supported: {allowed}.");
        Self::about("invalid_value", message, param)
    }

    /// A refusal that names a field, in the message and in `param`.
    fn about(code: &'static str, message: String, param: &str) -> Self {
        Self { code: Some(code), message, param: Some(param.to_owned()) }
    }

    /// The event, without its id.
    pub(crate) fn event(&self, client_event: Option<&str>) -> Value {
        json!({
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "event_id": client_event,
            },
        })
    }
}
