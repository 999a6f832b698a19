//! Who is next, with times made up.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;

/// The model of all calls where it does not matter.
static MODEL: LazyLock<Arc<str>> = LazyLock::new(|| "m".into());

/// A line in which each caller has its name, and a time that only a test moves.
struct World {
    line: Line,
    now: Instant,
    callers: HashMap<Id, &'static str>,
}

impl World {
    /// All slots taken by `running`, who is none of those that are asked about.
    fn full(concurrent: usize) -> Self {
        let limits = QueueLimits { concurrent, waiting: 10_000, per_model: None };
        let mut world = Self { line: Line::new(limits), now: Instant::now(), callers: HashMap::new() };
        for _ in 0..concurrent {
            assert_eq!(world.line.enter(&ticket("running", Tier::Normal, 1), world.now), Ok(None));
        }
        world
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.line.observe(self.now);
    }

    /// Waits, since there is no slot.
    fn wait(&mut self, caller: &'static str, tier: Tier, tokens: u64) -> Id {
        let id = self.line.enter(&ticket(caller, tier, tokens), self.now).unwrap().expect("no slot is free");
        self.callers.insert(id, caller);
        id
    }

    fn wait_often(&mut self, calls: usize, caller: &'static str, tier: Tier, tokens: u64) {
        for _ in 0..calls {
            self.wait(caller, tier, tokens);
        }
    }

    /// One call ends. Who gets in?
    fn next(&mut self) -> &'static str {
        let id = self.line.release(&MODEL).expect("somebody waits");
        self.callers[&id]
    }

    /// So many calls end, one after the other. Who gets in?
    fn next_of(&mut self, calls: usize) -> Vec<&'static str> {
        (0..calls).map(|_| self.next()).collect()
    }
}

fn ticket(caller: &str, tier: Tier, tokens: u64) -> Ticket<'_> {
    Ticket { caller, model: &MODEL, tier, tokens, deadline: None }
}

fn count(of: &str, callers: &[&str]) -> usize {
    callers.iter().filter(|caller| **caller == of).count()
}

/// How many of a backlog of a thousand get in before another's single call, whatever the time a slot takes.
fn check_delay(concurrent: usize, crowd: Tier, single: Tier, slot_seconds: u64) {
    for served in [0, 1, 2, 3, 24] {
        let mut world = World::full(concurrent);
        world.wait_often(1_000, "crowd", crowd, 500);
        for _ in 0..served {
            world.pass(slot_seconds);
            assert_eq!(world.next(), "crowd");
        }
        world.wait("single", single, 500);
        let mut before = 0;
        loop {
            world.pass(slot_seconds);
            if world.next() == "single" {
                break;
            }
            before += 1;
        }
        assert!(before <= 1, "{before} before it, after {served} slots of {slot_seconds} s");
    }
}

#[test]
fn a_backlog_delays_anothers_single_call_by_one_slot_at_most() {
    for slot_seconds in [0, 1, 7, 10, 25, 39, 40, 60, 3_600] {
        for concurrent in [1, 4] {
            for tier in Tier::ALL {
                check_delay(concurrent, tier, tier, slot_seconds);
            }
            check_delay(concurrent, Tier::Batch, Tier::High, slot_seconds);
            check_delay(concurrent, Tier::Low, Tier::Normal, slot_seconds);
        }
    }
}

#[test]
fn each_backlog_delays_by_one_slot_at_most() {
    let crowds = ["a", "b", "c", "d", "e"];
    for slot_seconds in [0, 15, 60] {
        let mut world = World::full(2);
        for (caller, tokens) in crowds.into_iter().zip([1, 10, 100, 1_000, 10_000]) {
            world.wait_often(500, caller, Tier::Normal, tokens);
        }
        for _ in 0..40 {
            world.pass(slot_seconds);
            world.next();
        }
        world.wait("single", Tier::Normal, 1_000_000);
        let mut before = Vec::new();
        loop {
            world.pass(slot_seconds);
            match world.next() {
                "single" => break,
                other => before.push(other),
            }
        }
        for caller in crowds {
            assert!(count(caller, &before) <= 1, "{before:?}");
        }
    }
}

#[test]
fn tokens_are_shared_not_calls() {
    let mut world = World::full(3);
    world.wait_often(2_000, "large", Tier::Normal, 10_000);
    world.wait_often(2_000, "small", Tier::Normal, 1_000);
    let got_in = world.next_of(1_100);
    assert!((99..=101).contains(&count("large", &got_in)), "{}", count("large", &got_in));

    // Without an estimate calls are shared.
    let mut world = World::full(3);
    world.wait_often(100, "a", Tier::Normal, 0);
    world.wait_often(100, "b", Tier::Normal, 0);
    assert_eq!(count("a", &world.next_of(50)), 25);
}

