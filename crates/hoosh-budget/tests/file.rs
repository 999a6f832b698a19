//! What a file keeps, and what can be asked of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use hoosh_budget::{
    Adjusted, Amount, BudgetWatch, CallId, Capacity, Claim, CostChange, Durability, FileLedger, Ledger,
    LedgerFault, OpenError, Order, PoolId, PoolTree, Refusal, Reservation, SettleOutcome, Settlement,
    TokenBudget, TokenPool, UsageFilter, UsageLog, UsageRow, UsageSums, UsageSumsBy, Window,
};
use hoosh_core::{NanoUsd, Provenance, ServiceTier, Usage};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tempfile::TempDir;

const LEASE: Duration = Duration::from_secs(60);

fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

fn id(text: &str) -> PoolId {
    text.parse().unwrap()
}

fn pool(name: &str, window: Window, parent: Option<&str>) -> TokenPool {
    let capacity = Capacity { tokens: Some(1_000), money: Some(NanoUsd(1_000_000)) };
    TokenPool { capacity, window, parent: parent.map(id), ..TokenPool::new(id(name)) }
}

fn pools() -> PoolTree {
    PoolTree::new(vec![
        pool("team:t", Window::Day, None),
        pool("key:k", Window::Hour, Some("team:t")),
        pool("user:*", Window::Rolling(Duration::from_secs(600)), Some("team:t")),
        pool("model:m", Window::None, None),
    ])
    .unwrap()
}

struct World {
    _folder: TempDir,
    path: PathBuf,
    ledger: Option<Arc<FileLedger>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget.db");
        let mut world = Self { _folder: folder, path, ledger: None };
        world.reopen(at("12:00:00"));
        world
    }

    fn reopen(&mut self, now: Timestamp) {
        self.ledger = None;
        self.ledger = Some(Arc::new(open(&self.path, Durability::Group, now).unwrap()));
    }

    fn ledger(&self) -> &Arc<FileLedger> {
        self.ledger.as_ref().unwrap()
    }

    fn reserve(
        &self,
        call: &str,
        pools: &[&str],
        tokens: u64,
        now: Timestamp,
    ) -> Result<Reservation, Refusal> {
        let call = CallId::from(call);
        let pools: Vec<PoolId> = pools.iter().map(|pool| id(pool)).collect();
        let amount = Amount::new(tokens, NanoUsd(tokens as i64));
        let claim = Claim::new(&call, &pools, amount, LEASE);
        TokenBudget::new(self.ledger().clone()).reserve(&claim, now).now_or_never().unwrap()
    }

    async fn spend(&self, call: &str, pools: &[&str], tokens: u64, now: Timestamp) {
        let reservation = self.reserve(call, pools, tokens, now).unwrap();
        let row = Box::new(UsageRow::new(call.into(), now.as_millisecond()));
        reservation.settle(Amount::new(tokens, NanoUsd(tokens as i64)), Some(row), now).await;
    }

    /// Settled and reserved tokens.
    async fn sums(&self, pool: &str, now: Timestamp) -> (u64, u64) {
        let status = self.ledger().status(&id(pool), now).await.unwrap().unwrap();
        assert_eq!(status.settled.money.0, status.settled.tokens as i64);
        (status.settled.tokens, status.reserved.tokens)
    }

    async fn ids(&self, order: Order, after: Option<(i64, CallId)>, limit: usize) -> Vec<String> {
        let rows = self.ledger().usage().rows(&UsageFilter::default(), order, after, limit).await.unwrap();
        rows.iter().map(|row| row.id.to_string()).collect()
    }
}

fn open(path: &Path, durability: Durability, now: Timestamp) -> Result<FileLedger, OpenError> {
    FileLedger::open(path, &pools(), durability, None, now)
}

