//! Which key may do what, asked of every operation that is described: nothing without its scope, and
//! nothing with what is another tenant's.

use std::collections::BTreeMap;

use control::access::key::KeyId;
use control::access::scope::RESOURCES;
use control::api::openapi::document;
use control::store::Changed;
use link::id::TenantId;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::web::{ORIGIN, Web};

/// One operation that takes a key.
struct Operation {
    method: Method,
    path: &'static str,
    scope: &'static str,
    id: &'static str,
    body: &'static Value,
}

fn operations() -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().iter();
        for (method, of) in methods.filter(|(method, _)| *method != "parameters") {
            let security = of["security"].as_array().unwrap();
            let Some(scopes) = security.iter().find_map(|one| one.get("key")) else { continue };
            found.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path,
                scope: scopes[0].as_str().unwrap(),
                id: of["operationId"].as_str().unwrap(),
                body: &of["requestBody"]["content"]["application/json"]["example"],
            });
        }
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

impl Operation {
    /// The request of its example, with these ids in its path.
    fn request(&self, web: &Web, ids: &BTreeMap<&str, String>) -> RequestBuilder {
        let mut target = self.path.to_owned();
        for (name, id) in ids {
            target = target.replace(&format!("{{{name}}}"), id);
        }
        assert!(!target.contains('{'), "{}: make something for it to be asked about", self.path);
        let request = web.http.request(self.method.clone(), web.url(&target));
        if self.body.is_null() { request } else { request.json(self.body) }
    }

    fn takes_an_id(&self) -> bool {
        self.path.contains('{')
    }
}

/// Lets a tenant ask as fast as a test does.
async fn unbounded(web: &Web, name: &str) {
    let tenant = TenantId::new(name).unwrap();
    let (store, now) = (&web.plane.store, control::clock::wall());
    store.ensure_tenant(&tenant, now).await.unwrap();
    let actor = KeyId::new("test").unwrap();
    let changed = store
        .change_tenant(&tenant, None, &actor, now, |tenant| {
            tenant.limits.requests_second_max = Some(100_000);
        })
        .await;
    assert!(matches!(changed, Ok(Changed::Done(_))), "{changed:?}");
    web.plane.tenants.refresh().await.unwrap();
}

/// Every scope but one.
fn all_but(scope: &str) -> Vec<String> {
    let words =
        RESOURCES.iter().flat_map(|resource| ["read", "write"].map(|action| (resource, action)));
    words.map(|(resource, action)| format!("{resource}:{action}")).filter(|w| w != scope).collect()
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_key_that_has_every_scope_but_the_needed_one_may_not() {
    let web = Web::start().await;
    unbounded(&web, "default").await;
    let mut keys: BTreeMap<&str, String> = BTreeMap::new();
    for operation in operations() {
        let Operation { method, path, scope, .. } = &operation;
        if !keys.contains_key(scope) {
            let scopes = all_but(scope);
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            keys.insert(*scope, web.key_for("default", &scopes).await);
        }
        let names = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
        let ids = names.map(|name| (name, "x".to_owned())).collect();
        let (status, problem) = web.api_as(&keys[scope], operation.request(&web, &ids)).await;
        assert_eq!((status, code(&problem)), (403, "scope_missing"), "{method} {path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{scope}`")), "{method} {path}: {detail}");
    }
}

#[tokio::test]
async fn a_key_that_has_the_needed_scope_alone_may() {
    let web = Web::start().await;
    unbounded(&web, "default").await;
    let mut keys: BTreeMap<&str, String> = BTreeMap::new();
    // A stream goes on for ever, and needs the same scope as a ticket to it.
    for operation in operations().into_iter().filter(|one| one.id != "watchEvents") {
        let Operation { method, path, scope, .. } = &operation;
        if !keys.contains_key(scope) {
            keys.insert(*scope, web.key_for("default", &[*scope]).await);
        }
        let names = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
        let ids = names.map(|name| (name, "x".to_owned())).collect();
        let (status, answer) = web.api_as(&keys[scope], operation.request(&web, &ids)).await;
        assert_ne!(status, 401, "{method} {path}: {answer}");
        // It may still want to hand on more than it has.
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(!detail.starts_with("This key lacks"), "{method} {path}: {answer}");
    }
}

