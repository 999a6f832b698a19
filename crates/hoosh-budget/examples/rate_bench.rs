//! What a call's limits cost: `cargo run --release -p hoosh-budget --example rate_bench`.
//!
//! The bar is 300 ns for two limits, of requests and of tokens per minute, with nobody else at the lock: let in, corrected and
//! given back.

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoosh_budget::rate::{Admission, Gate, Limits, Measure, Period, Rate, RateLimits};

const ROUNDS: u32 = 1_000_000;
const REPEATS: usize = 5;

/// The shortest of some repeats. Unit: ns per round.
fn best_ns(mut round: impl FnMut(Instant)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        for number in 0..ROUNDS {
            // Time is made, since to read a clock costs about as much as the rest.
            round(start + Duration::from_nanos(u64::from(number) * 300));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}

fn main() -> Result<(), Box<dyn Error>> {
    let most = NonZeroU64::new(1 << 50).ok_or("it is not 0")?;
    let rates = [Measure::Requests, Measure::Tokens].map(|measure| Rate::per(measure, most, Period::Minute));
    let two = Limits::new(rates.to_vec(), None)?;
    let one = Gate { name: "key:k_0123456789", limits: &two };
    let three =
        [one, Gate { name: "team:search", limits: &two }, Gate { name: "provider:groq", limits: &two }];
    let books = Arc::new(RateLimits::new());

    let free = Limits::NONE;
    let none = [Gate { name: "key:k_0", limits: &free }];
    for (what, gates) in
        [("no limit", &none[..]), ("two limits of one name", &three[..1]), ("six of three names", &three)]
    {
        let ns = best_ns(|now| {
            if let Ok(admission) = books.admit(black_box(gates), 1_000, now) {
                black_box(admission.settle(900, now));
            }
        });
        println!("{what:<28} admitted and settled {ns:>6.0} ns");
    }
    for calls in [10, 100, 1_000, 4_000] {
        let now = Instant::now();
        let open: Vec<Admission> = (0..calls).filter_map(|_| books.admit(&[one], 1_000, now).ok()).collect();
        let start = Instant::now();
        for admission in open {
            admission.settle(900, now);
        }
        let ns = start.elapsed().as_nanos() as f64 / f64::from(calls);
        println!("settled among {calls:<5} open calls on average {ns:>14.0} ns");
    }
    Ok(())
}
