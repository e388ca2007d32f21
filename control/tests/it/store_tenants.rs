//! Tenants are hidden from each other: by every statement, and on PostgreSQL by the rows
//! themselves.

use control::store::Times;
use control::store::call::{Filter, Resume};
use link::id::TenantId;
use sqlx::PgConnection;

use super::db::{
    TestDb, at, fresh_call, ledger, node, on_both, source, started_call, tenant, turns,
};
use super::pg::Cluster;

on_both!(a_tenant_finds_nothing_of_another_one);

async fn a_tenant_finds_nothing_of_another_one(db: &TestDb) {
    let store = db.open().await;
    let call = started_call(&store, "c_1").await;
    let events = turns(1..=3, &call);
    ledger(&store, Times::default()).await.write(&[(source("n1"), events)]).await.unwrap();
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();

    assert_eq!(store.call(&other, &call.id).await.unwrap(), None);
    assert!(store.calls(&other, &Filter::default(), None, 10).await.unwrap().calls.is_empty());
    let resumed = store.resume(&other, &call.id, Some(&node()), at(3)).await.unwrap();
    assert_eq!(resumed, Resume::Unknown);
    assert_eq!(store.head(&other).await.unwrap().0, 0);
    let events = store.events_after(&other, Default::default(), Some(&call.id), 10).await;
    assert!(events.unwrap().is_empty());
    assert_eq!(store.events_after(&tenant(), Default::default(), None, 10).await.unwrap().len(), 4);
}

/// A superuser's connection that has become one of control's roles.
async fn connection_as(db: &TestDb, become_role: &'static str) -> PgConnection {
    let url = db.url();
    let name = url.rsplit('/').find_map(|part| part.split('?').next()?.strip_prefix("test_"));
    let mut connection = Cluster::shared().admin(&format!("test_{}", name.unwrap())).await;
    sqlx::raw_sql(become_role).execute(&mut connection).await.unwrap();
    connection
}

async fn count(connection: &mut PgConnection, sql: &'static str) -> Result<i64, String> {
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn rows_of_another_tenant_do_not_exist_for_the_application_role() {
    let db = TestDb::postgres().await;
    let store = db.open().await;
    let call = fresh_call(&store, "c_1").await;
    let events = turns(1..=3, &call);
    ledger(&store, Times::default()).await.write(&[(source("n1"), events)]).await.unwrap();

    let mut app = connection_as(&db, "SET ROLE linecard_app").await;
    for (set, calls, events) in [
        ("RESET app.tenant", 0, 0),
        ("SET app.tenant = ''", 0, 0),
        ("SET app.tenant = 'other'", 0, 0),
        ("SET app.tenant = 'default'", 1, 3),
    ] {
        sqlx::raw_sql(set).execute(&mut app).await.unwrap();
        assert_eq!(count(&mut app, "SELECT count(*) FROM calls").await, Ok(calls), "{set}");
        assert_eq!(count(&mut app, "SELECT count(*) FROM events").await, Ok(events), "{set}");
    }
    sqlx::raw_sql("SET app.tenant = 'other'").execute(&mut app).await.unwrap();
    let forged = "INSERT INTO pending (tenant, call, generation, type, at_us, body) \
         VALUES ('default', 'c_1', 0, 'call.ended', 0, '{}')";
    let refused = sqlx::raw_sql(forged).execute(&mut app).await.unwrap_err();
    assert!(refused.to_string().contains("row-level security"), "{refused}");
    let moved = sqlx::raw_sql("UPDATE calls SET tenant = 'other'").execute(&mut app).await;
    assert_eq!(moved.unwrap().rows_affected(), 0);
}

#[tokio::test]
async fn the_sequencer_role_writes_events_and_cannot_read_them() {
    let db = TestDb::postgres().await;
    let store = db.open().await;
    fresh_call(&store, "c_1").await;
    let mut sequencer = connection_as(&db, "SET ROLE linecard_sequencer").await;
    let refused = count(&mut sequencer, "SELECT count(*) FROM events").await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    for forbidden in [
        "DELETE FROM events",
        "UPDATE events SET body = ''",
        "DELETE FROM calls",
        "SELECT sealed FROM secrets",
    ] {
        let refused = sqlx::raw_sql(forbidden).execute(&mut sequencer).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{forbidden}: {refused}");
    }
}

#[tokio::test]
async fn every_table_with_a_tenant_forces_row_security_on_weak_roles() {
    let db = TestDb::postgres().await;
    db.open().await;
    let mut admin = connection_as(&db, "SELECT 1").await;
    let open_tables = "SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE a.attname = 'tenant' AND c.relkind = 'r' \
         AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    assert_eq!(count(&mut admin, open_tables).await, Ok(0));
    let strong_roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'linecard_%' \
         AND (rolsuper OR rolbypassrls)";
    assert_eq!(count(&mut admin, strong_roles).await, Ok(0));
    let owners = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' \
         AND tableowner <> 'linecard_owner'";
    assert_eq!(count(&mut admin, owners).await, Ok(0));
}
