//! Reading the configuration again when somebody asks.

use http::{Response, StatusCode};
use serde_json::json;

use super::json;
use crate::config::ConfigErrors;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;
use crate::reload::{Live, Refused, Trigger};

/// `POST /v1/admin/reload`: what has changed, or everything that is wrong with the file.
pub(crate) async fn reload(live: &Live) -> Result<Response<ResponseBody>, ServerError> {
    match live.reload(Trigger::Request).await {
        Ok(report) => Ok(json(StatusCode::OK, &*report)),
        Err(Refused::Off(why)) => Err(ServerError::NoReload { why }),
        Err(Refused::Faults(errors)) => Ok(faulty(&errors)),
    }
}

/// An error as all others are, and its parts for programs, as `hoosh config check --json` gives them.
fn faulty(errors: &ConfigErrors) -> Response<ResponseBody> {
    let message = format!("the configuration is refused and the last one stays:\n{errors}");
    let error = json!({
        "message": message, "type": "invalid_request_error", "param": null, "code": "invalid_config",
    });
    json(StatusCode::BAD_REQUEST, &json!({ "error": error, "faults": errors.to_json() }))
}
