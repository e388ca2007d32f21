//! Certificates of relays: given once they are in, shown when they come back, and revoked.

use base64_simd::URL_SAFE_NO_PAD;
use control::fleet::authority::{Authority, fingerprint};
use control::sequencer::LeaseState;
use control::store::Admission;
use link::id::NodeId;
use link::join::JoinToken;
use link::message::{Hello, ToControl, ToRelay};
use link::secret::Secret;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use super::db::{TestDb, actor, at, in_time, on_both, tenant};
use super::link_beats::Beats;
use super::link_relay::{Door, Relay, door, door_of, hello};
use super::web::Web;

on_both!(a_certificate_is_known_until_it_ends_or_its_node_is_revoked);

const DAY_US: i64 = 86_400_000_000;

/// A relay's key and the certificate that control has made of it.
struct Papers {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Papers {
    /// A relay that is in asks for its certificate.
    async fn ask(relay: &Relay) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut beats = Beats::of(&relay.connection).await;
        let asked = URL_SAFE_NO_PAD.encode_to_string(key.public_key_raw());
        beats.tell(&ToControl::Enrol { key: asked }).await;
        let ToRelay::Certificate { certificate, good_until } = beats.besides().await else {
            panic!("no certificate")
        };
        let life_us = good_until.0 - control::clock::wall().0;
        assert!((DAY_US / 2..=DAY_US).contains(&life_us), "{life_us}");
        let der = URL_SAFE_NO_PAD.decode_to_vec(certificate).unwrap();
        Self { certificate: der.into(), key }
    }

    /// What control answers to a relay that shows them and says this.
    async fn shown(&self, token: &JoinToken, says: Hello) -> ToRelay {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut relay = Relay::dial_showing(token, Some((self.certificate.clone(), key))).await;
        relay.say(&ToControl::Hello(says)).await;
        relay.hear().await
    }
}

/// What a relay says that has lost its join token.
fn without_secret(token: &JoinToken) -> Hello {
    Hello { secret: Secret::new("forgotten"), ..hello(token) }
}

/// Why a relay is not let in.
fn refusal(answer: ToRelay) -> String {
    let ToRelay::Refused { why } = answer else { panic!("not refused: {answer:?}") };
    why
}

/// What control answers to a relay that shows nothing and says this.
async fn bare(token: &JoinToken, says: Hello) -> ToRelay {
    let mut relay = Relay::dial_showing(token, None).await;
    relay.say(&ToControl::Hello(says)).await;
    relay.hear().await
}

async fn admission(door: &Door, admission: Admission) -> (u16, Value) {
    let (web, url) = (&door.web, door.web.url("/v1/nodes/fra-1/certificate"));
    web.api(match admission {
        Admission::Revoked => web.http.delete(url),
        Admission::Admitted => web.http.post(url),
    })
    .await
}

