//! Which providers can answer to a name.
//!
//! Reads the configuration once, reports all that is wrong with it, and answers from what it compiled: a plan costs the
//! same among ten routes and a thousand. The order of candidates is the [`Strategy`]'s, asking them is
//! [`Failover`](crate::Failover)'s.

mod alias;
mod strategies;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use hoosh_core::pattern::{self, Index, Specificity};
use hoosh_core::{ContextRule, Fidelity, LlmProvider, NoRoute, OnUnpriced, PriceTable};

use self::alias::Alias;
pub use self::alias::{Canary, Group, Member};
use self::strategies::Strategies;
use crate::breaker::Verdict;
use crate::filter::{self, Pricing};
use crate::health::{Health, Host};
use crate::hold::StreamWindow;
use crate::near::near;
use crate::plan::{Candidate, Naming, Object, Objection, PassedOver, Plan, Query, Resting, Seen, Way, Why};
use crate::random::Seed;
use crate::snapshot::Snapshot;
use crate::strategy::{Entry, Moment, Ranked, Strategy};

/// The priority of a route that does not say: 10, so that there is room before and behind it.
pub const PRIORITY_DEFAULT: u32 = 10;

/// A rule that sends some models to a provider.
///
/// Each route stands for itself: if one of them rules a request out, another one may still lead to the same provider.
///
/// ```
/// use hoosh_router::Route;
///
/// let route = Route { models: vec!["llama*".into(), "*-mini".into()], priority: 1, ..Route::to("ollama") };
/// # assert!(route.enabled);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Name of the provider.
    pub provider: String,
    /// Models it is asked for: names, in which `*` stands for any text and `?` for one character. Empty: all.
    pub models: Vec<String>,
    /// Its place among others that match; the lower is asked first. Default: [`PRIORITY_DEFAULT`].
    pub priority: u32,
    /// A request that asks for more tokens than this does not go this way. Default: no limit.
    pub max_tokens_limit: Option<u64>,
    /// Whether it is in use. Default: yes. A provider all of whose routes are off cannot be asked by `provider/model`
    /// either.
    pub enabled: bool,
    /// What is done about parts of a request that the provider cannot be told. Default: as the whole gateway does.
    pub fidelity: Option<Fidelity>,
    /// How often it is taken beside others of its priority, where the strategy goes by weight. Default: 1. 0: only when no
    /// other can answer.
    pub weight: u32,
    /// How candidates of equal priority are ordered for the names that its patterns match, all of them and not only this one. As
    /// [`strategy_for`](crate::RouterBuilder::strategy_for) each of its patterns: the most specific that matches counts, and
    /// of one pattern there is one strategy. Nothing is said by a route that is off. Default: nothing is said.
    pub strategy: Option<Strategy>,
    /// What is done about prompts that are too long for its models. Default: nothing is said, and the provider refuses them.
    pub context: Option<Arc<ContextRule>>,
    /// What is done about answers that are slow or break, besides asking the next candidate. Default: nothing.
    pub options: RouteOptions,
}

/// What is done about an answer of one route that is slow or breaks, besides asking the next candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// How long a stream is held back from its first output on, so that a failure in that time is one for the next
    /// candidate. Default: not at all.
    pub stream_window: StreamWindow,
    /// Whether the next candidate is asked too when an answer takes longer to begin than nearly all before it (see
    /// [`Hedging`](crate::Hedging)). Default: no, since such a call may be paid for twice.
    pub hedges: bool,
    /// Whether a stream that breaks in the middle is gone on with at a candidate that can. Default: no, since such an answer is
    /// from two models.
    pub continues: bool,
    /// Whether models there go on writing a last message that is the assistant's. Default: as the
    /// [provider](hoosh_core::LlmProvider::prefills) says.
    pub prefills: Option<bool>,
}

/// All that is wrong with a configuration of routes, not only the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// The faults, at least one.
    pub faults: Vec<BuildFault>,
}

