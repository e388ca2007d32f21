use link::id::{AgentName, TenantId};
use link::ticket::{KeySet, LIFETIME_SECONDS, SigningKey};

use super::*;

const NOW: WallTime = WallTime(1_800_000_000_000_000);

fn at(seconds: i64) -> WallTime {
    NOW.plus_us(seconds * 1_000_000)
}

fn claims() -> Claims {
    Claims {
        bearer: Bearer::Carrier { call_sid: "CA1".into() },
        call: CallId::new("c_1").unwrap(),
        tenant: TenantId::new("default").unwrap(),
        node: NodeId::new("n1").unwrap(),
        generation: Gen(0),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        jti: "01".into(),
        issued_at: NOW.seconds(),
        expires_at: NOW.seconds() + LIFETIME_SECONDS,
    }
}

struct Setting {
    key: SigningKey,
    known: Known,
    identity: Identity,
}

fn setting() -> Setting {
    let key = SigningKey::generate("k1").unwrap();
    let known = Known::nothing();
    known.set_keys(KeySet::new(&[key.verifying()]).unwrap());
    let spec = serde_json::json!({
        "name": "front-desk", "instructions": "x", "provider": {"kind": "openai_realtime"},
    });
    known.keep_agent(serde_json::from_value(spec).unwrap()).unwrap();
    Setting { key, known, identity: Identity { node: NodeId::new("n1").unwrap(), started: NOW } }
}

impl Setting {
    fn start(&self, claims: &Claims) -> Start {
        Start {
            stream_sid: "MZ1".into(),
            call_sid: "CA1".into(),
            ticket: Some(self.key.issue(claims).unwrap()),
            format: Format::Ulaw8k,
        }
    }

    fn refusal(&self, start: &Start) -> Refusal {
        let asking = Asking::Carrier(start.clone());
        judge(&asking, &self.known, &self.identity, NOW).unwrap_err()
    }
}

#[test]
fn a_good_ticket_gives_its_claims_and_agent() {
    let setting = setting();
    let start = setting.start(&claims());
    let asking = Asking::Carrier(start);
    let (read, agent) = judge(&asking, &setting.known, &setting.identity, NOW).unwrap();
    assert_eq!(read, claims());
    assert_eq!(agent.name, claims().agent);
}

#[test]
fn a_stream_without_a_ticket_or_in_another_format_is_refused() {
    let setting = setting();
    let mut start = setting.start(&claims());
    start.format = Format::Other;
    assert_eq!(setting.refusal(&start).why, Refused::Format);
    start.format = Format::Ulaw8k;
    start.ticket = None;
    assert_eq!(setting.refusal(&start).why, Refused::NoTicket);
    start.ticket = Some("v4.public.nonsense".into());
    let refusal = setting.refusal(&start);
    assert_eq!((refusal.why, refusal.call), (Refused::BadTicket, None));
}

#[test]
fn a_ticket_must_name_this_node_and_this_call() {
    let setting = setting();
    let elsewhere = Claims { node: NodeId::new("n2").unwrap(), ..claims() };
    let refusal = setting.refusal(&setting.start(&elsewhere));
    assert_eq!(refusal.why, Refused::Mismatch);
    assert_eq!(refusal.call.unwrap().id, claims().call, "its signature proves the call");
    let other_call = Claims { bearer: Bearer::Carrier { call_sid: "CA2".into() }, ..claims() };
    assert_eq!(setting.refusal(&setting.start(&other_call)).why, Refused::Mismatch);
}

#[test]
fn a_ticket_older_than_the_process_or_for_an_unknown_agent_is_refused() {
    let setting = setting();
    let old = Claims { issued_at: NOW.seconds() - 1, ..claims() };
    assert_eq!(setting.refusal(&setting.start(&old)).why, Refused::Old);
    let newer = Claims { agent_version: 2, ..claims() };
    assert_eq!(setting.refusal(&setting.start(&newer)).why, Refused::UnknownAgent);
}

#[test]
fn no_refusal_repeats_the_ticket() {
    let setting = setting();
    let start =
        setting.start(&Claims { bearer: Bearer::Carrier { call_sid: "CA2".into() }, ..claims() });
    let ticket = start.ticket.clone().unwrap();
    assert!(!format!("{:?}", setting.refusal(&start)).contains(&ticket[..40]));
}

