//! Permits, places and wakers. Who is next is told in `line/tests.rs`.

use std::mem;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::FutureExt;
use hoosh_core::limits::QUEUE_AGE_STEP;

use super::*;

/// The model of all calls where it does not matter.
static MODEL: LazyLock<Arc<str>> = LazyLock::new(|| "m".into());

fn queue(concurrent: usize, waiting: usize) -> Arc<Queue> {
    Arc::new(Queue::new(QueueLimits { concurrent, waiting, per_model: None }))
}

fn ticket(caller: &str) -> Ticket<'_> {
    Ticket { caller, model: &MODEL, tier: Tier::Normal, tokens: 100, deadline: None }
}

#[track_caller]
fn admitted(entry: Result<Entry, QueueRefusal>) -> Permit {
    match entry {
        Ok(Entry::Admitted(permit)) => permit,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waiting(entry: Result<Entry, QueueRefusal>) -> Waiting {
    match entry {
        Ok(Entry::Waiting(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

/// Running and waiting.
fn counts(queue: &Queue) -> (usize, usize) {
    let status = queue.status(Instant::now());
    (status.running, status.waiting_by_tier.iter().sum())
}

#[test]
fn so_many_run_so_many_wait_and_the_rest_is_refused() {
    let (queue, now) = (queue(2, 2), Instant::now());
    let _running = [(); 2].map(|()| admitted(queue.enter(&ticket("a"), now)));
    let mut places = [(); 2].map(|()| waiting(queue.enter(&ticket("a"), now)));
    let full = queue.enter(&ticket("b"), now).unwrap_err();
    assert_eq!(full, QueueRefusal::Full { waiting: 2 });
    assert_eq!(full.to_string(), "the queue is full, 2 calls wait; try again later");
    assert_eq!(counts(&queue), (2, 2));
    assert!((&mut places[0]).now_or_never().is_none());
    assert_eq!(places.each_ref().map(Waiting::position), [0, 1]);
}

#[tokio::test]
async fn a_permit_that_goes_wakes_the_next() {
    let (queue, now) = (queue(1, 2), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), now));
    let (first, second) = (waiting(queue.enter(&ticket("a"), now)), waiting(queue.enter(&ticket("a"), now)));
    // The first is polled and sleeps before its turn comes; the second is not polled before its own.
    let (permit, ()) = tokio::join!(first, async { drop(permit) });
    assert_eq!(second.position(), 0);
    assert_eq!(counts(&queue), (1, 1));
    permit.finish(now);
    drop(second.await);
    assert_eq!(counts(&queue), (0, 0));
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let (queue, now) = (queue(1, 2), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), now));
    let [mut left, mut stays] = [(); 2].map(|()| waiting(queue.enter(&ticket("a"), now)));
    assert!((&mut left).now_or_never().is_none());
    drop(left);
    assert_eq!((counts(&queue), stays.position()), ((1, 1), 0));
    let late = waiting(queue.enter(&ticket("a"), now));
    drop(permit);
    assert!((&mut stays).now_or_never().is_some());
    drop(late);
    assert!(queue.state().bells.is_empty());
}

#[test]
fn a_client_that_leaves_without_knowing_it_is_in_passes_the_slot_on() {
    let (queue, now) = (queue(1, 3), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), now));
    let [first, second, third] = [(); 3].map(|()| waiting(queue.enter(&ticket("a"), now)));
    permit.finish(now);
    assert_eq!((first.position(), first.expected_wait()), (0, Some(Duration::ZERO)));
    assert_eq!(counts(&queue), (1, 2));
    drop(first);
    assert_eq!(counts(&queue), (1, 1));
    drop(second);
    assert_eq!(counts(&queue), (1, 0));
    drop(third);
    assert_eq!(counts(&queue), (0, 0));
    assert!(queue.state().bells.is_empty());
}

#[test]
fn a_place_gives_one_permit() {
    let (queue, now) = (queue(1, 1), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), now));
    let mut place = waiting(queue.enter(&ticket("a"), now));
    drop(permit);
    let permit = (&mut place).now_or_never().expect("it is in");
    assert!((&mut place).now_or_never().is_none());
    drop(place);
    assert_eq!(counts(&queue), (1, 0), "the slot is the permit's now");
    drop(permit);
    assert_eq!(counts(&queue), (0, 0));
}