#[test]
fn no_estimate_is_too_large_to_be_counted() {
    let mut world = World::full(1);
    world.wait_often(5, "a", Tier::Normal, u64::MAX);
    world.wait_often(5, "b", Tier::Normal, u64::MAX);
    assert_eq!(world.next_of(6), ["a", "b", "a", "b", "a", "b"]);
}

#[test]
fn one_who_comes_back_at_once_has_its_share_and_no_more() {
    let mut world = World::full(1);
    world.wait_often(100, "crowd", Tier::Normal, 100);
    world.wait("again", Tier::Normal, 100);
    let mut got_in = Vec::new();
    for _ in 0..100 {
        let next = world.next();
        if next == "again" {
            world.wait("again", Tier::Normal, 100);
        }
        got_in.push(next);
    }
    assert_eq!(count("again", &got_in), 50);
}

#[test]
fn what_was_had_while_nobody_waited_is_worth_one_call_at_most() {
    let mut world = World::full(1);
    // One slot stays busy, so that the queue is never idle; the other is used again and again.
    world.line.set_limits(QueueLimits { concurrent: 2, waiting: 10, per_model: None });
    for _ in 0..1_000 {
        assert_eq!(world.line.enter(&ticket("old", Tier::Normal, 100), world.now), Ok(None));
        assert_eq!(world.line.release(&MODEL), None);
    }
    assert_eq!(world.line.enter(&ticket("running", Tier::Normal, 100), world.now), Ok(None));
    world.wait_often(4, "old", Tier::Normal, 100);
    world.wait_often(4, "new", Tier::Normal, 100);
    assert_eq!(count("old", &world.next_of(7)), 3);
}

#[test]
fn time_in_which_a_caller_asked_for_nothing_is_not_owed_to_it() {
    let mut world = World::full(1);
    world.wait_often(1_000, "crowd", Tier::Normal, 100);
    assert_eq!(count("crowd", &world.next_of(500)), 500);
    world.wait_often(100, "new", Tier::Normal, 100);
    assert_eq!(count("new", &world.next_of(20)), 10);
}

#[test]
fn an_idle_queue_forgets_who_had_what() {
    let mut world = World::full(1);
    world.wait("had much", Tier::Normal, 1_000_000);
    assert_eq!(world.next(), "had much");
    assert_eq!(world.line.release(&MODEL), None);
    assert_eq!(world.line.enter(&ticket("running", Tier::Normal, 1), world.now), Ok(None));
    world.wait_often(2, "had much", Tier::Normal, 1);
    world.wait_often(2, "other", Tier::Normal, 1);
    assert_eq!(world.next_of(4), ["had much", "other", "had much", "other"]);
}

#[test]
fn calls_of_one_caller_go_in_the_order_they_came() {
    let mut world = World::full(2);
    let ids: Vec<Id> = [700, 1, 30, 9_000, 5].map(|tokens| world.wait("a", Tier::Low, tokens)).into();
    let got_in: Vec<Id> = (0..5).filter_map(|_| world.line.release(&MODEL)).collect();
    assert_eq!(got_in, ids);
}

#[test]
fn the_higher_tier_goes_first() {
    let mut world = World::full(1);
    for tier in [Tier::Batch, Tier::High, Tier::Low, Tier::Normal] {
        world.wait_often(2, tier.as_str(), tier, 100);
    }
    let all = ["high", "high", "normal", "normal", "low", "low", "batch", "batch"];
    assert_eq!(world.next_of(8), all);
}

/// After how long a call gets in while calls of another tier never cease to come. A slot takes a second.
fn check_ageing(tier: Tier, stream: Tier, tokens: u64, expect_seconds: u64) {
    let mut world = World::full(1);
    let mut tell = || {
        world.wait("aged", tier, tokens);
        for seconds in 0..1_000 {
            // Never fewer than three wait, of callers old and new.
            world.wait("stream", stream, 1);
            world.wait(["a", "b", "c", "d"][seconds as usize % 4], stream, 1);
            world.wait("stream", stream, 1);
            if world.next() == "aged" {
                return seconds;
            }
            world.pass(1);
        }
        panic!("it starved");
    };
    assert_eq!(tell(), expect_seconds, "{tier} under {stream}");
    // And its next one has to wait as long again.
    assert_eq!(tell(), expect_seconds, "{tier} under {stream}, again");
}

