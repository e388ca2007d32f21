//! Sessions that are kept open for streams that nobody announces.

use crate::bridge_rig::Rig;

const READY: &str = "relay_spares_ready 1";

#[tokio::test]
async fn a_spare_serves_the_next_stream_and_is_replaced() {
    let rig = Rig::with("", &[("RELAY_SPARE_AGENTS", "1"), ("RELAY_SHARDS", "2")]).await;
    let mut spare = rig.model().await;
    rig.relay.until_metric("relay_spares_ready 0").await;
    spare.settle().await;
    rig.relay.until_metric(READY).await;
    rig.relay.until_metric("relay_calls 0").await;

    let mut caller = rig.caller().await;
    caller.media(&[0x11; 160]).await;
    assert_eq!(spare.hear(160).await, [0x11; 160]);
    spare.answer([&[0x22; 480][..]]).await;
    assert_eq!(caller.listen(480).await, [0x22; 480]);
    rig.relay.until_metric("relay_prepared_total{outcome=\"spare_claimed\"} 1").await;
    rig.relay.until_metric("relay_first_voice_seconds_count{prepared=\"yes\"} 1").await;

    let mut next = rig.model().await;
    next.settle().await;
    rig.relay.until_metric(READY).await;
    rig.relay.until_metric("relay_sockets_open{leg=\"agent\"} 2").await;
    caller.hang_up().await;
    assert_eq!(spare.next_event().await, None);
    rig.relay.until_metric("relay_sockets_open{leg=\"agent\"} 1").await;
}

#[tokio::test]
async fn spares_serve_every_shard_and_each_serves_one_stream() {
    let rig = Rig::with("", &[("RELAY_SPARE_AGENTS", "2"), ("RELAY_SHARDS", "2")]).await;
    let (mut a, mut b) = (rig.model().await, rig.model().await);
    a.settle().await;
    b.settle().await;
    rig.relay.until_metric("relay_spares_ready 2").await;
    let mut callers = Vec::new();
    for n in 1..=2 {
        callers.push(rig.caller().await);
        let claimed = format!("relay_prepared_total{{outcome=\"spare_claimed\"}} {n}");
        rig.relay.until_metric(&claimed).await;
    }
    for caller in &mut callers {
        caller.media(&[0x11; 160]).await;
    }
    assert_eq!((a.hear(160).await, b.hear(160).await), (vec![0x11; 160], vec![0x11; 160]));
}

#[tokio::test]
async fn a_node_that_drains_closes_its_spares() {
    let mut rig = Rig::with("", &[("RELAY_SPARE_AGENTS", "1"), ("RELAY_SHARDS", "1")]).await;
    let mut spare = rig.model().await;
    spare.settle().await;
    rig.relay.until_metric(READY).await;
    rig.relay.signal("-TERM");
    assert_eq!(spare.next_event().await, None);
    assert!(rig.relay.exit().await.success());
}

#[tokio::test]
async fn a_spare_that_its_service_closes_is_replaced() {
    let rig = Rig::with("", &[("RELAY_SPARE_AGENTS", "1"), ("RELAY_SHARDS", "1")]).await;
    let mut spare = rig.model().await;
    spare.settle().await;
    rig.relay.until_metric(READY).await;
    spare.close_with(1_000).await;
    rig.relay.until_metric("relay_spares_ready 0").await;
    rig.model().await.settle().await;
    rig.relay.until_metric(READY).await;
    rig.relay.until_metric("relay_sockets_open{leg=\"agent\"} 1").await;
}
