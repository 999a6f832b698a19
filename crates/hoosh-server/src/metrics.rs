//! What is counted, for `GET /metrics` in Prometheus' text form.

use hoosh_budget::{Alert, AlertKind};
use hoosh_core::{FidelityNote, NoteKind};
use hoosh_gateway::{CacheStats, CallRecord, FailedAttempt, Observer};
use hoosh_router::{HealthChange, Watch};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Everything that is counted, for this server alone: two servers in one process do not share it.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

const METADATA: Metadata<'_> = Metadata::new("hoosh", Level::INFO, None);

fn reload_key(result: &'static str) -> Key {
    Key::from_parts("hoosh_config_reloads_total", vec![Label::new("result", result)])
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        recorder.describe_counter(
            "hoosh_fidelity_notes_total".into(),
            None,
            "Parts of calls that a provider or client could not be told as they were said".into(),
        );
        recorder.describe_counter(
            "hoosh_calls_total".into(),
            None,
            "Calls that are over, by how they ended and who answered".into(),
        );
        recorder.describe_counter(
            "hoosh_attempts_failed_total".into(),
            None,
            "Attempts at providers that failed before their first output, and (asked=\"false\") those in which nobody was asked".into(),
        );
        recorder.describe_counter(
            "hoosh_breaker_opened_total".into(),
            None,
            "Times that a model of a provider was let alone because it failed too often".into(),
        );
        recorder.describe_counter(
            "hoosh_legs_total".into(),
            None,
            "Work on calls beside the answer's: slow ones and hedges let go of, streams that broke, and those given up".into(),
        );
        recorder.describe_counter(
            "hoosh_cache_calls_total".into(),
            None,
            "Calls by what the cache did: hit, semantic, miss or bypass".into(),
        );
        recorder.describe_counter(
            "hoosh_cache_waits_total".into(),
            None,
            "Calls that waited for the same call of another".into(),
        );
        recorder.describe_counter(
            "hoosh_cache_evictions_total".into(),
            None,
            "Cached answers let go of for want of room".into(),
        );
        recorder.describe_counter(
            "hoosh_cache_embeddings_failed_total".into(),
            None,
            "Embeddings to find an answer by that did not come, or not in time".into(),
        );
        for (name, what) in [
            ("hoosh_audit_records_total", "Entries written into the audit log"),
            ("hoosh_audit_lost_total", "Entries lost since nothing could be written and calls went on"),
        ] {
            recorder.describe_counter(name.into(), None, what.into());
        }
        for (name, what) in [
            ("hoosh_audit_waiting", "Entries that wait to be written into the audit log"),
            ("hoosh_audit_failing", "1 while nothing can be written into the audit log"),
        ] {
            recorder.describe_gauge(name.into(), None, what.into());
        }
        let reloads = "hoosh_config_reloads_total";
        recorder.describe_counter(
            reloads.into(),
            None,
            "Configurations read while serving: ok or refused".into(),
        );
        for result in ["ok", "refused"] {
            recorder.register_counter(&reload_key(result), &METADATA).absolute(0);
        }
        recorder.describe_gauge("hoosh_cache_entries".into(), None, "Answers in the cache".into());
        recorder.describe_gauge(
            "hoosh_cache_semantic_entries".into(),
            None,
            "Those of them that are found by meaning".into(),
        );
        recorder.describe_counter(
            "hoosh_pool_alerts_total".into(),
            None,
            "Times that a pool reached a threshold, or a soft one held more than it had left".into(),
        );
        recorder.describe_counter(
            "hoosh_pool_alert_deliveries_total".into(),
            None,
            "Alerts by what became of them at the web hook: sent, failed or dropped".into(),
        );
        recorder.describe_gauge("hoosh_cache_bytes".into(), None, "Memory that they take".into());
        Self { recorder, handle }
    }

    /// All counters as Prometheus reads them.
    ///
    /// The configuration in use is written here: the recorder would keep the hashes of all that were before.
    pub(crate) fn text(&self, config_hash: &str) -> String {
        let text = self.handle.render();
        format!(
            "{text}# HELP hoosh_config_info The configuration in use\n# TYPE hoosh_config_info gauge\n\
             hoosh_config_info{{hash=\"{config_hash}\"}} 1\n"
        )
    }

    /// Counts a configuration that was read while serving.
    pub(crate) fn count_reload(&self, is_ok: bool) {
        let key = reload_key(if is_ok { "ok" } else { "refused" });
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// Counts something that should be known of a pool.
    pub(crate) fn count_alert(&self, alert: &Alert) {
        let at = match alert.kind {
            AlertKind::Reached(percent) => percent.to_string(),
            AlertKind::Beyond => "beyond".to_owned(),
        };
        // Kinds and percents are the configuration's, names may be anybody's.
        let labels = vec![Label::new("kind", alert.pool.kind().to_owned()), Label::new("at", at)];
        self.count("hoosh_pool_alerts_total", labels);
    }

    /// Counts what became of one at the web hook.
    pub(crate) fn count_alert_delivery(&self, result: &'static str) {
        self.count("hoosh_pool_alert_deliveries_total", vec![Label::new("result", result)]);
    }

    /// Takes over what the cache has counted itself.
    pub(crate) fn count_cache(&self, stats: &CacheStats) {
        let calls = [
            ("hit", stats.hits),
            ("semantic", stats.semantic_hits),
            ("miss", stats.misses),
            ("bypass", stats.bypassed),
        ];
        for (result, count) in calls {
            let key = Key::from_parts("hoosh_cache_calls_total", vec![Label::new("result", result)]);
            self.recorder.register_counter(&key, &METADATA).absolute(count);
        }
        let totals = [
            ("hoosh_cache_waits_total", stats.waits),
            ("hoosh_cache_evictions_total", stats.evictions),
            ("hoosh_cache_embeddings_failed_total", stats.embeddings_failed),
        ];
        for (name, count) in totals {
            self.recorder.register_counter(&Key::from_name(name), &METADATA).absolute(count);
        }
        for (name, size) in [
            ("hoosh_cache_entries", stats.entries),
            ("hoosh_cache_semantic_entries", stats.semantic_entries),
            ("hoosh_cache_bytes", stats.bytes),
        ] {
            self.recorder.register_gauge(&Key::from_name(name), &METADATA).set(size as f64);
        }
    }

    /// Takes over what the audit log has counted itself.
    pub(crate) fn count_audit(&self, status: &hoosh_audit::Status) {
        for (name, count) in
            [("hoosh_audit_records_total", status.written), ("hoosh_audit_lost_total", status.lost)]
        {
            self.recorder.register_counter(&Key::from_name(name), &METADATA).absolute(count);
        }
        let failing = if status.failing.is_some() { 1.0 } else { 0.0 };
        for (name, value) in
            [("hoosh_audit_waiting", status.waiting as f64), ("hoosh_audit_failing", failing)]
        {
            self.recorder.register_gauge(&Key::from_name(name), &METADATA).set(value);
        }
    }

    fn count_note(&self, note: &FidelityNote, record: &CallRecord) {
        let kind = match note.kind {
            NoteKind::Lost => "lost",
            NoteKind::Emulated => "emulated",
        };
        let labels = vec![
            Label::new("field", note.label()),
            Label::new("kind", kind),
            Label::new("dialect", record.dialect.as_str()),
            Label::new("provider", record.provider.clone().unwrap_or_default()),
        ];
        self.count("hoosh_fidelity_notes_total", labels);
    }

    fn count(&self, name: &'static str, labels: Vec<Label>) {
        let key = Key::from_parts(name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }
}

impl Observer for Metrics {
    fn call_settled(&self, record: &CallRecord) {
        record.notes.iter().for_each(|note| self.count_note(note, record));
        let labels = vec![
            Label::new("outcome", record.outcome.as_str()),
            Label::new("dialect", record.dialect.as_str()),
            // Empty where nobody answered. Names of providers are the configuration's, those of models may be anybody's.
            Label::new("provider", record.provider.clone().unwrap_or_default()),
        ];
        self.count("hoosh_calls_total", labels);
        for leg in &record.legs {
            let provider = Label::new("provider", leg.provider.clone());
            self.count("hoosh_legs_total", vec![provider, Label::new("kind", leg.kind.as_str())]);
        }
    }

    fn attempt_failed(&self, attempt: &FailedAttempt<'_>) {
        let provider = attempt.candidate.provider.name().to_owned();
        // A line that is full or a prompt that is too long says nothing of the provider.
        let asked = if attempt.was_asked { "true" } else { "false" };
        let labels = vec![
            Label::new("provider", provider),
            Label::new("kind", attempt.kind()),
            Label::new("asked", asked),
        ];
        self.count("hoosh_attempts_failed_total", labels);
    }
}

impl Watch for Metrics {
    fn health_changed(&self, change: &HealthChange) {
        if change.opens_breaker() {
            let provider = change.provider.to_string();
            self.count("hoosh_breaker_opened_total", vec![Label::new("provider", provider)]);
        }
    }
}
