//! The API as a page: the OpenAPI document written out in HTML, without scripts, so that it can be
//! read anywhere. Every operation has an example that can be pasted into a shell.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The whole page.
#[must_use]
pub fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = Page { document, html: String::with_capacity(64 * 1024) };
    page.raw(HEAD);
    page.raw("<nav><h1>Linecard API</h1><ul>");
    for tag in page.tags() {
        page.link(tag);
    }
    page.raw("<li><a href=\"/openapi.json\">openapi.json</a></li></ul></nav><main>");
    page.paragraph(&info["description"]);
    for tag in page.tags() {
        page.section(tag);
    }
    page.raw("</main></body></html>\n");
    page.html
}

/// A page under way.
struct Page<'a> {
    document: &'a Value,
    html: String,
}

/// One operation of the document.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    /// Of all operations of the path.
    shared: &'a Value,
    of: &'a Value,
}

impl<'a> Page<'a> {
    fn tags(&self) -> Vec<&'a Value> {
        self.document["tags"].as_array().into_iter().flatten().collect()
    }

    /// The operations of a tag, by path.
    fn operations(&self, tag: &Value) -> Vec<Operation<'a>> {
        let mut found = Vec::new();
        for (path, methods) in self.document["paths"].as_object().into_iter().flatten() {
            for (method, of) in methods.as_object().into_iter().flatten() {
                let is_of_tag =
                    of["tags"].as_array().is_some_and(|tags| tags.contains(&tag["name"]));
                if is_of_tag {
                    found.push(Operation { method, path, shared: &methods["parameters"], of });
                }
            }
        }
        found
    }

    fn link(&mut self, tag: &Value) {
        let name = escaped(text(&tag["name"]));
        let _ = write!(self.html, "<li><a href=\"#{name}\">{name}</a></li>");
    }

    fn section(&mut self, tag: &Value) {
        let name = escaped(text(&tag["name"]));
        let _ = write!(self.html, "<section id=\"{name}\"><h2>{name}</h2>");
        self.paragraph(&tag["description"]);
        for operation in self.operations(tag) {
            self.operation(&operation);
        }
        if tag["name"] == "events" {
            self.events();
        }
        self.raw("</section>");
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let Operation { method, path, of, .. } = operation;
        let _ = write!(
            self.html,
            "<article id=\"{}\"><h3><b>{}</b> <code>{}</code></h3>",
            escaped(text(&of["operationId"])),
            method.to_uppercase(),
            escaped(path),
        );
        self.paragraph(&of["summary"]);
        self.paragraph(&of["description"]);
        self.scope(of);
        self.parameters(operation);
        if let Some(schema) = self.body(of).map(|(_, media)| &media["schema"]) {
            self.fields("Body", schema);
        }
        self.code(&self.curl(operation));
        for (status, response) in of["responses"].as_object().into_iter().flatten() {
            if status == "default" {
                continue;
            }
            let response = self.resolved(response);
            let _ = write!(self.html, "<h4>{status}</h4>");
            self.paragraph(&response["description"]);
            for (kind, media) in response["content"].as_object().into_iter().flatten() {
                if kind == "application/json" {
                    let sample = self.sample_of(media);
                    self.code(&pretty(&sample));
                } else if let Some(example) = media["example"].as_str() {
                    self.code(example);
                }
            }
        }
        self.raw("</article>");
    }

    /// What the key must have that asks.
    fn scope(&mut self, of: &Value) {
        if let Some(scope) = of["security"][0]["key"][0].as_str() {
            let _ = write!(self.html, "<p>Scope: <code>{}</code></p>", escaped(scope));
        }
    }

    /// The parameters of an operation, those that all operations of its path share first.
    fn parameters_of<'b>(&self, operation: &Operation<'b>) -> Vec<&'b Value>
    where
        'a: 'b,
    {
        let own = operation.of["parameters"].as_array().into_iter().flatten();
        let all = operation.shared.as_array().into_iter().flatten().chain(own);
        all.map(|parameter| self.resolved(parameter)).collect()
    }

    fn parameters(&mut self, operation: &Operation<'_>) {
        let all = self.parameters_of(operation);
        if all.is_empty() {
            return;
        }
        self.raw("<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>");
        for parameter in all {
            let _ = write!(
                self.html,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
                marked(text(&parameter["description"])),
            );
        }
        self.raw("</table>");
    }

    /// The fields of an object, where a schema is one.
    fn fields(&mut self, title: &str, schema: &Value) {
        let schema = self.resolved(schema);
        let Some(properties) = schema["properties"].as_object() else { return };
        let _ = write!(self.html, "<table><tr><th>{title}</th><th>Type</th><th>Meaning</th></tr>");
        let empty = Vec::new();
        let required = schema["required"].as_array().unwrap_or(&empty);
        for (name, property) in properties {
            let needed = if required.contains(&json!(name)) { "" } else { "?" };
            let target = self.resolved(property);
            let meaning = [property, target]
                .into_iter()
                .find_map(|value| value["description"].as_str())
                .unwrap_or_default();
            let _ = write!(
                self.html,
                "<tr><td><code>{}</code>{needed}</td><td>{}</td><td>{}</td></tr>",
                escaped(name),
                escaped(&kind(target)),
                marked(meaning),
            );
        }
        self.raw("</table>");
    }

    /// Every type of event, with what it carries; then what is told for the moment.
    fn events(&mut self) {
        let schemas = &self.document["components"]["schemas"];
        for shape in schemas["Event"]["oneOf"].as_array().into_iter().flatten() {
            self.event(&shape["allOf"][1]);
        }
        self.event(&schemas["Ephemeral"]);
    }

    fn event(&mut self, own: &Value) {
        let name = escaped(text(&own["properties"]["type"]["const"]));
        let _ = write!(self.html, "<article id=\"event-{name}\"><h3><code>{name}</code></h3>");
        self.paragraph(&own["description"]);
        self.fields("Data", &own["properties"]["data"]);
        self.raw("</article>");
    }

    /// The operation as a command for a shell.
    fn curl(&self, operation: &Operation<'_>) -> String {
        let Operation { method, path, of, .. } = operation;
        let parameters = self.parameters_of(operation);
        let mut path = (*path).to_owned();
        for parameter in &parameters {
            let name = text(&parameter["name"]);
            path = path.replace(&format!("{{{name}}}"), &format!("${}", name.to_uppercase()));
        }
        let mut command = match *method {
            "get" => format!("curl -sS \"$LINECARD{path}\""),
            other => format!("curl -sS -X {} \"$LINECARD{path}\"", other.to_uppercase()),
        };
        for (name, _) in of["security"][0].as_object().into_iter().flatten() {
            let scheme = &self.document["components"]["securitySchemes"][name];
            let header = match (text(&scheme["type"]), text(&scheme["in"])) {
                ("http", _) => "Authorization: Bearer $KEY".to_owned(),
                ("apiKey", "header") => format!("{}: $SIGNATURE", text(&scheme["name"])),
                // It stands in the address.
                (_, _) => continue,
            };
            let _ = write!(command, " \\\n  -H \"{header}\"");
        }
        let is_needed =
            |parameter: &&&Value| parameter["in"] == "header" && parameter["required"] == true;
        for parameter in parameters.iter().filter(is_needed) {
            let (name, value) = (text(&parameter["name"]), text(&parameter["example"]));
            let _ = write!(command, " \\\n  -H '{name}: {value}'");
        }
        if let Some((kind, media)) = self.body(of) {
            command.push_str(&data(kind, &self.sample_of(media)));
        }
        command
    }

    /// The first kind of body that an operation takes.
    fn body(&self, operation: &'a Value) -> Option<(&'a str, &'a Value)> {
        let content = self.resolved(&operation["requestBody"])["content"].as_object()?;
        content.iter().next().map(|(kind, media)| (kind.as_str(), media))
    }

    /// The example of a body, or one made from its schema.
    fn sample_of(&self, media: &Value) -> Value {
        if media["example"].is_null() {
            self.sample(&media["schema"])
        } else {
            media["example"].clone()
        }
    }

    /// A value that a schema would let pass.
    fn sample(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        let listed =
            [&schema["example"], &schema["examples"][0], &schema["const"], &schema["default"]];
        if let Some(given) = listed.into_iter().find(|value| !value.is_null()) {
            return given.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.first().cloned().unwrap_or_default();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().filter_map(|part| self.sample(part).as_object().cloned());
            return Value::Object(parts.flatten().collect());
        }
        if let Some(first) = schema["oneOf"].as_array().and_then(|shapes| shapes.first()) {
            return self.sample(first);
        }
        let kind = schema["type"].as_str().or(schema["type"][0].as_str());
        match kind {
            Some("string") if schema["format"] == "date-time" => {
                "2026-11-28T10:00:00.000000Z".into()
            }
            Some("string") => "...".into(),
            Some("integer" | "number") => schema["minimum"].as_i64().unwrap_or(1).into(),
            Some("boolean") => false.into(),
            Some("array") => vec![self.sample(&schema["items"])].into(),
            Some("object") => {
                let properties = schema["properties"].as_object().into_iter().flatten();
                let sampled = properties.map(|(name, of)| (name.clone(), self.sample(of)));
                Value::Object(sampled.collect::<Map<_, _>>())
            }
            Some(_) | None => Value::Null,
        }
    }

    /// What a reference leads to; anything else is itself.
    fn resolved<'b>(&self, value: &'b Value) -> &'b Value
    where
        'a: 'b,
    {
        let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    fn paragraph(&mut self, value: &Value) {
        if let Some(words) = value.as_str() {
            let _ = write!(self.html, "<p>{}</p>", marked(words));
        }
    }

    fn code(&mut self, code: &str) {
        let _ = write!(self.html, "<pre>{}</pre>", escaped(code));
    }

    fn raw(&mut self, html: &str) {
        self.html.push_str(html);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What kind of value a schema describes, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "object".to_owned(),
    }
}

