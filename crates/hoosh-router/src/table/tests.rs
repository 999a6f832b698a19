//! Cases as data, then random tables against a reference that does everything the slow and obvious way.

use std::collections::BTreeSet;
use std::time::Instant;

use hoosh_core::prices::PriceEntry;
use hoosh_core::{
    Compression, ContextPolicy, ContextRule, Modalities, Modality, NanoUsd, NoRouteCause, Price, ProviderType,
};

use super::*;
use crate::scripted::Scripted;
use crate::strategy::Turn;

fn providers<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<dyn LlmProvider>> {
    names.into_iter().map(|name| Scripted::new(name, []) as Arc<dyn LlmProvider>).collect()
}

fn route(provider: &str, models: &[&str], priority: u32) -> Route {
    let models = models.iter().map(|&model| model.to_owned()).collect();
    Route { models, priority, ..Route::to(provider) }
}

fn alias(name: &str, targets: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), targets.iter().map(|&target| target.to_owned()).collect())
}

fn table_of(
    providers: Vec<Arc<dyn LlmProvider>>,
    routes: Vec<Route>,
    aliases: Vec<(String, Vec<String>)>,
) -> Result<RouteTable, BuildError> {
    let member = |model| Member { model, weight: 1 };
    let group = |targets: Vec<String>| Group {
        members: targets.into_iter().map(member).collect(),
        ..Group::default()
    };
    let aliases = aliases.into_iter().map(|(name, targets)| (name, group(targets))).collect();
    RouteTable::new(providers, routes, aliases, vec![], &Health::default())
}

fn moment(turn: u64) -> Moment {
    Moment { now: Instant::now(), turn: Turn(turn), seed: Seed(turn) }
}

/// Two machines here, two services elsewhere.
fn house() -> RouteTable {
    let routes = vec![
        route("ollama", &["llama*", "smollm2-135m", "text-embedding-*"], 1),
        route("llamacpp", &["smollm2-*", "llama3"], 1),
        route("groq", &["meta-llama/Llama-3", "llama-3.3-70b", "*-versatile"], 2),
        Route { max_tokens_limit: Some(1000), ..route("groq", &["llama*"], 5) },
        Route { enabled: false, ..route("retired", &["llama*", "old-model"], 1) },
    ];
    let aliases = vec![
        alias("fast", &["llama3", "groq/llama-3.1-8b-instant"]),
        alias("best", &["openrouter/anthropic/claude-opus", "fast"]),
        alias("groq/fast", &["groq/whatever"]),
        alias("twice", &["llama3", "ollama/llama3", "groq/llama3"]),
    ];
    let names = ["ollama", "llamacpp", "groq", "openrouter", "retired"];
    table_of(providers(names), routes, aliases).unwrap()
}

/// Compares the plan as it is told, or `nobody` and those passed over.
#[track_caller]
fn check(table: &RouteTable, model: &str, max_tokens: Option<u64>, expect: &str) {
    let told =
        match table.plan(&Query { model, max_tokens, ..Query::default() }, Strategy::Priority, &moment(0)) {
            Ok(plan) => plan.to_string(),
            Err(no_route) => {
                let told = |(provider, why)| format!("; not {provider} ({why})");
                "nobody".to_owned() + &no_route.considered.into_iter().map(told).collect::<String>()
            }
        };
    assert_eq!(told, expect, "{model}");
}

#[test]
fn the_lower_priority_is_first_then_the_more_specific_pattern_then_the_order() {
    check(
        &house(),
        "llama3",
        None,
        "llamacpp/llama3 (pattern `llama3`, priority 1), then ollama/llama3 (pattern `llama*`, priority 1), \
         then groq/llama3 (pattern `llama*`, priority 5), then openrouter/llama3 (pattern `*`, priority 10); \
         not retired/llama3 (its route is disabled)",
    );
    check(
        &house(),
        "smollm2-135m",
        None,
        "ollama/smollm2-135m (pattern `smollm2-135m`, priority 1), \
         then llamacpp/smollm2-135m (pattern `smollm2-*`, priority 1), \
         then openrouter/smollm2-135m (pattern `*`, priority 10)",
    );
}

#[test]
fn a_provider_is_asked_once_for_a_model_by_its_best_route() {
    check(
        &house(),
        "llama-3.3-70b",
        None,
        "ollama/llama-3.3-70b (pattern `llama*`, priority 1), \
         then groq/llama-3.3-70b (pattern `llama-3.3-70b`, priority 2), \
         then openrouter/llama-3.3-70b (pattern `*`, priority 10); not retired/llama-3.3-70b (its route is disabled)",
    );
}

