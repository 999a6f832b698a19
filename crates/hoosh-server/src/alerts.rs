//! What somebody should know of the pools: told in the log, the metrics and the events, and to a web hook where one is named.
//!
//! An alert comes from the thread of a call that crossed a threshold, so nothing here waits: it is put into a queue of bounded
//! length, from which one task delivers, one after the other. What finds the queue full is told of in the log as all are, and
//! not delivered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use hoosh_budget::{Alert, AlertKind, Amount, BudgetWatch, CallId, Capacity, Expired, LedgerFault};
use hoosh_core::limits::{
    ALERT_ANSWER_BYTES_MAX, ALERT_RETRY_FIRST, ALERT_TIME_MAX, ALERT_TRIES, ALERTS_WAITING_MAX,
};
use hoosh_gateway::{EventBus, RequestId};
use hoosh_providers::{WebClient, WebError};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use jiff::Timestamp;
use ring::hmac;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::api::decisions::dollars;
use crate::app::App;
use crate::config::AlertHook;
use crate::metrics::Metrics;

/// Tells what should be known. One for all configurations of a server.
pub(crate) struct Alerts {
    metrics: Arc<Metrics>,
    events: OnceLock<EventBus>,
    waiting: Mutex<VecDeque<Value>>,
    came: Notify,
}

/// `sha256=` and HMAC-SHA-256 of the body under the hook's secret, in hexadecimal digits.
const X_HOOSH_SIGNATURE: HeaderName = HeaderName::from_static("x-hoosh-signature");

/// Delivers alerts to the hook of the configuration in use, as long as the server runs.
pub(crate) async fn deliver(apps: watch::Receiver<Arc<App>>) {
    let web = WebClient::new(ALERT_TIME_MAX);
    loop {
        let alerts = Arc::clone(&apps.borrow().alerts);
        let alert = alerts.next().await;
        // The one of now, whatever it was when the alert came.
        let Some(hook) = apps.borrow().config.budget.hook.clone() else { continue };
        let sent = send(&web, &hook, &alert).await;
        alerts.metrics.count_alert_delivery(if sent.is_ok() { "sent" } else { "failed" });
        if let Err(error) = sent {
            let pool = alert["pool"].as_str().unwrap_or_default();
            // Its path may be a secret.
            tracing::warn!(target: "hoosh::budget", host = hook.url.host(), pool, %error, "an alert could not be delivered");
        }
    }
}

/// Sends one, and again if that may help, at most so often.
pub(crate) async fn send(web: &WebClient, hook: &AlertHook, alert: &Value) -> Result<(), WebError> {
    let body = Bytes::from(alert.to_string());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(secret) = &hook.secret {
        let signature = signature(secret.expose_secret().as_bytes(), &body);
        headers.insert(X_HOOSH_SIGNATURE, HeaderValue::try_from(signature).map_err(http::Error::from)?);
    }
    let mut rest = ALERT_RETRY_FIRST;
    let mut tries = 1;
    loop {
        let (headers, body) = (headers.clone(), body.clone());
        match web.send(Method::POST, &hook.url, headers, body, ALERT_ANSWER_BYTES_MAX).await {
            // It was taken; what it says is nobody's business.
            Ok(_) | Err(WebError::TooLong(_)) => return Ok(()),
            Err(error) if tries >= ALERT_TRIES || !may_help(&error) => return Err(error),
            Err(_) => {}
        }
        sleep(rest).await;
        rest *= 4;
        tries += 1;
    }
}

/// Whether the same may be taken later.
fn may_help(error: &WebError) -> bool {
    match error {
        WebError::Failed(_) => true,
        WebError::Status(status) => {
            status.is_server_error()
                || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        }
        _ => false,
    }
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    use std::fmt::Write;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        let _written = write!(text, "{byte:02x}"); // A String takes every write.
        text
    })
}

