//! What a caller may do: which models, providers, endpoints, from where, how much.
//!
//! An empty list of models, providers, endpoints or networks is no restriction. An empty set of scopes is nothing at all.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hoosh_core::limits::{
    GRANT_ENTRIES_MAX, GRANT_METADATA_BYTES_MAX, GRANT_NAME_BYTES_MAX, MODEL_NAME_BYTES_MAX,
};
use ipnet::IpNet;
use wildmatch::WildMatch;

use crate::rate::Limits;

/// What a caller may do. By default nothing, for want of a scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Which kinds of endpoints.
    pub scopes: Scopes,
    /// Which models, as their callers name them.
    pub models: Vec<Pattern>,
    /// Which providers may answer.
    pub providers: Vec<Pattern>,
    /// Which paths: `/v1/chat/*`. They restrict further what the scopes allow.
    pub endpoints: Vec<Pattern>,
    /// From which addresses.
    pub networks: Vec<IpNet>,
    /// Which pools are charged, beside the caller's own.
    pub pools: Vec<String>,
    /// Its own rate limits.
    pub limits: Limits,
    /// Its place in line where calls wait: a word of the router's. `None`: what the call says, or the gateway.
    pub tier: Option<String>,
    /// Whatever its owner wants to find again in reports.
    pub metadata: BTreeMap<String, String>,
}

/// A kind of endpoint. None stands for another: an admin's key that is also for inference has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To ask models.
    Inference,
    /// To read what was used and what it cost.
    UsageRead,
    /// To change keys, pools and prices, and to see what others do.
    Admin,
}

/// A set of scopes; empty by default.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

/// Names with `*` for any text and `?` for one character, as in routes. Case matters.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: WildMatch,
}

/// A part of a grant that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct InvalidGrant {
    /// Which one.
    pub field: &'static str,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// # Errors
///
/// [`InvalidGrant`] if it is none, or an address has bits beyond the network's: which of the two was meant?
pub fn parse_network(text: &str) -> Result<IpNet, InvalidGrant> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = network else {
        let problem = format!("has `{text}`, which is no network; write `10.0.0.0/8` or one address");
        return Err(InvalidGrant::new("networks", problem));
    };
    if network.trunc() != network {
        let (whole, one) = (network.trunc(), network.addr());
        let problem = format!("has `{text}`, which is one address and a network; write `{whole}` or `{one}`");
        return Err(InvalidGrant::new("networks", problem));
    }
    Ok(network)
}

/// What makes a name for humans.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidGrant> {
    check_word("name", name)
}

fn check_word(field: &'static str, text: &str) -> Result<(), InvalidGrant> {
    if text.trim().is_empty() {
        Err(InvalidGrant::new(field, "has an empty name; write at least one letter"))
    } else if text.len() > GRANT_NAME_BYTES_MAX {
        let problem = format!("has a name of {} bytes; at most {GRANT_NAME_BYTES_MAX} are kept", text.len());
        Err(InvalidGrant::new(field, problem))
    } else if text.contains(char::is_control) {
        Err(InvalidGrant::new(field, "has a name with a control character; leave it out"))
    } else {
        Ok(())
    }
}

// === impl Grant ===

impl Grant {
    /// To ask any model, and nothing else: what a key is for unless somebody says otherwise.
    pub fn inference() -> Self {
        Self { scopes: Scopes::of([Scope::Inference]), ..Self::default() }
    }

    /// Whether it may go to endpoints of this kind.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }

    /// Whether it may name this model.
    pub fn allows_model(&self, model: &str) -> bool {
        matches_any(&self.models, model)
    }

    /// Whether this provider may answer it.
    pub fn allows_provider(&self, provider: &str) -> bool {
        matches_any(&self.providers, provider)
    }

    /// Whether it may go to this path.
    pub fn allows_endpoint(&self, path: &str) -> bool {
        matches_any(&self.endpoints, path)
    }

    /// Whether it may come from there. An unknown address is in no network. IPv4 that is written as IPv6 (RFC 4291, 2.5.5.2)
    /// counts as IPv4.
    pub fn allows_address(&self, from: Option<IpAddr>) -> bool {
        let from = from.map(|from| from.to_canonical());
        let is_in = |network: &IpNet| from.is_some_and(|from| network.contains(&from));
        self.networks.is_empty() || self.networks.iter().any(is_in)
    }

    /// Whether it is within bounds.
    ///
    /// # Errors
    ///
    /// [`InvalidGrant`] if a list or the metadata is too long, or a name is empty or has control characters.
    pub fn check(&self) -> Result<(), InvalidGrant> {
        let lists = [
            ("models", self.models.len()),
            ("providers", self.providers.len()),
            ("endpoints", self.endpoints.len()),
            ("networks", self.networks.len()),
            ("pools", self.pools.len()),
            ("metadata", self.metadata.len()),
        ];
        for (field, length) in lists {
            if length > GRANT_ENTRIES_MAX {
                let problem = format!("has {length} entries; at most {GRANT_ENTRIES_MAX} are kept");
                return Err(InvalidGrant::new(field, problem));
            }
        }
        self.pools.iter().try_for_each(|pool| check_word("pools", pool))?;
        self.tier.iter().try_for_each(|tier| check_word("tier", tier))?;
        self.metadata.keys().try_for_each(|key| check_word("metadata", key))?;
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > GRANT_METADATA_BYTES_MAX {
            let problem = format!("has {bytes} bytes; at most {GRANT_METADATA_BYTES_MAX} are kept");
            return Err(InvalidGrant::new("metadata", problem));
        }
        Ok(())
    }
}

