//! The tap of the pass-through lane against the decoder of the translating one: they book the same.

#![no_main]

use hoosh_core::dialect::{DecodeError, Operation, StreamForm};
use hoosh_core::framing::{LineFramer, SseFramer};
use hoosh_core::{StreamEvent, Usage};
use hoosh_fuzz::{Input, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    if input.dialect.operation() == Operation::Inference {
        check_stream(&input);
        check_whole(&input);
    } else {
        let mut tap = input.dialect.tap(input.quirks);
        let _ = tap.whole(input.bytes);
        let _ = (tap.usage(), tap.is_complete(), tap.is_done());
    }
});

/// Law: a stream that the decoder reads to a proper end is complete for the tap too, with the same usage; one that is
/// cut is not; an error that the provider reports is one for both.
fn check_stream(input: &Input<'_>) {
    let mut tap = input.dialect.tap(input.quirks);
    let (mut fault, mut rest_is_garbage) = (None, false);
    let mut look = |data: &[u8], is_whole: bool| match tap.event(data) {
        // What has not come to its end is no event: a decoder that has its end already may leave it.
        Err(DecodeError::Field(_)) if !is_whole => rest_is_garbage = true,
        Err(error) => {
            fault.get_or_insert(error);
        }
        Ok(_) => {}
    };
    if input.dialect.stream_form() == StreamForm::Sse {
        let mut framer = SseFramer::default();
        framer.push(input.bytes, |event| look(event.data, true)).unwrap();
        framer.unfinished_data().into_iter().for_each(|data| look(data, false));
    } else {
        let mut framer = LineFramer::default();
        framer.push(input.bytes, |line| look(line.data, true)).unwrap();
        framer.unfinished_data().into_iter().for_each(|data| look(data, false));
    }
    let (events, end) = decode(input.dialect, input.quirks, &[input.bytes]);
    match end {
        Ok(()) => {
            assert_eq!(fault, None, "the decoder reads it");
            assert!(tap.is_complete(), "the decoder reads it to its end");
            assert_eq!(tap.usage().map(parts), usage(&events).map(parts), "both lanes give the same books");
        }
        Err(DecodeError::Truncated) => {
            let is_cut = fault.is_some() || rest_is_garbage || !tap.is_complete();
            assert!(is_cut, "the decoder misses an end");
        }
        Err(DecodeError::Reported(_)) => {
            assert!(fault.is_some(), "the decoder reads an error in it");
        }
        // The tap does not look at all that the decoder reads.
        Err(_) => {}
    }
}

/// Law: the same of a whole answer.
fn check_whole(input: &Input<'_>) {
    let mut tap = input.dialect.tap(input.quirks);
    let seen = tap.whole(input.bytes);
    match input.dialect.codec().unwrap().decode_reply(input.bytes) {
        Ok(reply) => {
            assert_eq!(seen, Ok(()), "the decoder reads it");
            assert_eq!(tap.usage().map(parts), reply.usage.map(parts), "both lanes give the same books");
        }
        Err(DecodeError::Reported(_)) => assert!(seen.is_err(), "the decoder reads an error in it"),
        Err(_) => {}
    }
}

fn usage(events: &[StreamEvent]) -> Option<Usage> {
    events.iter().rev().find_map(|event| match event {
        StreamEvent::Usage(usage) => Some(*usage),
        _ => None,
    })
}

/// Everything but how it is known, which the tap leaves to its lane.
fn parts(usage: Usage) -> Usage {
    Usage { provenance: Default::default(), ..usage }
}
