//! Requests: read from clients, written for providers.

pub(super) mod decode;
pub(super) mod encode;
