//! Which claim of a token says what about its sender.

use serde_json::Value;

use jiff::Timestamp;

use super::{Claims, JwtError, claim, cut, texts};
use crate::keys::{Grant, Pattern, Scope, Scopes};

/// Where a claim is in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

/// What a token's claims mean here.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimMapping {
    /// Who it is: a text, `sub` by default. It is unique within its issuer only.
    pub caller: ClaimPath,
    /// What is put before it, so that it is the name of nobody else: `jwt:` by default. Give each issuer its own.
    pub caller_prefix: String,
    /// Which pools are charged, beside those of `base`.
    pub pools: Vec<PoolClaim>,
    /// Which scopes of `base` it has: a list, or words with spaces between them (RFC 8693, 4.2). Without the claim it has none.
    /// `None`: all those of `base`.
    pub scopes: Option<ClaimPath>,
    /// What stands before each scope that is meant for us: `hoosh:` for `hoosh:inference`. Others are passed over. By default
    /// nothing.
    pub scope_prefix: String,
    /// Which models it may name, as patterns, in place of those of `base`: a text or a list, and neither missing nor empty. `None`:
    /// those of `base`.
    pub models: Option<ClaimPath>,
    /// What every token of this kind may do: its scopes are the most that one can have.
    pub base: Grant,
}

/// A claim that names pools: a text or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolClaim {
    /// Where it is.
    pub path: ClaimPath,
    /// What is put before each name: `team:`.
    pub prefix: String,
    /// Whether a token without it is taken, and charged to no such pool. Otherwise it is refused, since it would go past a budget.
    pub is_optional: bool,
}

/// Who sent a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Its name in books and logs.
    pub caller: String,
    /// What it may do.
    pub grant: Grant,
    /// Until when that holds.
    pub expires: Option<Timestamp>,
}

// === impl ClaimPath ===

impl ClaimPath {
    /// The name of a claim, whatever is in it: `sub`, `https://example.com/groups`. If it begins with `/`, a way into the claims
    /// (JSON Pointer, RFC 6901): `/realm_access/roles`.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let json = claims.json();
        let found = if self.0.starts_with('/') { json.pointer(&self.0) } else { json.get(&self.0) };
        found.filter(|value| !value.is_null())
    }

    fn texts<'a>(&self, claims: &'a Claims) -> Result<Option<Vec<&'a str>>, JwtError> {
        let Some(value) = self.find(claims) else { return Ok(None) };
        let texts = texts(value);
        texts.map(Some).ok_or_else(|| self.wrong("is neither a text nor a list of texts"))
    }

    fn wrong(&self, problem: impl Into<String>) -> JwtError {
        claim(&self.0, problem)
    }
}

// === impl ClaimMapping ===

impl ClaimMapping {
    /// Callers by `sub`, all of whom may do this.
    pub fn to(base: Grant) -> Self {
        Self {
            caller: ClaimPath::new("sub"),
            caller_prefix: "jwt:".to_owned(),
            pools: Vec::new(),
            scopes: None,
            scope_prefix: String::new(),
            models: None,
            base,
        }
    }

    /// Who sent a token with these claims.
    ///
    /// # Errors
    ///
    /// [`JwtError::Claim`] if a claim that is needed is missing, or one is not of its type.
    pub fn identify(&self, claims: &Claims) -> Result<Identity, JwtError> {
        let mut grant = self.base.clone();
        let caller = match self.caller.find(claims) {
            None => return Err(self.caller.wrong("is missing; it says who calls")),
            Some(value) => value.as_str().ok_or_else(|| self.caller.wrong("is no text"))?,
        };
        for PoolClaim { path, prefix, is_optional } in &self.pools {
            match path.texts(claims)? {
                None if *is_optional => {}
                None => return Err(path.wrong("is missing; it says which pool is charged")),
                Some(names) if names.is_empty() && !is_optional => {
                    return Err(path.wrong("is empty; it says which pool is charged"));
                }
                Some(names) if names.iter().any(|name| name.trim().is_empty()) => {
                    return Err(path.wrong("has an empty name of a pool"));
                }
                Some(names) => grant.pools.extend(names.iter().map(|name| format!("{prefix}{name}"))),
            }
        }
        if let Some(path) = &self.scopes {
            let words = path.texts(claims)?.unwrap_or_default();
            let words = words.iter().flat_map(|words| words.split(' '));
            let ours = words.filter_map(|word| word.strip_prefix(&self.scope_prefix)?.parse::<Scope>().ok());
            grant.scopes = Scopes::of(ours.filter(|scope| self.base.allows(*scope)));
        }
        if let Some(path) = &self.models {
            let names = path.texts(claims)?.filter(|names| !names.is_empty());
            let names =
                names.ok_or_else(|| path.wrong("is missing or empty; it says which models are allowed"))?;
            let patterns = names.iter().map(|name| Pattern::parse("models", name));
            grant.models = patterns.collect::<Result<_, _>>().map_err(|error| path.wrong(error.problem))?;
        }
        // Names of pools come from the token as well, and all go into logs and headers.
        crate::keys::check_name(caller).map_err(|error| self.caller.wrong(error.problem))?;
        grant.check().map_err(|error| claim(error.field, cut(&error.problem)))?;
        Ok(Identity { caller: format!("{}{caller}", self.caller_prefix), grant, expires: claims.expires() })
    }
}