#[test]
fn a_ticket_is_taken_once_until_it_has_expired() {
    let mut register = Register::default();
    assert_eq!(register.enter(&claims(), 0, NOW), Ok(None));
    register.leave(&claims().call, Gen(0));
    let last = at(LIFETIME_SECONDS + SKEW_SECONDS - 1);
    assert_eq!(register.enter(&claims(), 0, last).unwrap_err().why, Refused::Replayed);
    assert_eq!(register.used.order.len(), 1);
    let other = Claims { jti: "02".into(), ..claims() };
    register.enter(&other, 0, at(LIFETIME_SECONDS + SKEW_SECONDS)).unwrap();
    assert_eq!(register.used.jtis.len(), 1, "the expired one is forgotten");
}

#[test]
fn a_newer_generation_takes_over_and_an_older_one_is_refused() {
    let mut register = Register::default();
    let generation = |n: u32| Claims { generation: Gen(n), jti: format!("{n:02}"), ..claims() };
    register.enter(&generation(1), 0, NOW).unwrap();
    let same = Claims { jti: "same".into(), ..generation(1) };
    assert_eq!(register.enter(&same, 0, NOW).unwrap_err().why, Refused::StaleGeneration);
    assert_eq!(register.enter(&generation(0), 0, NOW).unwrap_err().why, Refused::StaleGeneration);
    let older = register.enter(&generation(2), 3, NOW).unwrap();
    assert_eq!(older, Some(Carried { generation: Gen(1), shard: 0 }));
    register.leave(&claims().call, Gen(1));
    let newest = Carried { generation: Gen(2), shard: 3 };
    assert_eq!(register.find(&claims().call), Some(newest), "the older one's end changes nothing");
    register.leave(&claims().call, Gen(2));
    assert_eq!(register.find(&claims().call), None);
}

#[test]
fn refusals_are_told_at_a_bounded_rate() {
    let mut allowance = Allowance::new(Moment::default());
    let told = (0..1_000).filter(|_| allowance.take(Moment::default())).count();
    assert_eq!(told, 20);
    let later = Moment::default() + Duration::from_secs(1);
    let told = (0..1_000).filter(|_| allowance.take(later)).count();
    assert_eq!(told, 2);
}

#[test]
fn after_a_herd_nothing_is_left_of_it_but_some_room() {
    let mut register = Register::default();
    for n in 0..20_000 {
        let call = CallId::new(format!("c_{n}")).unwrap();
        let claims = Claims { call: call.clone(), jti: format!("{n:032x}"), ..claims() };
        register.enter(&claims, 0, NOW).unwrap();
        register.leave(&call, Gen(0));
    }
    assert_eq!(register.remembered(), Remembered { calls: 0, tickets: 20_000 });
    let over = at(LIFETIME_SECONDS + SKEW_SECONDS);
    for _ in 0..10 {
        register.tidy(over);
    }
    assert_eq!(register.remembered(), Remembered { calls: 0, tickets: 0 });
    let Register { used, calls } = &register;
    let room = [used.jtis.capacity(), used.order.capacity(), calls.capacity()];
    assert!(room.iter().all(|capacity| *capacity <= 2_048), "{room:?}");
}

#[test]
fn a_pages_token_is_for_its_origin_and_for_no_carrier() {
    let setting = setting();
    let claims = |origin: Option<&str>| Claims {
        bearer: Bearer::Page { origin: origin.map(str::to_owned) },
        ..claims()
    };
    let judged = |stated: Option<&str>, claims: &Claims| {
        let token = setting.key.issue(claims).unwrap();
        let asking = Asking::Page { token, origin: stated.map(str::to_owned) };
        judge(&asking, &setting.known, &setting.identity, NOW).map_err(|refusal| refusal.why)
    };
    let (app, evil) = (Some("https://app.example"), Some("https://evil.example"));
    for (stated, expected) in [(app, app), (None, None)] {
        assert_eq!(judged(stated, &claims(expected)).unwrap().0, claims(expected));
    }
    for (stated, expected) in [(evil, app), (None, app), (app, None)] {
        assert_eq!(judged(stated, &claims(expected)).unwrap_err(), Refused::Mismatch);
    }
    assert_eq!(judged(app, &self::claims()).unwrap_err(), Refused::Mismatch);
    assert_eq!(setting.refusal(&setting.start(&claims(None))).why, Refused::Mismatch);
}
