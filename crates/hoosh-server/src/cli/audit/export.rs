//! Records for other programs.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use hoosh_audit::{Filter, Seen};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::Failure;
use super::{Format, each};

/// Records in one line of an OTLP export: as many as a collector takes at once by default is some thousand.
const OTLP_RECORDS: usize = 1_000;

/// The columns of the table. Each is a field of the record or of its body.
const COLUMNS: [&str; 24] = [
    "seq",
    "at",
    "kind",
    "request_id",
    "caller",
    "outcome",
    "status",
    "method",
    "path",
    "dialect",
    "model_asked",
    "model",
    "provider",
    "attempts",
    "stream",
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost_nano_usd",
    "error",
    "action",
    "by",
    "request_digest",
    "answer_digest",
];

pub(super) fn run(folder: &Path, filter: &Filter, format: Format) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        Format::Jsonl => each(folder, filter, |record| writeln!(out, "{}", record.line))?,
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(&mut out);
            writer.write_record(COLUMNS).map_err(io::Error::from)?;
            each(folder, filter, |record| writer.write_record(cells(record)).map_err(io::Error::from))?;
            writer.flush()?;
        }
        Format::OtlpJson => {
            let mut records = Vec::new();
            each(folder, filter, |record| {
                records.push(otlp(record));
                if records.len() == OTLP_RECORDS { export(&mut out, &mut records) } else { Ok(()) }
            })?;
            if !records.is_empty() {
                export(&mut out, &mut records)?;
            }
        }
    }
    Ok(out.flush()?)
}

fn cells(record: &Seen) -> [String; COLUMNS.len()] {
    let line: Value = serde_json::from_str(&record.line).unwrap_or_default();
    let record = &line["record"];
    let body = &record["body"];
    COLUMNS.map(|column| {
        let value = match column {
            "seq" | "at" | "kind" => &record[column],
            "input_tokens" => &body["usage"]["input"],
            "output_tokens" => &body["usage"]["output"],
            "request_digest" => &body["request"]["digest"],
            "answer_digest" => &body["answer"]["digest"],
            _ => &body[column],
        };
        match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    })
}

/// A `LogRecord` (opentelemetry-proto 1.9, logs/v1). The line itself is its body, so that nothing is lost.
fn otlp(record: &Seen) -> Value {
    let line: Value = serde_json::from_str(&record.line).unwrap_or_default();
    let inner = &line["record"];
    let nanos =
        inner["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_nanosecond);
    let outcome = inner["body"]["outcome"].as_str();
    let (number, severity) = match outcome {
        Some("failed" | "truncated") => (17, "ERROR"),
        Some("refused") => (13, "WARN"),
        _ => (9, "INFO"),
    };
    let text = |key: &str, value: &Value| {
        value.as_str().map(|text| json!({"key": key, "value": {"stringValue": text}}))
    };
    let body = &inner["body"];
    let attributes: Vec<Value> = [
        text("hoosh.audit.kind", &inner["kind"]),
        text("hoosh.request_id", &body["request_id"]),
        text("hoosh.caller", &body["caller"]),
        text("hoosh.outcome", &body["outcome"]),
        text("gen_ai.provider.name", &body["provider"]),
        text("gen_ai.request.model", &body["model_asked"]),
        text("gen_ai.response.model", &body["model"]),
    ]
    .into_iter()
    .flatten()
    // A 64-bit number is a string in OTLP's JSON.
    .chain([json!({"key": "hoosh.audit.seq", "value": {"intValue": record.seq.to_string()}})])
    .collect();
    json!({
        "timeUnixNano": nanos.to_string(),
        "observedTimeUnixNano": nanos.to_string(),
        "severityNumber": number,
        "severityText": severity,
        "body": {"stringValue": record.line},
        "attributes": attributes,
    })
}

/// One `ExportLogsServiceRequest` a line, as the OTLP file exporter writes them.
fn export(out: &mut impl Write, records: &mut Vec<Value>) -> io::Result<()> {
    let records = std::mem::take(records);
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "hoosh"}}]});
    let scope = json!({"name": "hoosh.audit", "version": env!("CARGO_PKG_VERSION")});
    let logs = json!([{"scope": scope, "logRecords": records}]);
    writeln!(out, "{}", json!({"resourceLogs": [{"resource": resource, "scopeLogs": logs}]}))
}
