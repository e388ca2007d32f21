//! Too much is answered with 429 and when to come back: by key, by tenant, by address.

use serde_json::json;

use super::web::{Web, json as read};

/// How many of so many requests were refused for their number; all at once.
async fn refused(many: usize, request: impl Fn() -> reqwest::RequestBuilder) -> usize {
    let answers = (0..many).map(|_| request().send());
    let answers = futures_util::future::join_all(answers).await;
    let mut refused = 0;
    for answer in answers {
        let answer = answer.unwrap();
        if answer.status() == 429 {
            assert!(answer.headers().contains_key("retry-after"));
            let (_, problem) = read(answer).await;
            assert_eq!(problem["code"], "rate_limited");
            refused += 1;
        }
    }
    refused
}

#[tokio::test]
async fn a_key_that_asks_too_much_leaves_the_other_keys_of_its_tenant_their_half() {
    let web = Web::start().await;
    let (wild, calm) = (web.key_for("acme", &["*"]).await, web.key_for("acme", &["*"]).await);
    let acme = link::id::TenantId::new("acme").unwrap();
    let operator = control::access::key::KeyId::new("operator-1").unwrap();
    let now = control::clock::wall();
    let slow = |tenant: &mut control::store::Tenant| tenant.limits.requests_second_max = Some(2);
    web.plane.store.change_tenant(&acme, None, &operator, now, slow).await.unwrap();
    web.plane.tenants.refresh().await.unwrap();
    let ask = |key: &str| web.http.get(web.url("/v1/tenant")).bearer_auth(key);
    // The key's bucket holds four; a slow machine lets one or two more through.
    let most = refused(20, || ask(&wild)).await;
    assert!((10..=16).contains(&most), "{most} of 20 refused");
    assert_eq!(refused(1, || ask(&calm)).await, 0);
    let other = web.key_for("bolt", &["*"]).await;
    assert_eq!(refused(20, || ask(&other)).await, 0, "another tenant is not touched");
    assert_eq!(refused(20, || ask(super::web::API_KEY)).await, 0, "nor is the operator");
}

#[tokio::test]
async fn whoever_guesses_keys_is_slowed_down_by_address() {
    let web = Web::start().await;
    let guess = |address: &'static str| {
        let request = web.http.get(web.url("/v1/calls")).bearer_auth("lc_live_guess");
        request.header("x-forwarded-for", address)
    };
    // A bucket of 400, eleven a guess.
    let most = refused(60, || guess("203.0.113.7")).await;
    assert!(most >= 10, "{most} of 60 refused");
    assert_eq!(refused(5, || guess("203.0.113.8")).await, 0, "a neighbour is not touched");
    let near = web.http.get(web.url("/v1/calls")).bearer_auth("lc_live_guess");
    let (code, problem) = read(near.send().await.unwrap()).await;
    assert_eq!((code, &problem["code"]), (401, &json!("api_key_refused")));
}