#[test]
fn a_request_over_a_routes_limit_does_not_go_that_way() {
    check(
        &house(),
        "llama2",
        Some(1001),
        "ollama/llama2 (pattern `llama*`, priority 1), then openrouter/llama2 (pattern `*`, priority 10); \
         not groq/llama2 (its route allows 1000 tokens, 1001 asked); not retired/llama2 (its route is disabled)",
    );
    let route = Route { max_tokens_limit: Some(10), ..Route::to("a") };
    let table = table_of(providers(["a"]), vec![route], vec![]).unwrap();
    check(&table, "m", Some(10), "a/m (pattern `*`, priority 10)");
    check(&table, "m", None, "a/m (pattern `*`, priority 10)");
    check(&table, "m", Some(11), "nobody; not a (its route allows 10 tokens, 11 asked)");
    check(&table, "a/m", Some(11), "nobody; not a/m (its route allows 10 tokens, 11 asked)");
}

#[test]
fn a_provider_can_be_named() {
    check(&house(), "groq/llama3", None, "groq/llama3 (provider named)");
    check(&house(), "groq/never-heard-of", None, "groq/never-heard-of (provider named)");
    check(&house(), "openrouter/meta-llama/Llama-3", None, "openrouter/meta-llama/Llama-3 (provider named)");
    check(&house(), "nobody/llama3", None, "openrouter/nobody/llama3 (pattern `*`, priority 10)");
    check(&house(), "groq/", None, "openrouter/groq/ (pattern `*`, priority 10)");
}

#[test]
fn how_a_name_is_understood_can_be_asked() {
    let (house, models) = (house(), |all: &[&str]| all.iter().map(|&model| model.into()).collect());
    for (name, expect) in [
        ("fast", Naming::Alias { models: models(&["llama3", "llama-3.1-8b-instant"]) }),
        // An alias goes before `provider/model`, and so does a name that is spelled out.
        ("groq/fast", Naming::Alias { models: models(&["whatever"]) }),
        ("meta-llama/Llama-3", Naming::Exact),
        ("groq/anything", Naming::Direct { provider: "groq".into() }),
        ("llama3.2", Naming::Pattern),
    ] {
        assert_eq!(house.naming(name), expect, "{name}");
    }
}

#[test]
fn the_limits_of_a_named_provider_hold() {
    let over = "not groq/llama3 (its route allows 1000 tokens, 1001 asked)";
    check(&house(), "groq/llama3", Some(1001), &format!("nobody; {over}"));
    // No route of groq's is meant for this model, and one of them has no limit.
    check(&house(), "groq/never-heard-of", Some(1001), "groq/never-heard-of (provider named)");
    check(&house(), "retired/llama3", None, "nobody; not retired/llama3 (its route is disabled)");
    check(
        &house(),
        "retired/never-heard-of",
        None,
        "nobody; not retired/never-heard-of (its route is disabled)",
    );
}

#[test]
fn a_name_that_is_spelled_out_is_one_name_even_if_it_looks_like_a_providers() {
    let table = |names: &[&str]| {
        let routes = vec![route("groq", &["meta-llama/Llama-3", "meta-llama/*"], 1)];
        table_of(providers(names.iter().copied()), routes, vec![]).unwrap()
    };
    let names = ["groq", "meta-llama"];
    check(
        &table(&names),
        "meta-llama/Llama-3",
        None,
        "groq/meta-llama/Llama-3 (pattern `meta-llama/Llama-3`, priority 1), \
         then meta-llama/meta-llama/Llama-3 (pattern `*`, priority 10)",
    );
    check(&table(&names), "meta-llama/Llama-4", None, "meta-llama/Llama-4 (provider named)");
    check(
        &table(&names[..1]),
        "meta-llama/Llama-4",
        None,
        "groq/meta-llama/Llama-4 (pattern `meta-llama/*`, priority 1)",
    );
    check(&house(), "groq/fast", None, "groq/whatever (alias `groq/fast`, provider named)");
}

#[test]
fn an_alias_keeps_the_order_of_its_targets() {
    let fast = "llamacpp/llama3 (alias `fast`, pattern `llama3`, priority 1), \
                then ollama/llama3 (alias `fast`, pattern `llama*`, priority 1), \
                then groq/llama3 (alias `fast`, pattern `llama*`, priority 5), \
                then openrouter/llama3 (alias `fast`, pattern `*`, priority 10), \
                then groq/llama-3.1-8b-instant (alias `fast`, provider named); \
                not retired/llama3 (its route is disabled)";
    check(&house(), "fast", None, fast);
    let best = format!(
        "openrouter/anthropic/claude-opus (alias `best`, provider named), then {}",
        fast.replace("`fast`", "`best`")
    );
    check(&house(), "best", None, &best);
}

#[test]
fn an_alias_that_names_a_candidate_again_does_not_ask_it_again() {
    check(
        &house(),
        "twice",
        None,
        "llamacpp/llama3 (alias `twice`, pattern `llama3`, priority 1), \
         then ollama/llama3 (alias `twice`, pattern `llama*`, priority 1), \
         then groq/llama3 (alias `twice`, pattern `llama*`, priority 5), \
         then openrouter/llama3 (alias `twice`, pattern `*`, priority 10); \
         not retired/llama3 (its route is disabled)",
    );
}

