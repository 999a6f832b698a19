//! The client against a gateway that plays a script, over real sockets.
//!
//! Waits are tested in virtual time: the clock stops once the gateway has the request, and then runs to whichever of
//! the client's times ends first.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, and their script beside them")]

mod calls;
mod looks;
mod script;
mod streams;
#[cfg(feature = "tls")]
mod tls;
