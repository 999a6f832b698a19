//! The clock that the mock and the load generator share, so that an event can carry the time it was sent.
//!
//! `std::time::Instant` reads the same clock but does not tell its number, and a wall clock may step.

use nix::time::ClockId;

/// Nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine.
///
/// Zero if the kernel refuses to tell, which it does not on any Linux; a zero would show as an absurd delay.
pub(crate) fn now_ns() -> u64 {
    let Ok(now) = ClockId::CLOCK_MONOTONIC.now() else { return 0 };
    let (seconds, nanos) = (u64::try_from(now.tv_sec()), u64::try_from(now.tv_nsec()));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}
