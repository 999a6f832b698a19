//! Who calls and what that one may do: a token of the configuration, looked up by its digest, or a key that is kept.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hoosh_budget::jwt::JwtError;
use hoosh_budget::keys::{KeyDenied, KeyRecord, Keyring, Scope};
use hoosh_gateway::{Call, CallerId};
use hoosh_router::{Router, Tier};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use crate::keys::Signed;
use crate::keys::published::Published;
use crate::route::Needs;

/// Who may call. Without any token and without a place for keys, everybody may.
///
/// Of tokens only digests are kept. Looking one up takes a time that depends on the digest and not on the token, so a token
/// cannot be guessed piece by piece.
#[derive(Default)]
pub(crate) struct Keys {
    tokens: HashMap<[u8; 32], Token>,
    ring: Option<Arc<Keyring>>,
    signed: Option<Signed>,
}

struct Token {
    caller: CallerId,
    is_admins: bool,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Caller {
    /// Its name in logs and books, and for whatever is kept apart between callers.
    pub(crate) id: CallerId,
    rights: Rights,
}

/// What one may do.
#[derive(Debug, Clone, PartialEq)]
enum Rights {
    /// Everything: nobody is told from anybody.
    Anybody,
    /// Everything, but what an admin does only where that is said.
    Token { is_admins: bool },
    /// What its key says.
    Key(Arc<KeyRecord>),
}

/// Why somebody may not call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key came.
    Missing,
    /// It is none of ours.
    Wrong,
    /// It was signed by somebody, and is not taken.
    Signed(JwtError),
    /// It was signed by somebody, whose keys could not be fetched yet.
    KeysAway,
    /// It is one of ours, and lets nobody in.
    Key(KeyDenied),
    /// It is not for this.
    Scope(Scope),
    /// It is not for this path.
    Endpoint {
        /// Which.
        path: String,
        /// Those that it is for.
        allowed: Vec<String>,
    },
}

/// Bytes of a token's digest in its caller's name: 12. What callers keep from each other hangs on it, so that no two tokens may
/// share it, not even by a search for such a pair.
const NAME_BYTES: usize = 12;

/// The caller where everybody may call.
const ANYBODY: &str = "anonymous";

// === impl Keys ===

impl Keys {
    /// These tokens, those of admins, and these keys.
    pub(crate) fn new(
        tokens: &[SecretString],
        admin_tokens: &[SecretString],
        ring: Option<Arc<Keyring>>,
    ) -> Self {
        let named = |token: &SecretString, is_admins: bool| {
            let digest = digest_of(token.expose_secret());
            let mut name = String::from("key-");
            for byte in &digest[..NAME_BYTES] {
                let _written = write!(name, "{byte:02x}"); // A String takes every write.
            }
            (digest, Token { caller: CallerId::new(name), is_admins })
        };
        // The later counts where a token is in both.
        let tokens = tokens.iter().map(|token| named(token, false));
        let tokens = tokens.chain(admin_tokens.iter().map(|token| named(token, true))).collect();
        Self { tokens, ring, signed: None }
    }

