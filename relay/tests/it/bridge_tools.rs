//! Tools of a whole call: asked for by the model, run by the relay, answered to the model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bridge_rig::{Model, Rig};
use crate::process_rig::within;

/// A relay whose agent has a tool, and the tool's server.
async fn rig() -> (Rig, TcpListener) {
    let tool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slots", tool.local_addr().unwrap());
    let tools = format!(
        "tools = [{{ kind = \"http\", name = \"find_slot\", description = \"Finds a slot.\", url = \"{url}\" }}]\n"
    );
    (Rig::with(&tools, &[("RELAY_TOOLS_ALLOW", "127.0.0.1")]).await, tool)
}

/// The model asks for the tool.
async fn ask(model: &mut Model, request: &str) {
    let answer = model.begin().await;
    let call = json!({
        "type": "function_call", "status": "completed", "name": "find_slot", "call_id": request,
        "arguments": "{\"day\":\"monday\"}",
    });
    let response_id = format!("r{answer}");
    let done =
        json!({"type": "response.output_item.done", "response_id": response_id, "item": call});
    model.say(done).await;
    model.end(answer, "completed").await;
}

/// The next request to the tool's server: its connection, its head and its body.
async fn request(tool: &TcpListener) -> (TcpStream, String, Value) {
    let mut tcp = within(tool.accept()).await.unwrap().0;
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let read = within(tcp.read(&mut piece)).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (tcp, head.to_lowercase(), body);
        }
    }
}

#[tokio::test]
async fn a_tool_is_run_beside_the_call_and_its_result_reaches_the_model() {
    let (rig, tool) = rig().await;
    let (mut caller, mut model) = rig.call().await;
    ask(&mut model, "c1").await;
    let (mut tcp, head, body) = request(&tool).await;
    assert!(head.starts_with("post /slots "), "{head}");
    assert!(head.contains("idempotency-key: "), "{head}");
    assert_eq!(
        (&body["tool"], &body["arguments"]),
        (&json!("find_slot"), &json!({"day": "monday"}))
    );
    // The call goes on meanwhile.
    caller.media(&[0x11; 160]).await;
    while !model.hear(1).await.ends_with(&[0x11; 160]) {}
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"at\":\"10\"}";
    tcp.write_all(answer.as_bytes()).await.unwrap();
    let result = model.next_event().await.unwrap();
    assert_eq!(result["item"]["type"], "function_call_output");
    assert_eq!(
        (&result["item"]["call_id"], &result["item"]["output"]),
        (&json!("c1"), &json!("{\"at\":\"10\"}"))
    );
    assert_eq!(model.next_event().await.unwrap()["type"], "response.create");
    rig.relay.until_metric("relay_tools_total{outcome=\"done\"} 1").await;
}

#[tokio::test]
async fn a_call_that_ends_drops_the_tools_that_run() {
    let (rig, tool) = rig().await;
    let (mut caller, mut model) = rig.call().await;
    ask(&mut model, "c1").await;
    let (mut tcp, _, _) = request(&tool).await;
    caller.hang_up().await;
    assert_eq!(model.next_event().await, None);
    assert_eq!(within(tcp.read(&mut [0])).await.unwrap_or(0), 0, "its connection is closed");
    rig.relay.until_metric("relay_calls 0").await;
}
