//! API keys in the database: found by whoever shows them, and by nobody else; and the audit log.

use control::access::key::{ApiKey, KeyId};
use control::access::known::{Closed, KnownKeys};
use control::access::scope::Scopes;
use control::store::{Added, Store, StoredKey};
use link::id::TenantId;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::db::{TestDb, at, in_time, on_both, tenant};
use super::pg::Cluster;

on_both!(
    a_key_is_found_by_its_name_whosever_it_is_and_listed_by_its_tenant_only,
    a_key_is_not_added_to_a_tenant_that_is_not_there,
    the_last_use_of_a_key_only_grows,
    a_revoked_key_is_refused_by_every_instance_at_its_next_look_and_ends_streams,
    an_expired_key_is_refused_and_ends_streams,
    a_wrong_secret_is_told_nothing,
    the_audit_log_cannot_be_changed,
);

fn actor() -> KeyId {
    KeyId::new("operator-1").unwrap()
}

fn other() -> TenantId {
    TenantId::new("other").unwrap()
}

async fn add(store: &Store, known: &KnownKeys, tenant: TenantId) -> (ApiKey, StoredKey) {
    let key = ApiKey::generate().unwrap();
    let stored = StoredKey {
        id: key.id.clone(),
        tenant,
        name: "web".into(),
        hash: known.pepper().hash(&key),
        scopes: Scopes::read(["calls:read", "events:read"]).unwrap(),
        created_at: at(0),
        expires_at: Some(at(100)),
        used_at: None,
        revoked_at: None,
    };
    assert_eq!(store.add_api_key(&stored, &actor()).await.unwrap(), Added::Done);
    (key, stored)
}

async fn a_key_is_found_by_its_name_whosever_it_is_and_listed_by_its_tenant_only(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    store.ensure_tenant(&other(), at(0)).await.unwrap();
    let (mine, stored) = add(&store, &known, tenant()).await;
    let (theirs, _) = add(&store, &known, other()).await;

    let shown = [mine.id.clone(), theirs.id.clone(), KeyId::new("nobody").unwrap()];
    let mut found = store.shown_api_keys(&shown).await.unwrap();
    found.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    assert_eq!(found.len(), 2);
    assert_eq!((&found[0].id, &found[1].id), (&mine.id, &theirs.id));
    assert_eq!((&found[0].scopes, found[0].expires_at), (&stored.scopes, stored.expires_at));
    assert!(found[0].hash.matches(&stored.hash) && !found[1].hash.matches(&stored.hash));
    assert!(store.shown_api_keys(&[]).await.unwrap().is_empty());

    let listed = store.api_keys(&other(), 10).await.unwrap();
    assert_eq!(listed.iter().map(|key| &key.id).collect::<Vec<_>>(), [&theirs.id]);
    assert!(store.api_key(&other(), &mine.id).await.unwrap().is_none());
    let revoked = store.revoke_api_key(&other(), &mine.id, &actor(), at(1)).await.unwrap();
    assert!(revoked.is_none());
    assert!(store.api_key(&tenant(), &mine.id).await.unwrap().unwrap().revoked_at.is_none());
    let actions = |lines: Vec<control::store::AuditLine>| {
        lines.into_iter().map(|line| line.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(store.audit(&other(), 0, 10).await.unwrap()), ["key.created"]);
}

async fn a_key_is_not_added_to_a_tenant_that_is_not_there(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (_, mut stored) = add(&store, &known, tenant()).await;
    stored.tenant = other();
    stored.id = ApiKey::generate().unwrap().id;
    assert_eq!(store.add_api_key(&stored, &actor()).await.unwrap(), Added::NoTenant);
}

async fn the_last_use_of_a_key_only_grows(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (key, _) = add(&store, &known, tenant()).await;
    for seconds in [70, 10] {
        store.note_key_use(&tenant(), &key.id, at(seconds)).await.unwrap();
    }
    let used = store.api_key(&tenant(), &key.id).await.unwrap().unwrap().used_at;
    assert_eq!(used, Some(at(70)));

    // The look after a use writes it down, once a minute.
    let (key, _) = add(&store, &known, tenant()).await;
    for (use_at, noted) in [(5, 5), (20, 5), (64, 5), (65, 65)] {
        known.open(key.to_text().reveal(), at(use_at)).await.unwrap();
        // One look takes in what the one before it has written.
        known.refresh(at(use_at)).await.unwrap();
        known.refresh(at(use_at)).await.unwrap();
        let used = store.api_key(&tenant(), &key.id).await.unwrap().unwrap().used_at;
        assert_eq!(used, Some(at(noted)), "used at {use_at}");
    }
}

async fn a_revoked_key_is_refused_by_every_instance_at_its_next_look_and_ends_streams(db: &TestDb) {
    let (here, there) = (db.open().await, db.open().await);
    let known_here = KnownKeys::load(here.clone()).await.unwrap();
    let known_there = KnownKeys::load(there.clone()).await.unwrap();
    let (key, _) = add(&here, &known_here, tenant()).await;
    let (text, now) = (key.to_text(), at(1));
    let opened = known_there.open(text.reveal(), now).await.unwrap();
    let gone = known_there.gone(&opened);

    here.revoke_api_key(&tenant(), &key.id, &actor(), now).await.unwrap().unwrap();
    known_here.refresh(now).await.unwrap();
    let refused = known_here.open(text.reveal(), now).await.unwrap_err();
    assert!(matches!(refused, Closed::Revoked), "{refused:?}");
    known_there.refresh(now).await.unwrap();
    let refused = known_there.open(text.reveal(), now).await.unwrap_err();
    assert!(matches!(refused, Closed::Revoked), "{refused:?}");
    in_time(gone).await;
    let again = here.revoke_api_key(&tenant(), &key.id, &actor(), now.plus_us(9)).await.unwrap();
    assert_eq!(again.unwrap().revoked_at, Some(now), "the first word stands");
}

async fn an_expired_key_is_refused_and_ends_streams(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (key, stored) = add(&store, &known, tenant()).await;
    let text = key.to_text();
    let opened = known.open(text.reveal(), at(99)).await.unwrap();
    let refused = known.open(text.reveal(), at(100)).await.unwrap_err();
    assert!(matches!(refused, Closed::Expired), "{refused:?}");
    assert!(matches!(known.good(&stored.id, at(100)).await, Err(Closed::Expired)));
    let gone = known.gone(&opened);
    known.refresh(at(100)).await.unwrap();
    in_time(gone).await;
}

async fn a_wrong_secret_is_told_nothing(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (key, _) = add(&store, &known, tenant()).await;
    let now = at(1);
    store.revoke_api_key(&tenant(), &key.id, &actor(), now).await.unwrap();
    // The same name with another secret.
    let mut forged = ApiKey::generate().unwrap();
    forged.id = key.id;
    let refused = known.open(forged.to_text().reveal(), now).await.unwrap_err();
    assert!(matches!(refused, Closed::Unknown), "{refused:?}");
    let stranger = ApiKey::generate().unwrap();
    assert!(matches!(known.open(stranger.to_text().reveal(), now).await, Err(Closed::Unknown)));
    assert!(matches!(known.open("lc_live_x", now).await, Err(Closed::Unknown)));
}

async fn the_audit_log_cannot_be_changed(db: &TestDb) {
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (key, _) = add(&store, &known, tenant()).await;
    let lines = store.audit(&tenant(), 0, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (lines[0].actor.as_str(), lines[0].subject.as_str()),
        ("operator-1", key.id.as_str())
    );
    assert!(store.audit(&tenant(), lines[0].id, 10).await.unwrap().is_empty());
    for change in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        let refused = match db {
            TestDb::Sqlite(_) => {
                let mut file = SqliteConnection::connect(&db.url()).await.unwrap();
                sqlx::raw_sql(change).execute(&mut file).await.unwrap_err()
            }
            TestDb::Postgres(_) => {
                let mut app = app_connection(db).await;
                sqlx::raw_sql("SET app.tenant = 'default'").execute(&mut app).await.unwrap();
                sqlx::raw_sql(change).execute(&mut app).await.unwrap_err()
            }
        };
        let refused = refused.to_string();
        assert!(
            refused.contains("append-only") || refused.contains("permission denied"),
            "{refused}"
        );
    }
}

