//! Finding out that a provider is well again before a call has to.
//!
//! What is asked is free: its list of models, never a generation. So it says no more than that somebody is there, and one
//! call must prove the rest.

use futures_util::future::join_all;
use hoosh_core::{FailureKind, limits};
use tokio::time::{Instant, timeout};

use crate::gateway::Gateway;

impl Gateway {
    /// Asks the providers on this machine that have trouble for a sign of life, and tells the router. Call it every few
    /// seconds: it is what finds out that one has come back before a call has to. It takes
    /// [`PROBE_TIME_MAX`](limits::PROBE_TIME_MAX) at most.
    pub async fn heartbeat(&self) {
        let (router, health) = (self.router(), self.router().health());
        let troubled = health.troubled();
        let local = router.providers().filter(|one| one.is_local() && router.is_enabled(one.name()));
        let asked = local.filter(|provider| troubled.iter().any(|name| **name == *provider.name()));
        join_all(asked.map(async |provider| {
            // Whoever answers is there, whatever it thinks of the question, and whatever we think of the answer.
            let is_there = match timeout(limits::PROBE_TIME_MAX, provider.health_check()).await {
                Ok(Ok(_)) => true,
                Ok(Err(failure)) => {
                    !matches!(failure.kind, FailureKind::Connect | FailureKind::Timeout | FailureKind::Broken)
                }
                Err(_) => false,
            };
            health.heartbeat(provider.name(), is_there, Instant::now().into_std());
        }))
        .await;
    }

    /// Asks each remote provider that is let alone because it failed whether it is well, and tells the router of those that
    /// are: the next call asks them, without waiting for the end of the rest. Nobody is asked who is well, over a rate limit,
    /// or refuses our key, nor one that is being asked. Call it every few seconds, beside the calls, which it does not delay.
    ///
    /// Of those on this machine [`heartbeat`](Self::heartbeat) takes care.
    pub async fn probe(&self) {
        let (router, now) = (self.router(), || Instant::now().into_std());
        let remote = router.providers().filter(|one| !one.is_local() && router.is_enabled(one.name()));
        let probes = remote.filter_map(|one| Some((one, router.health().probe(one.name(), now())?)));
        join_all(probes.map(async |(provider, probe)| {
            match timeout(limits::PROBE_TIME_MAX, provider.health_check()).await {
                Ok(Ok(_)) => probe.well(now()),
                Ok(Err(failure)) => tracing::debug!(%failure, "probed, not well"),
                Err(_) => tracing::debug!(provider = provider.name(), "probed, no answer in time"),
            }
        }))
        .await;
    }
}
