//! The loop around [`Failover`] for whoever has nothing else to do between two attempts.

use hoosh_core::UpstreamFailure;

use crate::failover::{Failover, Step};
use crate::plan::{Candidate, Plan};

/// A success, and what it took to get there.
#[derive(Debug)]
pub struct Attempted<'p, T> {
    /// What the candidate gave.
    pub value: T,
    /// Who gave it.
    pub candidate: &'p Candidate,
    /// What failed before, in order.
    pub failures: Vec<UpstreamFailure>,
}

/// Calls one candidate after the other until one succeeds.
///
/// A streamed answer has succeeded only when it shows output: let `call` end in [`until_output`](crate::until_output).
///
/// # Errors
///
/// Every failure in order, if nobody succeeded: the candidates are used up, or the last failure is one that no other
/// can mend. Empty only for a plan without candidates.
///
/// # Cancel safety
///
/// Dropping the future drops the call in flight, which cancels it at the provider; the failures so far are lost with it.
/// Nothing runs on afterwards.
pub async fn attempt<'p, T, F, Fut>(
    plan: &'p Plan,
    mut call: F,
) -> Result<Attempted<'p, T>, Vec<UpstreamFailure>>
where
    F: FnMut(&'p Candidate) -> Fut,
    Fut: Future<Output = Result<T, UpstreamFailure>>,
{
    let mut failover = Failover::new(plan);
    while let Step::Try(candidate) = failover.next() {
        match call(candidate).await {
            Ok(value) => return Ok(Attempted { value, candidate, failures: failover.into_failures() }),
            Err(failure) => failover.observe(failure),
        }
    }
    Err(failover.into_failures())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;
    use hoosh_core::FailureKind;

    use super::*;
    use crate::scripted::{failure, plan};

    #[tokio::test]
    async fn the_first_success_ends_it_and_tells_what_failed_before() {
        let plan = plan(["a", "b", "c"]);
        let attempted = attempt(&plan, |candidate| {
            ready(match candidate.provider.name() {
                "b" => Ok(7),
                name => Err(failure(FailureKind::Connect).at(name)),
            })
        });
        let attempted = attempted.await.unwrap();
        assert_eq!((attempted.value, attempted.candidate.provider.name()), (7, "b"));
        assert_eq!(attempted.failures, [failure(FailureKind::Connect).at("a")]);
    }

    #[tokio::test]
    async fn all_failures_are_told_if_nobody_succeeds() {
        let plan = plan(["a", "b"]);
        let failed = |candidate: &Candidate| {
            ready(Err::<(), _>(failure(FailureKind::Failed).at(candidate.provider.name())))
        };
        let failures = attempt(&plan, failed).await.unwrap_err();
        assert_eq!(failures, [failure(FailureKind::Failed).at("a"), failure(FailureKind::Failed).at("b")]);
    }

    #[tokio::test]
    async fn a_dropped_attempt_drops_the_call_in_flight_and_asks_nobody_else() {
        struct Call<'a>(&'a std::cell::Cell<usize>);
        impl Drop for Call<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }

        let dropped = std::cell::Cell::new(0);
        let plan = plan(["a", "b"]);
        let hanging = attempt(&plan, |_| {
            let call = Call(&dropped);
            async move {
                let _call = call;
                pending::<Result<(), UpstreamFailure>>().await
            }
        });
        assert!(hanging.now_or_never().is_none());
        assert_eq!(dropped.get(), 1);
    }

    /// A server awaits this inside a connection's task. Never called.
    #[expect(dead_code, reason = "that it compiles is the fact")]
    fn the_loop_can_move_between_threads(plan: &Plan) {
        fn check<F: Future + Send>(_: F) {}
        check(attempt(plan, |_| Box::pin(ready(Ok(()))) as futures_util::future::BoxFuture<'static, _>));
        check(attempt(plan, |_| async { Ok(()) }));
    }
}
