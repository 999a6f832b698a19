//! Pools that are defined while the gateway runs: the file that keeps them, read as the configuration's own are.
//!
//! What such a file may say, and what a fault in it reads like, is [`resolve`](super::resolve)'s for `[[pools]]`: there is one way
//! to read a pool. A pool that the configuration names too is the configuration's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hoosh_budget::{PoolFault, PoolId, PoolTree, TokenPool};
use hoosh_core::limits::POOLS_FILE_BYTES_MAX;
use toml::{Table, Value};

use super::fault::{ConfigErrors, Fault, Place, nearest};
use super::file::{File, join};
use super::layers::Layers;
use super::reader::Reader;
use super::{Config, Environment, Flags, LedgerPlace, warm};

/// Where pools are kept that are defined while the gateway runs, and which they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunTimePools {
    /// The file. `None`: nowhere, since the ledger is in memory and no file is named.
    pub path: Option<PathBuf>,
    /// Those of [`Config::pools`] that are its.
    pub ids: BTreeSet<PoolId>,
}

/// A change of them.
#[derive(Debug)]
pub(crate) enum PoolChange {
    /// This one is to be as these settings say, in place of one of the same name.
    Set(PoolId, Table),
    /// This one is to be no more.
    Remove(PoolId),
}

/// Why they are not changed.
#[derive(Debug)]
pub(crate) enum PoolRefusal {
    /// It is the configuration's, which is written there.
    Configured(PoolId, Place),
    /// There is none of that name.
    Unknown(PoolId),
    /// What is wrong with what was asked for.
    Faults(Vec<Fault>),
    /// There is no file to keep them in.
    Nowhere,
    /// The file cannot be read or written.
    File(PathBuf, io::Error),
}

/// What comes in place of the ledger's extension: `hoosh-ledger.db` has `hoosh-ledger.pools.toml` beside it.
const EXTENSION: &str = "pools.toml";

/// What stands at the top of the file.
const NOTICE: &str = "# Pools that were defined by /v1/admin/pools or `hoosh pools`. hoosh writes this file anew at each change.\n\n";

/// Finds the file of a configuration that was read, and adds its pools.
pub(super) fn settle(config: &mut Config, directory: &Path, folder: &Path) -> Vec<Fault> {
    let path = match (&config.budget.pools, &config.budget.ledger) {
        (Some(said), _) => Some(folder.join(said)),
        (None, LedgerPlace::File(ledger)) => Some(directory.join(ledger).with_extension(EXTENSION)),
        (None, _) => None,
    };
    config.run_time_pools = RunTimePools { path: path.clone(), ids: BTreeSet::new() };
    let Some(path) = path.filter(|path| path.exists()) else { return Vec::new() };
    match text_of(&path) {
        Ok(text) => add(config, &path, &text),
        Err(error) => vec![unusable(&path, &error)],
    }
}

/// Adds the pools of a file's text to those of a configuration, which has none of it yet.
fn add(config: &mut Config, path: &Path, text: &str) -> Vec<Fault> {
    let file = match File::parse(path.to_owned(), text) {
        Ok(file) => file,
        Err(ConfigErrors { faults }) => return faults,
    };
    let strangers: Vec<Fault> = file
        .values
        .keys()
        .filter(|key| *key != "pools")
        .map(|key| {
            let problem = "there is no such key in a file of pools, which has [[pools]] only";
            Fault::new(file.place(&join("", key)), key.as_str(), problem).meaning(nearest(key, ["pools"]))
        })
        .collect();
    let mut faults = Vec::new();
    let env = Environment::default();
    let layers = Layers::stack(Some(file), &env, &Flags::default(), &mut faults);
    let mut reader = Reader::new(&layers, &env, Vec::new());
    let read = reader.pool_entries(layers.root.get("pools").cloned());
    faults.extend(reader.faults);
    faults.extend(strangers);
    if !faults.is_empty() {
        return faults;
    }
    let mut all = config.pools.clone();
    let mut own = Vec::new();
    for (path, pool) in read {
        let place = layers.place_in_file(&path);
        if config.pools.iter().any(|one| one.id == pool.id) {
            config.warnings.push(format!("{place}: `{}` is in the configuration too, which counts", pool.id));
            continue;
        }
        let counted = format!("pools[{}]", all.len());
        for (key, place) in
            reader.origins.iter().filter_map(|(key, place)| Some((key.strip_prefix(&path)?, place)))
        {
            config.origins.insert(format!("{counted}{key}"), place.clone());
        }
        own.push((pool.id.clone(), place));
        all.push(pool);
    }
    if let Err(invalid) = PoolTree::new(all.clone()) {
        let placed = |PoolFault { pool, problem }: PoolFault| {
            let place = own.iter().find(|(id, _)| *id == pool).map(|(_, place)| place.clone());
            // Whatever the configuration says was right before these came.
            let place = place.unwrap_or(Place::File { file: path.display().to_string(), line: None });
            Fault::new(place, "pools", format!("`{pool}` {problem}"))
        };
        return invalid.faults.into_iter().map(placed).collect();
    }
    config.pools = all;
    config.run_time_pools.ids = own.into_iter().map(|(id, _)| id).collect();
    Vec::new()
}