#[tokio::test]
async fn what_was_settled_is_there_again_in_the_windows_that_still_run() {
    let mut world = World::new();
    world.spend("a", &["key:k", "user:u", "model:m"], 100, at("12:00:00")).await;
    world.spend("b", &["key:k"], 10, at("12:30:00")).await;
    let held = world.reserve("c", &["key:k"], 500, at("12:30:00")).unwrap().keep();
    assert_eq!(world.sums("team:t", at("12:30:00")).await, (110, 500));

    // What calls of the dead hold is free, and what they would settle belongs to nobody.
    world.reopen(at("12:40:00"));
    assert_eq!(world.sums("team:t", at("12:40:00")).await, (110, 0));
    assert_eq!(world.sums("key:k", at("12:40:00")).await, (110, 0));
    assert_eq!(world.sums("model:m", at("12:40:00")).await, (100, 0));
    assert_eq!(world.sums("user:u", at("12:40:00")).await, (0, 0)); // more than ten minutes ago
    let settlement = Settlement { call: &held, actual: Amount::tokens(1), row: None, now: None };
    assert_eq!(world.ledger().settle(settlement).await.outcome, SettleOutcome::Unknown);

    world.spend("d", &["user:u"], 7, at("12:55:00")).await;
    world.reopen(at("13:00:00"));
    assert_eq!(world.sums("team:t", at("13:00:00")).await, (117, 0));
    assert_eq!(world.sums("key:k", at("13:00:00")).await, (0, 0));
    assert_eq!(world.sums("user:u", at("13:00:00")).await, (7, 0));
    let statuses = world.ledger().statuses(Some(&id("team:t")), 9, at("13:00:00")).await.unwrap();
    assert_eq!(statuses[0].id, id("user:u"));
    let history = world.ledger().history(&id("key:k"), 9, at("13:00:00")).await.unwrap();
    assert_eq!(history[0].settled.tokens, 110);
    assert_eq!((history[0].start, history[0].end), (Some(at("12:00:00")), Some(at("13:00:00"))));
}

#[tokio::test]
async fn what_expired_by_the_way_is_kept_too() {
    let mut world = World::new();
    for call in ["reaped", "needed"] {
        let mut reservation = world.reserve(call, &["key:k"], 400, at("12:00:00")).unwrap();
        reservation.produced(Amount::new(30, NanoUsd(30)));
        let _ = reservation.keep();
        if call == "reaped" {
            assert_eq!(world.ledger().reap(at("12:01:00")).await, Ok(1));
        }
    }
    drop(world.reserve("c", &["key:k"], 900, at("12:02:00")).unwrap());
    world.reopen(at("12:03:00"));
    assert_eq!(world.sums("key:k", at("12:03:00")).await, (60, 0));
}

#[tokio::test]
async fn another_window_after_a_restart_counts_what_is_known_of_its_time() {
    let mut world = World::new();
    world.spend("a", &["key:k"], 1, at("10:59:00")).await;
    world.spend("b", &["key:k"], 10, at("11:00:00")).await;
    world.ledger = None;
    let daily = PoolTree::new(vec![pool("key:k", Window::Day, None)]).unwrap();
    let ledger = FileLedger::open(&world.path, &daily, Durability::Group, None, at("12:00:00")).unwrap();
    let status = ledger.status(&id("key:k"), at("12:00:00")).await.unwrap().unwrap();
    assert_eq!(status.settled.tokens, 11);
}

#[tokio::test]
async fn a_row_comes_back_as_it_went_in() {
    let world = World::new();
    let usage = Usage {
        input: Some(1),
        cache_read: Some(2),
        cache_write_5m: Some(3),
        cache_write_1h: Some(4),
        output: Some(5),
        reasoning: None,
        audio_in: Some(0),
        audio_out: Some(u64::MAX),
        service_tier: ServiceTier::Priority,
        provenance: Provenance::Partial,
    };
    let row = UsageRow {
        caller: "ci".into(),
        dialect: "anthropic".into(),
        model_asked: "fast".into(),
        provider: Some("groq".into()),
        model: Some("llama-3".into()),
        stream: true,
        outcome: "truncated".into(),
        cache: "miss".into(),
        attempts: 3,
        usage: Some(usage),
        cost: Some(NanoUsd(1_234)),
        legs: r#"[{"kind":"hedge"}]"#.into(),
        tags: r#"{"team":"search"}"#.into(),
        queued_ms: 1,
        first_ms: Some(20),
        duration_ms: 300,
        ..UsageRow::new("a".into(), at("12:00:00").as_millisecond())
    };
    let reservation = world.reserve("a", &["key:k", "model:m"], 5, at("12:00:00")).unwrap();
    reservation.settle(Amount::tokens(5), Some(Box::new(row.clone())), at("12:00:00")).await;
    let bare = UsageRow::new("b".into(), at("12:00:01").as_millisecond());
    world.ledger().record(Box::new(bare.clone())).unwrap();
    world.ledger().flush().await.unwrap();

    let rows =
        world.ledger().usage().rows(&UsageFilter::default(), Order::OldestFirst, None, 9).await.unwrap();
    let stored = Usage { audio_out: Some(i64::MAX as u64), ..usage }; // as much as fits into the file
    let pools = ["key:k", "team:t", "model:m"].map(id).to_vec();
    assert_eq!(rows, [UsageRow { pools, usage: Some(stored), ..row }, bare]);
}