/// One of everything, of the tenant `default`, by the names that paths give to their ids.
async fn belongings(web: &Web) -> BTreeMap<&'static str, String> {
    let make = async |target: &str, body: Value| {
        let (status, made) = web.post(target, &body).await;
        assert_eq!(status, 201, "{target}: {made}");
        made
    };
    let text = |made: &Value, field: &str| made[field].as_str().unwrap().to_owned();
    let agent = json!({
        "name": "library", "instructions": "x", "provider": {"kind": "openai_realtime"},
    });
    let agent = make("/v1/agents", agent).await;
    let number = make("/v1/numbers", json!({"number": "+15550102"})).await;
    let run = make("/v1/runs", json!({"calls": [{"to": "+15550188"}]})).await;
    let key = make("/v1/keys", json!({"name": "web"})).await;
    let webhook = make("/v1/webhooks", json!({"url": "https://app.example/hook"})).await;
    let (call, _) = web.begun("CA1").await;
    let provider = web.http.put(web.url("/v1/keys/providers/openai"));
    assert_eq!(web.api(provider.json(&json!({"key": "sk-0123456789"}))).await.0, 200);
    assert_eq!(web.api(web.http.put(web.url("/v1/do_not_call/+15550102"))).await.0, 200);
    [
        ("agent", text(&agent, "name")),
        ("number", text(&number, "number")),
        ("call", call.id.as_str().to_owned()),
        ("run", text(&run, "id")),
        ("key", text(&key, "id")),
        ("webhook", text(&webhook, "id")),
        ("provider", "openai".to_owned()),
        ("node", "fra-1".to_owned()),
    ]
    .into()
}

/// What names nothing that is somebody's: whoever asks sets it for themselves.
const OF_NOBODY: [&str; 2] = ["setProviderKey", "addDoNotCall"];

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let ids = belongings(&web).await;
    unbounded(&web, "acme").await;
    let stranger = web.key_for("acme", &["*"]).await;
    let asked = operations().into_iter().filter(|one| one.takes_an_id());
    for operation in asked.filter(|one| !OF_NOBODY.contains(&one.id)) {
        let Operation { method, path, .. } = &operation;
        let (status, problem) = web.api_as(&stranger, operation.request(&web, &ids)).await;
        // Nodes are the operator's alone, and everybody knows that there are some.
        let is_hidden = status == 404 || code(&problem) == "operator_only";
        assert!(is_hidden && code(&problem) != "not_found", "{method} {path}: {status} {problem}");
    }
    for (field, body) in [("call", &ids["call"]), ("run", &ids["run"])] {
        let events = web.http.get(web.url(&format!("/v1/events?{field}={body}")));
        assert_eq!(web.api_as(&stranger, events).await.0, 404, "{field}");
        let ticket = web.http.post(web.url("/v1/events/tickets"));
        let ticket = ticket.json(&json!({field: body, "origin": ORIGIN}));
        assert_eq!(web.api_as(&stranger, ticket).await.0, 404, "{field}");
    }

    // And all of it is as it was.
    for (target, field, value) in [
        (format!("/v1/agents/{}", ids["agent"]), "version", json!(1)),
        (format!("/v1/numbers/{}", ids["number"]), "version", json!(1)),
        (format!("/v1/calls/{}", ids["call"]), "ended_at", Value::Null),
        (format!("/v1/runs/{}", ids["run"]), "calls_total", json!(1)),
        (format!("/v1/keys/{}", ids["key"]), "revoked_at", Value::Null),
        (format!("/v1/webhooks/{}", ids["webhook"]), "disabled_at", Value::Null),
    ] {
        let (status, shown) = web.get(&target).await;
        assert_eq!((status, &shown[field]), (200, &value), "{target}");
    }
    let (_, providers) = web.get("/v1/keys/providers").await;
    assert_eq!(providers["providers"].as_array().unwrap().len(), 1);
    let (_, unwanted) = web.get("/v1/do_not_call").await;
    assert_eq!(unwanted["numbers"].as_array().unwrap().len(), 1);
}
