//! The gateway's URL: what is taken for one, and the addresses below it.

use reqwest::Url;

use crate::error::ClientError;

/// Reads the gateway's URL.
///
/// A path is kept, for a gateway behind a reverse proxy; a trailing `/v1` is what OpenAI's clients are given and is
/// taken off.
pub(crate) fn parse(text: &str) -> Result<Url, ClientError> {
    let text = text.trim();
    let refuse = |problem: String| Err(ClientError::Url { url: without_password(text), problem });
    if text.is_empty() {
        return refuse("is empty; give the gateway's address, such as `http://localhost:8088`".to_owned());
    }
    if !text.contains("://") {
        return refuse(format!("has no scheme; did you mean `http://{}`?", without_password(text)));
    }
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return refuse(error.to_string()),
    };
    match url.scheme() {
        "http" => {}
        "https" if cfg!(feature = "tls") => {}
        "https" => {
            return refuse("https needs the feature `tls` of hoosh-client, which is switched off".to_owned());
        }
        other => return refuse(format!("the scheme is `{other}`, not http or https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(
            "holds a user name or password; a key is given with `HooshClientBuilder::token`".to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("holds a query or a fragment; give the gateway's address alone".to_owned());
    }
    let ends_in_v1 = url.path().trim_end_matches('/').ends_with("/v1");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        if ends_in_v1 {
            segments.pop();
        }
    }
    Ok(url)
}

/// The address of a path below the gateway's URL. Segments are escaped where they need it.
pub(crate) fn below<'a>(base: &Url, path: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    // An http URL always has a path, so this is always done.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// How the URL is shown in messages.
pub(crate) fn shown(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

/// `text` without what stands before an `@`, which may be a password.
pub(crate) fn without_password(text: &str) -> String {
    match text.rfind('@') {
        Some(at) => format!("…{}", &text[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let url = below(&parse(text).unwrap(), ["v1", "models", "a/b c%"]);
        assert_eq!(url.as_str(), format!("{expected}/v1/models/a%2Fb%20c%25"));
    }

    #[test]
    fn slashes_and_v1_at_the_end_are_no_matter() {
        for text in ["http://localhost:8088", " http://localhost:8088/ ", "http://localhost:8088/v1/"] {
            check(text, "http://localhost:8088");
        }
        check("http://host/hoosh", "http://host/hoosh");
        check("http://host/hoosh/v1", "http://host/hoosh");
        check("http://[::1]:8088/v12", "http://[::1]:8088/v12");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_cannot_be_used_is_said_with_the_way_out() {
        check_refused(
            "localhost:8088",
            "gateway URL `localhost:8088`: has no scheme; did you mean `http://localhost:8088`?",
        );
        check_refused("ftp://host", "gateway URL `ftp://host`: the scheme is `ftp`, not http or https");
        check_refused("http://", "gateway URL `http://`: empty host");
        check_refused("http://host:99999", "gateway URL `http://host:99999`: invalid port number");
        check_refused(
            "http://host/?key=1",
            "gateway URL `http://host/?key=1`: holds a query or a fragment; give the gateway's address alone",
        );
        check_refused(
            "",
            "gateway URL ``: is empty; give the gateway's address, such as `http://localhost:8088`",
        );
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for text in ["http://user:secret@host", "user:secret@host", "http://user:se@cret@host:x"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with("gateway URL `…@host"), "{message}");
            assert!(!message.contains("secret") && !message.contains("cret@"), "{message}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_without_tls_names_the_feature() {
        check_refused(
            "https://host",
            "gateway URL `https://host`: https needs the feature `tls` of hoosh-client, which is switched off",
        );
    }
}