#[test]
fn nobody_for_a_name_tells_names_that_are_like_it() {
    let routes = vec![route("a", &["smollm2-135m", "llama3"], 1)];
    let table = table_of(providers(["a"]), routes, vec![alias("small", &["smollm2-135m"])]).unwrap();
    let near = |model| {
        let query = Query { model, ..Query::default() };
        table.plan(&query, Strategy::Priority, &moment(0)).unwrap_err().near
    };
    assert_eq!(near("smolm2-135m"), ["smollm2-135m"]);
    assert_eq!(near("smal"), ["small"]);
    assert!(near("gpt-4o").is_empty());
}

#[test]
fn a_switched_off_model_is_not_offered_as_its_own_near_name() {
    let routes = vec![Route { enabled: false, ..route("a", &["llama3"], 1) }];
    let table = table_of(providers(["a"]), routes, vec![]).unwrap();
    let query = Query { model: "llama3", ..Query::default() };
    let no_route = table.plan(&query, Strategy::Priority, &moment(0)).unwrap_err();
    assert_eq!(no_route.considered, [("a".to_owned(), "its route is disabled".to_owned())]);
    assert!(no_route.near.is_empty());
}

#[track_caller]
fn check_faults(names: &[&str], routes: Vec<Route>, aliases: Vec<(String, Vec<String>)>, expect: &[&str]) {
    let error = table_of(providers(names.iter().copied()), routes, aliases).unwrap_err();
    let told: Vec<String> = error.faults.iter().map(BuildFault::to_string).collect();
    assert_eq!(told, expect);
}

#[test]
fn all_faults_are_told_at_once() {
    check_faults(
        &["a", "", "a", "b/c"],
        vec![route("a", &["ok", "llama[23]"], 1), route("olama", &["", "*"], 1), route("ollama", &[], 1)],
        vec![
            alias("", &["ok"]),
            alias("x*", &["ok"]),
            alias("none", &[]),
            alias("blank", &["ok", ""]),
            alias("blank", &["elsewhere"]),
            alias("self", &["self"]),
        ],
        &[
            "provider ``: it has no name",
            "provider `a`: the name is taken by another provider",
            "provider `b/c`: a name without `/` is needed, since `provider/model` ends it there",
            "route to `a`: pattern `llama[23]`: only `*` (any text) and `?` (one character) are special in a pattern",
            "route to `olama`: pattern ``: it is empty; `*` matches every model",
            "a route names the provider `olama`, which is not configured",
            "a route names the provider `ollama`, which is not configured",
            "alias ``: it has no name",
            "alias `x*`: an alias is a name, not a pattern",
            "alias `none`: it leads nowhere; name at least one model",
            "alias `blank`: one of its models has no name",
            "alias `blank`: it is defined twice",
            "aliases go in a circle: self -> self",
        ],
    );
    check_faults(
        &["ollama"],
        vec![route("olama", &[], 1)],
        vec![],
        &["a route names the provider `olama`, which is not configured; did you mean `ollama`?"],
    );
}

#[test]
fn a_circle_of_aliases_is_told_once() {
    check_faults(
        &["a"],
        vec![],
        vec![
            alias("into", &["m", "two"]),
            alias("two", &["three"]),
            alias("three", &["one"]),
            alias("one", &["m", "two"]),
        ],
        &["aliases go in a circle: one -> two -> three -> one"],
    );
}

#[test]
fn aliases_are_followed_so_far_and_no_further() {
    let hops_max = hoosh_core::limits::ALIAS_HOPS_MAX;
    let chain = |length: usize| -> Vec<_> {
        let one = |at: usize| {
            (format!("a{at}"), vec![if at + 1 == length { "m".into() } else { format!("a{}", at + 1) }])
        };
        (0..length).map(one).collect()
    };
    let table = table_of(providers(["a"]), vec![], chain(hops_max)).unwrap();
    check(&table, "a0", None, "a/m (alias `a0`, pattern `*`, priority 10)");

    let fault = "alias `a0` leads through more than 8 aliases";
    check_faults(&["a"], vec![], chain(hops_max + 1), &[fault]);
    check_faults(&["a"], vec![], chain(hops_max + 1).into_iter().rev().collect(), &[fault]);
}

#[test]
fn aliases_that_branch_at_every_hop_cost_no_more_than_they_are() {
    let branch = |at: u32| alias(&format!("a{at}"), &[&*format!("a{}", at + 1); 100]);
    let mut aliases: Vec<_> = (0..7).map(branch).collect();
    aliases.push(alias("a7", &["m"]));
    let table = table_of(providers(["a"]), vec![], aliases).unwrap();
    check(&table, "a0", None, "a/m (alias `a0`, pattern `*`, priority 10)");
}

#[test]
fn an_alias_to_nowhere_is_told() {
    check_faults(
        &["a"],
        vec![route("a", &["llama*"], 1)],
        vec![alias("fast", &["llama3", "gpt-4o"])],
        &["alias `fast` leads to `gpt-4o`, which no route serves"],
    );
}

// The reference: no index, no compiled aliases, one loop over everything.

