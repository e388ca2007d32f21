//! What tenants bring themselves: written, never shown, sealed for one tenant and one use.

use control::keys::SealingKey;
use control::store::{NewCredential, Store};
use link::id::TenantId;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::db::{TestDb, actor, at, key as sealing, on_both, tenant};
use super::web::Web;

const KEY: &str = "sk-0123456789abcdef0123";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

on_both!(
    a_secret_opens_for_its_tenant_and_its_use_only,
    a_secret_needs_the_sealing_key,
    controls_that_set_a_first_secret_at_once_share_one_data_key,
);

fn new(kind: &'static str) -> NewCredential<'static> {
    NewCredential { kind, hint: "0123", secret: KEY.as_bytes() }
}

async fn a_secret_opens_for_its_tenant_and_its_use_only(db: &TestDb) {
    let store = db.open().await;
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    let first = store.set_credential(&tenant(), &new("openai"), &actor(), at(1)).await.unwrap();
    let second = store.set_credential(&tenant(), &new("openai"), &actor(), at(2)).await.unwrap();
    assert_eq!((first.version, second.version), (1, 2));
    let opened = store.provider_key(&tenant(), "openai").await.unwrap().unwrap();
    assert_eq!(opened.reveal(), KEY);
    assert!(store.provider_key(&other, "openai").await.unwrap().is_none());
    assert!(store.provider_key(&tenant(), "carrier").await.unwrap().is_none());
    assert!(store.credentials(&other).await.unwrap().is_empty());
    assert_eq!(store.credentials(&tenant()).await.unwrap(), [second]);

    assert!(!store.drop_credential(&other, "openai", &actor(), at(3)).await.unwrap());
    assert!(store.drop_credential(&tenant(), "openai", &actor(), at(3)).await.unwrap());
    assert!(store.provider_key(&tenant(), "openai").await.unwrap().is_none());
    let log = store.audit(&tenant(), 0, 10).await.unwrap();
    let actions: Vec<_> = log.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["credential.set", "credential.set", "credential.dropped"]);
    assert!(!format!("{log:?}").contains(KEY));
}

async fn a_secret_needs_the_sealing_key(db: &TestDb) {
    let store = db.open().await;
    store.set_credential(&tenant(), &new("openai"), &actor(), at(1)).await.unwrap();
    store.close().await;
    let stranger = Store::open(&db.url(), SealingKey::generate().unwrap()).await.unwrap();
    let refused = stranger.provider_key(&tenant(), "openai").await.unwrap_err();
    assert!(refused.explain().contains("CONTROL_SECRET_KEY"), "{}", refused.explain());
    let again = Store::open(&db.url(), sealing()).await.unwrap();
    assert!(again.provider_key(&tenant(), "openai").await.unwrap().is_some());
}

async fn controls_that_set_a_first_secret_at_once_share_one_data_key(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let kinds = ["openai", "carrier"];
    let (actor, owner) = (actor(), tenant());
    let news = kinds.map(new);
    let set = stores
        .iter()
        .zip(&news)
        .map(|(store, new)| store.set_credential(&owner, new, &actor, at(1)));
    for done in futures_util::future::join_all(set).await {
        done.unwrap();
    }
    for kind in kinds {
        assert!(stores[0].credential(&owner, kind).await.unwrap().is_some(), "{kind}");
    }
}

#[tokio::test]
async fn a_sealed_row_that_is_copied_to_another_tenant_does_not_open() {
    let db = TestDb::sqlite();
    let store = db.open().await;
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    for owner in [tenant(), other.clone()] {
        store.set_credential(&owner, &new("openai"), &actor(), at(1)).await.unwrap();
    }
    let mut file = SqliteConnection::connect(&db.url()).await.unwrap();
    let copy = "UPDATE credentials SET sealed = (SELECT sealed FROM credentials \
         WHERE tenant = 'default') WHERE tenant = 'other'";
    sqlx::raw_sql(copy).execute(&mut file).await.unwrap();
    assert!(store.provider_key(&other, "openai").await.is_err());
    let copy = "UPDATE data_keys SET sealed = (SELECT sealed FROM data_keys \
         WHERE tenant = 'default') WHERE tenant = 'other'";
    sqlx::raw_sql(copy).execute(&mut file).await.unwrap();
    assert!(store.provider_key(&other, "openai").await.is_err());
    let raw: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM credentials WHERE tenant = 'default'")
            .fetch_one(&mut file)
            .await
            .unwrap();
    assert!(!raw.windows(KEY.len()).any(|part| part == KEY.as_bytes()));
}