#[test]
fn a_call_rises_one_tier_for_each_step_it_waits() {
    check_ageing(Tier::Batch, Tier::High, 1, 30);
    check_ageing(Tier::Batch, Tier::Normal, 1, 20);
    check_ageing(Tier::Batch, Tier::Low, 1, 10);
    check_ageing(Tier::Low, Tier::High, 1, 20);
    check_ageing(Tier::Normal, Tier::High, 1, 10);
    check_ageing(Tier::High, Tier::Batch, 1, 0);
}

#[test]
fn large_calls_are_not_passed_over_for_ever_by_small_ones() {
    let mut world = World::full(1);
    world.wait_often(10, "large", Tier::Normal, 1_000_000);
    assert_eq!(world.next(), "large");
    let mut seconds = 0;
    loop {
        world.pass(1);
        seconds += 1;
        world.wait("small", Tier::Normal, 1);
        if world.next() == "large" {
            break;
        }
    }
    assert_eq!(seconds, 40);
}

#[test]
fn a_crowd_of_old_calls_leaves_every_second_slot_to_the_higher_tier() {
    let mut world = World::full(1);
    for caller in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        world.wait_often(100, caller, Tier::Batch, 10);
    }
    world.pass(600);
    world.wait_often(20, "high", Tier::High, 10);
    let got_in = world.next_of(20);
    assert!(got_in.chunks(2).all(|two| count("high", two) == 1), "{got_in:?}");
    // In the order in which they came, since none had a turn.
    let old: Vec<_> = got_in.into_iter().filter(|caller| *caller != "high").collect();
    assert_eq!(old, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    // Now each had one, and what waits behind that is as old but was not passed over.
    assert_eq!(count("high", &world.next_of(10)), 10);
}

#[test]
fn everybody_has_turns_under_constant_overload() {
    const CALLERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut world = World::full(2);
    let mut flows: HashMap<Id, (usize, Tier)> = HashMap::new();
    let mut last_turn = [[world.now; TIERS]; 8];
    let enter = |world: &mut World, flows: &mut HashMap<_, _>, caller: usize, tier: Tier| {
        let tokens = 10u64.pow(caller as u32);
        flows.insert(world.wait(CALLERS[caller], tier, tokens), (caller, tier));
    };
    for caller in 0..CALLERS.len() {
        for tier in Tier::ALL {
            enter(&mut world, &mut flows, caller, tier);
            enter(&mut world, &mut flows, caller, tier);
        }
    }
    // One gets in each second. All 32 flows are due within 40 s, and every second slot is theirs.
    let longest = Duration::from_secs(40 + 2 * 32);
    for _ in 0..3_000 {
        world.pass(1);
        let id = world.line.release(&MODEL).unwrap();
        let (caller, tier) = flows.remove(&id).unwrap();
        last_turn[caller][tier.index()] = world.now;
        enter(&mut world, &mut flows, caller, tier);
        assert!(last_turn.iter().flatten().all(|turn| world.now - *turn <= longest));
    }
}

#[test]
fn positions_tell_the_order() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..20 {
        let mut world = World::full(2);
        let mut waiting = Vec::new();
        for _ in 0..200 {
            let caller = ["a", "b", "c", "d", "e", "f"][random(6) as usize];
            let tier = Tier::ALL[random(4) as usize];
            waiting.push(world.wait(caller, tier, random(1_000)));
            if random(3) == 0 {
                let id = world.line.release(&MODEL).unwrap();
                waiting.retain(|other| *other != id);
            }
            if random(8) == 0 && !waiting.is_empty() {
                let id = waiting.swap_remove(random(waiting.len() as u64) as usize);
                assert!(world.line.leave(id));
            }
        }
        waiting.sort_by_key(|id| world.line.position(*id));
        for (index, id) in waiting.iter().enumerate() {
            assert_eq!(world.line.position(*id), Some(index));
        }
        let order: Vec<Id> = (0..waiting.len()).filter_map(|_| world.line.release(&MODEL)).collect();
        assert_eq!(order, waiting);
    }
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let mut world = World::full(2);
    let now = world.now;
    let within = |seconds| Ticket {
        deadline: Some(now + Duration::from_secs(seconds)),
        ..ticket("hasty", Tier::Normal, 100)
    };
    // Nothing is known yet.
    let id = world.line.enter(&within(1), now).unwrap().expect("a place");
    assert!(world.line.leave(id));

    world.line.learn(Duration::from_secs(20));
    world.wait_often(3, "crowd", Tier::High, 100);
    // Three before it and two slots, each for 20 s: the fourth to get in does after 40 s.
    let too_late = QueueRefusal::TooLate { wait: Duration::from_secs(40) };
    assert_eq!(world.line.enter(&within(10), now), Err(too_late));
    assert_eq!(
        too_late.to_string(),
        "it would wait for 40 s, which is past its deadline; try again then or allow more time"
    );
    assert_eq!(world.line.waiting(), 3, "who is refused leaves nothing behind");
    assert!(world.line.enter(&within(40), now).is_ok());

    // Only what is before it counts: of a backlog of its own tier that is one call.
    world.wait_often(100, "crowd", Tier::Normal, 100);
    let wait = Duration::from_secs(60);
    let other = Ticket { caller: "other", ..within(59) };
    assert_eq!(world.line.enter(&other, now), Err(QueueRefusal::TooLate { wait }));
    assert!(world.line.enter(&Ticket { caller: "other", ..within(60) }, now).is_ok());
}