struct Reference {
    providers: Vec<&'static str>,
    routes: Vec<Route>,
    aliases: Vec<(String, Vec<String>)>,
}

/// Place of the target, priority, specificity, place of the route.
type Rank = (usize, u32, (u32, isize), usize);

type Told = (Vec<(&'static str, String)>, Vec<String>);

impl Reference {
    fn plan(&self, query: &Query<'_>, strategy: Strategy, turn: u64) -> Told {
        let mut ends = Vec::new();
        self.follow(query.model, &mut ends);
        let mut passed = BTreeSet::new();
        let mut found: Vec<(Rank, &'static str, String)> = Vec::new();
        for (place, end) in ends.iter().enumerate() {
            let spelled = self.routes.iter().any(|route| route.models.contains(end));
            let named = end.split_once('/').and_then(|(name, rest)| {
                Some((*self.providers.iter().find(|provider| **provider == name)?, rest))
            });
            let (only, model) = match named {
                Some((provider, rest)) if !spelled && !rest.is_empty() => (Some(provider), rest),
                _ => (None, end.as_str()),
            };
            let mine = |route: &Route| only.is_none_or(|provider| provider == route.provider);
            let meant = self.routes.iter().any(|route| mine(route) && route.best(model).is_some());
            let mut routes: Vec<_> =
                self.routes.iter().enumerate().filter(|(_, route)| mine(route)).collect();
            if only.is_some() && !meant {
                let allowance = |route: &Route| (route.enabled, route.max_tokens_limit.unwrap_or(u64::MAX));
                routes.sort_by_key(|(_, route)| std::cmp::Reverse(allowance(route)));
                routes.truncate(1);
            }
            for (at, route) in routes {
                let best = if meant || only.is_none() { route.best(model) } else { Some((9, 0)) };
                let Some(best) = best else { continue };
                if !route.enabled || query.max_tokens > route.max_tokens_limit.or(Some(u64::MAX)) {
                    passed.insert(at);
                } else {
                    let provider = self.providers.iter().find(|name| **name == route.provider).unwrap();
                    found.push(((place, route.priority, best, at), provider, model.to_owned()));
                }
            }
        }
        found.sort();
        let mut seen = BTreeSet::new();
        found.retain(|(_, provider, model)| seen.insert((*provider, model.clone())));
        let mut candidates = Vec::new();
        for group in found.chunk_by(|(a, ..), (b, ..)| (a.0, a.1) == (b.0, b.1)) {
            let first = if strategy == Strategy::RoundRobin { turn as usize % group.len() } else { 0 };
            let (front, back) = group.split_at(first);
            candidates
                .extend(back.iter().chain(front).map(|(_, provider, model)| (*provider, model.clone())));
        }
        (candidates, passed.into_iter().map(|at| self.routes[at].provider.clone()).collect())
    }

    fn follow(&self, name: &str, ends: &mut Vec<String>) {
        match self.aliases.iter().find(|(alias, _)| alias == name) {
            Some((_, targets)) => targets.iter().for_each(|target| self.follow(target, ends)),
            None if ends.iter().any(|end| end == name) => {}
            None => ends.push(name.to_owned()),
        }
    }
}

impl Route {
    /// The specificity of the best pattern that matches.
    fn best(&self, name: &str) -> Option<(u32, isize)> {
        let all = ["*".to_owned()];
        let models = if self.models.is_empty() { &all[..] } else { &self.models[..] };
        let matching = models.iter().filter(|pattern| glob(pattern.as_bytes(), name.as_bytes()));
        matching.map(|pattern| specificity(pattern)).min()
    }
}

fn specificity(pattern: &str) -> (u32, isize) {
    let stem = pattern.trim_end_matches('*');
    match (pattern.contains(['*', '?']), stem.contains(['*', '?'])) {
        (false, _) => (0, 0),
        (true, false) if stem.is_empty() => (9, 0),
        (true, false) => (1, -(stem.len() as isize)),
        (true, true) => (2, 0),
    }
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        ([b'*', rest @ ..], name) => (0..=name.len()).any(|skip| glob(rest, &name[skip..])),
        ([b'?', rest @ ..], [_, name @ ..]) => glob(rest, name),
        ([first, rest @ ..], [head, name @ ..]) => first == head && glob(rest, name),
        (_, []) => false,
    }
}

/// xorshift64: numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn word(&mut self, letters: &str, length: usize) -> String {
        let letters = letters.as_bytes();
        (0..self.below(length) + 1).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }

    fn limit(&mut self) -> Option<u64> {
        (self.below(3) == 0).then(|| self.below(4) as u64)
    }

    fn route(&mut self, providers: &[&str]) -> Route {
        Route {
            provider: providers[self.below(providers.len())].to_owned(),
            models: (0..self.below(4)).map(|_| self.word("aab/*?", 5)).collect(),
            priority: self.below(3) as u32,
            max_tokens_limit: self.limit(),
            enabled: self.below(6) > 0,
            fidelity: None,
            weight: 1,
            strategy: None,
            options: RouteOptions::default(),
            context: None,
        }
    }
}