#[tokio::test]
async fn a_second_settle_writes_no_second_row() {
    let world = World::new();
    let call = world.reserve("a", &["key:k"], 5, at("12:00:00")).unwrap().keep();
    for outcome in [SettleOutcome::Booked, SettleOutcome::Repeated] {
        let row = Some(Box::new(UsageRow::new(call.clone(), at("12:00:00").as_millisecond())));
        let settlement = Settlement { call: &call, actual: Amount::tokens(5), row, now: None };
        assert_eq!(world.ledger().settle(settlement).await.outcome, outcome);
    }
    world.ledger().flush().await.unwrap();
    assert_eq!(world.ids(Order::NewestFirst, None, 9).await, ["a"]);
}

#[tokio::test]
async fn pages_leave_nothing_out_and_repeat_nothing() {
    let world = World::new();
    for n in 0..10 {
        // Three in each second.
        world.spend(&format!("c{n}"), &["model:m"], 1, at(&format!("12:00:{:02}", n / 3))).await;
    }
    world.ledger().flush().await.unwrap();
    for (order, first) in [(Order::OldestFirst, "c0"), (Order::NewestFirst, "c9")] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let filter = UsageFilter::default();
            let page = world.ledger().usage().rows(&filter, order, after.clone(), 4).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.at_ms, last.id.clone()));
            seen.extend(page.iter().map(|row| row.id.to_string()));
        }
        assert_eq!((seen.len(), seen[0].as_str()), (10, first));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }
}