    /// What checks tokens that others sign.
    pub(crate) fn signs(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// And tokens that others sign.
    pub(crate) fn signed(self, signed: Option<Signed>) -> Self {
        Self { signed, ..self }
    }

    /// Whether everybody may call.
    pub(crate) fn are_none(&self) -> bool {
        self.tokens.is_empty() && self.ring.is_none() && self.signed.is_none()
    }

    /// Where the keys are published that signed tokens are checked with, and how often they are asked for.
    pub(crate) fn published(&self) -> Option<(Arc<Published>, Option<Duration>)> {
        let (published, interval) = self.signed.as_ref()?.published()?;
        Some((Arc::clone(published), interval))
    }

    /// [`caller`](Self::caller), after a look at whether an identity provider has other keys by now where a token is of none that is
    /// known.
    pub(crate) async fn caller_by_now(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        from: IpAddr,
    ) -> Result<Caller, Denied> {
        let caller = self.caller(headers, query, from);
        let Err(Denied::Signed(JwtError::UnknownKey { .. })) = &caller else { return caller };
        let Some((published, _)) = self.published() else { return caller };
        let caller = if published.refresh().await { self.caller(headers, query, from) } else { caller };
        if published.is_there() { caller } else { Err(Denied::KeysAway) }
    }

    /// The keys beside the tokens.
    pub(crate) fn ring(&self) -> Option<&Arc<Keyring>> {
        self.ring.as_ref()
    }

    /// All who may call by a token, by name; who calls, if everybody may.
    pub(crate) fn callers(&self) -> Vec<CallerId> {
        let mut callers: Vec<CallerId> = self.tokens.values().map(|token| token.caller.clone()).collect();
        callers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        if self.are_none() { vec![CallerId::new(ANYBODY)] } else { callers }
    }

    /// Who sends these headers from there: by `Authorization: Bearer`, by `x-api-key` as Anthropic's clients send it, by
    /// `x-goog-api-key` or `?key=` as Google's do.
    pub(crate) fn caller(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        from: IpAddr,
    ) -> Result<Caller, Denied> {
        if self.are_none() {
            return Ok(Caller { id: CallerId::new(ANYBODY), rights: Rights::Anybody });
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let in_query = || query?.split('&').find_map(|pair| pair.strip_prefix("key="));
        let token = bearer
            .or_else(|| header("x-api-key"))
            .or_else(|| header("x-goog-api-key"))
            .or_else(in_query)
            .ok_or(Denied::Missing)?;
        if let Some(Token { caller, is_admins }) = self.tokens.get(&digest_of(token)) {
            return Ok(Caller { id: caller.clone(), rights: Rights::Token { is_admins: *is_admins } });
        }
        let of_key = |key: Arc<KeyRecord>| Caller {
            id: CallerId::new(key.booked_as.as_str()),
            rights: Rights::Key(key),
        };
        // A key has no dots in it, and a signed token has two.
        if let Some(signed) = self.signed.as_ref().filter(|_| token.contains('.')) {
            return signed.authenticate(token, Timestamp::now()).map(of_key).map_err(Denied::Signed);
        }
        let ring = self.ring.as_ref().ok_or(Denied::Wrong)?;
        match ring.authenticate(token, Some(from), Timestamp::now()) {
            Ok(key) => Ok(Caller { id: CallerId::new(key.booked_as.as_str()), rights: Rights::Key(key) }),
            Err(KeyDenied::Unknown) => Err(Denied::Wrong),
            Err(denied) => Err(Denied::Key(denied)),
        }
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

// === impl Caller ===

impl Caller {
    /// Whether it may go to this path, which needs this.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub(crate) fn may(&self, needs: Needs, path: &str) -> Result<(), Denied> {
        match needs {
            Needs::Nothing => return Ok(()),
            Needs::OwnOr(_) if Scope::ALL.into_iter().any(|scope| self.has(scope)) => {}
            Needs::Scope(scope) if self.has(scope) => {}
            Needs::OwnOr(scope) | Needs::Scope(scope) => return Err(Denied::Scope(scope)),
        }
        match &self.rights {
            Rights::Key(key) if !key.grant.allows_endpoint(path) => {
                let allowed = key.grant.endpoints.iter().map(|pattern| pattern.as_str().to_owned());
                Err(Denied::Endpoint { path: path.to_owned(), allowed: allowed.collect() })
            }
            _ => Ok(()),
        }
    }

    fn has(&self, scope: Scope) -> bool {
        match &self.rights {
            Rights::Anybody => true,
            Rights::Token { is_admins } => *is_admins || scope != Scope::Admin,
            Rights::Key(key) => key.grant.allows(scope),
        }
    }

    /// Whether it sees what others used and spent. A plain token does not, though it may look at what is counted of all
    /// together: it is any program's that asks for answers.
    pub(crate) fn sees_others(&self) -> bool {
        match &self.rights {
            Rights::Anybody => true,
            Rights::Token { is_admins } => *is_admins,
            Rights::Key(key) => key.grant.allows(Scope::UsageRead),
        }
    }

    /// Whether it may ask for a model of this name, and one of those who have it may answer.
    pub(crate) fn may_ask_for(&self, model: &str, router: &Router) -> bool {
        let Rights::Key(key) = &self.rights else { return true };
        key.grant.allows_model(model)
            && (key.grant.providers.is_empty()
                || router.candidates(model).iter().any(|one| key.grant.allows_provider(one.provider.name())))
    }

    /// Whether this provider may answer it.
    pub(crate) fn may_be_answered_by(&self, provider: &str) -> bool {
        match &self.rights {
            Rights::Key(key) => key.grant.allows_provider(provider),
            Rights::Anybody | Rights::Token { .. } => true,
        }
    }

    /// The pools that its key is charged to beside its own, by name.
    pub(crate) fn pools(&self) -> &[String] {
        match &self.rights {
            Rights::Key(key) => &key.grant.pools,
            Rights::Anybody | Rights::Token { .. } => &[],
        }
    }

    /// Puts what it may do onto a call of its.
    pub(crate) fn put(&self, call: &mut Call) {
        let Rights::Key(key) = &self.rights else { return };
        let ceiling = key.grant.tier.as_ref().and_then(|tier| tier.parse::<Tier>().ok());
        call.tier = ceiling.map_or(call.tier, |ceiling| call.tier.at_most(ceiling));
        call.key = Some(Arc::clone(key));
    }
}

#[cfg(test)]
mod tests {
    use hoosh_budget::keys::{Grant, KeyOrder, MemoryStore, Pattern, Pepper, parse_network};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    fn tokens(tokens: &[&str]) -> Vec<SecretString> {
        tokens.iter().map(|token| SecretString::from(*token)).collect()
    }

    #[test]
    fn tokens_are_found_and_named_without_being_told() {
        let keys = Keys::new(&tokens(&["sk-secret", "other"]), &[], None);
        let sent = |headers: HeaderMap, query| keys.caller(&headers, query, HERE);
        let caller = sent(headers("authorization", "bearer  sk-secret"), None).unwrap();
        let name = caller.id.as_str();
        assert!(name.starts_with("key-") && !name.contains("secret"));
        assert_eq!(sent(headers("x-api-key", "sk-secret"), None), Ok(caller.clone()));
        assert_eq!(sent(headers("x-goog-api-key", "sk-secret"), None), Ok(caller.clone()));
        assert_eq!(sent(HeaderMap::new(), Some("alt=sse&key=sk-secret")), Ok(caller));
        assert_eq!(sent(headers("authorization", "Bearer sk-secre"), None), Err(Denied::Wrong));
        assert_eq!(sent(headers("authorization", "Basic sk-secret"), None), Err(Denied::Missing));
        assert_eq!(sent(HeaderMap::new(), None), Err(Denied::Missing));
    }

    #[test]
    fn without_tokens_and_keys_everybody_may_call() {
        let caller = Keys::default().caller(&HeaderMap::new(), None, HERE).unwrap();
        assert_eq!((caller.id.as_str(), caller.may(Needs::Scope(Scope::Admin), "/")), ("anonymous", Ok(())));
        // And with a place for keys nobody may, as long as there are none.
        let keys = Keys::new(&[], &[], Some(ring()));
        assert_eq!(keys.caller(&HeaderMap::new(), None, HERE), Err(Denied::Missing));
    }

    #[test]
    fn only_tokens_of_admins_are_for_what_an_admin_does() {
        let keys = Keys::new(&tokens(&["both", "user"]), &tokens(&["both"]), None);
        for (token, is_admins) in [("both", true), ("user", false)] {
            let caller = keys.caller(&headers("x-api-key", token), None, HERE).unwrap();
            assert_eq!(caller.may(Needs::Scope(Scope::Inference), "/"), Ok(()));
            assert_eq!(caller.may(Needs::Scope(Scope::UsageRead), "/"), Ok(()));
            assert_eq!(caller.may(Needs::Scope(Scope::Admin), "/").is_ok(), is_admins, "{token}");
            assert_eq!(caller.may(Needs::OwnOr(Scope::UsageRead), "/"), Ok(()));
            assert_eq!(caller.sees_others(), is_admins, "{token}");
        }
    }

    fn ring() -> Arc<Keyring> {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        Arc::new(Keyring::open(Arc::new(MemoryStore::default()), pepper).unwrap())
    }

    #[test]
    fn a_key_says_what_its_caller_may_do() {
        let ring = ring();
        let grant = Grant {
            endpoints: vec![Pattern::parse("endpoints", "/v1/chat/*").unwrap()],
            networks: vec![parse_network("127.0.0.0/8").unwrap()],
            tier: Some("low".into()),
            ..Grant::inference()
        };
        let order = KeyOrder { name: "ci".into(), expires: None, grant };
        let issued = ring.create(order, Timestamp::now()).unwrap();
        let keys = Keys::new(&[], &[], Some(Arc::clone(&ring)));
        let sent = |from: &str| {
            keys.caller(&headers("x-api-key", issued.secret.expose_secret()), None, from.parse().unwrap())
        };
        let caller = sent("::ffff:127.0.0.1").unwrap();
        assert_eq!(caller.id.as_str(), issued.record.booked_as.as_str());
        assert_eq!(caller.may(Needs::Scope(Scope::Inference), "/v1/chat/completions"), Ok(()));
        assert!(matches!(
            caller.may(Needs::Scope(Scope::Inference), "/v1/models"),
            Err(Denied::Endpoint { .. })
        ));
        assert_eq!(caller.may(Needs::Scope(Scope::Admin), "/v1/chat/x"), Err(Denied::Scope(Scope::Admin)));
        assert!(matches!(sent("192.0.2.1"), Err(Denied::Key(KeyDenied::Network { .. }))));
        ring.revoke(&issued.record.id, Timestamp::now()).unwrap();
        assert!(matches!(sent("127.0.0.1"), Err(Denied::Key(KeyDenied::Revoked { .. }))));
    }
}