#[test]
fn a_plan_over_a_random_table_is_the_one_made_the_slow_way() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut planned, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let names = ["a", "b", "ab", "aa"];
        let names = &names[..dice.below(4) + 1];
        let mut routes: Vec<Route> = (0..dice.below(8)).map(|_| dice.route(names)).collect();
        // Every alias leads to later ones only, so that there is no circle.
        let alias = |at: usize, dice: &mut Dice| {
            let target = |dice: &mut Dice| match dice.below(3) {
                0 if at < 3 => format!("alias{}", at + 1),
                _ => dice.word("aab/", 5),
            };
            (format!("alias{at}"), (0..dice.below(3) + 1).map(|_| target(dice)).collect())
        };
        let aliases: Vec<(String, Vec<String>)> = (0..4).map(|at| alias(at, &mut dice)).collect();

        let built = table_of(providers(names.iter().copied()), routes.clone(), aliases.clone());
        let table = match built {
            Ok(table) => table,
            // A random alias may lead nowhere; everything else about these tables is right.
            Err(error) => {
                let nowhere = |fault: &BuildFault| matches!(fault, BuildFault::AliasToNowhere { .. });
                assert!(error.faults.iter().all(nowhere), "{error}");
                table_of(providers(names.iter().copied()), routes.clone(), vec![]).unwrap()
            }
        };
        let aliases = if table.aliases.is_empty() { vec![] } else { aliases };
        for name in names {
            if !routes.iter().any(|route| route.provider == *name) {
                routes.push(Route::to(*name));
            }
        }
        let reference = Reference { providers: names.to_vec(), routes, aliases };
        for _ in 0..20 {
            let model = match dice.below(5) {
                0 => format!("alias{}", dice.below(4)),
                _ => dice.word("aab/", 6),
            };
            let query = Query { model: &model, max_tokens: dice.limit(), ..Query::default() };
            let strategy = [Strategy::Priority, Strategy::RoundRobin][dice.below(2)];
            let turn = dice.below(5) as u64;
            let (candidates, passed) = reference.plan(&query, strategy, turn);
            let expect = (candidates, once(passed.into_iter()));
            let told: Told = match table.plan(&query, strategy, &moment(turn)) {
                Ok(plan) => {
                    planned += 1;
                    let name = |provider: &str| *names.iter().find(|name| **name == provider).unwrap();
                    let candidates = plan.candidates.iter();
                    let passed = plan.passed_over.iter().map(|passed| passed.provider.to_string());
                    (
                        candidates.map(|one| (name(one.provider.name()), one.model.to_string())).collect(),
                        once(passed),
                    )
                }
                Err(no_route) => {
                    refused += 1;
                    let provider = |name: String| name.split('/').next().unwrap_or_default().to_owned();
                    (vec![], once(no_route.considered.into_iter().map(|(name, _)| provider(name))))
                }
            };
            assert_eq!(told, expect, "{query:?} {strategy} {turn:?} {:#?}", reference.routes);
        }
    }
    assert!(
        planned > 5_000 && refused > 2_000,
        "{planned} plans, {refused} refusals: one side is hardly tested"
    );
}

/// Each provider once: which of its routes were passed over for which model is not compared.
fn once(providers: impl Iterator<Item = String>) -> Vec<String> {
    let all: std::collections::BTreeSet<_> = providers.collect();
    all.into_iter().collect()
}

fn group(members: &[(&str, u32)], strategy: Strategy, canary: Option<(&str, f64)>) -> Group {
    let member = |&(model, weight): &(&str, u32)| Member { model: model.to_owned(), weight };
    let canary = canary.map(|(model, percent)| Canary { model: model.to_owned(), percent });
    Group { members: members.iter().map(member).collect(), strategy: Some(strategy), canary }
}