#[tokio::test]
async fn sums_are_by_whatever_is_asked() {
    let world = World::new();
    let tokens = |tokens| Some(Usage { input: Some(tokens), ..Usage::default() });
    let rows = [
        ("a", "2026-01-01T22:59:59Z", "groq", "m1", r#"{"job":"x"}"#, tokens(1), Some(10)),
        ("b", "2026-01-01T23:00:00Z", "groq", "m2", r#"{"job":"x"}"#, tokens(2), None),
        ("c", "2026-01-02T12:00:00Z", "ollama", "m1", "", tokens(4), Some(0)),
        ("d", "2026-01-02T12:00:00Z", "", "", "not JSON", None, None),
    ];
    for (call, time, provider, model, tags, usage, cost) in rows {
        let time: Timestamp = time.parse().unwrap();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let row = UsageRow {
            caller: format!("caller-{}", &call[..1] > "b"),
            provider: some(provider),
            model: some(model),
            tags: tags.into(),
            usage,
            cost: cost.map(NanoUsd),
            ..UsageRow::new(call.into(), time.as_millisecond())
        };
        let scopes: &[&str] = if call == "d" { &[] } else { &["key:k"] };
        let reservation = world.reserve(call, scopes, 0, time).unwrap();
        reservation.settle(Amount::ZERO, Some(Box::new(row)), time).await;
    }
    world.ledger().flush().await.unwrap();

    let sums = |filter: UsageFilter, by: UsageSumsBy| {
        let sums = world.ledger().usage().sums(&filter, &by);
        async move {
            let told = |sums: UsageSums| (sums.key, sums.calls, sums.usage.input, sums.cost.0, sums.unpriced);
            sums.await.unwrap().into_iter().map(told).collect::<Vec<_>>()
        }
    };
    let all = UsageFilter::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(sums(all(), UsageSumsBy::All).await, [(None, 4, Some(7), 10, 1)]);
    assert_eq!(
        sums(all(), UsageSumsBy::Provider).await,
        [(some("groq"), 2, Some(3), 10, 1), (None, 1, None, 0, 0), (some("ollama"), 1, Some(4), 0, 0)]
    );
    assert_eq!(
        sums(all(), UsageSumsBy::Model).await,
        [(some("m1"), 2, Some(5), 10, 0), (None, 1, None, 0, 0), (some("m2"), 1, Some(2), 0, 1)]
    );
    assert_eq!(
        sums(all(), UsageSumsBy::Caller).await,
        [(some("caller-false"), 2, Some(3), 10, 1), (some("caller-true"), 2, Some(4), 0, 0)]
    );
    assert_eq!(
        sums(all(), UsageSumsBy::Pool).await,
        [(some("key:k"), 3, Some(7), 10, 1), (some("team:t"), 3, Some(7), 10, 1)]
    );
    assert_eq!(
        sums(all(), UsageSumsBy::Tag("job".into())).await,
        [(some("x"), 2, Some(3), 10, 1), (None, 2, Some(4), 0, 0)]
    );
    assert_eq!(
        sums(all(), UsageSumsBy::Day(TimeZone::UTC)).await,
        [(some("2026-01-01"), 2, Some(3), 10, 1), (some("2026-01-02"), 2, Some(4), 0, 0)]
    );
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(
        sums(all(), UsageSumsBy::Day(berlin)).await,
        [(some("2026-01-01"), 1, Some(1), 10, 0), (some("2026-01-02"), 3, Some(6), 0, 1)]
    );

    let from = Some("2026-01-01T23:00:00Z".parse().unwrap());
    let until = Some("2026-01-02T12:00:00Z".parse().unwrap());
    let range = UsageFilter { from, until, ..all() };
    assert_eq!(sums(range, UsageSumsBy::All).await, [(None, 1, Some(2), 0, 1)]);
    for (filter, calls) in [
        (UsageFilter { caller: some("caller-true"), ..all() }, 2),
        (UsageFilter { provider: some("groq"), ..all() }, 2),
        (UsageFilter { provider: some("groq"), model: some("m2"), ..all() }, 1),
        (UsageFilter { pool: Some(id("team:t")), ..all() }, 3),
    ] {
        assert_eq!(sums(filter.clone(), UsageSumsBy::All).await[0].1, calls, "{filter:?}");
    }
    assert_eq!(sums(UsageFilter { caller: some("nobody"), ..all() }, UsageSumsBy::All).await, []);
}

#[tokio::test]
async fn what_is_old_goes_but_not_what_still_counts() {
    let mut world = World::new();
    for n in 0..12_000 {
        let time = at("12:00:00").as_millisecond() + n;
        world.ledger().record(Box::new(UsageRow::new(format!("r{n}").into(), time))).unwrap();
    }
    world.spend("a", &["key:k", "user:u", "model:m"], 9, at("12:00:30")).await;
    let last = at("12:00:11.999");
    assert_eq!(world.ledger().forget_before(last, at("12:01:00")).await, Ok(11_999));
    assert_eq!(world.ids(Order::OldestFirst, None, 9).await, ["r11999", "a"]);
    // All rows, but no window that still counts.
    assert_eq!(world.ledger().forget_before(at("13:00:00"), at("12:02:00")).await, Ok(2));
    world.reopen(at("12:03:00"));
    for pool in ["team:t", "key:k", "user:u", "model:m"] {
        assert_eq!(world.sums(pool, at("12:03:00")).await, (9, 0), "{pool}");
    }
    assert_eq!(world.ledger().forget_before(at("23:00:00"), at("23:00:00")).await, Ok(0));
    assert_eq!(world.ledger().history(&id("key:k"), 9, at("23:00:00")).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_strict_settlement_is_on_disk_when_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budget.db");
    let ledger = Arc::new(open(&path, Durability::Strict, at("12:00:00")).unwrap());
    let log = UsageLog::open(&path).unwrap();
    let budget = TokenBudget::new(ledger);
    for n in 0..20 {
        let call = CallId::from(format!("c{n}"));
        let pools = [id("key:k")];
        let claim = Claim::new(&call, &pools, Amount::tokens(3), LEASE);
        let reservation = budget.reserve(&claim, at("12:00:00")).await.unwrap();
        let row = Box::new(UsageRow::new(call.clone(), n));
        let settled = reservation.settle(Amount::tokens(3), Some(row), at("12:00:00")).await;
        assert_eq!(settled.fault, None);
        let rows = log.rows(&UsageFilter::default(), Order::NewestFirst, None, 1).await.unwrap();
        assert_eq!((&rows[0].id, &rows[0].pools[..]), (&call, &[id("key:k"), id("team:t")][..]));
        assert_eq!(log.windows(id("team:t"), 1).await.unwrap()[0].settled.tokens, 3 * (n as u64 + 1));
    }
}

#[test]
fn only_one_process_writes() {
    let world = World::new();
    let refused = open(&world.path, Durability::Group, at("12:00:00")).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)));
    assert_eq!(
        refused.to_string(),
        format!(
            "{} is in use by another process: only one hoosh may write it; stop the other one or give this one a file of its own",
            world.path.display()
        )
    );
}