#[tokio::test]
async fn limits_can_be_changed_while_calls_run_and_wait() {
    let (queue, now) = (queue(3, 10), Instant::now());
    let mut running: Vec<Permit> = (0..3).map(|_| admitted(queue.enter(&ticket("a"), now))).collect();
    let mut places: Vec<Waiting> = (0..4).map(|_| waiting(queue.enter(&ticket("a"), now))).collect();

    // Lower: nobody is thrown out, nobody gets in until fewer run.
    queue.set_limits(QueueLimits { concurrent: 1, waiting: 1, per_model: None });
    assert_eq!(counts(&queue), (3, 4));
    assert_eq!(queue.enter(&ticket("a"), now).unwrap_err(), QueueRefusal::Full { waiting: 4 });
    drop((running.pop(), running.pop()));
    assert_eq!(counts(&queue), (1, 4));
    drop(running.pop());
    assert_eq!(counts(&queue), (1, 3));
    running.push(places.remove(0).await);

    // Higher: all there is room for get in at once, and are told.
    let sleeping = async {
        let (a, b) = (places.remove(0), places.remove(0));
        tokio::join!(a, b)
    };
    let (permits, ()) = tokio::join!(sleeping, async {
        queue.set_limits(QueueLimits { concurrent: 3, waiting: 1, per_model: None });
    });
    assert_eq!(counts(&queue), (3, 1));

    // None: a pause.
    queue.set_limits(QueueLimits { concurrent: 0, waiting: 2, per_model: None });
    running.clear();
    drop(waiting(queue.enter(&ticket("b"), now)));
    drop(permits);
    assert_eq!(counts(&queue), (0, 1));
    assert_eq!((places[0].position(), places[0].expected_wait()), (0, None));
    queue.set_limits(QueueLimits { concurrent: 1, waiting: 2, per_model: None });
    drop(places.remove(0).await);
}

#[test]
fn only_calls_that_finished_teach_what_one_takes() {
    let (queue, start) = (queue(1, 9), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let permit = admitted(queue.enter(&ticket("a"), start));
    let [first, second, third] = [(); 3].map(|()| waiting(queue.enter(&ticket("a"), start)));
    assert_eq!(first.expected_wait(), None);

    // Given up: nothing is learned, and nobody knows when the next one got in.
    drop(permit);
    first.now_or_never().expect("it is in").finish(after(100));
    assert_eq!(third.expected_wait(), None);

    // It got in when the one before it finished.
    second.now_or_never().expect("it is in").finish(after(106));
    let last = waiting(queue.enter(&ticket("a"), after(106)));
    assert_eq!(last.expected_wait(), Some(Duration::from_secs(6)));
    let too_late = Ticket { deadline: Some(after(117)), ..ticket("a") };
    let refused = queue.enter(&too_late, after(106)).unwrap_err();
    assert_eq!(refused, QueueRefusal::TooLate { wait: Duration::from_secs(12) });
    drop(third);
}

#[test]
fn a_status_tells_all_of_it() {
    let (queue, start) = (queue(2, 9), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let free = QueueStatus {
        running: 0,
        concurrent: 2,
        waiting_by_tier: [0; 4],
        oldest_wait: Duration::ZERO,
        expected_wait: Some(Duration::ZERO),
    };
    assert_eq!(queue.status(start), free);
    let permit = admitted(queue.enter(&ticket("a"), start));
    let _running = admitted(queue.enter(&ticket("a"), start));
    assert_eq!(queue.status(start), QueueStatus { running: 2, expected_wait: None, ..free });
    permit.finish(after(10));
    let _running_too = admitted(queue.enter(&ticket("a"), after(10)));
    let _places = [(Tier::Batch, 11), (Tier::High, 12), (Tier::Batch, 13)]
        .map(|(tier, seconds)| waiting(queue.enter(&Ticket { tier, ..ticket("a") }, after(seconds))));
    let status = QueueStatus {
        running: 2,
        concurrent: 2,
        waiting_by_tier: [1, 0, 0, 2],
        oldest_wait: Duration::from_secs(4),
        expected_wait: Some(Duration::from_secs(20)),
    };
    assert_eq!(queue.status(after(15)), status);
    assert_eq!(queue.status(start), status, "time does not go back");
    assert_eq!(format!("{queue:?}"), "Queue { running: 2, waiting: 3, .. }", "and names nobody");
}

#[test]
fn a_call_that_finishes_tells_the_time() {
    let (queue, start) = (queue(1, 9), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), start));
    let mut batch = waiting(queue.enter(&Ticket { tier: Tier::Batch, ..ticket("a") }, start));
    let high = waiting(queue.enter(&Ticket { tier: Tier::High, ..ticket("a") }, start));
    permit.finish(start + 3 * QUEUE_AGE_STEP);
    assert!((&mut batch).now_or_never().is_some(), "it has come up to the other");
    drop(high);
}