#[test]
fn a_deadline_does_not_matter_where_a_slot_is_free() {
    let mut line = Line::new(QueueLimits { concurrent: 1, waiting: 0, per_model: None });
    line.learn(Duration::from_secs(20));
    let now = Instant::now();
    assert_eq!(line.enter(&Ticket { deadline: Some(now), ..ticket("a", Tier::Low, 1) }, now), Ok(None));
}

#[test]
fn what_a_call_takes_follows_the_provider() {
    let mut line = Line::new(QueueLimits { concurrent: 1, waiting: 1, per_model: None });
    assert_eq!(line.wait_behind(0, 1), None);
    line.learn(Duration::from_secs(8));
    assert_eq!(line.wait_behind(0, 1), Some(Duration::from_secs(8)));
    line.learn(Duration::from_secs(16));
    assert_eq!(line.wait_behind(0, 1), Some(Duration::from_secs(9)));
    for _ in 0..12 {
        line.learn(Duration::from_secs(80));
    }
    assert!(line.wait_behind(0, 1) > Some(Duration::from_secs(60)));
    line.learn(Duration::MAX);
    assert!(line.wait_behind(usize::MAX, 1).is_some(), "no number is too large");
    // Nobody gets in, so nobody knows when.
    assert_eq!(line.wait_behind(0, 0), None);
}

// --- models with limits of their own ---

fn of<'a>(model: &'a Arc<str>, caller: &'a str, tier: Tier) -> Ticket<'a> {
    Ticket { model, ..ticket(caller, tier, 100) }
}

fn models() -> [Arc<str>; 3] {
    ["a", "b", "c"].map(Arc::from)
}

#[test]
fn who_waits_for_a_full_model_is_passed_and_keeps_its_place() {
    let ([a, b, c], now) = (models(), Instant::now());
    let mut line = Line::new(QueueLimits { concurrent: 2, waiting: 9, per_model: Some(1) });
    let mut enter = |ticket: Ticket<'_>| line.enter(&ticket, now).unwrap();
    assert_eq!(enter(of(&a, "one", Tier::Normal)), None);
    let first = enter(of(&a, "one", Tier::Normal)).expect("`a` is full");
    // A slot is free, and one caller's calls do not wait for each other's models.
    assert_eq!(enter(of(&b, "one", Tier::Normal)), None);
    let second = enter(of(&a, "one", Tier::Normal)).unwrap();
    let [of_b, of_c] = [&b, &c].map(|model| enter(of(model, "one", Tier::Normal)).unwrap());
    assert_eq!([first, second, of_b, of_c].map(|id| line.position(id)), [0, 1, 2, 3].map(Some));
    assert_eq!(line.release(&b), Some(of_b), "those before it wait for `a`");
    assert_eq!(line.release(&b), Some(of_c));
    assert_eq!(line.release(&a), Some(first));
    assert_eq!(line.release(&c), None, "`a` is full again");
    assert_eq!((line.position(second), line.running(), line.waiting()), (Some(0), 1, 1));
    assert_eq!(line.release(&a), Some(second));
    assert_eq!(line.release(&a), None);
    assert!(line.running_of.is_empty() && line.places.is_empty());
}