#[test]
fn what_is_not_ours_or_too_new_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let sentence = |path: &Path| open(path, Durability::Group, at("12:00:00")).unwrap_err().to_string();

    let text = file("notes.txt");
    std::fs::write(&text, "these are my notes, and none of a ledger's business").unwrap();
    let not_ours =
        |path: &Path| format!("{} is not a ledger of hoosh: give it a file of its own", path.display());
    assert_eq!(sentence(&text), not_ours(&text));
    assert_eq!(std::fs::read_to_string(&text).unwrap().len(), 51);

    let other = file("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    assert_eq!(sentence(&other), not_ours(&other));

    let later = file("later.db");
    drop(open(&later, Durability::Group, at("12:00:00")).unwrap());
    rusqlite::Connection::open(&later).unwrap().execute_batch("PRAGMA user_version = 3").unwrap();
    assert_eq!(
        sentence(&later),
        format!(
            "{} was written by a later version of hoosh (format 3, this one knows 2): use that version, or another file",
            later.display()
        )
    );

    let nowhere = file("no/folder/budget.db");
    assert!(sentence(&nowhere).contains("cannot be opened: No such file"), "{}", sentence(&nowhere));
    assert!(UsageLog::open(&file("absent.db")).is_err());
}

#[derive(Default)]
struct Told(Mutex<Vec<LedgerFault>>);

impl BudgetWatch for Told {
    fn fault(&self, fault: &LedgerFault) {
        self.0.lock().unwrap().push(fault.clone());
    }
}

#[tokio::test]
async fn what_cannot_be_written_now_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budget.db");
    let told = Arc::new(Told::default());
    let watch: Arc<dyn BudgetWatch> = told.clone();
    let ledger = FileLedger::open(&path, &pools(), Durability::Strict, Some(watch), at("12:00:00")).unwrap();
    let budget = TokenBudget::new(Arc::new(ledger));
    let settle = async |call: &str| {
        let call = CallId::from(call);
        let pools = [id("key:k")];
        let claim = Claim::new(&call, &pools, Amount::tokens(3), LEASE);
        let reservation = budget.reserve(&claim, at("12:00:00")).await.unwrap();
        reservation.settle(Amount::tokens(3), None, at("12:00:00")).await
    };
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let settled = settle("a").await;
    assert_eq!(settled.outcome, SettleOutcome::Booked);
    let fault = LedgerFault("cannot write: database is locked".into());
    assert_eq!(settled.fault.unwrap().to_string(), "the ledger cannot write: database is locked");
    assert_eq!(settle("b").await.fault.as_ref(), Some(&fault)); // it is told at once
    other.execute_batch("ROLLBACK").unwrap();

    let mut last = settle("c").await;
    for n in 0..100 {
        if last.fault.is_none() {
            break;
        }
        last = settle(&format!("c{n}")).await;
    }
    assert_eq!(last.fault, None);
    assert_eq!(*told.0.lock().unwrap(), [fault]);
    let log = UsageLog::open(&path).unwrap();
    let status = budget.ledger().status(&id("key:k"), at("12:00:00")).await.unwrap().unwrap();
    let windows = log.windows(id("key:k"), 1).await.unwrap();
    assert_eq!(windows[0].settled, status.settled);
}

