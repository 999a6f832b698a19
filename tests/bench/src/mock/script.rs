//! What a streamed answer does, written as a model's name: the one field that every gateway hands on.

use std::{fmt, time::Duration};

/// An hour of tokens at the rate of a fast model; more is a typing error.
const EVENTS_MAX: u32 = 1_000_000;

/// Longer than any pause that a phase asks for; more is a typing error.
const GAP_MAX: Duration = Duration::from_secs(60);

/// How a stream goes: so many events so far apart, or one event and then silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// `stream-<events>x<gap>ms`: content events with a gap between two of them, then a proper end.
    Play { events: u32, gap: Duration },
    /// `hold`: one content event, and the stream stays open until the client goes away.
    Hold,
}

// === impl Script ===

impl Script {
    /// The inverse of `Display`; `None` for any other name and for numbers out of bounds.
    pub(crate) fn parse(model: &str) -> Option<Self> {
        if model == "hold" {
            return Some(Self::Hold);
        }
        let (events, gap) = model.strip_prefix("stream-")?.strip_suffix("ms")?.split_once('x')?;
        let (events, gap) = (events.parse().ok()?, Duration::from_millis(gap.parse().ok()?));
        (events <= EVENTS_MAX && gap <= GAP_MAX).then_some(Self::Play { events, gap })
    }

    /// Content events that the stream will carry.
    pub(crate) fn events(self) -> u32 {
        match self {
            Self::Play { events, .. } => events,
            Self::Hold => 1,
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Play { events, gap } => write!(f, "stream-{events}x{}ms", gap.as_millis()),
            Self::Hold => f.write_str("hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_its_model_name() {
        for script in [Script::Hold, Script::Play { events: 200, gap: Duration::from_millis(5) }] {
            assert_eq!(Script::parse(&script.to_string()), Some(script));
        }
    }

    #[test]
    fn other_names_are_no_scripts() {
        for name in
            ["", "bench", "stream-", "stream-xms", "stream-1x1", "stream-2000000x1ms", "stream-1x61000ms"]
        {
            assert_eq!(Script::parse(name), None, "{name}");
        }
    }
}