async fn app_connection(db: &TestDb) -> PgConnection {
    let url = db.url();
    let name = url.rsplit('/').find_map(|part| part.split('?').next()?.strip_prefix("test_"));
    let mut connection = Cluster::shared().admin(&format!("test_{}", name.unwrap())).await;
    sqlx::raw_sql("SET ROLE linecard_app").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_key_exists_for_the_application_role_only_when_it_was_shown() {
    let db = TestDb::postgres().await;
    let store = db.open().await;
    let known = KnownKeys::load(store.clone()).await.unwrap();
    let (key, _) = add(&store, &known, tenant()).await;
    let (second, _) = add(&store, &known, tenant()).await;
    let mut app = app_connection(&db).await;
    let count = "SELECT count(*) FROM api_keys";
    for (set, keys) in [
        ("RESET app.keys".to_owned(), 0),
        ("SET app.keys = ''".to_owned(), 0),
        ("SET app.keys = 'nobody'".to_owned(), 0),
        (format!("SET app.keys = '{}'", key.id), 1),
        (format!("SET app.keys = '{},{}'", key.id, second.id), 2),
        ("RESET app.keys; SET app.tenant = 'other'".to_owned(), 0),
        ("SET app.tenant = 'default'".to_owned(), 2),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(set.clone())).execute(&mut app).await.unwrap();
        let found: i64 = sqlx::query_scalar(count).fetch_one(&mut app).await.unwrap();
        assert_eq!(found, keys, "{set}");
    }
    for forbidden in ["UPDATE api_keys SET tenant = 'other'", "DELETE FROM api_keys"] {
        let refused = sqlx::raw_sql(forbidden).execute(&mut app).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{forbidden}: {refused}");
    }
    // Only shown, not owned: it is seen and not changed.
    let change = format!(
        "SET app.tenant = 'other'; SET app.keys = '{}'; UPDATE api_keys SET revoked_us = 1",
        key.id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut app).await.unwrap();
    assert!(store.api_key(&tenant(), &key.id).await.unwrap().unwrap().revoked_at.is_none());
}
