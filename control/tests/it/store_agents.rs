//! Agents in the store: version by version, sealed where they are secret, known everywhere.

use control::config::agents::{Agents, ProviderKeys};
use control::directory::Directory;
use control::fleet::nodes::Nodes;
use control::fleet::told::AgentKey;
use control::store::agents::{Agent, Changed, Expected};
use control::store::{NewCredential, Store};
use futures_util::future::join_all;
use link::agent::{AgentSpec, Tool};
use link::id::{AgentName, TenantId};
use link::secret::Secret;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use super::db::{TestDb, actor, at, on_both, tenant};
use super::pg::Cluster;

on_both!(
    versions_follow_each_other_also_after_an_agent_was_deleted,
    of_changes_at_once_one_counts_and_the_others_are_stale,
    a_tools_key_comes_back_and_is_nowhere_in_clear,
    an_agent_is_its_tenants_alone,
    an_instance_learns_what_another_one_has_changed,
    a_tenants_only_agent_answers_when_nobody_is_named,
    a_tenants_key_is_its_agents_alone_and_each_change_of_it_is_known_everywhere,
    who_has_changed_an_agent_stands_in_the_log_of_its_tenant,
);

fn name() -> AgentName {
    AgentName::new("desk").unwrap()
}

fn spec(tenant: &TenantId, instructions: &str) -> AgentSpec {
    serde_json::from_value(json!({
        "tenant": tenant.as_str(), "name": "desk", "instructions": instructions,
        "provider": {"kind": "openai_realtime", "url": "ws://127.0.0.1:9"},
        "tools": [{
            "kind": "http", "name": "slots", "description": "Finds.", "url": "https://t.example",
            "signing_key": "hush-hush-hush",
        }],
    }))
    .unwrap()
}

fn done<T>(changed: Changed<T>) -> T {
    let Changed::Done(done) = changed else { panic!("it was not changed") };
    done
}

async fn make(store: &Store, instructions: &str) -> Agent {
    done(store.create_agent(spec(&tenant(), instructions), None, &actor(), at(0)).await.unwrap())
}

async fn versions_follow_each_other_also_after_an_agent_was_deleted(db: &TestDb) {
    let store = db.open().await;
    assert_eq!(make(&store, "one").await.spec.version, 1);
    let again = store.create_agent(spec(&tenant(), "one"), None, &actor(), at(1)).await.unwrap();
    assert!(matches!(again, Changed::Exists));
    let two =
        store.update_agent(spec(&tenant(), "two"), Expected::Version(1), &actor(), at(2)).await;
    let two = done(two.unwrap());
    assert_eq!((two.spec.version, two.created_at, two.updated_at), (2, at(0), at(2)));
    done(store.delete_agent(&tenant(), &name(), Expected::Any, &actor(), at(3)).await.unwrap());
    assert!(store.agent(&tenant(), &name(), None).await.unwrap().is_none());
    assert!(store.agents(&tenant()).await.unwrap().is_empty());
    let gone =
        store.update_agent(spec(&tenant(), "three"), Expected::Any, &actor(), at(4)).await.unwrap();
    assert!(matches!(gone, Changed::Absent));
    assert_eq!(make(&store, "three").await.spec.version, 3, "no version is used twice");
    for (version, instructions) in [(1, "one"), (2, "two"), (3, "three")] {
        let kept = store.agent(&tenant(), &name(), Some(version)).await.unwrap().unwrap();
        assert_eq!(kept.spec.instructions, instructions);
    }
    assert_eq!(store.agents(&tenant()).await.unwrap().len(), 1);
}

