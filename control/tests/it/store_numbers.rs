//! Numbers in the store: one tenant's each, changed by their version, known everywhere.

use control::config::agents::{Agents, ProviderKeys};
use control::directory::Directory;
use control::fleet::nodes::Nodes;
use control::store::Store;
use control::store::agents::{Changed, Expected};
use control::store::call::Number;
use control::store::numbers::{Legacy, Line, Route};
use futures_util::future::join_all;
use link::id::{AgentName, TenantId};

use super::db::{TestDb, actor, at, on_both, tenant};

on_both!(
    a_number_is_taken_changed_by_its_version_and_given_back,
    of_two_tenants_that_want_a_number_one_gets_it,
    an_instance_learns_who_has_a_number,
    who_has_changed_a_number_stands_in_the_log_of_its_tenant,
);

fn number() -> Number {
    Number("+15550102".into())
}

async fn other(store: &Store) -> TenantId {
    let other = TenantId::new("other").unwrap();
    store.ensure_tenant(&other, at(0)).await.unwrap();
    other
}

fn done<T: std::fmt::Debug>(changed: Changed<T>) -> T {
    match changed {
        Changed::Done(done) => done,
        changed @ (Changed::Exists
        | Changed::Absent
        | Changed::Stale(_)
        | Changed::TooMany
        | Changed::InUse) => panic!("{changed:?}"),
    }
}

async fn take(store: &Store, tenant: &TenantId) -> Changed<Line> {
    store.create_number(tenant, (number(), Route::default()), None, &actor(), at(1)).await.unwrap()
}

async fn a_number_is_taken_changed_by_its_version_and_given_back(db: &TestDb) {
    let store = db.open().await;
    let taken = done(take(&store, &tenant()).await);
    assert_eq!(store.number(&tenant(), &number()).await.unwrap(), Some(taken));
    assert!(matches!(take(&store, &tenant()).await, Changed::Exists));
    let agent = Some(AgentName::new("sales").unwrap());
    let legacy = Some(Legacy { url: "https://old.example/voice".into(), percent: 30 });
    let route = Route { agent, legacy };
    let change = |version| (route.clone(), Expected::Version(version));
    let stale =
        store.update_number(&tenant(), &number(), change(2), &actor(), at(2)).await.unwrap();
    assert!(matches!(stale, Changed::Stale(1)));
    let changed =
        done(store.update_number(&tenant(), &number(), change(1), &actor(), at(2)).await.unwrap());
    assert_eq!((changed.version, &changed.route), (2, &route));
    assert_eq!((changed.created_at, changed.updated_at), (at(1), at(2)));
    assert_eq!(store.numbers(&tenant()).await.unwrap(), [changed]);
    done(
        store
            .delete_number(&tenant(), &number(), Expected::Version(2), &actor(), at(3))
            .await
            .unwrap(),
    );
    assert_eq!(store.number(&tenant(), &number()).await.unwrap(), None);
    assert_eq!(store.numbers(&tenant()).await.unwrap(), []);
    let gone =
        store.delete_number(&tenant(), &number(), Expected::Any, &actor(), at(3)).await.unwrap();
    assert!(matches!(gone, Changed::Absent));
    assert_eq!(done(take(&store, &tenant()).await).version, 1);
}

async fn of_two_tenants_that_want_a_number_one_gets_it(db: &TestDb) {
    let stores = [db.open().await, db.open().await];
    let tenants = [tenant(), other(&stores[0]).await];
    let wanted = join_all(stores.iter().zip(&tenants).map(|(store, tenant)| take(store, tenant)));
    let mut got = Vec::new();
    for (tenant, changed) in tenants.iter().zip(wanted.await) {
        match changed {
            Changed::Done(line) => got.push(line.tenant),
            Changed::InUse => assert_eq!(stores[0].numbers(tenant).await.unwrap(), []),
            changed
            @ (Changed::Exists | Changed::Absent | Changed::Stale(_) | Changed::TooMany) => {
                panic!("{changed:?}")
            }
        }
    }
    assert_eq!(got.len(), 1);
    let (owner, store) = (&got[0], &stores[0]);
    let loser = tenants.iter().find(|tenant| *tenant != owner).unwrap();
    assert_eq!(store.number(loser, &number()).await.unwrap(), None);
    let foreign =
        store.delete_number(loser, &number(), Expected::Any, &actor(), at(2)).await.unwrap();
    assert!(matches!(foreign, Changed::Absent));
    let change = (Route::default(), Expected::Any);
    let foreign = store.update_number(loser, &number(), change, &actor(), at(2)).await.unwrap();
    assert!(matches!(foreign, Changed::Absent));
    done(store.delete_number(owner, &number(), Expected::Any, &actor(), at(2)).await.unwrap());
    assert_eq!(done(take(store, loser).await).tenant, *loser);
}

async fn an_instance_learns_who_has_a_number(db: &TestDb) {
    let (ours, theirs) = (db.open().await, db.open().await);
    let load = Directory::load(Agents::default(), ProviderKeys::default(), &ours);
    let (here, nodes, other) = (load.await.unwrap(), Nodes::new(), other(&ours).await);
    let owner = || here.line("+15550102").map(|line| line.tenant.clone());
    done(take(&theirs, &tenant()).await);
    assert_eq!(owner(), None);
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(owner(), Some(tenant()));
    done(theirs.delete_number(&tenant(), &number(), Expected::Any, &actor(), at(2)).await.unwrap());
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(owner(), None);
    done(take(&theirs, &other).await);
    here.refresh(&ours, &nodes).await.unwrap();
    assert_eq!(owner(), Some(other));
}

async fn who_has_changed_a_number_stands_in_the_log_of_its_tenant(db: &TestDb) {
    let store = db.open().await;
    done(take(&store, &tenant()).await);
    assert!(matches!(take(&store, &tenant()).await, Changed::Exists), "nothing was done");
    let agent = Some(AgentName::new("sales").unwrap());
    let legacy = Some(Legacy { url: "https://old.example/?token=hush".into(), percent: 30 });
    let change = (Route { agent, legacy }, Expected::Any);
    let changed = store.update_number(&tenant(), &number(), change, &actor(), at(2)).await;
    done(changed.unwrap());
    let any = Expected::Any;
    done(store.delete_number(&tenant(), &number(), any, &actor(), at(3)).await.unwrap());
    let log = store.audit(&tenant(), 0, 10).await.unwrap();
    let actions: Vec<_> = log.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["number.created", "number.changed", "number.deleted"]);
    let is_ours = |actor_of: &str, subject: &str| {
        actor_of == actor().as_str() && subject == number().as_str()
    };
    assert!(log.iter().all(|line| is_ours(&line.actor, &line.subject)));
    assert_eq!(log[1].detail, r#"{"agent":"sales","legacy_percent":30,"version":2}"#);
    assert!(!format!("{log:?}").contains("hush"), "an address may hold a secret");
}
