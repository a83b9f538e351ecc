//! Five times as many requests as a backend can answer, for a while: how many are answered in time all
//! the same. Run by `make stampede`, since what it measures needs a quiet machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and reports"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use support::{Gateway, Upstream};
use tokio::sync::Semaphore;

/// The backend answers so many requests at once…
const WORKERS: usize = 20;
/// …each after so long: 1,000 a second.
const WORK: Duration = Duration::from_millis(20);
const CAPACITY: usize = 1000;
/// Clients wait for no longer.
const PATIENCE: Duration = Duration::from_millis(400);

/// A backend with an endless queue, that works on what nobody waits for all the same.
async fn bounded() -> Upstream {
    let workers = Arc::new(Semaphore::new(WORKERS));
    Upstream::serving(move |_| {
        let workers = workers.clone();
        async move {
            let work = tokio::spawn(async move {
                let _worker = workers.acquire().await;
                tokio::time::sleep(WORK).await;
            });
            let _ = work.await;
            Response::new(Full::new(Bytes::from_static(b"done")).boxed())
        }
    })
    .await
}

/// Answers in time, a second, while requests come at a rate whatever happens.
async fn goodput(gateway: &Gateway, rate: usize, seconds: u64) -> f64 {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let good = Arc::new(AtomicUsize::new(0));
    let address = gateway.address;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
        for _ in sent..due {
            let (client, good) = (client.clone(), good.clone());
            tokio::spawn(async move {
                let request = Request::get(format!("http://{address}/a"));
                let request = request.body(Full::new(Bytes::new())).unwrap();
                let asked = async {
                    let response = client.request(request).await.ok()?;
                    let status = response.status();
                    response.into_body().collect().await.ok()?;
                    Some(status)
                };
                let answer = tokio::time::timeout(PATIENCE, asked).await;
                // The first half is for finding the bound.
                let is_late_half = begun.elapsed() > Duration::from_secs(seconds) / 2;
                if is_late_half && matches!(answer, Ok(Some(status)) if status == 200) {
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sent = due;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(PATIENCE).await;
    good.load(Ordering::Relaxed) as f64 / (seconds as f64 / 2.0)
}

async fn gateway(backend: &Upstream, bound: &str) -> Gateway {
    Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: /a }}], retry: off,
         timeouts: {{ total: 400ms }}, outlier_detection: off,
         circuit_breaker: {{ failure_rate: 100%, max_in_flight: 20000, {bound} }} }} }}",
        backend.address
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: make stampede"]
async fn five_times_the_load_leaves_nine_tenths_of_the_answers() {
    let backend = bounded().await;
    let free = gateway(&backend, "").await;
    let peak = goodput(&free, CAPACITY * 9 / 10, 10).await;
    let without = goodput(&free, CAPACITY * 5, 10).await;
    // What is left in the first one's queue is nobody's business.
    let backend = bounded().await;
    let bound = gateway(&backend, "adaptive: gradient").await;
    goodput(&bound, CAPACITY * 5, 4).await;
    let before = bound.resident();
    let with = goodput(&bound, CAPACITY * 5, 20).await;
    let after = bound.resident();
    println!("answers in time, a second: {peak:.0} at 0.9 times the capacity;");
    println!("at 5 times: {without:.0} without a bound, {with:.0} with `adaptive: gradient`");
    println!("resident: {} MiB, then {} MiB", before >> 20, after >> 20);
    assert!(with > 0.9 * peak, "{with} of {peak}");
    assert!(after < before + (16 << 20), "{before} {after}");
}