/// One thing that is wrong with a configuration of routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildFault {
    /// A provider's name cannot be used.
    #[error("provider `{provider}`: {problem}")]
    BadProvider {
        /// Its name.
        provider: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A route leads to a provider that is not there.
    #[error("a route names the provider `{provider}`, which is not configured{}", DidYouMean(.near))]
    UnknownProvider {
        /// The name in the route.
        provider: String,
        /// Names of providers that look like it.
        near: Vec<String>,
    },
    /// A pattern cannot be read.
    #[error("route to `{provider}`: pattern `{pattern}`: {problem}")]
    BadPattern {
        /// The route's provider.
        provider: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A strategy is for what is no pattern, or its pattern has another one.
    #[error("strategy for `{pattern}`: {problem}")]
    BadStrategy {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A pattern has one strategy by a route and another one by another route, or by itself.
    #[error(
        "the route to `{provider}` orders `{pattern}` by `{strategy}`, {} by `{other}`; a model is ordered by one",
        ByWhom(.by)
    )]
    TwoStrategies {
        /// The pattern.
        pattern: String,
        /// The later route's provider.
        provider: String,
        /// What it says.
        strategy: Strategy,
        /// The provider of the other route. `None`: it is said of the pattern itself.
        by: Option<String>,
        /// What that says.
        other: Strategy,
    },
    /// An alias cannot be used.
    #[error("alias `{alias}`: {problem}")]
    BadAlias {
        /// Its name.
        alias: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Aliases lead back to where they began.
    #[error("aliases go in a circle: {}", .path.join(" -> "))]
    AliasCircle {
        /// The aliases on the way; the last is the first again.
        path: Vec<String>,
    },
    /// An alias leads through more aliases than are followed.
    #[error("alias `{alias}` leads through more than {} aliases", hoosh_core::limits::ALIAS_HOPS_MAX)]
    AliasTooDeep {
        /// Its name.
        alias: String,
    },
    /// No route and no provider's name matches what an alias leads to.
    #[error("alias `{alias}` leads to `{target}`, which no route serves")]
    AliasToNowhere {
        /// Its name.
        alias: String,
        /// What it leads to.
        target: String,
    },
}

/// Providers, routes and aliases, compiled.
///
/// Made by [`Router::builder`](crate::Router::builder).
pub struct RouteTable {
    /// In the order of the configuration, as all lists here.
    providers: Vec<Provider>,
    by_name: HashMap<Arc<str>, usize>,
    rules: Vec<Rule>,
    patterns: Vec<Arc<str>>,
    index: Index<Hit>,
    aliases: HashMap<Arc<str>, Alias>,
    strategies: Strategies,
    pricing: Pricing,
}

struct Provider {
    name: Arc<str>,
    asked: Arc<dyn LlmProvider>,
    host: Arc<Host>,
    /// The rule that allows most: what holds for a model that none of its routes is meant for.
    loosest: usize,
}

/// A route without its patterns.
struct Rule {
    provider: usize,
    priority: u32,
    max_tokens_limit: Option<u64>,
    enabled: bool,
    fidelity: Option<Fidelity>,
    weight: u32,
    options: RouteOptions,
    context: Option<Arc<ContextRule>>,
}

/// What a pattern leads to.
#[derive(Debug, Clone, Copy)]
struct Hit {
    rule: usize,
    pattern: usize,
}

/// A name as it is understood, see the crate page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading<'a> {
    /// All routes that match it.
    Routes(&'a str),
    /// This provider alone, for this model.
    Direct(usize, &'a str),
}

struct DidYouMean<'a>(&'a [String]);
struct ByWhom<'a>(&'a Option<String>);

// === impl Route ===

impl Route {
    /// All models to this provider, at the default priority.
    pub fn to(provider: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            models: Vec::new(),
            priority: PRIORITY_DEFAULT,
            max_tokens_limit: None,
            enabled: true,
            fidelity: None,
            weight: 1,
            strategy: None,
            options: RouteOptions::default(),
            context: None,
        }
    }
}

// === impl RouteTable ===

