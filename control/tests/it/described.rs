//! The API's description held against what the API does: every answer that a test gets is looked up
//! in the document, and its body checked against the schema that stands there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use control::api::openapi::document;
use serde_json::{Value, json};

use super::web::{Web, answer};

/// Checks one answer.
///
/// # Panics
/// When the document has no such operation, no such status, or another shape.
pub(crate) fn check(method: &str, path: &str, status: u16, kind: &str, body: &Value) {
    let document = document();
    let (template, operation) = operation(document, method, path);
    let responses = operation["responses"].as_object().unwrap();
    let name = status.to_string();
    let response = responses.get(&name).or(responses.get("default").filter(|_| status >= 400));
    let response = response.unwrap_or_else(|| panic!("{method} {template} does not say {status}"));
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => response,
    };
    let Some(content) = response["content"].as_object() else { return };
    let kind = kind.split(';').next().unwrap();
    let media = content.get(kind);
    let media = media.unwrap_or_else(|| panic!("{method} {template} {status} is not {kind}"));
    if kind.ends_with("json") {
        fits(&media["schema"], body, &format!("{method} {template} {status}"));
    }
}

/// Checks a value against a schema of the document.
pub(crate) fn fits(schema: &Value, value: &Value, what: &str) {
    // References are looked up from the root, so the schema gets one with all others in it.
    let rooted = json!({"allOf": [schema], "components": document()["components"]});
    let validator = jsonschema::validator_for(&rooted).unwrap();
    let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

/// The operation that a request asks, and its path as it is written.
fn operation<'a>(document: &'a Value, method: &str, path: &str) -> (&'a str, &'a Value) {
    let paths = document["paths"].as_object().unwrap();
    // A path without a parameter goes before one with.
    let (template, methods) = paths
        .iter()
        .filter(|(template, _)| matches(template, path))
        .min_by_key(|(template, _)| template.matches('{').count())
        .unwrap_or_else(|| panic!("{path} is not described in control/src/api/openapi/"));
    let operation = &methods[&method.to_lowercase()];
    assert!(!operation.is_null(), "{method} {template} is not described");
    (template, operation)
}

