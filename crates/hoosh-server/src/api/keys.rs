//! Keys over HTTP, for who has an admin's: made, listed, ended, put in the place of others.

use std::sync::Arc;

use hoosh_audit::Entry;
use hoosh_budget::keys::{IssuedKey, KeyError, KeyId, Keyring, StoreError};
use hoosh_core::{HooshError, InvalidRequest};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::json;
use super::models::percent_decoded;
use crate::app::App;
use crate::audit;
use crate::http::auth::Caller;
use crate::http::body::{self, ResponseBody};
use crate::http::error::ServerError;
use crate::keys::{BadOrder, Order, Rotation, is_askers_fault, told};

/// `GET /v1/admin/keys`: all of them, those that have ended too, the oldest first.
pub(crate) async fn list(app: &App) -> Result<Response<ResponseBody>, ServerError> {
    let ring = ring(app)?;
    let now = Timestamp::now();
    let listed = in_time(move || {
        ring.reload()?;
        Ok(ring.list())
    });
    let keys: Vec<Value> = listed.await?.iter().map(|record| told(record, now)).collect();
    Ok(json(StatusCode::OK, &json!({ "object": "list", "data": keys })))
}

/// `POST /v1/admin/keys`: the key that was made, with its secret, which is nowhere else.
pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let ring = ring(app)?;
    let now = Timestamp::now();
    let order = read::<Order>(app, request).await?.read(now)?;
    let issued = in_time(move || ring.create(order, now)).await?;
    log(app, "created", &issued.record.id, caller);
    Ok(shown_once(&issued, now))
}

/// `DELETE /v1/admin/keys/{id}`: the key is refused from now on.
pub(crate) async fn revoke(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let (ring, id, now) = (ring(app)?, id_of(app, id)?, Timestamp::now());
    let record = in_time(move || ring.revoke(&id, now)).await?;
    log(app, "revoked", &record.id, caller);
    Ok(json(StatusCode::OK, &told(&record, now)))
}

/// `POST /v1/admin/keys/{id}/rotate`: another key in its place, while the old one works on for a time.
pub(crate) async fn rotate(
    app: &App,
    caller: &Caller,
    id: &str,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let (ring, id, now) = (ring(app)?, id_of(app, id)?, Timestamp::now());
    let old = ring.find(id.as_str()).ok_or_else(|| refused(StoreError::UnknownKey(id.clone()).into()))?;
    let (overlap, expires) = read::<Rotation>(app, request).await?.read(&old, now)?;
    let issued = in_time(move || ring.rotate(&id, overlap, expires, now)).await?;
    log(app, "rotated", &issued.record.id, caller);
    Ok(shown_once(&issued, now))
}

fn ring(app: &App) -> Result<Arc<Keyring>, ServerError> {
    app.keys.ring().cloned().ok_or(ServerError::NoKeys)
}

/// The id behind an id or prefix.
fn id_of(app: &App, id: &str) -> Result<KeyId, ServerError> {
    let name = percent_decoded(id);
    let found = ring(app)?.find(&name).map(|record| record.id);
    Ok(found.unwrap_or_else(|| KeyId::new(name)))
}

/// Off the tasks that serve calls: it waits for a disk.
async fn in_time<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, ServerError> {
    match spawn_blocking(act).await {
        Ok(done) => done.map_err(refused),
        Err(_) => Err(ServerError::Panicked),
    }
}

fn refused(error: KeyError) -> ServerError {
    match error {
        KeyError::Store(StoreError::UnknownKey(id)) => ServerError::NoSuchKey { id: id.as_str().to_owned() },
        error if is_askers_fault(&error) => invalid("", error.to_string()),
        error => {
            tracing::error!(target: "hoosh::keys", %error, "keys could not be changed");
            ServerError::KeyStore
        }
    }
}

/// Reads what is asked for; nothing at all asks for the defaults, where there are some.
pub(super) async fn read<T: DeserializeOwned>(
    app: &App,
    request: Request<Incoming>,
) -> Result<T, ServerError> {
    let body = body::read(request.into_body(), false, app.max_body_bytes, app.body_timeout).await;
    let body = body.map_err(ServerError::Unread)?;
    let text: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
    // serde would take a list for the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("", "expected a JSON object".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| invalid("", error.to_string()))
}

fn shown_once(issued: &IssuedKey, now: Timestamp) -> Response<ResponseBody> {
    let mut shown = told(&issued.record, now);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("key".to_owned(), issued.secret.expose_secret().into());
    }
    let mut response = json(StatusCode::CREATED, &shown);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn log(app: &App, what: &str, id: &KeyId, by: &Caller) {
    if let Some(audit) = &app.audit {
        let fields = [("key", id.as_str().to_owned())];
        audit.note(Entry::Key(audit::event(what, by.id.as_str(), fields)));
    }
    tracing::info!(target: "hoosh::keys", key = id.as_str(), by = by.id.as_str(), "{what}");
}

pub(super) fn invalid(field: &str, problem: String) -> ServerError {
    ServerError::Call(HooshError::from(InvalidRequest::new(field, problem)))
}

impl From<BadOrder> for ServerError {
    fn from(bad: BadOrder) -> Self {
        invalid(bad.field, bad.problem)
    }
}
