//! How a command reaches a running gateway.

use std::time::Duration;

use clap::Args;
use hoosh_client::HooshClient;

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayArgs {
    /// URL of the running gateway
    #[arg(long, visible_alias = "server", env = "HOOSH_URL", default_value = "http://127.0.0.1:8088")]
    pub(crate) url: String,

    /// Token to call it with; HOOSH_TOKEN keeps it out of the process list
    #[arg(long, env = "HOOSH_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

// === impl GatewayArgs ===

impl GatewayArgs {
    pub(crate) fn client(&self) -> HooshClient {
        HooshClient::builder(&self.url).token(self.token.as_deref().unwrap_or_default().trim()).build()
    }
}

/// A time as people read it: `85 ms`, `1.25 s`.
pub(crate) fn duration(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
