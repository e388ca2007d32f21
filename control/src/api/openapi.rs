//! What describes the API: an OpenAPI 3.1 document, put together from a piece for each resource
//! (`openapi/*.json`), and the page made of it ([`docs`]).
//!
//! Tests hold it against the code: every answer that a test gets is checked against the schema of
//! its route, every route of the code is described, and every description has its examples. Which
//! scope an operation takes is not written there: it comes from where it is checked.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::docs;
use crate::access::scope::Scope;

/// The pieces, in the order in which the page shows them.
const PIECES: [&str; 16] = [
    include_str!("openapi/base.json"),
    include_str!("openapi/agents.json"),
    include_str!("openapi/numbers.json"),
    include_str!("openapi/calls.json"),
    include_str!("openapi/runs.json"),
    include_str!("openapi/sessions.json"),
    include_str!("openapi/events.json"),
    include_str!("openapi/tickets.json"),
    include_str!("openapi/webhooks.json"),
    include_str!("openapi/usage.json"),
    include_str!("openapi/nodes.json"),
    include_str!("openapi/tenant.json"),
    include_str!("openapi/keys.json"),
    include_str!("openapi/do_not_call.json"),
    include_str!("openapi/carrier.json"),
    include_str!("openapi/compat.json"),
];

/// `/openapi.json` and `/docs`: for everybody, since they say nothing about anybody.
pub fn routes() -> BoxedFilter<(Response,)> {
    let document = warp::path!("openapi.json")
        .and(warp::get())
        .map(|| warp::reply::json(&*DOCUMENT).into_response());
    let page = warp::path!("docs")
        .and(warp::get())
        .map(|| warp::reply::html(PAGE.as_str()).into_response());
    document.or(page).unify().boxed()
}

/// The whole document.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Puts the pieces together.
///
/// # Panics
/// When a piece is no JSON, which every test of this file would have seen.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let pieces = PIECES.map(|piece| serde_json::from_str(piece).expect("a piece is JSON"));
    with_scopes(pieces.into_iter().reduce(merged).unwrap_or_default())
});

static PAGE: LazyLock<String> = LazyLock::new(|| docs::page(&DOCUMENT));

/// Two values as one: objects by their keys, of anything else the later.
fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, value) in other {
                let before = one.remove(&key).unwrap_or_default();
                one.insert(key, merged(before, value));
            }
            Value::Object(one)
        }
        (_, other) => other,
    }
}

/// Says of every operation that takes a key which scope the key needs.
fn with_scopes(mut document: Value) -> Value {
    for (path, methods) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            // What all operations of a path share is a list.
            let Some(operation) = operation.as_object_mut() else { continue };
            let method = Method::from_bytes(method.to_uppercase().as_bytes());
            let scope = method.ok().and_then(|method| Scope::of(&method, path));
            let scope = scope.map_or_else(|| "*".to_owned(), |scope| scope.to_string());
            operation.entry("security").or_insert_with(|| json!([{"key": [scope]}]));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` in a value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        references(document, &mut used);
        for reference in &used {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            // The shapes of events are for readers: their stream is text.
            let is_shown = ["Event", "Ephemeral"].contains(&name.as_str());
            let is_used = is_shown || used.contains(&format!("#/components/schemas/{name}"));
            assert!(is_used, "{name} is used nowhere");
        }
    }

    #[test]
    fn no_two_pieces_describe_one_path() {
        let pieces = PIECES.map(|piece| serde_json::from_str::<Value>(piece).unwrap());
        let many: usize =
            pieces.iter().map(|piece| piece["paths"].as_object().unwrap().len()).sum();
        assert_eq!(document()["paths"].as_object().unwrap().len(), many);
    }

    /// Every operation, with its method and its path.
    fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
        let mut found = Vec::new();
        for (path, methods) in document()["paths"].as_object().unwrap() {
            let methods = methods.as_object().unwrap().iter();
            let operations = methods.filter(|(method, _)| *method != "parameters");
            found.extend(operations.map(|(method, of)| (method.as_str(), path.as_str(), of)));
        }
        found
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for (_, path, operation) in operations() {
            let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{path}"));
            assert!(names.insert(name), "{name} twice");
            assert!(operation["summary"].as_str().unwrap().ends_with(['.', '?']), "{path}");
        }
    }

    #[test]
    fn every_tag_has_a_sentence_and_an_operation() {
        let tags = document()["tags"].as_array().unwrap();
        let tags: BTreeSet<_> = tags
            .iter()
            .map(|tag| {
                assert!(tag["description"].as_str().unwrap().ends_with('.'), "{tag}");
                tag["name"].as_str().unwrap()
            })
            .collect();
        let used: BTreeSet<_> =
            operations().iter().map(|(_, _, of)| of["tags"][0].as_str().unwrap()).collect();
        assert_eq!(tags, used);
    }

    #[test]
    fn every_operation_that_takes_a_key_says_the_scope_that_is_checked() {
        for (method, path, operation) in operations() {
            let security = operation["security"].as_array().unwrap();
            for scopes in security.iter().filter_map(|one| one.get("key")) {
                let method = method.to_uppercase().parse().unwrap();
                let scope = Scope::of(&method, path).unwrap_or_else(|| panic!("{path}"));
                assert_eq!(*scopes, json!([scope.to_string()]), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_parameter_of_a_path_is_described() {
        for (method, path, operation) in operations() {
            let shared = document()["paths"][path]["parameters"].as_array();
            let own = operation["parameters"].as_array();
            let all = shared.into_iter().chain(own).flatten().map(|parameter| {
                let reference = parameter["$ref"].as_str().map(|text| &text[1..]);
                reference.map_or(parameter, |pointer| document().pointer(pointer).unwrap())
            });
            let described: BTreeSet<_> = all
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let braces = path.split('{').skip(1);
            let named: BTreeSet<_> =
                braces.map(|rest| rest.split('}').next().unwrap_or_default()).collect();
            assert_eq!(described, named, "{method} {path}");
        }
    }

    #[test]
    fn every_body_and_every_good_answer_has_an_example() {
        for (method, path, operation) in operations() {
            let bodies = operation["requestBody"]["content"].as_object().into_iter().flatten();
            for (kind, media) in bodies {
                assert!(!media["example"].is_null(), "{method} {path}: the body as {kind}");
            }
            let answers = operation["responses"].as_object().unwrap();
            let good: Vec<_> = answers.iter().filter(|(status, _)| *status != "default").collect();
            assert!(!good.is_empty(), "{method} {path}");
            for (status, answer) in good {
                for (kind, media) in answer["content"].as_object().into_iter().flatten() {
                    let has = !media["example"].is_null();
                    assert!(has, "{method} {path}: the answer {status} as {kind}");
                }
            }
        }
    }

    #[test]
    fn whatever_is_created_can_be_asked_for_again() {
        for (method, path, operation) in operations() {
            // A ticket is signed and not stored, so that one more does no harm.
            let creates = method == "post" && !operation["responses"]["201"].is_null();
            if creates && path.starts_with("/v1/") && path != "/v1/events/tickets" {
                let parameters = operation["parameters"].as_array().unwrap();
                let names = ["#/components/parameters/once", "#/components/parameters/once_secret"];
                let is_once = |one: &Value| names.iter().any(|name| one["$ref"] == **name);
                assert!(parameters.iter().any(is_once), "{path}");
            }
        }
    }
}
