//! Any bytes as a request: nothing panics, and what can be read can be written in every dialect and read back there.

#![no_main]

use bytes::Bytes;
use hoosh_core::dialect::{Changes, Dialect, Head, Operation, Quirks, RequestLine, Target};
use hoosh_core::{InferenceRequest, PartKind, Role};
use hoosh_fuzz::{Input, are_siblings, check_json, embedding, inference, shown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    check_head(&input);
    match input.dialect.operation() {
        Operation::Inference => {
            if let Ok(request) = input.dialect.codec().unwrap().decode_request(input.bytes) {
                check_request(&input, &request);
            }
        }
        Operation::Embedding => check_embedding(&input),
        Operation::Counting => {
            if let Ok(request) = input.dialect.decode_count_request(input.bytes) {
                check_request(&input, &request);
            }
        }
        Operation::Plain => {}
    }
});

/// Law: a request that was read can be written for every provider, as JSON that its dialect reads.
fn check_request(input: &Input<'_>, request: &InferenceRequest) {
    // Without a word of the user's it asks Ollama to load a model; the gateway hands it to nobody else.
    let says_something = request.conversation().any(|message| message.role != Role::System);
    let stream = input.choice & 1 != 0;
    for target in inference() {
        let codec = target.codec().unwrap();
        let encoded = codec.encode_request(request, Target { model: "m", stream, quirks: input.quirks });
        check_json(&encoded.body, target.as_str());
        let read = codec.decode_request(&encoded.body);
        // A piece that only its vendor knows is written for the vendor as it came.
        let excused =
            are_siblings(input.dialect, target) || (target == input.dialect && has_unknown(request));
        if let (Err(error), true) = (read, says_something && !excused) {
            panic!("{target} does not read what it wrote: {error}: {}", shown(&encoded.body));
        }
    }
}

fn has_unknown(request: &InferenceRequest) -> bool {
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| matches!(part.kind, PartKind::Other { .. }))
}

/// Law: the same of embeddings, unless the dialect says it cannot carry them.
fn check_embedding(input: &Input<'_>) {
    let Ok(request) = input.dialect.embedding_codec().unwrap().decode_request(input.bytes) else { return };
    for target in embedding() {
        let codec = target.embedding_codec().unwrap();
        let Ok(encoded) = codec.encode_request(&request, "m") else { continue };
        check_json(&encoded.body, target.as_str());
        if let Err(error) = codec.decode_request(&encoded.body) {
            panic!("{target} does not read what it wrote: {error}: {}", shown(&encoded.body));
        }
    }
}

/// Law: a body that is passed through is the same after the splice, but for the model.
fn check_head(input: &Input<'_>) {
    let in_path = input.dialect.has_model_in_path();
    let line = || RequestLine {
        model: in_path.then(|| "m".to_owned()),
        stream: (in_path && input.choice & 1 != 0).then_some(true),
        json_list: input.choice & 2 != 0,
    };
    let Ok(head) = Head::read_with(input.dialect, line(), input.bytes) else { return };
    let body = Bytes::copy_from_slice(input.bytes);
    // Only these dialects have the field that usage is asked for in.
    let ask_usage = matches!(input.dialect, Dialect::OpenAiChat | Dialect::OpenAiCompletions);
    let changes = Changes { model: "another", ask_usage, quirks: input.quirks };
    let spliced = head.splice(&body, &changes);
    match Head::read_with(input.dialect, line(), &spliced) {
        Ok(again) if in_path => assert_eq!((again.model.as_str(), &spliced), ("m", &body)),
        // A moderation may name none.
        Ok(again) if input.dialect == Dialect::Moderations => assert!(!again.model.is_empty()),
        Ok(again) => assert_eq!(again.model, "another", "{}", shown(&spliced)),
        Err(error) => panic!("{}: the splice broke it: {error}: {}", input.dialect, shown(&spliced)),
    }
    let same = Changes { model: &head.model, ask_usage: false, quirks: Quirks::NONE };
    assert_eq!(head.splice(&body, &same), body, "nothing is to be changed");
}