#[test]
fn a_group_by_priority_goes_in_the_order_of_its_members_and_then_by_that_of_the_providers() {
    let members = [("m", 1), ("n", 1)];
    let aliases = vec![("fast".to_owned(), group(&members, Strategy::Priority, Some(("c", 50.0))))];
    let routes = vec![Route { priority: 9, ..Route::to("a") }, Route { priority: 1, ..Route::to("b") }];
    let table = RouteTable::new(providers(["a", "b"]), routes, aliases, vec![], &Health::default()).unwrap();
    let planned = |seed: u64| {
        let moment = Moment { seed: Seed(0).with(seed), ..moment(0) };
        let plan =
            table.plan(&Query { model: "fast", ..Query::default() }, Strategy::RoundRobin, &moment).unwrap();
        plan.candidates.iter().map(|one| (one.to_string(), one.why.is_canary)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..20).map(planned).collect();
    let others = ["b/m", "a/m", "b/n", "a/n"].map(|name| (name.to_owned(), false));
    let canary = ["b/c", "a/c"].map(|name| (name.to_owned(), true));
    let (first, last) = ([&canary[..], &others[..]].concat(), [&others[..], &canary[..]].concat());
    assert!(all.iter().all(|plan| *plan == first || *plan == last), "{all:?}");
    assert!(all.contains(&first) && all.contains(&last));
}

/// Who is first, in so many plans of the alias `fast`.
fn firsts(group: Group, conversation: impl Fn(u64) -> Option<Seed>) -> HashMap<String, usize> {
    let aliases = vec![("fast".to_owned(), group)];
    let table = RouteTable::new(providers(["a", "b"]), vec![], aliases, vec![], &Health::default()).unwrap();
    let mut firsts = HashMap::new();
    for call in 0..10_000 {
        let query = Query { model: "fast", conversation: conversation(call), ..Query::default() };
        let moment = Moment { seed: Seed(0).with(call), ..moment(call) };
        let plan = table.plan(&query, Strategy::Priority, &moment).unwrap();
        *firsts.entry(plan.candidates[0].to_string()).or_default() += 1;
    }
    firsts
}

#[test]
fn a_group_has_a_strategy_and_weights_of_its_own() {
    let firsts = firsts(group(&[("a/one", 3), ("b/two", 1)], Strategy::Weighted, None), |_| None);
    assert!(firsts["a/one"].abs_diff(7_500) < 200 && firsts["b/two"].abs_diff(2_500) < 200, "{firsts:?}");
}

#[test]
fn a_canary_gets_its_share_and_is_the_last_otherwise() {
    let tried = || group(&[("a/one", 1)], Strategy::Priority, Some(("b/new", 5.0)));
    let shares = firsts(tried(), |_| None);
    assert!(shares["b/new"].abs_diff(500) < 100, "{shares:?}");
    // All calls of a conversation are its or none.
    let shares = firsts(tried(), |call| Some(Seed(0).with(call % 2)));
    assert!(shares.values().all(|calls| calls % 5_000 == 0), "{shares:?}");
    let bad = group(&[("a/one", 1)], Strategy::Priority, Some(("a/one", 5.0)));
    let error =
        RouteTable::new(providers(["a"]), vec![], vec![("x".into(), bad)], vec![], &Health::default());
    assert!(error.unwrap_err().to_string().contains("canary"));
}

#[test]
fn a_name_has_the_strategy_of_its_group_of_its_pattern_or_of_all() {
    let members = |models: &[&str]| {
        let member = |&model: &&str| Member { model: model.to_owned(), weight: 1 };
        models.iter().map(member).collect::<Vec<_>>()
    };
    let plain = |models: &[&str]| Group { members: members(models), ..Group::default() };
    let aliases = vec![
        ("fast".to_owned(), plain(&["llama3", "gpt-4o"])),
        ("best".to_owned(), plain(&["b/gpt-4o", "fast"])),
        ("own".to_owned(), plain(&["llama3"])),
        ("group".to_owned(), group(&[("llama3", 1)], Strategy::Weighted, None)),
    ];
    let strategies = [
        ("llama*", Strategy::RoundRobin),
        ("gpt-*", Strategy::Direct),
        ("own", Strategy::LocalFirst),
        ("group", Strategy::Cheapest),
    ];
    let strategies = strategies.map(|(pattern, strategy)| (pattern.to_owned(), strategy)).to_vec();
    let table =
        RouteTable::new(providers(["a", "b"]), vec![], aliases, strategies, &Health::default()).unwrap();
    let check = |model: &str, turn: u64, expect: (Strategy, Option<&str>, &[&str])| {
        let query = Query { model, ..Query::default() };
        let plan = table.plan(&query, Strategy::Priority, &moment(turn)).unwrap();
        let names: Vec<String> = plan.candidates.iter().map(ToString::to_string).collect();
        let pattern = table.strategy_pattern(model).map(|pattern| &**pattern);
        assert_eq!((plan.strategy, pattern), (expect.0, expect.1), "{model}");
        assert_eq!(names, expect.2, "{model}");
        let known = Snapshot::default();
        let again = table.replay(&query, Strategy::Priority, &moment(turn), &known, None).unwrap();
        assert_eq!(again.to_string(), plan.to_string());
        // Who lists models wants all, whatever is done with calls.
        let all = table.plan_all(&query, &moment(turn));
        assert_eq!(all.strategy, Strategy::Priority);
        assert!(all.candidates.len() >= names.len(), "{model}");
    };
    check("llama3", 1, (Strategy::RoundRobin, Some("llama*"), &["b/llama3", "a/llama3"]));
    check("gpt-4o", 0, (Strategy::Direct, Some("gpt-*"), &["a/gpt-4o"]));
    check("b/gpt-4o", 0, (Strategy::Direct, Some("gpt-*"), &["b/gpt-4o"]));
    check("phi", 1, (Strategy::Priority, None, &["a/phi", "b/phi"]));
    let all = ["b/llama3", "a/llama3", "b/gpt-4o", "a/gpt-4o"];
    check("fast", 1, (Strategy::RoundRobin, Some("llama*"), &all));
    check("best", 0, (Strategy::Direct, Some("gpt-*"), &["b/gpt-4o"]));
    check("own", 0, (Strategy::LocalFirst, Some("own"), &["a/llama3", "b/llama3"]));
    let query = Query { model: "group", ..Query::default() };
    let plan = table.plan(&query, Strategy::Priority, &moment(0)).unwrap();
    assert_eq!((plan.strategy, table.strategy_pattern("group")), (Strategy::Weighted, None));
    let all = table.plan_all(&Query { model: "gpt-4o", ..Query::default() }, &moment(0));
    assert_eq!(all.candidates.len(), 2);
}

/// A provider of this kind, here or elsewhere.
fn check_filter(query: Query<'_>, expect: &str) {
    let table = RouteTable::new(
        vec![Scripted::elsewhere("openai", ProviderType::OpenAi)],
        vec![],
        vec![],
        vec![],
        &Health::default(),
    );
    let told = match table.unwrap().plan(&query, Strategy::Priority, &moment(0)) {
        Ok(plan) => plan.to_string(),
        Err(no_route) => no_route.considered.into_iter().map(|(_, why)| why).collect(),
    };
    assert_eq!(told, expect);
}

#[test]
fn only_what_is_known_to_be_impossible_is_ruled_out() {
    let asked = |model| Query { model, ..Query::default() };
    check_filter(Query { local_only: true, ..asked("gpt-4o") }, "it is remote, and the call must stay here");
    let pictures = Modalities::UNKNOWN.with(Modality::Image);
    check_filter(Query { input: pictures, ..asked("gpt-3.5-turbo") }, "the model takes no images");
    check_filter(
        Query { input: pictures, ..asked("never-heard-of") },
        "openai/never-heard-of (pattern `*`, priority 10)",
    );
    check_filter(
        Query { prompt_tokens: Some(20_000), ..asked("gpt-3.5-turbo") },
        "the model reads 16385 tokens, the prompt has about 20000",
    );
    let limit = Some(NanoUsd(1_000_000));
    let dear =
        Query { max_cost: limit, prompt_tokens: Some(1_000), max_tokens: Some(1_000), ..asked("gpt-4o") };
    check_filter(dear, "the call would cost $0.012500000, it may cost $0.001000000");
    check_filter(
        Query { max_cost: limit, ..asked("never-heard-of") },
        "what the call would cost there is not known",
    );
}

/// A service elsewhere for which some models have a price of so many dollars for a million prompt tokens.
fn priced(on_unpriced: OnUnpriced) -> RouteTable {
    let price = |usd: &str| Price::flat(usd.parse().unwrap(), NanoUsd(0));
    let from = |from, entry| PriceEntry { from: Some(from), ..entry };
    let until = |until, entry| PriceEntry { until: Some(until), ..entry };
    let prices = PriceTable::new(vec![
        until(100, PriceEntry::new("one", "m", price("1"))),
        from(100, PriceEntry::new("one", "m", price("5"))),
        PriceEntry::new("two", "m", price("3")),
    ]);
    let providers: Vec<Arc<dyn LlmProvider>> =
        ["one", "two"].map(|name| Scripted::elsewhere(name, ProviderType::OpenAi) as _).into();
    let table = table_of(providers, vec![], vec![]).unwrap();
    table.priced(filter::Pricing { table: Arc::new(prices.unwrap()), on_unpriced })
}

#[test]
fn the_time_of_a_call_decides_what_is_cheapest_and_what_is_too_dear() {
    let table = priced(OnUnpriced::Warn);
    let plan = |at, max_cost: Option<&str>| {
        let max_cost = max_cost.map(|text| text.parse().unwrap());
        let query = Query {
            model: "m",
            at,
            max_cost,
            prompt_tokens: Some(1_000_000),
            max_tokens: Some(0),
            ..Query::default()
        };
        let plan = table.plan(&query, Strategy::Cheapest, &moment(0)).unwrap();
        plan.candidates.iter().map(|one| one.provider.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(plan(Some(99), None), ["one", "two"]);
    assert_eq!(plan(Some(100), None), ["two", "one"]);
    assert_eq!(plan(None, None), ["two", "one"], "the latest prices");
    assert_eq!(plan(Some(99), Some("1")), ["one"]);
    assert_eq!(plan(Some(100), Some("4.999999999")), ["two"]);
    assert_eq!(plan(Some(100), Some("5")), ["two", "one"]);
}

#[test]
fn who_has_no_known_price_is_asked_unless_that_is_forbidden() {
    let plan = |on_unpriced, model| {
        let query = Query { model, at: Some(100), ..Query::default() };
        priced(on_unpriced).plan(&query, Strategy::Priority, &moment(0)).map(|plan| plan.candidates.len())
    };
    for policy in [OnUnpriced::Allow, OnUnpriced::Warn] {
        assert_eq!(plan(policy, "never-heard-of").unwrap(), 2);
    }
    assert_eq!(plan(OnUnpriced::Block, "m").unwrap(), 2);
    assert_eq!(plan(OnUnpriced::Block, "gpt-4o").unwrap(), 2, "by the catalogue");
    let refused = plan(OnUnpriced::Block, "never-heard-of").unwrap_err();
    assert_eq!(refused.considered[0].1, Objection::Unpriced.to_string());
}

#[test]
fn a_counted_prompt_rules_out_only_who_refuses_what_is_too_long() {
    let is_planned = |rule: ContextRule, context| {
        let provider = vec![Scripted::elsewhere("openai", ProviderType::OpenAi) as _];
        let route = Route { context: Some(Arc::new(rule)), ..route("openai", &["*"], 10) };
        let table = table_of(provider, vec![route], vec![]).unwrap();
        let query =
            Query { model: "gpt-3.5-turbo", prompt_tokens: Some(20_000), context, ..Query::default() };
        table.plan(&query, Strategy::Priority, &moment(0)).is_ok()
    };
    let rule = ContextRule::default;
    let drops = || ContextRule { policy: Some(ContextPolicy::DropOldest), ..rule() };
    assert!(!is_planned(rule(), None));
    assert!(is_planned(drops(), None) && !is_planned(drops(), Some(ContextPolicy::Refuse)));
    assert!(is_planned(rule(), Some(ContextPolicy::KeepLast)));
    assert!(is_planned(ContextRule { compress: Some(vec![Compression::Whitespace]), ..rule() }, None));
    // The route's word on the window goes before the catalogue's.
    assert!(is_planned(ContextRule { window: Some(32_000), ..rule() }, None));
}

#[test]
fn what_the_request_alone_is_to_blame_for_is_told_from_a_missing_model() {
    let cause = |routes: Vec<Route>, query: Query<'_>| {
        let elsewhere = |name| Scripted::elsewhere(name, ProviderType::OpenAi) as Arc<dyn LlmProvider>;
        let table = table_of(vec![elsewhere("a"), elsewhere("b")], routes, vec![]).unwrap();
        table.plan(&query, Strategy::Priority, &moment(0)).unwrap_err().cause
    };
    let both = || vec![route("a", &["gpt-3.5-turbo"], 10), route("b", &["gpt-3.5-turbo"], 20)];
    let asked = |model| Query { model, ..Query::default() };
    let long = || Query { prompt_tokens: Some(20_000), ..asked("gpt-3.5-turbo") };
    let too_long = NoRouteCause::TooLong { tokens: 20_000, window: 16_385 };
    assert_eq!(cause(both(), long()), too_long);
    let input = Modalities::UNKNOWN.with(Modality::Image);
    assert_eq!(cause(both(), Query { input, ..asked("gpt-3.5-turbo") }), NoRouteCause::Unable);
    // A route that is off says nothing of the request; one that allows less says it of the answer.
    let with = |last: Route| vec![route("a", &["gpt-3.5-turbo"], 10), last];
    let off = |provider| Route { enabled: false, ..route(provider, &["*"], 20) };
    assert_eq!(cause(with(off("b")), long()), too_long);
    let limited = Route { max_tokens_limit: Some(1), ..route("b", &["*"], 20) };
    assert_eq!(cause(with(limited.clone()), Query { max_tokens: Some(9), ..long() }), NoRouteCause::Unable);
    let over = Query { max_tokens: Some(9), ..asked("gpt-3.5-turbo") };
    assert_eq!(cause(vec![off("a"), limited.clone()], over), NoRouteCause::OverLimit { asked: 9, limit: 1 });
    // What the caller rules out itself is its own condition, unless those it leaves could not take it anyway.
    let stay = |query: Query<'static>| Query { local_only: true, ..query };
    assert_eq!(cause(both(), stay(asked("gpt-3.5-turbo"))), NoRouteCause::Conditions);
    assert_eq!(cause(both(), stay(long())), NoRouteCause::Conditions);
    let cheap = Query { max_cost: Some(NanoUsd(1)), ..asked("gpt-3.5-turbo") };
    assert_eq!(cause(both(), cheap), NoRouteCause::Conditions);
    let unpriced = Query { max_cost: Some(NanoUsd(1)), ..asked("nobody-has-it") };
    let all = || vec![route("a", &["*"], 10), route("b", &["*"], 20)];
    assert_eq!(cause(all(), unpriced), NoRouteCause::Conditions);
    let local = Scripted::new("here", []) as Arc<dyn LlmProvider>;
    let rule = ContextRule { window: Some(100), ..ContextRule::default() };
    let short = Route { context: Some(Arc::new(rule)), ..route("here", &["*"], 10) };
    let table = table_of(
        vec![local, Scripted::elsewhere("b", ProviderType::OpenAi) as _],
        vec![short, route("b", &["*"], 20)],
        vec![],
    );
    let here = table.unwrap().plan(&stay(long()), Strategy::Priority, &moment(0)).unwrap_err();
    assert_eq!(here.cause, NoRouteCause::TooLong { tokens: 20_000, window: 100 });
    assert_eq!(cause(vec![off("a"), off("b")], asked("gpt-3.5-turbo")), NoRouteCause::Model);
    assert_eq!(cause(both(), asked("nobody-has-it")), NoRouteCause::Model);
}