#[test]
fn a_permit_that_is_dropped_goes_by_the_latest_time_told() {
    let (queue, start) = (queue(1, 9), Instant::now());
    let mut permit = admitted(queue.enter(&ticket("a"), start));
    let enter = |tier, now| waiting(queue.enter(&Ticket { tier, ..ticket("a") }, now));
    let mut batch = enter(Tier::Batch, start);
    let mut high = enter(Tier::High, start);
    drop(permit);
    permit = (&mut high).now_or_never().expect("the batch call is not old yet");
    high = enter(Tier::High, start + 3 * QUEUE_AGE_STEP);
    drop(permit);
    assert!((&mut batch).now_or_never().is_some(), "it has come up to the other");
    drop(high);
}

/// Entries, leaves and releases by a seed, with all that must hold looked at after each.
#[test]
fn nobody_is_lost_whatever_happens_in_whatever_order() {
    for seed in 1..=8 {
        let mut world = Simulation::new(seed, seed > 4);
        for _ in 0..10_000 {
            world.step();
            world.check();
        }
        world.wind_up();
    }
}

struct Simulation {
    queue: Arc<Queue>,
    limits: QueueLimits,
    models: [Arc<str>; 4],
    /// Whether each model has a limit.
    limits_models: bool,
    /// Calls of each model that run at most.
    model_max: HashMap<Arc<str>, usize>,
    now: Instant,
    permits: Vec<Permit>,
    places: Vec<Waiting>,
    /// Calls that run at most: more than the limit right after that was lowered.
    running_max: usize,
    random: u64,
}

