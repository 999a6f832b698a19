use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn some(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap()
}

fn requests(amount: u64, period: Period) -> Rate {
    Rate::per(Measure::Requests, some(amount), period)
}

fn tokens(amount: u64, period: Period) -> Rate {
    Rate::per(Measure::Tokens, some(amount), period)
}

fn limits(rates: &[Rate], concurrent: Option<u32>) -> Limits {
    Limits::new(rates.to_vec(), concurrent).unwrap()
}

fn gate<'a>(name: &'a str, limits: &'a Limits) -> Gate<'a> {
    Gate { name, limits }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn own_limits_are_in_place_of_the_same_of_others() {
    let rate = |measure, amount, period| Rate::per(measure, NonZeroU64::new(amount).unwrap(), period);
    let (minute, day) = (Period::Minute, Period::Day);
    let others = vec![rate(Measure::Requests, 1, minute), rate(Measure::Tokens, 2, minute)];
    let others = Limits::new(others, Some(3)).unwrap();
    let own = Limits::new(vec![rate(Measure::Requests, 9, minute), rate(Measure::Requests, 9, day)], None);
    let over = own.unwrap().over(&others);
    let all = [
        rate(Measure::Requests, 9, minute),
        rate(Measure::Requests, 9, day),
        rate(Measure::Tokens, 2, minute),
    ];
    assert_eq!((over.rates(), over.concurrent()), (&all[..], Some(3)));
    assert_eq!(Limits::NONE.over(&others), others);
}

#[test]
fn a_limit_gives_one_back_each_part_of_its_period_and_says_when() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[requests(60, Period::Minute).with_burst(some(2))], None);
    let admit = |at: f64| books.admit(&[gate("key:a", &key)], 0, start + secs(at));

    let first = admit(0.0).unwrap().standings();
    assert_eq!(first.requests, Some(Standing { limit: 60, remaining: 1, reset: secs(1.0) }));
    assert_eq!(first.tokens, None);
    assert!(admit(0.0).is_ok());
    let refusal = admit(0.25).unwrap_err();
    assert_eq!(refusal.limit, LimitKind::Rate(Measure::Requests, Period::Minute));
    assert_eq!((refusal.retry_after, refusal.retry_after_secs()), (Some(secs(0.75)), Some(1)));
    assert_eq!(refusal.standings.requests, Some(Standing { limit: 60, remaining: 0, reset: secs(1.75) }));
    assert_eq!(
        refusal.to_string(),
        "`key:a` may have 60 requests per minute and has 0 left, 1 asked; try again in 1 s"
    );
    assert!(admit(0.999_999_999).is_err());
    assert!(admit(1.0).is_ok());
    assert!(admit(1.0).is_err(), "refusals cost nothing, but what came back is taken");
    assert!(admit(2.0).is_ok());
}

#[test]
fn all_gates_are_passed_or_none() {
    // Goal: what a provider refuses is not taken from the key.
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[requests(10, Period::Minute), tokens(1_000, Period::Minute)], Some(3));
    let provider = limits(&[tokens(100, Period::Hour)], None);
    let free = Limits::NONE;
    let gates = [gate("key:a", &key), gate("provider:p", &provider), gate("pool:free", &free)];

    let kept = books.admit(&gates, 60, now).unwrap();
    let refusal = books.admit(&gates, 60, now).unwrap_err();
    assert_eq!(refusal.name, "provider:p");
    assert_eq!((refusal.allowed, refusal.remaining, refusal.asked), (100, 40, 60));
    assert_eq!(refusal.retry_after, Some(secs(720.0)));
    let key_now = books.standings("key:a", now).unwrap();
    assert_eq!(key_now.requests.unwrap().remaining, 9);
    assert_eq!(key_now.tokens.unwrap().remaining, 940);
    assert_eq!(books.running("key:a"), 1);
    assert_eq!(books.names(), 2, "a gate without limits is not remembered");
    assert_eq!(kept.standings().tokens.unwrap().remaining, 40, "the tighter one is told");

    assert_eq!(books.check(&gates, 40, now).unwrap(), kept.standings());
    assert_eq!(books.check(&gates, 41, now).unwrap_err().name, "provider:p");
    assert_eq!(books.running("key:a"), 1, "to ask takes nothing");
}