/// What is sent of an alert.
fn told(alert: &Alert) -> Value {
    let Alert { pool, capacity, settled, reserved, .. } = alert;
    let (kind, percent) = match alert.kind {
        AlertKind::Reached(percent) => ("reached", Some(percent)),
        AlertKind::Beyond => ("beyond", None),
    };
    let limit =
        |capacity: &Capacity| json!({ "tokens": capacity.tokens, "usd": capacity.money.map(dollars) });
    let amount = |amount: &Amount| json!({ "tokens": amount.tokens, "usd": dollars(amount.money) });
    json!({
        // The same at each try, so that who hears it twice knows.
        "id": RequestId::new().as_str().replacen("req_", "alert_", 1),
        "time": Timestamp::now().to_string(),
        "pool": pool.as_str(),
        "kind": kind,
        "percent": percent,
        "capacity": limit(capacity),
        "settled": amount(settled),
        "reserved": amount(reserved),
    })
}

// === impl Alerts ===

impl Alerts {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, events: OnceLock::new(), waiting: Mutex::default(), came: Notify::new() }
    }

    /// Tells listeners of these events too. The first ones count: they outlive configurations.
    pub(crate) fn tell(&self, events: &EventBus) {
        self.events.get_or_init(|| events.clone());
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has taken none.
    async fn next(&self) -> Value {
        loop {
            if let Some(alert) = self.waiting().pop_front() {
                return alert;
            }
            // One that comes in between is remembered.
            self.came.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Value>> {
        // Whoever panicked has left whole entries.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BudgetWatch for Alerts {
    fn alert(&self, alert: &Alert) {
        let Alert { pool, capacity, settled, reserved, .. } = alert;
        match alert.kind {
            AlertKind::Reached(percent) => {
                tracing::warn!(%pool, percent, ?capacity, ?settled, "so much of a pool is spent");
            }
            AlertKind::Beyond => {
                tracing::warn!(%pool, ?capacity, ?settled, ?reserved, "a soft pool holds more than it has left");
            }
        }
        self.metrics.count_alert(alert);
        if let Some(events) = self.events.get() {
            events.pool_alert(alert);
        }
        let mut waiting = self.waiting();
        if waiting.len() >= ALERTS_WAITING_MAX {
            drop(waiting);
            self.metrics.count_alert_delivery("dropped");
            tracing::warn!(target: "hoosh::budget", %pool, "an alert is not delivered: as many wait as may");
            return;
        }
        waiting.push_back(told(alert));
        drop(waiting);
        self.came.notify_one();
    }

    fn expired(&self, expired: &Expired) {
        tracing::warn!(id = %expired.call, held = ?expired.held, booked = ?expired.produced, "a reservation expired");
    }

    fn overrun(&self, call: &CallId, overrun: Amount) {
        tracing::warn!(id = %call, ?overrun, "a call used more than its pools could book");
    }

    fn fault(&self, fault: &LedgerFault) {
        tracing::error!(%fault, "what is booked cannot be kept for now");
    }
}

/// Reads the URL of a hook, which was checked.
pub(crate) fn url(text: &str) -> Option<Uri> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: AlertKind) -> Alert {
        let pool = "team:a".parse().unwrap();
        let capacity = Capacity { tokens: Some(10), money: None };
        Alert { pool, kind, capacity, settled: Amount::tokens(8), reserved: Amount::ZERO }
    }

    #[test]
    fn the_queue_is_bounded_and_keeps_its_order() {
        let alerts = Alerts::new(Arc::new(Metrics::new()));
        for n in 0..=ALERTS_WAITING_MAX {
            alerts.alert(&alert(AlertKind::Reached(u8::try_from(n % 100).unwrap())));
        }
        let waiting = alerts.waiting();
        assert_eq!(waiting.len(), ALERTS_WAITING_MAX);
        assert_eq!((&waiting[1]["percent"], &waiting[1]["kind"]), (&json!(1), &json!("reached")));
        drop(waiting);
        let text = alerts.metrics.text("");
        assert!(text.contains("hoosh_pool_alert_deliveries_total{result=\"dropped\"} 1"), "{text}");
    }

    #[test]
    fn a_signature_is_hmac_sha_256() {
        // RFC 4231, 4.3: test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, expected) in
            [(500, true), (503, true), (429, true), (408, true), (404, false), (302, false)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_help(&WebError::Status(status)), expected, "{status}");
        }
    }
}
