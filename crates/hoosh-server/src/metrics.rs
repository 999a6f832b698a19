//! What is counted, for `GET /metrics` in Prometheus' text form.

use hoosh_core::{FidelityNote, NoteKind};
use hoosh_gateway::{CallRecord, Observer};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Everything that is counted, for this server alone: two servers in one process do not share it.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

const METADATA: Metadata<'_> = Metadata::new("hoosh", Level::INFO, None);

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
        Self { recorder, handle }
    }

    /// All counters as Prometheus reads them.
    pub(crate) fn text(&self) -> String {
        self.handle.render()
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
        let key = Key::from_parts("hoosh_fidelity_notes_total", labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }
}

impl Observer for Metrics {
    fn call_settled(&self, record: &CallRecord) {
        record.notes.iter().for_each(|note| self.count_note(note, record));
    }
}