#[test]
fn a_name_that_comes_twice_is_charged_once() {
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[requests(10, Period::Minute)], None);
    let admission = books.admit(&[gate("key:a", &key), gate("key:a", &key)], 0, now).unwrap();
    assert_eq!(admission.standings().requests.unwrap().remaining, 9);
    assert_eq!(books.running("key:a"), 1);
}

#[test]
fn an_estimate_is_held_and_then_corrected() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[tokens(6_000, Period::Minute)], None); // 100 per second
    let admit = |tokens| books.admit(&[gate("key:a", &key)], tokens, start);
    let left = |at: f64| books.standings("key:a", start + secs(at)).unwrap().tokens.unwrap().remaining;

    let first = admit(4_000).unwrap();
    let mut second = admit(1_500).unwrap();
    assert_eq!(admit(4_000).unwrap_err().retry_after, Some(secs(35.0)));
    assert_eq!(first.settle(1_000, start + secs(2.0)).tokens.unwrap().remaining, 3_700);
    // More than was thought, beyond all that is left: it is spent, and the next ones wait for it.
    second.correct(6_500, start + secs(2.0));
    assert_eq!(second.standings().tokens.unwrap().remaining, 0);
    let refusal = books.admit(&[gate("key:a", &key)], 0, start + secs(2.0)).unwrap_err();
    assert_eq!(refusal.retry_after, Some(secs(13.01)), "1,300 are owed, and one must be left");
    // It may be corrected again, and what was told last stays when it is dropped.
    second.correct(2_000, start + secs(3.0));
    drop(second);
    assert_eq!(left(3.0), 3_300);
    assert_eq!(left(60.0), 6_000);
}

#[test]
fn a_call_that_is_dropped_costs_its_estimate() {
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[tokens(1_000, Period::Minute)], Some(1));
    let admission = books.admit(&[gate("key:a", &key)], 300, now).unwrap();
    drop(admission);
    assert_eq!(books.running("key:a"), 0);
    assert_eq!(books.standings("key:a", now).unwrap().tokens.unwrap().remaining, 700);
}

#[test]
fn calls_at_once_are_counted_to_their_end() {
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[], Some(2));
    let admit = || books.admit(&[gate("key:a", &key)], 10, now);
    let first = admit().unwrap();
    let _second = admit().unwrap();
    let refusal = admit().unwrap_err();
    assert_eq!((refusal.limit, refusal.retry_after), (LimitKind::Concurrent, Some(CONCURRENCY_HINT)));
    assert_eq!(
        refusal.to_string(),
        "`key:a` may have 2 calls at once, which run; try again when one is over"
    );
    first.settle(5, now);
    let third = admit().unwrap();
    assert!(admit().is_err());
    let unwound = std::thread::spawn(move || {
        let _held = third;
        panic!("the call fails");
    });
    assert!(unwound.join().is_err());
    assert!(admit().is_ok(), "a panic frees the slot too");

    let none = limits(&[], Some(0));
    let refusal = books.admit(&[gate("key:b", &none)], 0, now).unwrap_err();
    assert_eq!(refusal.retry_after, None);
}

#[test]
fn what_can_never_fit_is_said_to() {
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[tokens(1_000, Period::Minute), tokens(5_000, Period::Hour)], None);
    let refusal = books.admit(&[gate("key:a", &key)], 1_001, now).unwrap_err();
    assert_eq!((refusal.retry_after, refusal.retry_after_secs()), (None, None));
    assert_eq!(refusal.to_string(), "`key:a` may have 1000 tokens at once, 1001 asked; ask for less");
    assert!(books.admit(&[gate("key:a", &key)], 1_000, now).is_ok());
    // Never is told before later.
    let slow = limits(&[requests(1, Period::Day)], None);
    let _taken = books.admit(&[gate("key:b", &slow)], 0, now).unwrap();
    let gates = [gate("key:b", &slow), gate("key:a", &key)];
    assert_eq!(books.admit(&gates, 1_001, now).unwrap_err().name, "key:a");
    assert_eq!(books.admit(&gates, 1, now).unwrap_err().name, "key:b", "the longer wait is told");
}

