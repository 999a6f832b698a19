//! What comes in: one request, its head read, its body untouched.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hoosh_core::dialect::{Dialect, Head, Quirks, Target};
use hoosh_core::{HooshError, InferenceRequest, InvalidRequest};
use uuid::Uuid;

/// One call on its way.
#[derive(Debug)]
pub struct Call {
    /// Its name in headers, logs and books.
    pub id: RequestId,
    /// Who calls.
    pub caller: CallerId,
    /// The dialect it came in and the answer goes out in.
    pub dialect: Dialect,
    /// What was read of it.
    pub head: Head,
    /// Its body as it came.
    pub body: Bytes,
    /// The body decoded, when a candidate needs that for the first time.
    decoded: OnceLock<Result<InferenceRequest, InvalidRequest>>,
}

/// The name of one call, ours and unique.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Who calls: the name of a key, never the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerId(Arc<str>);

// === impl Call ===

impl Call {
    /// A call with this body.
    ///
    /// # Errors
    ///
    /// [`HooshError::InvalidRequest`] if its head cannot be read.
    pub fn read(id: RequestId, caller: CallerId, dialect: Dialect, body: Bytes) -> Result<Self, HooshError> {
        let head = Head::read(dialect, &body)?;
        Ok(Self { id, caller, dialect, head, body, decoded: OnceLock::new() })
    }

    /// A typed request as a call in OpenAI's chat dialect, for programs that have no bytes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read): the model may be missing.
    pub fn chat(request: &InferenceRequest) -> Result<Self, HooshError> {
        let target = Target { model: &request.model, stream: false, quirks: Quirks::NONE };
        let dialect = Dialect::OpenAiChat;
        let body =
            dialect.codec().map(|codec| codec.encode_request(request, target).body).unwrap_or_default();
        Self::read(RequestId::new(), CallerId::new("embedded"), dialect, body.into())
    }

    /// The request in core's types.
    pub(crate) fn decoded(&self) -> Result<&InferenceRequest, &InvalidRequest> {
        let decode = || match self.dialect.codec() {
            Some(codec) => codec.decode_request(&self.body),
            None => Err(InvalidRequest::new("", "embeddings are no inference")),
        };
        self.decoded.get_or_init(decode).as_ref()
    }
}

// === impl RequestId ===

impl RequestId {
    /// A new one: `req_` and a UUID of version 7, so that they sort by time.
    #[allow(clippy::new_without_default)] // Each is another: there is no default one.
    pub fn new() -> Self {
        let mut text = [0; 32];
        Self(format!("req_{}", Uuid::now_v7().simple().encode_lower(&mut text)).into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl CallerId ===

impl CallerId {
    /// A caller of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
