//! Any status and body as a provider's error, and what is made of it told in every dialect.

#![no_main]

use std::time::Duration;

use hoosh_core::dialect::Dialect;
use hoosh_core::{HooshError, Problem, limits};
use hoosh_fuzz::{Input, check_json};
use libfuzzer_sys::fuzz_target;

/// What `…` adds behind a sentence that was cut.
const CUT_MARK_BYTES: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    let retry_after = (input.quirks.done_optional).then(|| Duration::from_millis(input.choice.into()));
    // Half of them are statuses that say it is an error.
    let status = if input.quirks.cache_marks { input.choice } else { 400 + input.choice % 200 };
    let failure = input.dialect.decode_error(status, retry_after, input.bytes);
    let told = failure.message.len();
    assert!(told <= limits::VENDOR_MESSAGE_BYTES_MAX + CUT_MARK_BYTES, "a sentence of {told} bytes");
    let problem = Problem::from(&HooshError::from(failure));
    for dialect in Dialect::ALL {
        let body = dialect.encode_error(&problem, "req_1");
        check_json(&body, dialect.as_str());
        let _ = dialect.decode_error(status, None, &body);
    }
});
