//! Cross-origin requests from browsers: refused unless the configuration names the origin.
//! Source: Fetch standard, "HTTP CORS protocol", read 2026-11-24.

use std::net::IpAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::body::ResponseBody;

/// The origins whose pages may call, `*` for all.
pub(crate) struct Cors(Vec<String>);

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Self {
        Self(origins.to_vec())
    }

    /// The origin of a request, if its pages may call.
    pub(crate) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let allowed = self.0.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes());
        allowed.then(|| origin.clone())
    }

    /// Whether a page of another site sends this request, unasked: browsers send simple requests without asking first, and
    /// where no key is wanted any page could spend the user's money. Pages of this machine may.
    pub(crate) fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return false };
        if self.allowed_origin(headers).is_some() {
            return false;
        }
        let host = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let host = host.as_ref().and_then(Uri::host).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
    }

    /// The answer to a browser that asks before it calls.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<ResponseBody>> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed_origin(request.headers()).is_none() {
            return None;
        }
        let mut response = Response::new(ResponseBody::full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, HEAD, DELETE"));
        // The official SDKs send headers of their own (x-stainless-*), so whatever was asked for is allowed.
        let asked = request.headers().get("access-control-request-headers").cloned();
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(HeaderValue::from_static("*")));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(response)
    }

    /// Lets the page of that origin read an answer.
    pub(crate) fn open(origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            // Calls carry no cookies, so this is all of them (fetch.spec.whatwg.org, CORS protocol).
            HeaderValue::from_static("*"),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_those_named_are_not_foreign() {
        let cors = Cors::new(&["https://app.test".to_owned()]);
        for (origin, foreign) in [
            (None, false),
            (Some("http://localhost:3000"), false),
            (Some("http://127.0.0.1:8088"), false),
            (Some("http://[::1]:8088"), false),
            (Some("https://app.test"), false),
            (Some("https://evil.test"), true),
            (Some("http://localhost.evil.test"), true),
            (Some("null"), true),
        ] {
            let headers = origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin)));
            assert_eq!(cors.is_foreign(&headers.into_iter().collect()), foreign, "{origin:?}");
        }
    }
}
