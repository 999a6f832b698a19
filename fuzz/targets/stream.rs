//! Any bytes as a stream, in any pieces, cut anywhere, and what was read written again in every dialect.

#![no_main]

use hoosh_core::dialect::{DecodeError, Dialect, Quirks, StreamForm};
use hoosh_core::{Problem, ProblemKind, StreamEvent, UpstreamFailure, fold};
use hoosh_fuzz::{
    Input, are_siblings, check_bounded, check_json, check_said, context, decode, inference, shown,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    if input.dialect.codec().is_none() {
        return;
    }
    let (events, end) = decode(input.dialect, input.quirks, &[input.bytes]);
    check_bounded(&events, input.bytes.len());

    // Law: the same events and the same end, however the bytes come.
    let (in_pieces, end_in_pieces) = decode(input.dialect, input.quirks, &input.pieces());
    assert_eq!(in_pieces, events, "in pieces");
    assert_eq!(end_in_pieces, end, "in pieces");

    check_cut(&input, &events, &end);
    for target in inference() {
        check_written(&input, &events, &end, target);
    }
});

/// Law: a stream that is cut off never ends well, unless what is missing carried nothing.
fn check_cut(input: &Input<'_>, events: &[StreamEvent], end: &Result<(), DecodeError>) {
    let (cut_events, cut_end) = decode(input.dialect, input.quirks, &[input.cut()]);
    if cut_end.is_err() {
        return;
    }
    let finished =
        |events: &[StreamEvent]| events.iter().any(|event| matches!(event, StreamEvent::Finish { .. }));
    assert!(finished(&cut_events), "a clean end without a reason: {cut_events:?}");
    // Gemini has no last word: a reason to finish is all there is to go by.
    let has_last_word = input.dialect != Dialect::Gemini && !input.quirks.done_optional;
    if has_last_word && end.is_ok() {
        assert_eq!(cut_events, events, "cut at {} and yet a clean end", input.cut().len());
    }
}

/// Law: every dialect writes the events as a stream that it reads itself, saying the same and with the same kind of end.
fn check_written(input: &Input<'_>, events: &[StreamEvent], end: &Result<(), DecodeError>, target: Dialect) {
    let json_list = target == Dialect::Gemini && input.choice & 1 != 0;
    let mut context = context(input.dialect);
    context.json_list = json_list;
    let mut encoder = target.codec().unwrap().stream_encoder(&context);
    let mut written = Vec::new();
    for event in events {
        encoder.event(event, &mut written);
    }
    match end {
        Ok(()) => encoder.finish(&mut written),
        Err(error) => {
            let failure = UpstreamFailure::from(error.clone());
            let problem = Problem::new(ProblemKind::Upstream, "upstream_failed", failure.message);
            encoder.problem(&problem, &mut written);
        }
    }
    let _ = encoder.take_notes();
    if json_list {
        return check_json(&written, "gemini's list");
    }
    if target.stream_form() == StreamForm::Lines {
        for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            check_json(line, target.as_str());
        }
    }
    // Where only one answer has a place, one that only others were written for has no end to be told.
    let first_ends = events.iter().any(|event| matches!(event, StreamEvent::Finish { choice: 0, .. }));
    if end.is_ok() && !first_ends {
        return;
    }
    let (read, read_end) = decode(target, Quirks::NONE, &[&written]);
    match (end, read_end) {
        // What comes behind the end of an answer belongs to nothing.
        (Ok(()), Ok(())) if goes_on_after_its_end(events) => {}
        (Ok(()), Ok(())) => {
            check_said(&fold(read), &fold(events.iter().cloned()), target, &written);
        }
        (Ok(()), Err(_)) if are_siblings(input.dialect, target) => {}
        (Ok(()), Err(error)) => panic!("{target} does not read what it wrote: {error}: {}", shown(&written)),
        (Err(error), Ok(())) => panic!("{target} ends well where `{error}` ended it: {}", shown(&written)),
        (Err(_), Err(DecodeError::Reported(_))) => {}
        (Err(_), Err(other)) => panic!("{target}'s own error reads as `{other}`: {}", shown(&written)),
    }
}

fn goes_on_after_its_end(events: &[StreamEvent]) -> bool {
    let end = events.iter().position(|event| matches!(event, StreamEvent::Finish { .. }));
    end.is_some_and(|end| events[end + 1..].iter().any(StreamEvent::is_output))
}