impl RouteTable {
    /// Reads a configuration. A provider without a route gets one for all models, behind those that are written.
    pub(crate) fn new(
        providers: Vec<Arc<dyn LlmProvider>>,
        mut routes: Vec<Route>,
        aliases: Vec<(String, Group)>,
        strategies: Vec<(String, Strategy)>,
        health: &Health,
    ) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        for provider in &providers {
            if !routes.iter().any(|route| route.provider == provider.name()) {
                routes.push(Route::to(provider.name()));
            }
        }
        let (providers, by_name) = name_providers(providers, health, &mut faults);
        let mut table = Self {
            providers,
            by_name,
            rules: Vec::with_capacity(routes.len()),
            patterns: Vec::new(),
            index: Index::new([]),
            aliases: HashMap::new(),
            strategies: Strategies::new(Vec::new(), &mut faults),
            pricing: Pricing::default(),
        };
        table.read_routes(&routes, &mut faults);
        table.aliases = alias::resolve(aliases, &table, &mut faults);
        table.strategies =
            Strategies::new(strategies::with_routes(strategies, &routes, &mut faults), &mut faults);
        if faults.is_empty() { Ok(table) } else { Err(BuildError { faults }) }
    }

    /// The same with other prices than the catalogue's.
    pub(crate) fn priced(self, pricing: Pricing) -> Self {
        Self { pricing, ..self }
    }

    fn read_routes(&mut self, routes: &[Route], faults: &mut Vec<BuildFault>) {
        let mut hits = Vec::new();
        for route in routes {
            let name = &route.provider;
            for (pattern, problem) in
                route.models.iter().filter_map(|text| Some((text, pattern::fault(text)?)))
            {
                let (provider, pattern) = (name.clone(), pattern.clone());
                faults.push(BuildFault::BadPattern { provider, pattern, problem });
            }
            let Some(&provider) = self.by_name.get(name.as_str()) else {
                let near = near(name, self.by_name.keys());
                faults.push(BuildFault::UnknownProvider { provider: name.clone(), near });
                continue;
            };
            let rule = self.rules.len();
            let &Route { priority, max_tokens_limit, enabled, fidelity, weight, options, .. } = route;
            self.rules.push(Rule {
                provider,
                priority,
                max_tokens_limit,
                enabled,
                fidelity,
                weight,
                options,
                context: route.context.clone(),
            });
            let loosest = &mut self.providers[provider].loosest;
            if self.rules.get(*loosest).is_none_or(|before| before.allowance() < self.rules[rule].allowance())
            {
                *loosest = rule;
            }
            let all = ["*".to_owned()];
            let models = if route.models.is_empty() { &all } else { route.models.as_slice() };
            for model in models {
                let pattern = self.patterns.len();
                self.patterns.push(model.as_str().into());
                hits.push(Hit { rule, pattern });
            }
        }
        self.index = Index::new(hits.into_iter().map(|hit| (&*self.patterns[hit.pattern], hit)));
    }

    /// Whether any route says something of loss or length that only the whole call can be held against.
    pub fn objects(&self) -> bool {
        let says = |rule: &Rule| {
            rule.fidelity == Some(Fidelity::Strict) || rule.context.as_deref().is_some_and(ContextRule::acts)
        };
        self.rules.iter().any(says)
    }

    /// Whether any route to the provider of that name is switched on.
    pub(crate) fn is_enabled(&self, provider: &str) -> bool {
        let known = self.by_name.get(provider);
        known.is_some_and(|at| self.rules.iter().any(|rule| rule.provider == *at && rule.enabled))
    }

    /// Who is asked, in which order, and why; see the crate page for the rules.
    ///
    /// The same arguments, with the same health of all endpoints, give the same plan. `strategy` holds where neither a group
    /// nor a [pattern](crate::RouterBuilder::strategy_for) has another one.
    ///
    /// # Errors
    ///
    /// Nobody can be asked: with those passed over and the reasons if a route matches, otherwise with the known names
    /// that look like the one asked for.
    pub fn plan(&self, query: &Query<'_>, strategy: Strategy, moment: &Moment) -> Result<Plan, NoRoute> {
        let near = || self.near(query.model);
        self.survey(query, strategy, moment, None).or_nobody(query, near)
    }

    /// The same, but nobody is no error, and `object` may know of more that stands against somebody. It is asked before they are
    /// put in order, so that an order never hangs on one who is not in it.
    pub fn survey(
        &self,
        query: &Query<'_>,
        strategy: Strategy,
        moment: &Moment,
        object: Option<Object<'_>>,
    ) -> Plan {
        let chosen = |alias: Option<&Alias>| self.strategy_of(query.model, alias).unwrap_or(strategy);
        let see = |provider: &Provider, model: &Arc<str>| provider.host.see(model, moment.now);
        self.decide(query, chosen, moment, object, see)
    }

    /// All who can be asked, in the order of the priorities, whatever strategy there is for the name.
    pub(crate) fn plan_all(&self, query: &Query<'_>, moment: &Moment) -> Plan {
        let see = |provider: &Provider, model: &Arc<str>| provider.host.see(model, moment.now);
        self.decide(query, |_| Strategy::Priority, moment, None, see)
    }

    /// The same by what was known at another time, whatever is known now: whom this table would have sent a call to that was
    /// decided by another one.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub fn replay(
        &self,
        query: &Query<'_>,
        strategy: Strategy,
        moment: &Moment,
        known: &Snapshot,
        object: Option<Object<'_>>,
    ) -> Result<Plan, NoRoute> {
        let chosen = |alias: Option<&Alias>| self.strategy_of(query.model, alias).unwrap_or(strategy);
        let see = |provider: &Provider, model: &Arc<str>| known.see(&provider.name, model, moment.now);
        let near = || self.near(query.model);
        self.decide(query, chosen, moment, object, see).or_nobody(query, near)
    }

    fn decide(
        &self,
        query: &Query<'_>,
        strategy: impl FnOnce(Option<&Alias>) -> Strategy,
        moment: &Moment,
        object: Option<Object<'_>>,
        see: impl Fn(&Provider, &Arc<str>) -> (Seen, Verdict),
    ) -> Plan {
        let alias = self.aliases.get(query.model);
        let strategy = strategy(alias);
        let reading = self.read(query.model);
        let own = [Arc::from(reading.model())];
        let models = alias.map_or(&own[..], |alias| &alias.models);
        let mut entries = Vec::new();
        let canary = match alias {
            Some(alias) => alias.enter(query.conversation.unwrap_or(moment.seed), &mut entries),
            None => {
                self.enter(reading, 0, 0, &mut entries);
                None
            }
        };
        let mut passed_over = self.pass_over(&mut entries, query, models);
        once_each(&mut entries);
        let candidate = |entry: &Entry, seen: Seen| Candidate {
            provider: Arc::clone(&self.providers[entry.provider].asked),
            model: Arc::clone(&models[entry.model]),
            why: Why {
                alias: alias.map(|alias| Arc::clone(&alias.name)),
                way: self.way(entry),
                weight: entry.weight,
                is_canary: canary == Some(entry.target),
            },
            fidelity: self.rules[entry.rule].fidelity,
            seen,
            options: self.rules[entry.rule].options,
            context: self.rules[entry.rule].context.clone(),
        };
        if let Some(object) = object {
            entries.retain(|entry| {
                let why = object(&candidate(entry, Seen::default()));
                let stays = why.is_none();
                passed_over.extend(why.map(|why| self.passed(entry, models, why)));
                stays
            });
        }
        let candidates = Vec::with_capacity(entries.len());
        let (resting, prices) = (Vec::new(), Arc::clone(&self.pricing.table));
        let mut plan = Plan { candidates, resting, passed_over, strategy, moment: *moment, prices };
        let mut add = |entry: &Entry, seen: Seen, verdict: Verdict| {
            let candidate = candidate(entry, seen);
            match verdict {
                Verdict::Ready | Verdict::Probe => plan.candidates.push(candidate),
                Verdict::Resting { until, why } => {
                    let rest = until.saturating_duration_since(moment.now);
                    plan.resting.push(Resting { candidate, until, rest, why });
                }
            }
        };
        let see = |entry: &Entry| see(&self.providers[entry.provider], &models[entry.model]);
        let most = if strategy == Strategy::Direct { 1 } else { usize::MAX };
        if strategy.goes_by_the_configuration() && query.conversation.is_none() {
            // Nothing has to be compared: the usual case.
            strategy.order(&mut entries, moment);
            for entry in entries.iter().take(most) {
                let (seen, verdict) = see(entry);
                add(entry, seen, verdict);
            }
            return plan;
        }
        let rank = |entry: Entry| self.rank(entry, see(&entry), &models[entry.model], query, strategy);
        let mut ranked: Vec<Ranked> = entries.into_iter().map(rank).collect();
        strategy.rank(&mut ranked, moment);
        ranked.iter().take(most).for_each(|ranked| add(&ranked.entry, ranked.seen, ranked.verdict));
        plan
    }

    /// A candidate with all that the strategy looks at.
    fn rank(
        &self,
        entry: Entry,
        (seen, verdict): (Seen, Verdict),
        model: &Arc<str>,
        query: &Query<'_>,
        strategy: Strategy,
    ) -> Ranked {
        let provider = &self.providers[entry.provider];
        let cost = match strategy {
            Strategy::Cheapest => {
                let cost = filter::cost(&*provider.asked, model, query, &self.pricing.table);
                cost.map_or(i64::MAX, |cost| cost.0)
            }
            _ => 0,
        };
        Ranked {
            entry,
            seen,
            verdict,
            cost,
            is_local: provider.asked.is_local(),
            affinity: query.conversation.map(|conversation| {
                let Seed(own) = Seed::of((&*provider.name, &**model));
                conversation.with(own)
            }),
        }
    }

    /// The strategy that a name has of its own: the group's, or that of a pattern.
    #[inline]
    fn strategy_of(&self, name: &str, alias: Option<&Alias>) -> Option<Strategy> {
        let group = alias.and_then(|alias| alias.strategy);
        group.or_else(|| self.patterned(name, alias).map(|(_, strategy)| *strategy))
    }

    /// What a pattern gives a name: one for the alias itself, or for the first model that it leads to.
    #[inline]
    fn patterned(&self, name: &str, alias: Option<&Alias>) -> Option<&(Arc<str>, Strategy)> {
        if self.strategies.is_empty() {
            return None;
        }
        match alias {
            Some(alias) => self.strategies.of(name).or_else(|| self.strategies.of(alias.models.first()?)),
            None => self.strategies.of(self.read(name).model()),
        }
    }

    /// The [pattern](crate::RouterBuilder::strategy_for) whose strategy a name has. `None`: its group's own, or that of all.
    pub fn strategy_pattern(&self, name: &str) -> Option<&Arc<str>> {
        let alias = self.aliases.get(name);
        let is_chosen = alias.is_none_or(|alias| alias.strategy.is_none());
        is_chosen.then(|| self.patterned(name, alias)).flatten().map(|(pattern, _)| pattern)
    }

    pub(crate) fn near(&self, model: &str) -> Vec<String> {
        near(model, self.names())
    }

    /// What calls cost.
    pub fn prices(&self) -> &Arc<PriceTable> {
        &self.pricing.table
    }

    /// What is done where that is not known.
    pub fn on_unpriced(&self) -> OnUnpriced {
        self.pricing.on_unpriced
    }

    /// The names that are spelled out in routes, and the aliases; in no order.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.index.names().chain(self.aliases.keys().map(|name| &**name))
    }

    /// How a name is understood.
    pub fn naming(&self, name: &str) -> Naming {
        match (self.aliases.get(name), self.read(name)) {
            (Some(alias), _) => Naming::Alias { models: alias.models.clone() },
            (None, Reading::Direct(provider, _)) => {
                Naming::Direct { provider: Arc::clone(&self.providers[provider].name) }
            }
            (None, Reading::Routes(_)) if self.index.spells(name) => Naming::Exact,
            (None, Reading::Routes(_)) => Naming::Pattern,
        }
    }

    /// Understands a name that is no alias.
    fn read<'a>(&self, name: &'a str) -> Reading<'a> {
        if !self.index.spells(name)
            && let Some((first, rest)) = name.split_once('/')
            && let Some(&provider) = self.by_name.get(first)
            && !rest.is_empty()
        {
            return Reading::Direct(provider, rest);
        }
        Reading::Routes(name)
    }

    /// Enters all rules that match.
    fn enter(&self, reading: Reading<'_>, target: usize, model: usize, entries: &mut Vec<Entry>) {
        let entry = |hit: &Hit, specificity| {
            let Rule { provider, priority, weight, .. } = self.rules[hit.rule];
            Entry {
                weight,
                target,
                priority,
                specificity,
                rule: hit.rule,
                provider,
                model,
                pattern: Some(hit.pattern),
            }
        };
        match reading {
            Reading::Routes(name) => {
                self.index.find(name, |specificity, hit| entries.push(entry(hit, specificity)));
            }
            // Whether a route matches is not asked, since the caller decided, but limits hold: those of the routes that
            // are meant for the model, or the widest where none is.
            Reading::Direct(provider, name) => {
                let before = entries.len();
                self.index.find(name, |specificity, hit| {
                    if self.rules[hit.rule].provider == provider {
                        entries.push(Entry { pattern: None, ..entry(hit, specificity) });
                    }
                });
                if entries.len() == before {
                    let hit = Hit { rule: self.providers[provider].loosest, pattern: 0 };
                    entries.push(Entry { pattern: None, ..entry(&hit, Specificity::Any) });
                }
            }
        }
    }

    /// Takes out the rules that something stands against.
    fn pass_over(&self, entries: &mut Vec<Entry>, query: &Query<'_>, models: &[Arc<str>]) -> Vec<PassedOver> {
        let mut passed = Vec::new();
        entries.retain(|entry| {
            let asked = &*self.providers[entry.provider].asked;
            let rule = &self.rules[entry.rule];
            let by_call = || {
                let context = rule.context.as_deref();
                filter::objection(asked, &models[entry.model], query, context, &self.pricing)
            };
            let objection = rule.objection(query).or_else(by_call);
            let asked = objection.is_none();
            passed.extend(objection.map(|why| ((entry.rule, entry.model), self.passed(entry, models, why))));
            asked
        });
        passed.sort_by_key(|(place, _)| *place);
        passed.dedup_by_key(|(place, _)| *place);
        passed.into_iter().map(|(_, passed)| passed).collect()
    }

    fn passed(&self, entry: &Entry, models: &[Arc<str>], why: Objection) -> PassedOver {
        let provider = Arc::clone(&self.providers[entry.provider].name);
        PassedOver { provider, model: Arc::clone(&models[entry.model]), why }
    }

    fn way(&self, entry: &Entry) -> Way {
        match entry.pattern {
            Some(pattern) => {
                let priority = self.rules[entry.rule].priority;
                Way::Pattern { pattern: Arc::clone(&self.patterns[pattern]), priority }
            }
            None => Way::Direct,
        }
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<dyn LlmProvider>> {
        self.by_name.get(name).map(|&at| &self.providers[at].asked)
    }

    pub(crate) fn providers(&self) -> impl ExactSizeIterator<Item = &Arc<dyn LlmProvider>> {
        self.providers.iter().map(|provider| &provider.asked)
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("providers", &self.providers.iter().map(|provider| &*provider.name).collect::<Vec<_>>())
            .field("routes", &self.rules.len())
            .field("aliases", &self.aliases.len())
            .finish_non_exhaustive()
    }
}

