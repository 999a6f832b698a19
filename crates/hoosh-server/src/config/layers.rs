//! Defaults, file, environment and flags on top of each other.
//!
//! figment merges them and remembers which layer each value came from. What each layer holds is decided here, what the
//! values mean by the [reader](super::reader).

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::fault::{Fault, Place, nearest};
use super::file::File;
use super::reader::type_name;
use super::{Environment, Flags, keys};

/// All layers as one tree.
pub(crate) struct Layers {
    /// The effective values.
    pub(crate) root: Dict,
    figment: Figment,
    file: Option<File>,
}

/// One layer, in figment's words.
struct Layer {
    name: &'static str,
    values: Dict,
}

const DEFAULTS: &str = "defaults";
const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const FLAGS: &str = "flags";

/// What a configuration variable begins with.
const PREFIX: &str = "HOOSH_";

/// What parts a variable's section from its key. One underscore would not do: Kubernetes gives every pod
/// `HOOSH_SERVICE_HOST`, `HOOSH_PORT` and more of the kind as soon as there is a service called `hoosh`.
const SEPARATOR: &str = "__";

// === impl Layers ===

impl Layers {
    /// Stacks them, the later over the earlier.
    pub(crate) fn stack(
        mut file: Option<File>,
        env: &Environment,
        flags: &Flags,
        faults: &mut Vec<Fault>,
    ) -> Self {
        if let Some(file) = &mut file {
            check_shapes(file, faults);
        }
        let sections = ["server", "routing", "cache", "costs", "auth", "limits", "budget", "audit"];
        let defaults =
            sections.map(|section| (section.to_owned(), Value::from(keys::defaults(section)))).into_iter();
        let mut figment = Figment::from(Layer { name: DEFAULTS, values: defaults.collect() });
        if let Some(file) = &file {
            figment = figment.merge(Layer { name: FILE, values: file.values.clone() });
        }
        figment = figment
            .merge(Layer { name: ENVIRONMENT, values: environment(env, faults) })
            .merge(Layer { name: FLAGS, values: flags.values() });
        // A layer that is a value already cannot fail.
        let root = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default));
        Self { root: root.unwrap_or_default(), figment, file }
    }

    /// Where a value was written.
    pub(crate) fn place(&self, tag: Tag, path: &str) -> Place {
        let layer = self.figment.get_metadata(tag).map(|layer| layer.name.as_ref());
        match (layer, &self.file) {
            (Some(FILE), Some(file)) => file.place(path),
            (Some(ENVIRONMENT), _) => {
                let key = path.split('[').next().unwrap_or(path);
                Place::Variable(variable(key))
            }
            (Some(FLAGS), _) => Place::Flag(Flags::name(path)),
            _ => Place::Default,
        }
    }

    /// Where a section or list entry of the file is written, whoever added to it.
    pub(crate) fn place_in_file(&self, path: &str) -> Place {
        self.file.as_ref().map_or(Place::Default, |file| file.place(path))
    }
}

/// Takes out what is no section but is called like one, before a layer above it hides that.
fn check_shapes(file: &mut File, faults: &mut Vec<Fault>) {
    for name in
        ["server", "routing", "cache", "costs", "auth", "limits", "budget", "audit", "aliases", "strategies"]
    {
        if let Some(value) = file.values.get(name).filter(|value| value.as_dict().is_none()) {
            let problem = format!("expected a section [{name}], found {}", type_name(value));
            faults.push(Fault::new(file.place(name), name, problem));
            file.values.remove(name);
        }
    }
}

/// The configuration variables as a tree. Their values stay text until a key wants something else, so that a token of
/// digits stays a token.
fn environment(env: &Environment, faults: &mut Vec<Fault>) -> Dict {
    let mut values = Dict::new();
    for (name, value) in env.iter() {
        let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once(SEPARATOR))
        else {
            continue;
        };
        if value.is_empty() {
            continue; // as good as unset: compose files and charts write it for what is left out
        }
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        let known = keys::find(&section, &key).is_some()
            || keys::legacy(&section).is_some()
            || keys::legacy(&format!("{section}.{key}")).is_some();
        if section == "providers" {
            let problem = "providers are configured in the file; there `api_key = \"$VAR\"` reads a variable";
            faults.push(Fault::new(Place::Variable(name.to_owned()), "", problem));
        } else if known && !key.is_empty() {
            let section = values.entry(section).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, section) = section {
                section.insert(key, Value::from(value));
            }
        } else {
            let variables: Vec<String> =
                ["server", "routing", "cache", "costs", "auth", "limits", "budget", "audit"]
                    .into_iter()
                    .flat_map(keys::rows)
                    .map(|(_, key)| variable(key.path))
                    .collect();
            let meant = nearest(name, variables.iter().map(String::as_str)).map(str::to_owned);
            let fault = Fault::new(Place::Variable(name.to_owned()), "", "there is no such setting");
            faults.push(fault.meaning(meant));
        }
    }
    values
}

/// The variable of a key.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', SEPARATOR).to_ascii_uppercase())
}

// === impl Layer ===

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}