fn matches_any(patterns: &[Pattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}

// === impl Scope ===

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inference, Self::UsageRead, Self::Admin];

    /// Its name in configuration, admin calls and signed tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::UsageRead => "usage:read",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl FromStr for Scope {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let problem = format!("has `{text}`; there are `inference`, `usage:read` and `admin`");
            InvalidGrant::new("scopes", problem)
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Scopes ===

impl Scopes {
    /// These.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether this is one of them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

// === impl Pattern ===

impl Pattern {
    /// Reads a pattern for the list of this name.
    ///
    /// # Errors
    ///
    /// [`InvalidGrant`] if nothing could match it, or it looks like another language of patterns.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidGrant> {
        let problem = if text.is_empty() {
            "it is empty; `*` matches everything"
        } else if text.len() > MODEL_NAME_BYTES_MAX {
            "it is longer than any name may be"
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            "it contains a space or a control character"
        } else if text.contains(['[', ']', '{', '}', '\\', '^', '$', '|']) {
            "only `*` (any text) and `?` (one character) are special in a pattern"
        } else {
            return Ok(Self { text: text.to_owned(), matcher: WildMatch::new(text) });
        };
        let shown: String = text.chars().take(80).collect();
        Err(InvalidGrant::new(field, format!("has the pattern {shown:?}: {problem}")))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches a whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.matches(name)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

// === impl InvalidGrant ===

impl InvalidGrant {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse("models", text).unwrap()).collect()
    }

    #[test]
    fn an_empty_list_restricts_nothing_and_no_scope_allows_nothing() {
        let grant = Grant::default();
        assert!(grant.allows_model("gpt-4o") && grant.allows_provider("groq"));
        assert!(grant.allows_endpoint("/v1/models") && grant.allows_address(None));
        assert!(Scope::ALL.into_iter().all(|scope| !grant.allows(scope)) && grant.scopes.is_empty());
        let inference = Grant::inference();
        assert!(inference.allows(Scope::Inference) && !inference.allows(Scope::Admin));
        let admin = Grant { scopes: Scopes::of([Scope::Admin]), ..Grant::default() };
        assert!(!admin.allows(Scope::Inference) && !admin.allows(Scope::UsageRead));
    }

    #[test]
    fn patterns_are_those_of_routes() {
        let grant = Grant { models: patterns(&["llama*", "gpt-?o"]), ..Grant::default() };
        for (model, allowed) in
            [("llama3", true), ("gpt-4o", true), ("gpt-4o-mini", false), ("Llama3", false), ("", false)]
        {
            assert_eq!(grant.allows_model(model), allowed, "{model}");
        }
        let error = Pattern::parse("models", "gpt-[45]").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`models` has the pattern \"gpt-[45]\": only `*` (any text) and `?` (one character) are special in a pattern"
        );
        assert!(Pattern::parse("models", "").is_err() && Pattern::parse("models", "a b").is_err());
        assert!(Pattern::parse("models", &"a".repeat(MODEL_NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn addresses_are_in_networks() {
        let networks = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(|text| parse_network(text).unwrap());
        let grant = Grant { networks: networks.to_vec(), ..Grant::default() };
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.0.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(grant.allows_address(Some(address.parse().unwrap())), allowed, "{address}");
        }
        assert!(!grant.allows_address(None));
        assert_eq!(
            parse_network("10.1.2.3/8").unwrap_err().to_string(),
            "`networks` has `10.1.2.3/8`, which is one address and a network; write `10.0.0.0/8` or `10.1.2.3`"
        );
        assert!(parse_network("10.0.0.0/33").is_err() && parse_network("everywhere").is_err());
    }

    #[test]
    fn what_is_too_long_or_empty_is_refused() {
        let field = |grant: Grant| grant.check().unwrap_err().field;
        assert_eq!(field(Grant { pools: vec![" ".into()], ..Grant::default() }), "pools");
        assert_eq!(field(Grant { tier: Some("a\nb".into()), ..Grant::default() }), "tier");
        let many = vec!["team:a".to_owned(); GRANT_ENTRIES_MAX + 1];
        assert_eq!(field(Grant { pools: many, ..Grant::default() }), "pools");
        let large = [("note".to_owned(), "x".repeat(GRANT_METADATA_BYTES_MAX))].into();
        assert_eq!(field(Grant { metadata: large, ..Grant::default() }), "metadata");
        assert!(Grant::inference().check().is_ok());
        assert!(check_name(&"a".repeat(GRANT_NAME_BYTES_MAX + 1)).is_err());
        assert_eq!(
            "everything".parse::<Scope>().unwrap_err().to_string(),
            "`scopes` has `everything`; there are `inference`, `usage:read` and `admin`"
        );
    }
}