type ByName = HashMap<Arc<str>, usize>;

fn name_providers(
    all: Vec<Arc<dyn LlmProvider>>,
    health: &Health,
    faults: &mut Vec<BuildFault>,
) -> (Vec<Provider>, ByName) {
    let mut providers = Vec::with_capacity(all.len());
    let mut by_name = ByName::with_capacity(all.len());
    for asked in all {
        let name: Arc<str> = asked.name().into();
        let problem = if name.is_empty() {
            Some("it has no name")
        } else if name.contains('/') {
            Some("a name without `/` is needed, since `provider/model` ends it there")
        } else if by_name.contains_key(&name) {
            Some("the name is taken by another provider")
        } else {
            None
        };
        if let Some(problem) = problem {
            faults.push(BuildFault::BadProvider { provider: name.to_string(), problem });
        }
        by_name.entry(Arc::clone(&name)).or_insert(providers.len());
        let host = health.host(&name);
        providers.push(Provider { name, asked, host, loosest: usize::MAX });
    }
    (providers, by_name)
}

/// Up to how many candidates are compared with each other; more are remembered in a set.
const COMPARED_MAX: usize = 64;

/// Puts rules in order, and leaves of all ways to the same model of the same provider the best one.
fn once_each(entries: &mut Vec<Entry>) {
    entries.sort_unstable();
    let endpoint = |entry: &Entry| (entry.provider, entry.model);
    if entries.len() > COMPARED_MAX {
        let mut seen = HashSet::with_capacity(entries.len());
        entries.retain(|entry| seen.insert(endpoint(entry)));
        return;
    }
    let mut kept = 0;
    for at in 0..entries.len() {
        let entry = entries[at];
        if entries[..kept].iter().all(|before| endpoint(before) != endpoint(&entry)) {
            entries[kept] = entry;
            kept += 1;
        }
    }
    entries.truncate(kept);
}

// === impl Rule and others ===

impl Rule {
    /// What lets more requests pass is greater.
    fn allowance(&self) -> (bool, u64) {
        (self.enabled, self.max_tokens_limit.unwrap_or(u64::MAX))
    }

    fn objection(&self, query: &Query<'_>) -> Option<Objection> {
        if !self.enabled {
            return Some(Objection::Disabled);
        }
        match (query.max_tokens, self.max_tokens_limit) {
            (Some(asked), Some(limit)) if asked > limit => Some(Objection::OverLimit { asked, limit }),
            _ => None,
        }
    }
}

impl<'a> Reading<'a> {
    fn model(self) -> &'a str {
        match self {
            Self::Routes(model) | Self::Direct(_, model) => model,
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

impl fmt::Display for ByWhom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(provider) => write!(f, "the one to `{provider}`"),
            None => f.write_str("its own entry"),
        }
    }
}

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
