//! Requests: read from clients, written for providers.

mod decode;
mod encode;
mod turns;

pub(super) use decode::decode;
pub(super) use encode::encode;

#[cfg(test)]
mod tests;