#[tokio::test]
async fn a_cost_is_corrected_and_its_row_keeps_what_was_charged() {
    let world = World::new();
    let rows = [("a", Some(5)), ("b", None), ("c", Some(7))];
    let ms = |second| at(&format!("12:00:0{second}")).as_millisecond();
    for (n, (call, cost)) in rows.iter().enumerate() {
        let usage = Some(Usage { input: Some(1), ..Usage::default() });
        let row = UsageRow { cost: cost.map(NanoUsd), usage, ..UsageRow::new((*call).into(), ms(n)) };
        world.ledger().record(Box::new(row)).unwrap();
    }
    let change = |n: usize, was: Option<i64>, now| CostChange {
        at_ms: ms(n),
        id: rows[n].0.into(),
        was: was.map(NanoUsd),
        now: NanoUsd(now),
    };
    let adjust = |changes, time| world.ledger().adjust(changes, "ada".into(), at(time));
    // Behind what was recorded before, without a flush; of `c` somebody else was faster.
    let first = vec![change(0, Some(5), 50), change(1, None, 10), change(2, Some(6), 60)];
    assert_eq!(adjust(first, "13:00:00").await, Ok(2));
    assert_eq!(adjust(vec![change(0, Some(50), 500), change(1, Some(10), 10)], "14:00:00").await, Ok(1));

    let log = world.ledger().usage();
    let told = log.rows(&UsageFilter::default(), Order::OldestFirst, None, 9).await.unwrap();
    let adjusted = |charged: Option<i64>, time: &str| {
        let (at_ms, by) = (at(time).as_millisecond(), "ada".to_owned());
        Some(Adjusted { charged: charged.map(NanoUsd), at_ms, by })
    };
    let told: Vec<_> = told.into_iter().map(|row| (row.cost, row.adjusted)).collect();
    assert_eq!(
        told,
        [
            (Some(NanoUsd(500)), adjusted(Some(5), "14:00:00")),
            (Some(NanoUsd(10)), adjusted(None, "13:00:00")),
            (Some(NanoUsd(7)), None),
        ]
    );
    let sums = log.sums(&UsageFilter::default(), &UsageSumsBy::All).await.unwrap();
    assert_eq!((sums[0].cost, sums[0].priced, sums[0].unpriced), (NanoUsd(517), 3, 0));
    // What is forgotten is forgotten with its corrections.
    world.ledger().forget_before(at("12:00:01"), at("15:00:00")).await.unwrap();
    let left = rusqlite::Connection::open(&world.path).unwrap();
    let left: i64 = left.query_row("SELECT count(*) FROM adjustments", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn periods_end_where_somebody_says_so_and_outlive_the_process() {
    let mut world = World::new();
    assert_eq!(world.ledger().usage().marks().await, Ok(Vec::new()));
    for (number, time, ends) in
        [(1, "13:00:00", "13:00:00"), (2, "14:00:00", "14:00:00"), (3, "13:30:00", "14:00:00")]
    {
        let mark = world.ledger().mark("ada".into(), at(time)).await.unwrap();
        assert_eq!((mark.number, mark.at_ms), (number, at(ends).as_millisecond()), "the clock may go back");
    }
    let before = world.ledger().usage().marks().await.unwrap();
    world.reopen(at("15:00:00"));
    let after = world.ledger().usage().marks().await.unwrap();
    assert_eq!((after.len(), &after), (3, &before));
}

#[tokio::test]
async fn a_file_of_format_1_is_read_as_it_is_and_goes_on_as_format_2() {
    let mut world = World::new();
    world.ledger().record(Box::new(UsageRow::new("a".into(), at("12:00:00").as_millisecond()))).unwrap();
    world.ledger = None;
    let old = rusqlite::Connection::open(&world.path).unwrap();
    old.execute_batch("DROP TABLE adjustments; DROP TABLE marks; PRAGMA user_version = 1").unwrap();
    drop(old);
    let reader = UsageLog::open(&world.path).unwrap();
    let rows =
        async |log: &UsageLog| log.rows(&UsageFilter::default(), Order::OldestFirst, None, 9).await.unwrap();
    assert_eq!((rows(&reader).await.len(), reader.marks().await.unwrap().len()), (1, 0));
    world.reopen(at("13:00:00"));
    world.ledger().mark("ada".into(), at("13:00:00")).await.unwrap();
    // Whoever had it open before sees what is new, too.
    assert_eq!((rows(&reader).await.len(), reader.marks().await.unwrap().len()), (1, 1));
}
