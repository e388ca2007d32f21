//! Businesses, looked up for a page of the compatible routes.

use std::sync::{Arc, Mutex};

use control::config::PlacesAccount;
use http::{HeaderMap, StatusCode};
use link::secret::Secret;
use serde_json::{Value, json};
use warp::{Filter as _, Reply as _};

use super::api_compat::{PAGE, ask, chosen, code, from, get, open};
use super::web::{Chosen, Web, quick};

/// A service that looks businesses up: what it was asked, and what it answers.
#[derive(Clone, Default)]
struct Places {
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    answer: Arc<Mutex<Option<(u16, String)>>>,
}

impl Places {
    async fn start(&self) -> String {
        let fake = self.clone();
        let routes = warp::path!("v1" / "places:searchText")
            .and(warp::post())
            .and(warp::header::headers_cloned())
            .and(warp::body::json())
            .map(move |headers: HeaderMap, body: Value| {
                fake.asked.lock().unwrap().push((headers, body));
                let (status, body) =
                    fake.answer.lock().unwrap().clone().unwrap_or((200, FOUND.to_owned()));
                let status = StatusCode::from_u16(status).unwrap();
                warp::reply::with_status(body, status).into_response()
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(warp::serve(routes).incoming(listener).run());
        format!("http://{address}")
    }

    fn will_answer(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().unwrap() = Some((status, body.into()));
    }
}

const FOUND: &str = r#"{"places": [
    {"id": "p1", "displayName": {"text": "Au Bon Pain", "languageCode": "fr"},
     "formattedAddress": "1 rue X, Lyon", "internationalPhoneNumber": "+33 4 78 00 00 00",
     "websiteUri": "https://pain.example", "rating": 4.5},
    {"displayName": {"text": "Chez Y"}}
]}"#;

#[tokio::test]
async fn without_a_key_a_search_says_how_to_enable_it() {
    let (_carrier, web) = open().await;
    let (status, problem) = get(&web, "/api/search?query=bakery&location=Lyon").await;
    assert_eq!((status, code(&problem)), (501, "search_off"));
    assert!(problem["detail"].as_str().unwrap().contains("GOOGLE_PLACES_API_KEY"));
}

#[tokio::test]
async fn businesses_are_looked_up_for_the_page_with_numbers_that_can_be_called() {
    let places = Places::default();
    let url = places.start().await;
    let account = PlacesAccount { key: Secret::new("places-key"), url };
    let chosen = Chosen { places: Some(account), ..chosen() };
    let web = Web::with("http://127.0.0.1:1", (quick(), from()), chosen).await;
    let target = web.url("/api/search?query=bakery&location=Lyon");
    let search = || web.http.get(&target).header("origin", PAGE);
    let (status, found) = ask(&web, search()).await;
    assert_eq!(status, 200, "{found}");
    let first = json!({
        "name": "Au Bon Pain", "phone": "+33478000000", "address": "1 rue X, Lyon",
        "website": "https://pain.example", "rating": 4.5, "placeId": "p1",
    });
    assert_eq!((&found["results"][0], &found["results"][1]["phone"]), (&first, &Value::Null));
    {
        let asked = places.asked.lock().unwrap();
        let (headers, body) = &asked[0];
        assert_eq!(headers["x-goog-api-key"], "places-key");
        assert!(headers["x-goog-fieldmask"].to_str().unwrap().contains("places.displayName"));
        assert_eq!(body["textQuery"], "bakery in Lyon");
    }

    // It costs money, so it is no stranger's.
    let (status, problem) = ask(&web, web.http.get(&target)).await;
    assert_eq!((status, code(&problem)), (403, "compat_origin_refused"));
    let empty = web.http.get(web.url("/api/search?location=Lyon")).header("origin", PAGE);
    let (status, problem) = ask(&web, empty).await;
    assert_eq!((status, code(&problem)), (400, "query_malformed"));
    assert_eq!(places.asked.lock().unwrap().len(), 1);

    places.will_answer(200, "{}");
    assert_eq!(ask(&web, search()).await, (200, json!({"results": []})));
    for (answer, body, status, of) in [
        (403, "places-key is bad".to_owned(), 502, "search_refused"),
        (429, String::new(), 503, "search_throttled"),
        (500, String::new(), 502, "search_failed"),
        (200, "no JSON".to_owned(), 502, "search_failed"),
        (200, " ".repeat(300 * 1024), 502, "search_failed"),
    ] {
        places.will_answer(answer, body);
        let (answered, problem) = ask(&web, search()).await;
        assert_eq!((answered, code(&problem)), (status, of), "{answer}");
        assert!(!problem["detail"].as_str().unwrap().contains("places-key"), "{problem}");
    }
}