/// The body of a request, as a command for a shell says it.
fn data(kind: &str, body: &Value) -> String {
    if kind == "application/json" {
        return format!(" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{body}'");
    }
    let fields = body.as_object().into_iter().flatten();
    let words = fields.map(|(name, value)| format!("{name}={}", text(value)));
    words.map(|word| format!(" \\\n  --data-urlencode '{word}'")).collect()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with code between backquotes.
fn marked(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in escaped(text).split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(html, "<code>{part}</code>");
        } else {
            html.push_str(part);
        }
    }
    html
}

const HEAD: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Linecard API</title><style>
body{margin:0;font:16px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;display:flex;flex-wrap:wrap}
nav{flex:0 0 13rem;padding:1.5rem;position:sticky;top:0;align-self:flex-start}
nav ul{list-style:none;padding:0}nav h1{font-size:1.2rem}main{flex:1 1 40rem;max-width:58rem;padding:1.5rem;min-width:0}
a{color:#0a58a8}h2{border-bottom:2px solid #d8dee8;padding-bottom:.3rem;margin-top:3rem}
article{border:1px solid #d8dee8;border-radius:8px;padding:0 1.2rem .8rem;margin:1.2rem 0}
h3 b{background:#0a58a8;color:#fff;border-radius:4px;padding:.1rem .5rem;font-size:.85rem}h4{margin:.8rem 0 0}
code{background:#f1f4f8;border-radius:4px;padding:.05rem .3rem;font-size:.92em}
pre{background:#10202f;color:#e8eef5;border-radius:6px;padding:.8rem 1rem;overflow-x:auto;font-size:.85rem}
table{border-collapse:collapse;width:100%;margin:.8rem 0;font-size:.92rem}
th,td{border-bottom:1px solid #e4e9f0;text-align:left;padding:.3rem .6rem .3rem 0;vertical-align:top}
</style></head><body>"#;

#[cfg(test)]
mod tests {
    use super::super::openapi;
    use super::*;

    #[test]
    fn every_operation_is_on_the_page_with_a_command() {
        let document = openapi::document();
        let page = page(document);
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                let id = format!("<article id=\"{}\">", operation["operationId"].as_str().unwrap());
                let article = page.split(&id).nth(1).unwrap_or_else(|| panic!("{method} {path}"));
                let article = article.split("</article>").next().unwrap();
                assert!(article.contains("<pre>curl -sS"), "{method} {path}");
                let shows_an_answer = article.contains("<h4>2");
                assert!(shows_an_answer, "{method} {path}");
                let takes_a_key = article.contains("Bearer $KEY");
                assert_eq!(takes_a_key, article.contains("<p>Scope: "), "{method} {path}");
            }
        }
        for shape in document["components"]["schemas"]["Event"]["oneOf"].as_array().unwrap() {
            let kind = shape["allOf"][1]["properties"]["type"]["const"].as_str().unwrap();
            assert!(page.contains(&format!("id=\"event-{kind}\"")), "{kind}");
        }
    }

    #[test]
    fn a_command_has_what_its_operation_asks_for() {
        let page = page(openapi::document());
        let command = |id: &str| {
            let article = page.split(&format!("<article id=\"{id}\">")).nth(1).unwrap();
            article.split("</pre>").next().unwrap().split("<pre>").nth(1).unwrap().to_owned()
        };
        let change = command("changeAgent");
        assert!(change.contains("-X PUT") && change.contains("/v1/agents/$AGENT"), "{change}");
        assert!(change.contains("If-Match: ") && change.contains("application/json"), "{change}");
        let hook = command("voice");
        assert!(hook.contains("-Signature: $SIGNATURE"), "{hook}");
        assert!(hook.contains("--data-urlencode 'CallSid=CA"), "{hook}");
        assert!(!command("openapi").contains("-H "));
    }

    #[test]
    fn text_of_the_document_cannot_become_markup() {
        assert_eq!(marked("a <b> & `c<d`"), "a &lt;b&gt; &amp; <code>c&lt;d</code>");
    }
}
