//! The environment of another host, with nothing of ours in it: one tenant, one number and one agent
//! are there from the start, and the first call is answered.

use control::config::{Config, Environment, read};
use link::id::TenantId;

use super::web::{ACCOUNT, Chosen, ORIGIN, TOKEN, Web, inbound, json as shown, quick};

const PAGE: &str = "https://app.example";

/// What such an app has in its environment.
fn config() -> Config {
    let theirs = [
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", TOKEN),
        ("TWILIO_PHONE_NUMBER", "+15550102"),
        ("TWILIO_VOICE_NAME", "Polly.Joanna-Neural"),
        ("OPENAI_API_KEY", "sk-test"),
        ("DATABASE_URL", "postgres://app@db.example/app?sslmode=require"),
        ("GOOGLE_PLACES_API_KEY", "places-key"),
        ("VOICE_AGENT_MODEL", "gpt-realtime-mini"),
        ("PORT", "8080"),
        ("PUBLIC_BASE_URL", ORIGIN),
        ("FRONTEND_URL", PAGE),
        ("ALLOWED_ORIGINS", PAGE),
    ];
    let theirs = theirs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    read(&Environment::from(theirs)).unwrap().0
}

/// A control plane with these settings; the database is a file, the carrier is nobody.
async fn started() -> Web {
    let Config { agents, provider_keys, operators, pages, compat_origins, .. } = config();
    let Config { places, carrier_voice, regions, survival, from, moving: pace, .. } = config();
    let chosen = Chosen {
        agents,
        provider_keys,
        operators,
        pages,
        compat_origins,
        places,
        carrier_voice,
        regions,
        survival,
        pace,
    };
    Web::with("http://127.0.0.1:1", (quick(), from), chosen).await
}

#[tokio::test]
async fn a_first_call_is_answered_by_the_standard_agent() {
    let web = started().await;
    let _node = web.node("fra-1", 0);
    // The carrier calls the number of the environment.
    assert_eq!(web.plane.from.as_ref().unwrap().as_str(), inbound("CA1")[6].1);
    let (status, twiml) = web.voice("CA1").await;
    assert_eq!(status, 200, "{twiml}");
    assert!(twiml.contains(r#"<Stream url="wss://media.example/v1/m/fra-1""#), "{twiml}");
    let call = web.call("CA1").await.unwrap();
    assert_eq!((call.tenant.clone(), call.agent.as_str()), (TenantId::default(), "assistant"));

    // What the relay is told of it has everything that a model's service asks for.
    let spec = web.plane.directory.newest(&call.tenant, None).unwrap();
    assert_eq!((spec.name.as_str(), spec.version), ("assistant", call.agent_version));
    assert_eq!(spec.provider.api_key().reveal(), "sk-test");
    assert!(format!("{:?}", spec.provider).contains("gpt-realtime-mini"));
    assert_eq!(spec.problems(), []);
}

#[tokio::test]
async fn our_own_sentences_are_read_by_the_chosen_voice() {
    let web = started().await;
    let _full = web.node("fra-1", 10);
    let mut fields = inbound("CA1");
    fields[3].1 = "in-progress";
    let (_, twiml) = web.hook("/v1/twilio/voice", &fields).await;
    assert!(twiml.contains(r#"<Say voice="Polly.Joanna-Neural">All lines are busy."#), "{twiml}");
}

#[tokio::test]
async fn nobody_is_the_operator_and_a_key_that_was_made_opens_the_api_also_for_their_page() {
    let web = started().await;
    let ask =
        |key: &str| web.http.get(web.url("/v1/calls")).bearer_auth(key).header("origin", PAGE);
    let (status, problem) = shown(ask(super::web::API_KEY).send().await.unwrap()).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("api_key_refused")));
    let key = web.key_for("default", &["*"]).await;
    let answer = ask(&key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    // Their names open nothing that asks for no key.
    let start = web.http.post(web.url("/api/start-calls")).header("origin", PAGE);
    let (status, problem) = shown(start.send().await.unwrap()).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("compat_off")));
}