/// Checks a change, writes it down, and takes it into the configuration. Waits for a disk.
///
/// Answers what was in the file before, to [put back](put_back) if nothing comes of it all.
///
/// # Errors
///
/// Why not; nothing is changed then.
pub(crate) fn change(config: &mut Config, change: PoolChange) -> Result<Option<String>, PoolRefusal> {
    let path = config.run_time_pools.path.clone().ok_or(PoolRefusal::Nowhere)?;
    let id = match &change {
        PoolChange::Set(id, _) | PoolChange::Remove(id) => id.clone(),
    };
    if let Some(place) = configured(config, &id) {
        return Err(PoolRefusal::Configured(id, place));
    }
    let before = match text_of(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(PoolRefusal::File(path, error)),
    };
    let unreadable = |error: toml::de::Error| {
        let error = io::Error::new(io::ErrorKind::InvalidData, error.message().to_owned());
        PoolRefusal::File(path.clone(), error)
    };
    let mut document: Table = before.as_deref().unwrap_or_default().parse().map_err(unreadable)?;
    let entries = document.entry("pools").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(entries) = entries else {
        return Err(PoolRefusal::File(path, io::ErrorKind::InvalidData.into()));
    };
    let place =
        entries.iter().position(|entry| entry.get("name").and_then(Value::as_str) == Some(id.as_str()));
    match (change, place) {
        (PoolChange::Set(_, mut settings), place) => {
            settings.insert("name".to_owned(), id.as_str().into());
            match place.and_then(|place| entries.get_mut(place)) {
                Some(entry) => *entry = Value::Table(settings),
                None => entries.push(Value::Table(settings)),
            }
        }
        (PoolChange::Remove(_), Some(place)) => drop(entries.remove(place)),
        (PoolChange::Remove(_), None) => return Err(PoolRefusal::Unknown(id)),
    }
    let written = toml::to_string(&document)
        .map_err(|error| PoolRefusal::File(path.clone(), io::Error::other(error.to_string())))?;
    let text = format!("{NOTICE}{written}");
    let mut changed = without(config);
    let mut faults = add(&mut changed, &path, &text);
    if text.len() as u64 > POOLS_FILE_BYTES_MAX {
        let place = Place::File { file: path.display().to_string(), line: None };
        faults.push(Fault::new(place, "pools", format!("would have more than {POOLS_FILE_BYTES_MAX} bytes")));
    }
    if !faults.is_empty() {
        return Err(PoolRefusal::Faults(faults));
    }
    put(&path, &text).map_err(|error| PoolRefusal::File(path, error))?;
    *config = changed;
    Ok(before)
}

/// Puts the file back to what it was.
pub(crate) fn put_back(config: &Config, before: Option<&str>) -> io::Result<()> {
    match (&config.run_time_pools.path, before) {
        (Some(path), Some(text)) => put(path, text),
        (Some(path), None) => fs::remove_file(path),
        (None, _) => Ok(()),
    }
}

/// Where the configuration itself defines a pool. `None`: it does not.
pub(crate) fn configured(config: &Config, id: &PoolId) -> Option<Place> {
    let place = config.pools.iter().position(|pool| pool.id == *id)?;
    (!config.run_time_pools.ids.contains(id)).then(|| place_of(config, place))
}

/// Where the pool of this number is written.
pub(crate) fn place_of(config: &Config, number: usize) -> Place {
    config.origins.get(&format!("pools[{number}].name")).cloned().unwrap_or(Place::Default)
}

/// A configuration as if nothing had been defined beside it.
fn without(config: &Config) -> Config {
    let is_own = |pool: &TokenPool| !config.run_time_pools.ids.contains(&pool.id);
    let pools: Vec<TokenPool> = config.pools.iter().filter(|pool| is_own(pool)).cloned().collect();
    let first = pools.len();
    let number = |path: &str| path.strip_prefix("pools[")?.split(']').next()?.parse::<usize>().ok();
    let mut origins = config.origins.clone();
    // They come behind the configuration's own.
    origins.retain(|path, _| number(path).is_none_or(|number| number < first));
    let run_time_pools = RunTimePools { ids: BTreeSet::new(), ..config.run_time_pools.clone() };
    Config { pools, origins, run_time_pools, ..config.clone() }
}

fn text_of(path: &Path) -> io::Result<String> {
    if !path.exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let content = warm::content(path, POOLS_FILE_BYTES_MAX).map_err(io::Error::other)?;
    String::from_utf8(content).map_err(|_| io::Error::other("is not UTF-8"))
}

/// Whole before it has its name.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension(format!("toml.{}", std::process::id()));
    let written = fs::write(&draft, text).and_then(|()| fs::File::open(&draft)?.sync_all());
    let moved = written.and_then(|()| fs::rename(&draft, path));
    if moved.is_err() {
        let _gone = fs::remove_file(&draft);
    }
    moved
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    let place = Place::File { file: path.display().to_string(), line: None };
    Fault::new(place, "pools", format!("cannot be used: {error}"))
}