async fn put(web: &Web, key: &str, path: &str, body: Value) -> (u16, Value) {
    web.api_as(key, web.http.put(web.url(path)).body(body.to_string())).await
}

#[tokio::test]
async fn a_provider_key_is_written_and_never_shown() {
    let web = Web::start().await;
    let (mine, theirs) = (web.key_for("acme", &["*"]).await, web.key_for("bolt", &["*"]).await);
    let path = "/v1/keys/providers/openai";
    let (code, set) = put(&web, &mine, path, json!({"key": KEY})).await;
    assert_eq!((code, &set["provider"], &set["hint"]), (200, &json!("openai"), &json!("0123")));
    let (_, listed) = web.api_as(&mine, web.http.get(web.url("/v1/keys/providers"))).await;
    assert_eq!(listed["providers"].as_array().unwrap().len(), 1);
    let (_, log) = web.api_as(&mine, web.http.get(web.url("/v1/audit"))).await;
    for shown in [&set, &listed, &log] {
        assert!(!shown.to_string().contains(KEY), "{shown}");
    }
    let (_, listed) = web.api_as(&theirs, web.http.get(web.url("/v1/keys/providers"))).await;
    assert_eq!(listed["providers"], json!([]));
    let (code, problem) = web.api_as(&theirs, web.http.delete(web.url(path))).await;
    assert_eq!((code, &problem["code"]), (404, &json!("credential_not_found")));
    assert_eq!(web.api_as(&mine, web.http.delete(web.url(path))).await.0, 200);
}

#[tokio::test]
async fn a_tenant_brings_its_own_account_at_the_carrier() {
    let web = Web::start().await;
    let mine = web.key_for("acme", &["*"]).await;
    let path = "/v1/keys/carrier";
    assert_eq!(web.api_as(&mine, web.http.get(web.url(path))).await.0, 404);
    let account = json!({"account_sid": super::web::ACCOUNT, "auth_token": TOKEN});
    let (code, set) = put(&web, &mine, path, account).await;
    assert_eq!((code, &set["hint"]), (200, &json!(super::web::ACCOUNT)));
    let (code, shown) = web.api_as(&mine, web.http.get(web.url(path))).await;
    assert_eq!(code, 200);
    assert!(!shown.to_string().contains(TOKEN) && !set.to_string().contains(TOKEN));
    let acme = TenantId::new("acme").unwrap();
    let kept = web.plane.store.carrier_account(&acme).await.unwrap().unwrap();
    assert_eq!((kept.auth_token.reveal(), kept.next_auth_token.is_none()), (TOKEN, true));
    assert!(web.plane.store.carrier_account(&tenant()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_secret_that_is_none_names_its_field_and_is_not_repeated() {
    let web = Web::start().await;
    let (provider, carrier) = ("/v1/keys/providers/openai", "/v1/keys/carrier");
    let sid = super::web::ACCOUNT;
    for (path, body, code, word) in [
        ("/v1/keys/providers/nobody", json!({"key": KEY}), 404, "provider"),
        (provider, json!({"key": "hunter2"}), 422, "`key`"),
        (provider, json!({"key": "hunter2 hunter2"}), 422, "`key`"),
        (provider, json!({"key": ["hunter2"]}), 400, "`key`"),
        (provider, json!({"kye": KEY}), 400, "`kye`"),
        (carrier, json!({"account_sid": sid}), 400, "`auth_token`"),
        (carrier, json!({"account_sid": "hunter2", "auth_token": TOKEN}), 422, "`account_sid`"),
        (carrier, json!({"account_sid": sid, "auth_token": "hunter2 "}), 422, "`auth_token`"),
        (
            carrier,
            json!({"account_sid": sid, "auth_token": TOKEN, "next_auth_token": ""}),
            422,
            "`next_auth_token`",
        ),
        (
            carrier,
            json!({"account_sid": sid, "auth_token": TOKEN, "api_url": "http://hunter2.example"}),
            422,
            "`api_url`",
        ),
    ] {
        let (answered, problem) = put(&web, super::web::API_KEY, path, body.clone()).await;
        assert_eq!(answered, code, "{body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word) && !detail.contains("hunter2"), "{body}: {problem}");
    }
}
