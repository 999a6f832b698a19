//! A process that settles is killed in the middle, fifty times over one file. After each, the file opens, has all that
//! was told to be on disk, and rows and sums agree.
//!
//! The child is this very program, which finds the file in its environment.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hoosh_budget::{
    Amount, CallId, Capacity, Claim, Durability, FileLedger, Ledger, Order, PoolId, PoolTree, TokenBudget,
    TokenPool, UsageFilter, UsageRow, UsageSumsBy, Window,
};
use hoosh_core::{NanoUsd, Usage};
use jiff::Timestamp;

const KILLS: u64 = 50;
const FILE: &str = "HOOSH_BUDGET_CRASH_FILE";
const ROUND: &str = "HOOSH_BUDGET_CRASH_ROUND";

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn id(text: &str) -> PoolId {
    text.parse().unwrap()
}

fn open(path: &Path, durability: Durability) -> FileLedger {
    let pool = |name: &str, window, parent: Option<&str>| TokenPool {
        capacity: Capacity::tokens(1_000_000_000),
        window,
        parent: parent.map(id),
        ..TokenPool::new(id(name))
    };
    let pools = PoolTree::new(vec![
        pool("team:t", Window::None, None),
        pool("user:*", Window::Rolling(Duration::from_secs(3_600)), Some("team:t")),
    ]);
    FileLedger::open(path, &pools.unwrap(), durability, None, now()).unwrap()
}

/// Settles call after call until it is killed, and says which are on disk.
#[tokio::main(flavor = "current_thread")]
async fn settle_for_ever(path: &Path, round: u64) {
    let is_strict = round.is_multiple_of(2);
    let ledger = Arc::new(open(path, if is_strict { Durability::Strict } else { Durability::Group }));
    let budget = TokenBudget::new(ledger.clone());
    for n in 0_u64.. {
        let call = CallId::from(format!("{round}-{n}"));
        let pools = [id(&format!("user:u{}", n % 3))];
        let tokens = n % 7 + 1;
        let claim = Claim::new(&call, &pools, Amount::tokens(10), Duration::from_secs(60));
        let reservation = budget.reserve(&claim, now()).await.unwrap();
        if n % 11 == 10 {
            let _ = reservation.keep(); // one that dies with us
            continue;
        }
        let usage = Usage { output: Some(tokens), ..Usage::default() };
        let row = UsageRow {
            usage: Some(usage),
            cost: Some(NanoUsd(1)),
            ..UsageRow::new(call.clone(), now().as_millisecond() + n as i64)
        };
        let settled = reservation.settle(Amount::tokens(tokens), Some(Box::new(row)), now()).await;
        assert_eq!(settled.fault, None);
        if is_strict {
            println!("{call}");
        } else if n % 100 == 99 {
            ledger.flush().await.unwrap();
            println!("{call}");
        }
    }
}

#[test]
fn what_was_on_disk_survives_a_kill() {
    if let (Some(path), Ok(round)) = (std::env::var_os(FILE), std::env::var(ROUND)) {
        return settle_for_ever(path.as_ref(), round.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budget.db");
    let (mut acknowledged, mut lost) = (0, 0);
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_on_disk_survives_a_kill", "--nocapture"])
            .envs([(FILE, path.as_os_str()), (ROUND, round.to_string().as_ref())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // The time from its first word on is another each round, and not in step with anything that it does.
        let mut lines =
            stdout.lines().map_while(Result::ok).filter(|line| line.starts_with(&format!("{round}-")));
        let mut told = vec![lines.next().expect("it settles something")];
        std::thread::sleep(Duration::from_micros(round * 977 % 23_000));
        child.kill().unwrap(); // SIGKILL
        told.extend(lines);
        child.wait().unwrap();
        acknowledged += told.len();
        lost += check(&path, round, &told);
    }
    assert!(acknowledged > KILLS as usize, "it was hardly tested: {acknowledged} acknowledged");
    println!("{acknowledged} acknowledged in {KILLS} rounds, {lost} later ones on disk too");
}

/// Opens it after a kill. Answers how many calls are on disk that were not acknowledged.
#[tokio::main(flavor = "current_thread")]
async fn check(path: &Path, round: u64, told: &[String]) -> usize {
    let ledger = open(path, Durability::Group);
    let mut found = std::collections::HashSet::new();
    let mut after = None;
    loop {
        let rows =
            ledger.usage().rows(&UsageFilter::default(), Order::OldestFirst, after, 1_000).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = Some((last.at_ms, last.id.clone()));
        found.extend(
            rows.iter()
                .filter(|row| row.id.as_str().starts_with(&format!("{round}-")))
                .map(|row| row.id.to_string()),
        );
    }
    // Of a group the last one tells for all before it.
    let last: u64 = told.last().unwrap().split_once('-').unwrap().1.parse().unwrap();
    for n in (0..=last).filter(|n| n % 11 != 10) {
        assert!(found.contains(&format!("{round}-{n}")), "call {round}-{n} was on disk, and is lost");
    }

    // Rows and sums went in together, and nothing is held for the dead.
    let rows = ledger.usage().sums(&UsageFilter::default(), &UsageSumsBy::All).await.unwrap();
    let team = ledger.status(&id("team:t"), now()).await.unwrap().unwrap();
    assert_eq!(Some(team.settled.tokens), rows[0].usage.output);
    assert_eq!(team.reserved, Amount::ZERO);
    for user in ledger.usage().sums(&UsageFilter::default(), &UsageSumsBy::Pool).await.unwrap() {
        let pool = id(user.key.as_deref().unwrap());
        let status = ledger.status(&pool, now()).await.unwrap().unwrap();
        assert_eq!(Some(status.settled.tokens), user.usage.output, "{pool}");
    }
    found.len() - (0..=last).filter(|n| n % 11 != 10).count()
}