#[test]
fn other_limits_count_from_the_next_call_and_keep_what_was_used() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
    let admit =
        |limits: &Limits, tokens, at: f64| books.admit(&[gate("key:a", limits)], tokens, start + secs(at));
    let small = limits(&[tokens(60, Period::Minute), requests(5, Period::Second)], None);
    let mut admission = admit(&small, 50, 0.0).unwrap();
    // Ten seconds at 1 per second, then at 10 per second.
    let large = limits(&[tokens(600, Period::Minute), requests(100, Period::Hour)], Some(2));
    let second = admit(&large, 10, 10.0).unwrap();
    assert_eq!(second.standings().tokens.unwrap().remaining, 550);
    assert_eq!(
        second.standings().requests.unwrap(),
        Standing { limit: 100, remaining: 99, reset: secs(36.0) }
    );
    assert!(matches!(admit(&large, 0, 10.0).unwrap_err().limit, LimitKind::Concurrent), "both run");
    admission.correct(20, start + secs(10.0));
    assert_eq!(
        admission.standings().tokens.unwrap().remaining,
        580,
        "10 of 20 are there still, and 10 of the other's"
    );
}

#[test]
fn limits_of_the_same_twice_are_refused() {
    let twice =
        Limits::new(vec![tokens(1, Period::Day), requests(1, Period::Day), tokens(2, Period::Day)], None);
    let error = twice.unwrap_err();
    assert_eq!(error.to_string(), "there are two limits of tokens per day; leave one out");
    assert!(Limits::NONE.are_none() && !limits(&[], Some(1)).are_none());
}

#[test]
fn names_that_have_recovered_are_forgotten() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
    let second = limits(&[requests(1, Period::Second), tokens(10, Period::Second)], None);
    let kept = books.admit(&[gate("key:kept", &second)], 10, start).unwrap();
    // Each name comes a second after the last one, so that all before it have recovered.
    for number in 0..10_000 {
        let at = start + Duration::from_secs(number + 1);
        drop(books.admit(&[gate(&format!("user:{number}"), &second)], 10, at).unwrap());
        assert!(books.names() <= RATE_NAMES_SWEPT_MIN, "{}", books.names());
    }
    let end = start + Duration::from_secs(10_002);
    books.forget_recovered(end);
    assert_eq!(books.names(), 1, "whose call runs is not forgotten");
    let state = books.state();
    assert!(state.meters.capacity() <= 2 * RATE_NAMES_SWEPT_MIN && state.by_name.capacity() < 256);
    drop(state);
    drop(kept);
    books.forget_recovered(end);
    assert_eq!(books.names(), 0);
}

#[test]
fn more_names_than_can_be_counted_are_refused_until_one_recovers() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
    let minute = limits(&[requests(1, Period::Minute)], None);
    let admit = |name: &str, at: f64| books.admit(&[gate(name, &minute)], 0, start + secs(at)).map(drop);
    admit("key:first", 0.0).unwrap();
    for number in 1..RATE_NAMES_MAX {
        admit(&format!("user:{number}"), 30.0).unwrap();
    }
    let refusal = admit("user:more", 40.0).unwrap_err();
    assert_eq!(refusal.limit, LimitKind::Names);
    assert_eq!((refusal.retry_after, refusal.name.as_str()), (Some(secs(20.0)), "user:more"));
    assert_eq!(refusal.to_string(), "`user:more` cannot be counted beside 65536 others; try again later");
    assert!(admit("user:1", 40.0).is_err(), "those that are known are counted as ever");
    admit("user:more", 60.0).unwrap();
    assert_eq!(books.names(), RATE_NAMES_MAX);
    books.forget_recovered(start + secs(1_000.0));
    assert_eq!(books.names(), 0);
}

#[test]
fn a_time_of_the_past_counts_as_the_latest() {
    let (books, start) = (Arc::new(RateLimits::new()), Instant::now() + secs(100.0));
    let key = limits(&[requests(1, Period::Second)], None);
    let admit = |at: Instant| books.admit(&[gate("key:a", &key)], 0, at).map(drop);
    admit(start).unwrap();
    assert_eq!(admit(start - secs(50.0)).unwrap_err().retry_after, Some(secs(1.0)));
    admit(start + secs(1.0)).unwrap();
}

