//! The endpoints, each a function from a request to an answer.

mod call;
mod health;
mod models;

pub(crate) use call::call;
pub(crate) use health::{health, providers_health};
pub(crate) use models::{model, models};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::http::body::ResponseBody;

/// An answer of JSON.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<ResponseBody> {
    // Our own answers only hold what JSON can write.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