#[tokio::test]
async fn a_relay_that_is_in_gets_a_certificate_and_comes_back_with_it_alone() {
    in_time(async {
        let door = door().await;
        let (relay, _) = Relay::join(&door.token).await;
        let papers = Papers::ask(&relay).await;
        let says = without_secret(&door.token);
        let answer = papers.shown(&door.token, says.clone()).await;
        assert!(matches!(answer, ToRelay::Welcome { .. }), "{answer:?}");
        let node = NodeId::new("fra-2").unwrap();
        let another = papers.shown(&door.token, Hello { node, ..says.clone() }).await;
        assert!(refusal(another).contains("control join-token"), "it is another node's");
        assert!(refusal(bare(&door.token, says).await).contains("control join-token"));
        // An older relay has none, and the token.
        assert!(matches!(bare(&door.token, hello(&door.token)).await, ToRelay::Welcome { .. }));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_key_gets_no_certificate_and_the_link_goes_on() {
    in_time(async {
        let door = door().await;
        let (relay, _) = Relay::join(&door.token).await;
        let mut beats = Beats::of(&relay.connection).await;
        beats.tell(&ToControl::Enrol { key: "c2hvcnQ".into() }).await;
        let key = KeyPair::generate().unwrap();
        let asked = URL_SAFE_NO_PAD.encode_to_string(key.public_key_raw());
        let answer = loop {
            // One at a time: asked again while the first is looked at, it is skipped.
            beats.tell(&ToControl::Enrol { key: asked.clone() }).await;
            if let ToRelay::Certificate { certificate, .. } = beats.hear().await {
                break certificate;
            }
        };
        let der = CertificateDer::from(URL_SAFE_NO_PAD.decode_to_vec(answer).unwrap());
        let known = door.web.plane.store.node_of_certificate(&fingerprint(&der), at(0)).await;
        assert_eq!(known.unwrap(), Some(NodeId::new("fra-1").unwrap()));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_node_is_cut_and_stays_out_until_it_is_admitted() {
    in_time(async {
        let door = door().await;
        let (mut relay, _) = Relay::join(&door.token).await;
        let papers = Papers::ask(&relay).await;
        let (status, answer) = admission(&door, Admission::Revoked).await;
        assert_eq!((status, answer), (200, json!({"id": "fra-1", "revoked": true})));
        while relay.try_hear().await.is_some() {}
        let says = without_secret(&door.token);
        let shown = papers.shown(&door.token, says.clone()).await;
        assert!(refusal(shown).contains("control node admit"));
        let bare_token = bare(&door.token, hello(&door.token)).await;
        assert!(refusal(bare_token).contains("control node admit"), "the join token is not enough");

        let (status, answer) = admission(&door, Admission::Admitted).await;
        assert_eq!((status, answer), (200, json!({"id": "fra-1", "revoked": false})));
        let old = papers.shown(&door.token, says.clone()).await;
        assert!(refusal(old).contains("control join-token"), "what was revoked stays so");
        let (relay, _) = Relay::join(&door.token).await;
        let fresh = Papers::ask(&relay).await;
        let answer = fresh.shown(&door.token, says).await;
        assert!(matches!(answer, ToRelay::Welcome { .. }), "{answer:?}");
        let log = door.web.plane.store.audit(&tenant(), 0, 10).await.unwrap();
        let actions: Vec<_> = log.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, ["node.revoked", "node.admitted"]);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_one_instance_revokes_is_cut_by_every_other() {
    in_time(async {
        let url = TestDb::postgres().await.url();
        let one = door_of(Web::one_of(&url).await).await;
        let mut state = one.web.plane.sequencer.state();
        state.wait_for(|state| *state == LeaseState::Held).await.unwrap();
        let two = door_of(Web::one_of(&url).await).await;
        let (mut relay, _) = Relay::join_any(&two.token).await;
        relay.lease().await;
        // It never was linked to the one that is asked.
        assert_eq!(admission(&one, Admission::Revoked).await.0, 200);
        let cut = async { while relay.try_hear().await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(5), cut)
            .await
            .expect("in five seconds");
        assert!(refusal(bare(&two.token, hello(&two.token)).await).contains("revoked"));
    })
    .await;
}

async fn a_certificate_is_known_until_it_ends_or_its_node_is_revoked(db: &TestDb) {
    let store = db.open().await;
    let authority = Authority::load(&store).await.unwrap();
    let [a, b] = ["a", "b"].map(|name| NodeId::new(name).unwrap());
    let now = control::clock::wall();
    let mut made = Vec::new();
    for node in [&a, &a, &b] {
        let key = URL_SAFE_NO_PAD.encode_to_string(KeyPair::generate().unwrap().public_key_raw());
        let issued = authority.certify(node, &key, now).unwrap();
        assert!(store.keep_node_certificate(node, &issued, now).await.unwrap());
        made.push(issued);
    }
    let known = async |n: usize, at| {
        let node = store.node_of_certificate(&made[n].fingerprint, at).await.unwrap();
        node.map(|node| node.as_str().to_owned())
    };
    let known_now = [known(0, now).await, known(1, now).await, known(2, now).await];
    assert_eq!(known_now, ["a", "a", "b"].map(|name| Some(name.to_owned())));
    assert_eq!(known(2, now.plus_us(DAY_US)).await, None);
    assert_eq!(store.node_of_certificate("none", now).await.unwrap(), None);

    let set = async |admission| {
        store.set_admission(&tenant(), (&a, admission), &actor(), now).await.unwrap();
    };
    set(Admission::Revoked).await;
    set(Admission::Revoked).await;
    assert_eq!(store.revoked_nodes().await.unwrap(), [a.clone()].into());
    assert_eq!([known(0, now).await, known(1, now).await], [None, None]);
    assert_eq!(known(2, now).await.as_deref(), Some("b"));
    let kept = store.keep_node_certificate(&a, &made[0], now).await.unwrap();
    assert!(!kept, "what was made meanwhile is not given away");
    set(Admission::Admitted).await;
    assert!(store.revoked_nodes().await.unwrap().is_empty());
    assert_eq!(known(0, now).await, None);
    assert!(store.keep_node_certificate(&a, &made[0], now).await.unwrap());
}