#[test]
fn resets_are_written_as_openai_does() {
    let text = |seconds: f64| ResetText(secs(seconds)).to_string();
    assert_eq!(text(0.0), "0s");
    assert_eq!(text(0.0201), "21ms");
    assert_eq!(text(1.0), "1s");
    assert_eq!(text(8.64), "8.64s");
    assert_eq!(text(360.0), "6m0s");
    assert_eq!(text(90.5), "1m30.5s");
    assert_eq!(text(3_723.004), "1h2m3.004s");
    assert_eq!(text(86_400.0), "24h0m0s");
}

#[test]
fn threads_share_a_limit_exactly() {
    let (books, now) = (Arc::new(RateLimits::new()), Instant::now());
    let key = limits(&[requests(1_000, Period::Day), tokens(10_000, Period::Day)], Some(8));
    let admitted: usize = std::thread::scope(|scope| {
        let work = || {
            (0..1_000)
                .filter(|_| {
                    // 10 tokens in the end, 100 at first: at most 8 run, so that some room is always held in vain.
                    books.admit(&[gate("key:a", &key)], 100, now).map(|call| call.settle(10, now)).is_ok()
                })
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let standings = books.standings("key:a", now).unwrap();
    assert_eq!(standings.requests.unwrap().remaining, 1_000 - admitted as u64);
    assert_eq!(standings.tokens.unwrap().remaining, 10_000 - 10 * admitted as u64);
    assert_eq!(books.running("key:a"), 0);
    assert!((900..=1_000).contains(&admitted), "{admitted}");
}

// === laws ===

#[derive(Debug, Clone)]
struct Arrival {
    after_millis: u64,
    /// Which of three names it goes by; at least one.
    names: [bool; 3],
    estimate: u64,
    actual: u64,
    /// After how many more arrivals it ends.
    lasts: usize,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    (0_u64..3_000, any::<[bool; 3]>(), 0_u64..80, 0_u64..120, 0_usize..12).prop_map(
        |(after_millis, names, estimate, actual, lasts)| Arrival {
            after_millis,
            names,
            estimate,
            actual,
            lasts,
        },
    )
}

/// A call of the plain simulation, which remembers all of them and goes through them again each time.
#[derive(Debug, Clone, Copy)]
struct Past {
    at_nanos: i128,
    amount: i128,
}

struct Running {
    /// The arrival before which it ends.
    until: usize,
    admission: Admission,
    actual: u64,
    /// Of its names, each with its place among the calls of that name.
    places: Vec<(usize, usize)>,
}

/// How much fills a limit after these, at `now`, in requests or tokens times the period.
fn filled(past: &[Past], rate: &Rate, now_nanos: i128) -> i128 {
    let amount = i128::from(rate.amount.get());
    let (mut level, mut seen) = (0, 0);
    for call in past {
        level = (level - (call.at_nanos - seen) * amount).max(0) + call.amount * rate.period.nanos();
        seen = call.at_nanos;
    }
    (level - (now_nanos - seen) * amount).max(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_plain_simulation_and_no_window_has_more_than_it_may(arrivals in vec(arrival(), 1..60)) {
        let all = [
            limits(&[requests(3, Period::Second).with_burst(some(2)), tokens(900, Period::Minute).with_burst(some(100))], None),
            limits(&[tokens(30, Period::Second)], Some(3)),
            limits(&[requests(20, Period::Minute), tokens(40, Period::Second).with_burst(some(150))], Some(5)),
        ];
        let names = ["key:a", "pool:b", "provider:c"];
        let (books, start) = (Arc::new(RateLimits::new()), Instant::now());
        // Per name: who was let in, with requests and tokens; and per call what it was let in for.
        let mut tokens_past: [Vec<Past>; 3] = Default::default();
        let mut requests_past: [Vec<Past>; 3] = Default::default();
        let mut estimates: Vec<(usize, usize, i128)> = Vec::new(); // name, place in it, estimate
        let mut running: Vec<Running> = Vec::new();
        let mut now_nanos = 0_i128;
        for (turn, arrival) in arrivals.iter().enumerate() {
            now_nanos += i128::from(arrival.after_millis) * 1_000_000;
            let now = start + Duration::from_nanos(now_nanos as u64);
            // Who is over settles, in any order.
            let (over, still): (Vec<_>, Vec<_>) = running.into_iter().partition(|call| call.until <= turn);
            running = still;
            for Running { admission, actual, places, .. } in over.into_iter().rev() {
                admission.settle(actual, now);
                for (name, place) in places {
                    tokens_past[name][place].amount = actual.into();
                }
            }
            let chosen: Vec<usize> = (0..3).filter(|name| arrival.names[*name]).collect();
            let gates: Vec<Gate<'_>> = chosen.iter().map(|name| gate(names[*name], &all[*name])).collect();
            let rates_fit = |at_nanos: i128| chosen.iter().all(|name| all[*name].rates().iter().all(|rate| {
                let (past, asked) = match rate.measure {
                    Measure::Requests => (&requests_past[*name], 1),
                    Measure::Tokens => (&tokens_past[*name], i128::from(arrival.estimate.max(1))),
                };
                let most = i128::from(rate.burst().get()) * rate.period.nanos();
                filled(past, rate, at_nanos) + asked * rate.period.nanos() <= most
            }));
            let has_slot = chosen.iter().all(|name| {
                let is_of = |call: &&Running| {
                    call.places.iter().any(|place| place.0 == *name)
                };
                all[*name].concurrent().is_none_or(|most| running.iter().filter(is_of).count() < most as usize)
            });
            let fits = has_slot && rates_fit(now_nanos);
            match books.admit(&gates, arrival.estimate, now) {
                Ok(admission) => {
                    prop_assert!(fits, "let in: {:?}", arrival);
                    let mut places = Vec::new();
                    for name in chosen {
                        requests_past[name].push(Past { at_nanos: now_nanos, amount: 1 });
                        let amount = i128::from(arrival.estimate);
                        tokens_past[name].push(Past { at_nanos: now_nanos, amount });
                        places.push((name, tokens_past[name].len() - 1));
                        estimates.push((name, tokens_past[name].len() - 1, amount));
                    }
                    let until = turn + 1 + arrival.lasts;
                    running.push(Running { until, admission, actual: arrival.actual, places });
                }
                Err(refusal) => {
                    prop_assert!(!fits, "{}", refusal);
                    // It would be let in then, if nobody else came, and not a nanosecond before.
                    if let (LimitKind::Rate(..), Some(wait)) = (refusal.limit, refusal.retry_after) {
                        let then = now_nanos + i128::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(rates_fit(then) && !rates_fit(then - 1), "{}", refusal);
                    }
                }
            }
            for (name, limits) in all.iter().enumerate() {
                let Some(told) = books.standings(names[name], now) else { continue };
                for rate in limits.rates() {
                    let (past, told) = match rate.measure {
                        Measure::Requests => (&requests_past[name], told.requests),
                        Measure::Tokens => (&tokens_past[name], told.tokens),
                    };
                    let most = i128::from(rate.burst().get()) * rate.period.nanos();
                    let left = (most - filled(past, rate, now_nanos)).max(0) / rate.period.nanos();
                    prop_assert_eq!(i128::from(told.unwrap().remaining), left);
                }
            }
        }
        // What was spent beyond the estimate was not asked for; all else is within the limit in any window.
        for (name, place, estimate) in estimates {
            let past = &mut tokens_past[name][place];
            past.amount = past.amount.min(estimate);
        }
        for (name, limits) in all.iter().enumerate() {
            for rate in limits.rates() {
                let past = match rate.measure {
                    Measure::Requests => &requests_past[name],
                    Measure::Tokens => &tokens_past[name],
                };
                for (first, from) in past.iter().enumerate() {
                    let mut sum = 0;
                    for to in &past[first..] {
                        sum += to.amount * rate.period.nanos();
                        let window = (to.at_nanos - from.at_nanos) * i128::from(rate.amount.get());
                        let most = i128::from(rate.burst().get()) * rate.period.nanos() + window;
                        prop_assert!(sum <= most, "{:?} had {} of {}", rate, sum, most);
                    }
                }
            }
        }
    }
}