async fn of_changes_at_once_one_counts_and_the_others_are_stale(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    make(&stores[0], "one").await;
    let actor = actor();
    let changes = (0..6).map(|n| {
        let spec = spec(&tenant(), &format!("{n}"));
        stores[n % 2].update_agent(spec, Expected::Version(1), &actor, at(1))
    });
    let mut counted = 0;
    for changed in join_all(changes).await {
        match changed.unwrap() {
            Changed::Done(_) => counted += 1,
            Changed::Stale(version) => assert_eq!(version, 2),
            other @ (Changed::Exists | Changed::Absent | Changed::TooMany | Changed::InUse) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(counted, 1);
    let stale = Expected::Version(1);
    let stale = stores[0].delete_agent(&tenant(), &name(), stale, &actor, at(2)).await;
    assert!(matches!(stale.unwrap(), Changed::Stale(2)));
}

async fn a_tools_key_comes_back_and_is_nowhere_in_clear(db: &TestDb) {
    let store = db.open().await;
    make(&store, "one").await;
    let kept = store.agent(&tenant(), &name(), None).await.unwrap().unwrap();
    let Tool::Http(tool) = &kept.spec.tools[0] else { panic!("no request") };
    assert_eq!(tool.signing_key.reveal(), "hush-hush-hush");
    store.close().await;
    let select = "SELECT spec FROM agent_versions";
    let text: String = match db {
        TestDb::Sqlite(folder) => {
            let file = std::fs::read(folder.path().join("linecard.db")).unwrap();
            assert!(!file.windows(14).any(|bytes| bytes == b"hush-hush-hush"));
            let mut connection = SqliteConnection::connect(&db.url()).await.unwrap();
            sqlx::query_scalar(select).fetch_one(&mut connection).await.unwrap()
        }
        TestDb::Postgres(url) => {
            let database = url
                .rsplit('/')
                .find_map(|part| part.split('?').next().filter(|name| name.starts_with("test_")));
            let mut admin = Cluster::shared().admin(database.unwrap()).await;
            sqlx::query_scalar(select).fetch_one(&mut admin).await.unwrap()
        }
    };
    assert!(text.contains("slots") && !text.contains("hush"), "{text}");
}

async fn an_agent_is_its_tenants_alone(db: &TestDb) {
    let store = db.open().await;
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    make(&store, "ours").await;
    for version in [None, Some(1)] {
        assert!(store.agent(&other, &name(), version).await.unwrap().is_none());
    }
    assert!(store.agents(&other).await.unwrap().is_empty());
    let changed =
        store.update_agent(spec(&other, "theirs"), Expected::Any, &actor(), at(1)).await.unwrap();
    assert!(matches!(changed, Changed::Absent));
    let deleted =
        store.delete_agent(&other, &name(), Expected::Any, &actor(), at(1)).await.unwrap();
    assert!(matches!(deleted, Changed::Absent));
    let theirs =
        done(store.create_agent(spec(&other, "theirs"), None, &actor(), at(1)).await.unwrap());
    assert_eq!((theirs.spec.version, theirs.spec.tenant), (1, other));
    let ours = store.agent(&tenant(), &name(), None).await.unwrap().unwrap();
    assert_eq!(ours.spec.instructions, "ours");
}

async fn directory(store: &Store) -> Directory {
    Directory::load(Agents::default(), ProviderKeys::default(), store).await.unwrap()
}

async fn an_instance_learns_what_another_one_has_changed(db: &TestDb) {
    let (ours, theirs) = (db.open().await, db.open().await);
    let (here, nodes) = (directory(&ours).await, Nodes::new());
    let other = TenantId::new("other").unwrap();
    theirs.ensure_tenant(&other, at(0)).await.unwrap();
    make(&theirs, "one").await;
    done(theirs.create_agent(spec(&other, "of the other"), None, &actor(), at(0)).await.unwrap());
    let newest = |tenant: &TenantId| {
        here.newest(tenant, Some(&name())).map(|spec| spec.instructions.clone())
    };
    assert_eq!(newest(&tenant()), None);
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(newest(&tenant()).as_deref(), Some("one"));
    assert_eq!(newest(&other).as_deref(), Some("of the other"));
    let two = theirs.update_agent(spec(&tenant(), "two"), Expected::Any, &actor(), at(1)).await;
    done(two.unwrap());
    done(theirs.delete_agent(&other, &name(), Expected::Any, &actor(), at(1)).await.unwrap());
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!((newest(&tenant()).as_deref(), newest(&other)), (Some("two"), None));
    let first = AgentKey { tenant: tenant(), name: name(), version: 1 };
    let first = here.version(&ours, &first).await.unwrap().unwrap();
    assert_eq!(first.instructions, "one", "a call that goes on keeps its version");
    // Whoever starts later knows the same.
    let later = directory(&theirs).await;
    assert_eq!(later.newest(&tenant(), Some(&name())).unwrap().version, 2);
    assert_eq!(later.all().len(), 1);
}

async fn a_tenants_only_agent_answers_when_nobody_is_named(db: &TestDb) {
    let store = db.open().await;
    make(&store, "one").await;
    let here = directory(&store).await;
    assert_eq!(here.newest(&tenant(), None).unwrap().name, name());
    assert!(here.newest(&TenantId::new("other").unwrap(), None).is_none());
    let second = AgentSpec { name: AgentName::new("sales").unwrap(), ..spec(&tenant(), "two") };
    done(store.create_agent(second, None, &actor(), at(1)).await.unwrap());
    here.refresh(&store, &Nodes::new()).await.unwrap();
    assert!(here.newest(&tenant(), None).is_none(), "with two it would be a guess");
}

async fn a_tenants_key_is_its_agents_alone_and_each_change_of_it_is_known_everywhere(db: &TestDb) {
    let (ours, theirs) = (db.open().await, db.open().await);
    let environment = [("OPENAI_API_KEY".to_owned(), Secret::new("sk-environment"))];
    let environment: ProviderKeys = environment.into_iter().collect();
    let here = Directory::load(Agents::default(), environment, &ours).await.unwrap();
    let (nodes, other) = (Nodes::new(), TenantId::new("other").unwrap());
    theirs.ensure_tenant(&other, at(0)).await.unwrap();
    make(&theirs, "one").await;
    // As many as a tenant may have: with another change they do not fit one page.
    let names: Vec<_> = (0..200).map(|n| AgentName::new(format!("a{n}")).unwrap()).collect();
    for name in &names {
        let spec = AgentSpec { name: name.clone(), ..spec(&other, "x") };
        done(theirs.create_agent(spec, None, &actor(), at(0)).await.unwrap());
    }
    let key = |tenant: &TenantId, name: &AgentName| {
        let spec = here.newest(tenant, Some(name)).unwrap();
        spec.provider.api_key().reveal().to_owned()
    };
    let theirs_are = |wanted: &str| names.iter().all(|name| key(&other, name) == wanted);
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(key(&tenant(), &name()), "sk-environment");
    assert!(theirs_are(""), "the environment's key is the operator's");

    let own = NewCredential { kind: "openai", hint: "", secret: b"sk-own" };
    let two = theirs.update_agent(spec(&tenant(), "two"), Expected::Any, &actor(), at(1)).await;
    done(two.unwrap());
    theirs.set_credential(&other, &own, &actor(), at(1)).await.unwrap();
    here.refresh(&ours, &nodes).await.unwrap();
    assert!(theirs_are("sk-own"));
    assert_eq!(key(&tenant(), &name()), "sk-environment", "another tenant's key is not used");
    theirs.set_credential(&tenant(), &own, &actor(), at(2)).await.unwrap();
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(key(&tenant(), &name()), "sk-own", "what the tenant has brought goes first");
    let version = AgentKey { tenant: tenant(), name: name(), version: 1 };
    let version = here.version(&ours, &version).await.unwrap().unwrap();
    assert_eq!(version.provider.api_key().reveal(), "sk-own");

    theirs.drop_credential(&tenant(), "openai", &actor(), at(3)).await.unwrap();
    theirs.drop_credential(&other, "openai", &actor(), at(3)).await.unwrap();
    here.refresh(&ours, &nodes).await.unwrap();
    assert!(theirs_are(""));
    assert_eq!(key(&tenant(), &name()), "sk-environment");
    assert!(!format!("{here:?}").contains("sk-"), "a key is not shown");
}

async fn who_has_changed_an_agent_stands_in_the_log_of_its_tenant(db: &TestDb) {
    let store = db.open().await;
    make(&store, "one").await;
    let exists = store.create_agent(spec(&tenant(), "x"), None, &actor(), at(1)).await.unwrap();
    assert!(matches!(exists, Changed::Exists), "nothing was done");
    let two = store.update_agent(spec(&tenant(), "two"), Expected::Any, &actor(), at(1)).await;
    done(two.unwrap());
    done(store.delete_agent(&tenant(), &name(), Expected::Any, &actor(), at(2)).await.unwrap());
    let log = store.audit(&tenant(), 0, 10).await.unwrap();
    let lines: Vec<_> = log
        .iter()
        .map(|line| (line.action.as_str(), line.subject.as_str(), line.detail.as_str(), line.at))
        .collect();
    assert_eq!(
        lines,
        [
            ("agent.created", "desk", r#"{"version":1}"#, at(0)),
            ("agent.changed", "desk", r#"{"version":2}"#, at(1)),
            ("agent.deleted", "desk", r#"{"version":2}"#, at(2)),
        ]
    );
    assert!(log.iter().all(|line| line.actor == actor().as_str()));
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    assert_eq!(store.audit(&other, 0, 10).await.unwrap(), []);
}