fn matches(template: &str, path: &str) -> bool {
    let (wanted, given) = (template.split('/'), path.split('/'));
    wanted.clone().count() == given.clone().count()
        && wanted.zip(given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

#[test]
fn every_example_fits_its_own_schema() {
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let bodies = operation["requestBody"]["content"].as_object().into_iter().flatten();
            let answers = operation["responses"].as_object().into_iter().flatten();
            let answers = answers.flat_map(|(_, answer)| answer["content"].as_object()).flatten();
            for (kind, media) in bodies.chain(answers) {
                if kind.ends_with("json") && !media["example"].is_null() {
                    fits(&media["schema"], &media["example"], &format!("{method} {path}"));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_described_route_is_there() {
    let web = Web::start().await;
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let mut target = path.clone();
            while let (Some(from), Some(to)) = (target.find('{'), target.find('}')) {
                target.replace_range(from..=to, "x");
            }
            let method = method.to_uppercase().parse().unwrap();
            // Without a key: whoever is refused for that has been recognised.
            let request = web.http.request(method, web.url(&target));
            let (status, body) = answer(request).await;
            let is_there = !body.contains("\"not_found\"") && status != 405;
            assert!(is_there, "{path}: {status} {body}");
        }
    }
}

/// Every `.rs` file below a folder of this crate.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

/// A path as it is compared: whatever its parameters are called.
fn bare(path: &str) -> String {
    let words = path.split('/').map(|word| if word.starts_with('{') { "{}" } else { word });
    words.collect::<Vec<_>>().join("/")
}

/// The path of a `warp::path!(...)` without spaces, and what follows it.
fn path_of(rest: &str) -> (String, &str) {
    let (words, after) = rest.split_once(')').unwrap();
    let words = words.split('/').map(|word| match word.strip_prefix('"') {
        Some(literal) => literal.strip_suffix('"').unwrap(),
        None => "{}",
    });
    (format!("/{}", words.collect::<Vec<_>>().join("/")), after)
}

/// The method that a filter lets pass, from the text behind its path.
fn method_of(after: &str) -> Option<&str> {
    // A group of routes may be off as a whole.
    let off = [".and(on(plane))", ".and(compat::on(plane))"];
    let after = off.iter().find_map(|off| after.strip_prefix(off)).unwrap_or(after);
    // Whatever the carrier has signed is a POST.
    if after.starts_with(".and(signed(") {
        return Some("post");
    }
    after.strip_prefix(".and(warp::")?.split_once("())").map(|(method, _)| method)
}

/// The routes that a file makes, as method and path. A path that has a name is one where it is used.
fn routes_of(code: &str) -> Vec<(String, String)> {
    let code: String = code.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, start) in code.match_indices("warp::path!(") {
        let (path, after) = path_of(&code[at + start.len()..]);
        if let Some(method) = method_of(after) {
            found.push((method.to_owned(), path));
            continue;
        }
        let before = code[..at].strip_suffix('=').and_then(|before| before.rsplit_once("let"));
        let Some((_, name)) = before else { panic!("{path}: neither a route nor a name") };
        // Until the name is given to something else.
        let end = after.find(&format!("let{name}=")).unwrap_or(after.len());
        let start = format!("{name}.and(");
        let uses = after[..end].match_indices(start.as_str());
        let methods: Vec<_> =
            uses.filter_map(|(at, _)| method_of(&after[at + name.len()..end])).collect();
        assert!(!methods.is_empty(), "{path} is used nowhere");
        found.extend(methods.into_iter().map(|method| (method.to_owned(), path.clone())));
    }
    found
}

#[test]
fn every_route_of_the_code_is_described() {
    let mut described = BTreeSet::new();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
        described.extend(methods.map(|method| (method.clone(), bare(path))));
    }
    let files = sources("src/api").into_iter().chain(sources("src/twilio"));
    let there: BTreeSet<_> = files.flat_map(|(_, code)| routes_of(&code)).collect();
    let missing: Vec<_> = there.difference(&described).collect();
    assert!(missing.is_empty(), "not described in control/src/api/openapi/: {missing:#?}");
    let gone: Vec<_> = described.difference(&there).collect();
    assert!(gone.is_empty(), "described, and not in the code: {gone:#?}");
}

/// The words between a text and the next quote.
fn words_behind<'a>(code: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(before).skip(1).map(|rest| rest.split('"').next().unwrap())
}

#[test]
fn every_type_of_event_is_described() {
    let shapes = document()["components"]["schemas"]["Event"]["oneOf"].as_array().unwrap();
    let described: BTreeSet<_> = shapes
        .iter()
        .map(|shape| shape["allOf"][1]["properties"]["type"]["const"].as_str().unwrap())
        .collect();
    let mut told = BTreeSet::new();
    for (_, code) in sources("src/store") {
        told.extend(words_behind(&code, "kind: \"").map(str::to_owned));
        told.extend(words_behind(&code, "fact(\"").map(str::to_owned));
    }
    let (_, events) =
        sources("../link/src").into_iter().find(|(path, _)| path.ends_with("event.rs")).unwrap();
    told.extend(words_behind(&events, "rename = \"").map(str::to_owned));
    // What a relay of a newer release says is stored under its own name.
    told.remove("unknown");
    for kind in &told {
        assert!(described.contains(kind.as_str()), "{kind} is not described in events.json");
    }
    assert!(told.len() > 15 && described.contains("reset"), "{told:?}");
}

#[tokio::test]
async fn the_document_and_its_page_are_served_to_everybody() {
    let web = Web::start().await;
    let (status, body) = answer(web.http.get(web.url("/openapi.json"))).await;
    let served: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &served), (200, document()));
    let (status, page) = answer(web.http.get(web.url("/docs"))).await;
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>") && page.contains("POST"));
}
