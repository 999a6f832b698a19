//! What the headers of a call ask of us.

use hoosh_core::{ContextWish, Fidelity, NanoUsd, limits};
use hoosh_gateway::Call;
use hoosh_router::Tier;
use http::{HeaderMap, HeaderName};

use crate::http::error::ServerError;
use crate::http::{
    X_HOOSH_AGENT, X_HOOSH_CONTEXT, X_HOOSH_FIDELITY, X_HOOSH_MAX_COST, X_HOOSH_PRIORITY, X_HOOSH_PRIVACY,
    X_HOOSH_SESSION, X_HOOSH_USER,
};

/// Longest name of a conversation: 256 bytes, four UUIDs.
const SESSION_BYTES_MAX: usize = 256;

/// What a caller may ask for beside its body.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    fidelity: Option<Fidelity>,
    local_only: bool,
    max_cost: Option<NanoUsd>,
    session: Option<String>,
    tier: Tier,
    context: Option<ContextWish>,
    user: Option<String>,
    agent: Option<String>,
}

// === impl Wishes ===

impl Wishes {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// The first that cannot be read: what is not understood is not ignored.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, ServerError> {
        let text = |name: &HeaderName| Some(headers.get(name)?.to_str().unwrap_or_default().trim());
        let mut wishes = Self::default();
        if let Some(word) = text(&X_HOOSH_FIDELITY) {
            let expected = "`report`, `strict` or `silent`";
            wishes.fidelity = Some(Fidelity::parse(word).ok_or(bad("x-hoosh-fidelity", expected))?);
        }
        wishes.local_only = match text(&X_HOOSH_PRIVACY) {
            None | Some("any") => false,
            Some("local") => true,
            Some(_) => return Err(bad("x-hoosh-privacy", "`local` or `any`")),
        };
        if let Some(amount) = text(&X_HOOSH_MAX_COST) {
            let read = amount.parse().ok().filter(|amount: &NanoUsd| *amount >= NanoUsd::ZERO);
            wishes.max_cost = Some(read.ok_or(bad("x-hoosh-max-cost", "US dollars such as `0.05`"))?);
        }
        if let Some(session) = text(&X_HOOSH_SESSION) {
            if session.is_empty() || session.len() > SESSION_BYTES_MAX {
                return Err(bad("x-hoosh-session", "a name of 1 to 256 bytes of ASCII"));
            }
            wishes.session = Some(session.to_owned());
        }
        if let Some(tier) = text(&X_HOOSH_PRIORITY) {
            wishes.tier =
                tier.parse().map_err(|_| bad("x-hoosh-priority", "`high`, `normal`, `low` or `batch`"))?;
        }
        if let Some(context) = text(&X_HOOSH_CONTEXT) {
            let expected =
                "`refuse`, `drop_oldest`, `keep_last` or `keep_last=N`, `middle_out` or `summarise`";
            wishes.context = Some(ContextWish::parse(context).ok_or(bad("x-hoosh-context", expected))?);
        }
        let name = |header: &HeaderName, called: &'static str| match text(header) {
            Some(name) if name.is_empty() || name.len() > limits::POOL_NAME_BYTES_MAX => {
                Err(bad(called, "a name of 1 to 256 bytes of ASCII"))
            }
            name => Ok(name.map(str::to_owned)),
        };
        wishes.user = name(&X_HOOSH_USER, "x-hoosh-user")?;
        wishes.agent = name(&X_HOOSH_AGENT, "x-hoosh-agent")?;
        Ok(wishes)
    }

    /// Puts them onto the call.
    pub(crate) fn put(self, call: &mut Call) {
        let Self { fidelity, local_only, max_cost, session, tier, context, user, agent } = self;
        (call.fidelity, call.local_only, call.max_cost) = (fidelity, local_only, max_cost);
        (call.session, call.tier, call.context) = (session, tier, context);
        (call.user, call.agent) = (user, agent);
    }
}

fn bad(name: &'static str, expected: &'static str) -> ServerError {
    ServerError::BadHeader { name, expected }
}
