//! The proxy on loopback: every fault as both ends see it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;

/// Both ends of a connection through a proxy.
struct Pair {
    proxy: FaultProxy,
    dialler: TcpStream,
    target: TcpStream,
}

async fn pair_with(plan: Plan) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ProxySettings { plan, ..ProxySettings::to(listener.local_addr().unwrap()) };
    let proxy = FaultProxy::start(settings).await.unwrap();
    let dialler = TcpStream::connect(proxy.address()).await.unwrap();
    let (target, _) = listener.accept().await.unwrap();
    Pair { proxy, dialler, target }
}

async fn pair() -> Pair {
    pair_with(Plan::none()).await
}

/// What an end sees next.
async fn sees(stream: &mut TcpStream) -> Result<Vec<u8>, std::io::ErrorKind> {
    let mut buffer = vec![0; 64 * 1024];
    let read = timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
    let count = read.expect("something happens within 5 s").map_err(|error| error.kind())?;
    buffer.truncate(count);
    Ok(buffer)
}

async fn sees_nothing(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 16];
    timeout(Duration::from_millis(80), stream.read(&mut buffer)).await.is_err()
}

async fn closed(proxy: &FaultProxy) {
    while proxy.open() > 0 {
        tokio::task::yield_now().await;
    }
}

const RESET: Result<Vec<u8>, std::io::ErrorKind> = Err(std::io::ErrorKind::ConnectionReset);

#[tokio::test]
async fn bytes_and_ends_pass_both_ways() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    dialler.write_all(b"ping").await.unwrap();
    assert_eq!(sees(&mut target).await.unwrap(), b"ping");
    target.write_all(b"pong!").await.unwrap();
    assert_eq!(sees(&mut dialler).await.unwrap(), b"pong!");
    let known = proxy.connections()[0];
    assert_eq!((known.up_bytes, known.down_bytes, known.open), (4, 5, true));
    assert_eq!(known.outward, Some(target.peer_addr().unwrap()));
    dialler.shutdown().await.unwrap();
    assert_eq!(sees(&mut target).await.unwrap(), b"");
    target.write_all(b"still here").await.unwrap();
    assert_eq!(sees(&mut dialler).await.unwrap(), b"still here");
    drop(target);
    assert_eq!(sees(&mut dialler).await.unwrap(), b"");
    closed(&proxy).await;
    assert!(!proxy.strike(0, Flow::Up, Fault::Reset));
}

#[tokio::test]
async fn a_reset_and_a_close_are_told_apart() {
    for (fault, seen) in [(Fault::Reset, RESET), (Fault::Close, Ok(Vec::new()))] {
        let Pair { proxy, mut dialler, mut target } = pair().await;
        assert!(proxy.strike(0, Flow::Up, fault));
        assert_eq!(sees(&mut dialler).await, seen);
        assert_eq!(sees(&mut target).await, seen);
        closed(&proxy).await;
    }
}

#[tokio::test]
async fn a_black_hole_tells_nobody() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    assert!(proxy.strike(0, Flow::Up, Fault::BlackHole));
    for _ in 0..20 {
        dialler.write_all(&[1; 64 * 1024]).await.unwrap();
    }
    target.write_all(b"hello?").await.unwrap();
    assert!(sees_nothing(&mut dialler).await && sees_nothing(&mut target).await);
    assert_eq!(proxy.connections()[0].up_bytes, 0);
    drop(dialler);
    assert_eq!(sees(&mut target).await, RESET);
    closed(&proxy).await;
}

#[tokio::test]
async fn a_half_close_leaves_the_other_half() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    assert!(proxy.strike(0, Flow::Down, Fault::HalfClose));
    assert_eq!(sees(&mut dialler).await.unwrap(), b"");
    dialler.write_all(b"still here").await.unwrap();
    assert_eq!(sees(&mut target).await.unwrap(), b"still here");
}

#[tokio::test]
async fn a_cut_comes_in_the_middle_of_what_is_sent() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    assert!(proxy.strike(0, Flow::Down, Fault::CutAfter(7)));
    target.write_all(b"a whole frame").await.unwrap();
    // A reset may overtake what was sent before it; more than seven bytes never come.
    match sees(&mut dialler).await {
        Ok(bytes) => {
            assert_eq!(bytes, b"a whole");
            assert_eq!(sees(&mut dialler).await, RESET);
        }
        error => assert_eq!(error, RESET),
    }
    assert_eq!(proxy.connections()[0].down_bytes, 7);
    closed(&proxy).await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_delays_and_heals() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    let late = Duration::from_secs(3);
    assert!(proxy.strike(0, Flow::Up, Fault::Delay(late)));
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    dialler.write_all(b"x").await.unwrap();
    assert_eq!(sees(&mut target).await.unwrap(), b"x");
    assert!(began.elapsed() >= late);
    assert!(proxy.strike(0, Flow::Up, Fault::Heal));
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    dialler.write_all(b"y").await.unwrap();
    assert_eq!(sees(&mut target).await.unwrap(), b"y");
    assert!(began.elapsed() < late);
}

#[tokio::test]
async fn a_throttled_flow_keeps_its_rate() {
    let Pair { proxy, mut dialler, mut target } = pair().await;
    assert!(proxy.strike(0, Flow::Up, Fault::Throttle(10_000)));
    let began = crate::clock::Stopwatch::start();
    dialler.write_all(&[7; 3_000]).await.unwrap();
    let mut got = 0;
    while got < 3_000 {
        got += sees(&mut target).await.unwrap().len();
    }
    // The first tenth of a second's worth goes at once, the last is not waited for.
    assert!(began.millis() >= 150, "{}", began.millis());
}

#[tokio::test]
async fn a_slow_reader_stops_its_sender() {
    let Pair { proxy, dialler, target: _target } = pair().await;
    assert!(proxy.strike(0, Flow::Up, Fault::SlowRead(1_000)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut sent = 0_usize;
    // Loopback buffers hold a few megabytes at most.
    while let Ok(Ok(count)) = timeout(Duration::from_millis(200), async {
        dialler.writable().await?;
        match dialler.try_write(&[7; 64 * 1024]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::future::pending().await
            }
            other => other,
        }
    })
    .await
    {
        sent += count;
        assert!(sent < 32 * 1024 * 1024, "the sender is never stopped");
    }
    assert!(proxy.connections()[0].up_bytes < 8 * 1024);
}

#[tokio::test]
async fn the_door_may_refuse_or_be_silent() {
    let Pair { proxy, .. } = pair().await;
    proxy.set_door(Door::Refusing);
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(sees(&mut refused).await, RESET);
    proxy.set_door(Door::Silent);
    let mut ignored = TcpStream::connect(proxy.address()).await.unwrap();
    ignored.write_all(b"hello?").await.unwrap();
    assert!(sees_nothing(&mut ignored).await);
}

#[tokio::test(start_paused = true)]
async fn a_plan_strikes_by_itself() {
    let every = Duration::from_secs(1);
    let plan = Plan { seed: 1, every, faults: vec![Fault::Reset] };
    let Pair { proxy, mut dialler, target: _target } = pair_with(plan).await;
    assert_eq!(sees(&mut dialler).await, RESET);
    closed(&proxy).await;
}