#[test]
fn tiers_and_shares_hold_over_all_models() {
    let ([a, b, _], now) = (models(), Instant::now());
    let mut line = Line::new(QueueLimits { concurrent: 1, waiting: 99, per_model: Some(1) });
    let mut enter = |ticket: Ticket<'_>| line.enter(&ticket, now).unwrap();
    assert_eq!(enter(of(&b, "crowd", Tier::High)), None);
    let crowd: Vec<Id> = (0..9).filter_map(|_| enter(of(&b, "crowd", Tier::High))).collect();
    let batch = enter(of(&a, "crowd", Tier::Batch)).unwrap();
    let high = enter(of(&a, "other", Tier::High)).unwrap();
    assert_eq!(line.release(&b), Some(high), "neither the crowd nor a batch call of its model holds it up");
    assert_eq!(line.release(&a), Some(crowd[0]));
    (1..9).for_each(|at| assert_eq!(line.release(&b), Some(crowd[at])));
    assert_eq!(line.release(&b), Some(batch));
}

#[test]
fn who_is_old_gets_in_before_those_of_a_free_model_only() {
    let ([a, b, _], mut now) = (models(), Instant::now());
    let mut line = Line::new(QueueLimits { concurrent: 2, waiting: 99, per_model: Some(1) });
    let mut enter = |ticket: Ticket<'_>, now| line.enter(&ticket, now).unwrap();
    assert_eq!((enter(of(&a, "x", Tier::High), now), enter(of(&b, "x", Tier::High), now)), (None, None));
    let old_a = enter(of(&a, "old", Tier::Batch), now).unwrap();
    let old_b = enter(of(&b, "old", Tier::Batch), now + Duration::from_secs(1)).unwrap();
    let new = [(); 2].map(|()| enter(of(&b, "new", Tier::High), now).unwrap());
    now += 4 * QUEUE_AGE_STEP;
    line.observe(now);
    assert_eq!(line.release(&b), Some(old_b), "`a` is full");
    assert_eq!(line.release(&b), Some(new[0]), "every second slot is theirs");
    line.observe(now + 4 * QUEUE_AGE_STEP);
    assert_eq!(line.release(&a), Some(old_a));
    assert_eq!(line.release(&b), Some(new[1]));
}

#[test]
fn a_wait_is_for_the_slot_or_for_the_model_whichever_is_longer() {
    let ([a, b, c], now) = (models(), Instant::now());
    let seconds = Duration::from_secs;
    let mut line = Line::new(QueueLimits { concurrent: 4, waiting: 99, per_model: Some(1) });
    line.learn(seconds(20));
    assert_eq!((line.enter(&of(&a, "x", Tier::Normal), now), line.running()), (Ok(None), 1));
    let waits = [(); 2].map(|()| line.enter(&of(&a, "x", Tier::Normal), now).unwrap().unwrap());
    assert_eq!(waits.map(|id| line.expected_wait(id)), [20, 40].map(|wait| Some(seconds(wait))));
    let late = Ticket { deadline: Some(now + seconds(59)), ..of(&a, "x", Tier::Normal) };
    assert_eq!(line.enter(&late, now), Err(QueueRefusal::TooLate { wait: seconds(60) }));
    let status = |line: &Line| {
        let all = line.status_of_models(now + seconds(3));
        let told = |(model, status): (Arc<str>, QueueStatus)| {
            let waiting = status.waiting_by_tier.iter().sum::<usize>();
            let waits = [Some(status.oldest_wait), status.expected_wait].map(|wait| wait.unwrap().as_secs());
            (model.to_string(), status.running, status.concurrent, waiting, waits)
        };
        all.into_iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(status(&line), [("a".to_owned(), 1, 1, 2, [3, 60])]);
    assert_eq!(line.status(now).expected_wait, Some(Duration::ZERO), "for other models");
    // All slots are taken too: three before it, and four slots.
    for model in [&b, &c, &"d".into()] {
        assert_eq!(line.enter(&of(model, "x", Tier::Normal), now), Ok(None));
    }
    let of_e = line.enter(&of(&"e".into(), "x", Tier::Normal), now).unwrap().unwrap();
    assert_eq!(line.expected_wait(of_e), Some(seconds(15)));
    let names: Vec<String> = status(&line).into_iter().map(|one| one.0).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    // Without a limit for each nothing is said of them, but they are known when there is one.
    line.set_limits(QueueLimits { concurrent: 4, waiting: 99, per_model: None });
    assert!(status(&line).is_empty());
    line.set_limits(QueueLimits { concurrent: 9, waiting: 99, per_model: Some(2) });
    assert_eq!(status(&line)[0], ("a".to_owned(), 2, 2, 1, [3, 20]), "one more was let in");
}