impl Simulation {
    fn new(seed: u64, limits_models: bool) -> Self {
        let limits = QueueLimits { concurrent: 4, waiting: 40, per_model: limits_models.then_some(2) };
        Self {
            queue: Arc::new(Queue::new(limits)),
            limits,
            models: ["m", "n", "o", "p"].map(Arc::from),
            limits_models,
            model_max: HashMap::new(),
            now: Instant::now(),
            permits: Vec::new(),
            places: Vec::new(),
            running_max: limits.concurrent,
            random: seed,
        }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn step(&mut self) {
        let passed = Duration::from_millis(self.random(2_000) as u64);
        self.now += passed;
        match self.random(20) {
            0..9 => self.enter(),
            9..11 if !self.places.is_empty() => {
                let index = self.random(self.places.len());
                drop(self.places.swap_remove(index));
            }
            11..16 if !self.permits.is_empty() => {
                let index = self.random(self.permits.len());
                let permit = self.permits.swap_remove(index);
                if self.random(2) == 0 { permit.finish(self.now) } else { drop(permit) }
            }
            16 => {
                let per_model = self.limits_models.then(|| 1 + self.random(3));
                self.limits = QueueLimits { concurrent: self.random(8), waiting: self.random(50), per_model };
                self.queue.set_limits(self.limits);
            }
            // Not all at once, so that some are let in and leave without knowing.
            _ => self.poll(),
        }
    }

    fn enter(&mut self) {
        let callers = ["a", "b", "c", "d", "e"];
        let model = Arc::clone(&self.models[self.random(4)]);
        let ticket = Ticket {
            caller: callers[self.random(callers.len())],
            model: &model,
            tier: Tier::ALL[self.random(4)],
            tokens: self.random(3_000) as u64,
            deadline: (self.random(4) == 0)
                .then(|| self.now + Duration::from_millis(self.random(60_000) as u64)),
        };
        let (running, waiting) = counts(&self.queue);
        let of_model = self.queue.status_of_models(self.now).into_iter().find(|(name, _)| *name == model);
        let is_model_free = of_model.is_none_or(|(_, status)| Some(status.running) < self.limits.per_model);
        let is_free = running < self.limits.concurrent && is_model_free;
        match self.queue.enter(&ticket, self.now) {
            Ok(Entry::Admitted(permit)) => {
                assert!(is_free && (waiting == 0 || self.limits_models));
                self.permits.push(permit);
            }
            Ok(Entry::Waiting(place)) => {
                assert!(!is_free && waiting < self.limits.waiting);
                self.places.push(place);
            }
            Err(QueueRefusal::Full { waiting: told }) => {
                assert!(!is_free && waiting >= self.limits.waiting);
                assert_eq!(told, waiting);
            }
            Err(QueueRefusal::TooLate { wait }) => {
                assert!(ticket.deadline.is_some_and(|deadline| self.now + wait > deadline));
                assert_eq!(counts(&self.queue), (running, waiting));
            }
        }
    }

    /// Some of those who wait look whether they are in.
    fn poll(&mut self) {
        for index in (0..self.places.len()).rev() {
            if self.random(2) == 0
                && let Some(permit) = (&mut self.places[index]).now_or_never()
            {
                self.permits.push(permit);
                drop(self.places.swap_remove(index));
            }
        }
    }

    fn check(&mut self) {
        let (running, waiting) = counts(&self.queue);
        assert_eq!(running + waiting, self.permits.len() + self.places.len(), "nobody is lost");
        assert!(running >= self.permits.len());
        self.running_max = self.limits.concurrent.max(running.min(self.running_max));
        assert!(running <= self.running_max, "nobody gets in beyond the limit");
        if self.limits_models {
            return self.check_models(running, waiting);
        }
        assert!(running >= self.limits.concurrent || waiting == 0, "no slot is idle while somebody waits");
        // Those who are in without knowing count as next, so 0 may be there more than once.
        let mut positions: Vec<usize> = self.places.iter().map(Waiting::position).collect();
        positions.sort_unstable();
        let known = positions.split_off(self.places.len() - waiting);
        assert!(positions.iter().all(|position| *position == 0));
        assert!(known.into_iter().eq(0..waiting));
        assert_eq!(self.queue.state().bells.len(), waiting);
    }

    fn check_models(&mut self, running: usize, waiting: usize) {
        let most = self.limits.per_model.unwrap();
        let models = self.queue.status_of_models(self.now);
        let waits = |status: &QueueStatus| status.waiting_by_tier.iter().sum::<usize>();
        assert_eq!(models.iter().map(|(_, status)| status.running).sum::<usize>(), running);
        assert_eq!(models.iter().map(|(_, status)| waits(status)).sum::<usize>(), waiting);
        let before = mem::take(&mut self.model_max);
        for (model, status) in models {
            let is_idle = status.running < most && running < self.limits.concurrent;
            assert!(!is_idle || waits(&status) == 0, "no slot is idle while one waits that could run");
            let max = most.max(status.running.min(before.get(&model).copied().unwrap_or_default()));
            assert!(status.running <= max, "nobody gets in beyond the limit of {model}");
            self.model_max.insert(model, max);
        }
    }

    /// Everybody who stays gets in.
    fn wind_up(mut self) {
        self.queue.set_limits(QueueLimits { concurrent: 2, waiting: 0, per_model: None });
        while !self.places.is_empty() {
            let left = self.places.len();
            self.permits.clear();
            self.places.retain_mut(|place| place.now_or_never().is_none());
            assert!(self.places.len() < left, "somebody gets in each time");
        }
        self.permits.clear();
        assert_eq!(counts(&self.queue), (0, 0));
        assert!(self.queue.state().bells.is_empty());
    }
}

#[test]
fn threads_that_hammer_it_all_get_in_and_never_too_many() {
    const THREADS: usize = 4;
    const CALLS: usize = 2_000;
    let queue = queue(2, THREADS);
    let (running, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let hammer = |thread: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let caller = thread.to_string();
        for call in 0..CALLS {
            let tier = Tier::ALL[call % 4];
            let permit = match queue.enter(&Ticket { tier, ..ticket(&caller) }, Instant::now()) {
                Ok(Entry::Admitted(permit)) => permit,
                // Impatient: perhaps it is in at just this moment.
                Ok(Entry::Waiting(mut place)) if call % 3 == 0 => match (&mut place).now_or_never() {
                    Some(permit) => permit,
                    None => continue,
                },
                Ok(Entry::Waiting(place)) => runtime.block_on(place),
                Err(refusal) => panic!("there is room for each thread: {refusal}"),
            };
            assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            served.fetch_add(1, Ordering::SeqCst);
            if call % 2 == 0 { permit.finish(Instant::now()) } else { drop(permit) }
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || hammer(thread));
        }
    });
    assert_eq!(counts(&queue), (0, 0));
    assert!(queue.state().bells.is_empty());
    assert!(served.load(Ordering::SeqCst) >= THREADS * CALLS * 2 / 3);
}

/// A waker that comes back to the queue must not find it locked.
#[test]
fn a_waker_may_use_the_queue() {
    struct Looks(Arc<Queue>, AtomicUsize);
    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.store(counts(&self.0).0, Ordering::SeqCst);
        }
    }

    let (queue, now) = (queue(1, 1), Instant::now());
    let permit = admitted(queue.enter(&ticket("a"), now));
    let mut place = waiting(queue.enter(&ticket("a"), now));
    let looks = Arc::new(Looks(Arc::clone(&queue), AtomicUsize::new(0)));
    let waker = Arc::clone(&looks).into();
    assert!(place.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(permit);
    assert_eq!(looks.1.load(Ordering::SeqCst), 1);
}

/// A stream takes its permit along, wherever it is sent. Never called.
#[expect(dead_code, reason = "that it compiles is the fact")]
fn permits_and_places_can_move_between_threads() {
    fn check<T: Send + Unpin + 'static>() {}
    check::<Permit>();
    check::<Waiting>();
    check::<Arc<Queue>>();
}
