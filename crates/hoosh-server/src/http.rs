//! What HTTP adds to a call: who calls, reading the body, bodies that go out, and errors as statuses.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod cors;
pub(crate) mod error;
pub(crate) mod stall;

use http::HeaderName;

/// Our name for a call, on every answer. The official SDKs read it.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the decision that a call went by can be asked for: at `GET /v1/decisions/` and this.
pub(crate) const X_HOOSH_DECISION: HeaderName = HeaderName::from_static("x-hoosh-decision");
/// The provider that answered.
pub(crate) const X_HOOSH_PROVIDER: HeaderName = HeaderName::from_static("x-hoosh-provider");
/// The model, as that provider names it.
pub(crate) const X_HOOSH_MODEL: HeaderName = HeaderName::from_static("x-hoosh-model");
/// How many candidates were asked.
pub(crate) const X_HOOSH_ATTEMPTS: HeaderName = HeaderName::from_static("x-hoosh-attempts");
/// Whether a call must stay on this machine or network.
pub(crate) const X_HOOSH_PRIVACY: HeaderName = HeaderName::from_static("x-hoosh-privacy");
/// Most that a call may cost, in US dollars.
pub(crate) const X_HOOSH_MAX_COST: HeaderName = HeaderName::from_static("x-hoosh-max-cost");
/// The conversation that a call belongs to.
pub(crate) const X_HOOSH_SESSION: HeaderName = HeaderName::from_static("x-hoosh-session");
/// The person that a call is made for, for its pool.
pub(crate) const X_HOOSH_USER: HeaderName = HeaderName::from_static("x-hoosh-user");
/// The program that makes a call, for its pool.
pub(crate) const X_HOOSH_AGENT: HeaderName = HeaderName::from_static("x-hoosh-agent");
/// The tier of a call where it has to wait in line.
pub(crate) const X_HOOSH_PRIORITY: HeaderName = HeaderName::from_static("x-hoosh-priority");
/// How long a call waited in line, in milliseconds.
pub(crate) const X_HOOSH_QUEUE_MS: HeaderName = HeaderName::from_static("x-hoosh-queue-ms");
/// What is done about a prompt that is too long, as the caller wants it; of an answer, what was done.
pub(crate) const X_HOOSH_CONTEXT: HeaderName = HeaderName::from_static("x-hoosh-context");
/// What the cache did for a call.
pub(crate) const X_HOOSH_CACHE: HeaderName = HeaderName::from_static("x-hoosh-cache");
/// What is done about what cannot be carried, as the caller wants it.
pub(crate) const X_HOOSH_FIDELITY: HeaderName = HeaderName::from_static("x-hoosh-fidelity");
/// Anthropic's SDKs look here for the name of a call.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// What could not be carried.
pub(crate) const X_HOOSH_LOSSY: HeaderName = HeaderName::from_static("x-hoosh-lossy");
/// What its pools made of a call's answer.
pub(crate) const X_HOOSH_BUDGET: HeaderName = HeaderName::from_static("x-hoosh-budget");
/// What the call cost, in US dollars.
pub(crate) const X_HOOSH_COST: HeaderName = HeaderName::from_static("x-hoosh-cost");
