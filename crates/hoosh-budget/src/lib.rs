//! What may be spent, how fast and by whom.
//!
//! [`rate`] limits how many requests and tokens a name may have in a time, and how many calls at once. [`keys`] makes API keys,
//! keeps them hashed, and says who sends one and what that one may do. [`jwt`] does the same for signed tokens of others.
//!
//! Nothing here reads a clock, opens a connection or starts a task: times and bytes come in.

pub mod jwt;
pub mod keys;
pub mod rate;
