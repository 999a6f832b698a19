//! What happens, as server-sent events for operators.
//!
//! What an event is, and what becomes of a listener that is too slow, is the gateway's; this file decides how they are
//! written and who gets which.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hoosh_budget::AlertKind;
use hoosh_core::limits::{EVENT_LISTENERS_MAX, EVENTS_COMMENT_INTERVAL};
use hoosh_core::{HooshError, InvalidRequest};
use hoosh_gateway::{Completed, Endpoint, Event, EventKind, Happened, RequestId};
use hoosh_router::HealthState;
use http::Response;
use serde::Serialize;
use tokio::time::interval;

use super::models::percent_decoded;
use super::{EVENT_STREAM, streamed};
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// The data of an event. A field that has nothing to tell is left out.
#[derive(Serialize, Default)]
struct Data<'a> {
    r#type: &'static str,
    sequence: u64,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    #[serde(flatten)]
    completed: Option<CompletedData<'a>>,
}

/// What the end of a call tells beside that.
#[derive(Serialize)]
struct CompletedData<'a> {
    model_asked: &'a str,
    dialect: &'static str,
    stream: bool,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    attempts: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    /// How they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'static str>,
    /// US dollars, as in `x-hoosh-cost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_ms: Option<u64>,
    duration_ms: u64,
}

/// `GET /v1/events`: from now on, until the client leaves or the server stops; with `?types=` of these kinds alone.
pub(crate) fn listen(app: &App, query: Option<&str>) -> Result<Response<ResponseBody>, ServerError> {
    let kinds = kinds(query.unwrap_or_default()).map_err(HooshError::from).map_err(ServerError::Call)?;
    if app.gateway.event_bus().listeners() >= EVENT_LISTENERS_MAX {
        return Err(ServerError::TooManyListeners);
    }
    let wanted = move |event: &Event| {
        let kind = event.happened.kind();
        // Whoever listens to some must know that those may be among the missing.
        kind == EventKind::Lagged || kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    };
    let events = app.gateway.events().filter_map(move |event| {
        let written = wanted(&event).then(|| write(&event));
        async move { written }
    });
    Ok(streamed(EVENT_STREAM, ResponseBody::feed(Box::pin(with_comments(events)))))
}

/// Which kinds a query asks for; `None` for all.
fn kinds(query: &str) -> Result<Option<Vec<EventKind>>, InvalidRequest> {
    let mut kinds = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("types", names) => {
                let read = |name: &str| EventKind::parse(name).ok_or_else(|| unknown(name));
                kinds = Some(percent_decoded(names).split(',').map(read).collect::<Result<_, _>>()?);
            }
            // A browser's `EventSource` can send no header.
            ("key", _) => {}
            (other, _) => return Err(InvalidRequest::new(other, "is not known here; `types` is")),
        }
    }
    Ok(kinds)
}

fn unknown(name: &str) -> InvalidRequest {
    let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    InvalidRequest::new("types", format!("there are no events `{name}`; there are {}", known.join(", ")))
}

/// The same, with a comment at once, so that the client knows it is heard, and then every so often, so that nobody between
/// takes the connection for dead.
fn with_comments(events: impl Stream<Item = Bytes> + Send) -> impl Stream<Item = Bytes> + Send {
    let comments = stream::unfold(interval(EVENTS_COMMENT_INTERVAL), |mut ticks| async {
        ticks.tick().await;
        Some((Some(Bytes::from_static(b": listening\n\n")), ticks))
    });
    // The end of the events is the end of it all: comments alone have none.
    let events = events.map(Some).chain(stream::once(async { None }));
    stream::select(comments, events)
        .take_while(|bytes| {
            let goes_on = bytes.is_some();
            async move { goes_on }
        })
        .filter_map(|bytes| async { bytes })
}

