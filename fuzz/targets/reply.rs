//! Any bytes as a whole answer: nothing panics, and what can be read can be written in every dialect and read back
//! there, with the same text and the same tool calls.

#![no_main]

use hoosh_core::dialect::Operation;
use hoosh_core::{EmbeddingEncoding, InferenceResponse, PartKind};
use hoosh_fuzz::{Input, are_siblings, check_json, check_said, context, embedding, inference, shown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::read(data) else { return };
    match input.dialect.operation() {
        Operation::Inference => check_reply(&input),
        Operation::Embedding => check_embedding(&input),
        Operation::Counting | Operation::Plain => {
            let _ = input.dialect.tap(input.quirks).whole(input.bytes);
        }
    }
});

fn check_reply(input: &Input<'_>) {
    let Ok(reply) = input.dialect.codec().unwrap().decode_reply(input.bytes) else { return };
    for target in inference() {
        let codec = target.codec().unwrap();
        let encoded = codec.encode_reply(&reply, &context(input.dialect));
        check_json(&encoded.body, target.as_str());
        match codec.decode_reply(&encoded.body) {
            Ok(read) => check_said(&read, &reply, target, &encoded.body),
            Err(_) if are_siblings(input.dialect, target) => {}
            // A piece that only its vendor knows is written for the vendor's own clients as it came.
            Err(_) if target == input.dialect && has_unknown(&reply) => {}
            Err(error) => panic!("{target} does not read what it wrote: {error}: {}", shown(&encoded.body)),
        }
    }
}

fn has_unknown(reply: &InferenceResponse) -> bool {
    let mut parts = reply.choices.iter().flat_map(|choice| &choice.parts);
    parts.any(|part| matches!(part.kind, PartKind::Other { .. }))
}

fn check_embedding(input: &Input<'_>) {
    let Ok(reply) = input.dialect.embedding_codec().unwrap().decode_reply(input.bytes) else { return };
    // No vectors at all: some dialects' readers call that no answer.
    if reply.embeddings.is_empty() {
        return;
    }
    for target in embedding() {
        let codec = target.embedding_codec().unwrap();
        for encoding in [EmbeddingEncoding::Float, EmbeddingEncoding::Base64] {
            let body = codec.encode_reply(&reply, encoding);
            check_json(&body, target.as_str());
            if let Err(error) = codec.decode_reply(&body) {
                panic!("{target} does not read what it wrote: {error}: {}", shown(&body));
            }
        }
    }
}