fn write(event: &Event) -> Bytes {
    let name = event.happened.kind().as_str();
    let data =
        Data { r#type: name, sequence: event.sequence, time_ms: event.unix_ms, ..data(&event.happened) };
    // Our own data only holds what JSON can write.
    let json = serde_json::to_string(&data).unwrap_or_default();
    format!("event: {name}\nid: {}\ndata: {json}\n\n", event.sequence).into()
}

fn data(happened: &Happened) -> Data<'_> {
    match happened {
        Happened::HealthChanged(change) => {
            let rest = match change.state {
                HealthState::Resting { rest, .. } => Some(millis(rest)),
                _ => None,
            };
            Data {
                provider: Some(&change.provider),
                model: change.model.as_deref(),
                state: Some(change.state.as_str()),
                rest_ms: rest,
                ..Data::default()
            }
        }
        Happened::BreakerOpened { endpoint, rest } | Happened::RateLimited { endpoint, rest } => {
            Data { rest_ms: Some(millis(*rest)), ..at(endpoint) }
        }
        Happened::AttemptFailed { id, endpoint, kind, status } => {
            Data { kind: Some(kind), status: *status, ..of(id, endpoint) }
        }
        Happened::FailedOver { id, from, to }
        | Happened::Hedged { id, from, to }
        | Happened::Continued { id, from, to } => {
            Data { from_provider: Some(&from.provider), from_model: Some(&from.model), ..of(id, to) }
        }
        Happened::Queued { id, endpoint, position } => Data { position: Some(*position), ..of(id, endpoint) },
        Happened::Admitted { id, endpoint, waited } => {
            Data { waited_ms: Some(millis(*waited)), ..of(id, endpoint) }
        }
        Happened::PoolAlert(alert) => {
            let percent = match alert.kind {
                AlertKind::Reached(percent) => Some(percent),
                AlertKind::Beyond => None,
            };
            Data { pool: Some(alert.pool.as_str()), percent, ..Data::default() }
        }
        Happened::Completed(call) => Data {
            request_id: Some(call.id.as_str()),
            provider: call.provider.as_deref(),
            model: call.model_used.as_deref(),
            completed: Some(completed(call)),
            ..Data::default()
        },
        Happened::Lagged { missed } => Data { missed: Some(*missed), ..Data::default() },
        // What the gateway may tell one day has its name and time at least.
        _ => Data::default(),
    }
}

fn at(endpoint: &Endpoint) -> Data<'_> {
    Data { provider: Some(&endpoint.provider), model: Some(&endpoint.model), ..Data::default() }
}

fn of<'a>(id: &'a RequestId, endpoint: &'a Endpoint) -> Data<'a> {
    Data { request_id: Some(id.as_str()), ..at(endpoint) }
}

fn completed(call: &Completed) -> CompletedData<'_> {
    CompletedData {
        model_asked: &call.model_asked,
        dialect: call.dialect.as_str(),
        stream: call.stream,
        outcome: call.outcome,
        error: call.error,
        attempts: call.attempts,
        cache: call.cache.as_str(),
        similarity: call.cache.similarity().map(|similarity| similarity.as_f64()),
        prompt_tokens: call.usage.map(|usage| usage.prompt_total()),
        completion_tokens: call.usage.map(|usage| usage.completion_total()),
        usage: call.usage.map(|usage| usage.provenance.as_str()),
        cost: call.cost.map(|cost| cost.to_string().trim_start_matches('$').to_owned()),
        first_ms: call.time_to_first.map(millis),
        duration_ms: millis(call.duration),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_chosen_by_name() {
        assert_eq!(kinds(""), Ok(None));
        assert_eq!(kinds("key=secret"), Ok(None));
        let some = Some(vec![EventKind::Completed, EventKind::Queued]);
        assert_eq!(kinds("types=completed,queued"), Ok(some.clone()));
        assert_eq!(kinds("types=completed%2Cqueued"), Ok(some));
        for wrong in ["types=", "types=complete", "types=queued,", "type=queued"] {
            assert!(kinds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_is_written_on_three_lines() {
        let event = Event { sequence: 7, unix_ms: 5, happened: Happened::Lagged { missed: 3 } };
        let expected = concat!(
            "event: lagged\nid: 7\n",
            r#"data: {"type":"lagged","sequence":7,"time_ms":5,"missed":3}"#,
            "\n\n"
        );
        assert_eq!(write(&event), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_comment_comes_at_once_and_then_every_so_often() {
        let mut feed = Box::pin(with_comments(stream::pending()));
        let start = tokio::time::Instant::now();
        for at in [0, 1, 2] {
            assert_eq!(feed.next().await.unwrap(), ": listening\n\n");
            assert_eq!(start.elapsed().as_secs(), at * EVENTS_COMMENT_INTERVAL.as_secs());
        }
        let ended = with_comments(stream::iter([Bytes::from_static(b"event")]));
        let all: Vec<Bytes> = ended.collect().await;
        assert_eq!(all.last().unwrap(), "event", "it ends with the events");
    }
}
