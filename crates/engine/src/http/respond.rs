//! Error bodies: which media type, which text.
//!
//! Used for the engine's own refusals and for `kong.response.error`, so both look alike. Facts: routing reference 14.

use bytes::Bytes;

use crate::error::{text_of, Producer, Refusal};
use crate::exchange::{Answer, Exchange};
use crate::http::head::Version;
use crate::http::headers::{HeaderBlock, Known};
use crate::settings::ErrorTemplates;

/// Record the gateway's own answer to a refused request.
pub fn refuse(exchange: &mut Exchange, refusal: &Refusal) {
    let answer = refusal.answer();
    exchange.is_failed |= refusal.is_failure();
    let settings = exchange.live.settings.clone();
    let media = match answer.producer {
        Producer::Gateway => gateway_media(exchange),
        Producer::Server if is_grpc_request(exchange) => Media::Grpc,
        Producer::Server => negotiate(&exchange.request.headers).unwrap_or_else(|| {
            let content_type = exchange
                .request
                .headers
                .known(Known::ContentType)
                .map(String::from_utf8_lossy);
            let essence =
                content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
            essence
                .and_then(|essence| Media::of_exact(&essence))
                .unwrap_or_else(|| Media::of(&settings.error_default_type))
        }),
    };
    exchange.response.status = answer.status;
    for (name, value) in &answer.headers {
        exchange
            .response
            .headers
            .set(name.as_bytes(), std::slice::from_ref(value));
    }
    let body = if answer.has_body {
        error_body(exchange, media, &answer.message)
    } else {
        Bytes::new()
    };
    exchange.answer = Some(Answer {
        body,
        closes: answer.closes,
    });
}

/// Record `kong.response.error(status, message, headers)`; the default text for None.
///
/// # Errors
/// A Content-Type in `headers` that error bodies do not exist in.
pub fn answer_error(
    exchange: &mut Exchange,
    status: u16,
    message: Option<&str>,
    headers: &[(String, String)],
) -> Result<(), String> {
    let explicit = headers
        .iter()
        .find(|(name, _)| name == "Content-Type")
        .map(|(_, value)| value);
    let media = match explicit {
        Some(value) => {
            let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            Media::of_exact(&essence).ok_or_else(|| format!("unsupported content type for an error body: {value}"))?
        }
        None => gateway_media(exchange),
    };
    let fallback = text_of(status);
    let fallback = if fallback.is_empty() {
        format!("The upstream server responded with {status}")
    } else {
        fallback.to_owned()
    };
    let message = message.unwrap_or(&fallback).to_owned();
    exchange.response.status = status;
    set_headers(exchange, headers);
    let body = error_body(exchange, media, &message);
    exchange.answer = Some(Answer { body, closes: false });
    Ok(())
}

/// Record `kong.response.exit(status, body, headers)`.
pub fn answer_exit(
    exchange: &mut Exchange,
    status: u16,
    body: Option<Bytes>,
    headers: &[(String, String)],
    is_json: bool,
) {
    exchange.response.status = status;
    let has_type = headers
        .iter()
        .any(|(name, _)| crate::http::headers::names_equal(name.as_bytes(), b"content-type"));
    let has_length = headers
        .iter()
        .any(|(name, _)| crate::http::headers::names_equal(name.as_bytes(), b"content-length"));
    if !has_length {
        exchange.response.headers.remove(b"content-length");
    }
    if is_json && !has_type {
        exchange
            .response
            .headers
            .set(b"Content-Type", &[Media::Json.content_type()]);
    }
    set_headers(exchange, headers);
    let mut body = body.unwrap_or_default();
    let is_explicit = exchange
        .response
        .headers
        .known(Known::ContentType)
        .map(|value| value.starts_with(b"application/grpc"));
    let is_grpc = is_explicit.unwrap_or(false) || (is_explicit.is_none() && is_grpc_request(exchange));
    if is_grpc {
        let code = grpc_status(status);
        if exchange.response.headers.get(b"grpc-status").is_none() {
            exchange.response.headers.set(b"grpc-status", &[code.to_string()]);
        }
        if exchange.response.headers.get(b"grpc-message").is_none() {
            let message = if is_explicit.is_none() && !body.is_empty() {
                String::from_utf8_lossy(&body).into_owned()
            } else {
                grpc_name(code).to_owned()
            };
            exchange.response.headers.set(b"grpc-message", &[message]);
        }
        if is_explicit.is_none() {
            body = Bytes::new();
        }
    }
    exchange.answer = Some(Answer { body, closes: false });
}

fn set_headers(exchange: &mut Exchange, headers: &[(String, String)]) {
    let mut replaced: Vec<&str> = Vec::new();
    for (name, value) in headers {
        if crate::http::headers::names_equal(name.as_bytes(), b"transfer-encoding") {
            continue;
        }
        let name_text = name.as_str();
        if replaced.iter().any(|known| known.eq_ignore_ascii_case(name_text)) {
            exchange.response.headers.add(name.as_bytes(), value.as_bytes());
        } else {
            exchange.response.headers.set(name.as_bytes(), &[value]);
            replaced.push(name_text);
        }
    }
}

/// True for bodies of gRPC messages.
#[must_use]
pub fn is_grpc_content(headers: &HeaderBlock) -> bool {
    headers
        .known(Known::ContentType)
        .is_some_and(|value| value.starts_with(b"application/grpc"))
}

fn is_grpc_request(exchange: &Exchange) -> bool {
    exchange.request.version == Version::Http2 && is_grpc_content(&exchange.request.headers)
}

fn gateway_media(exchange: &Exchange) -> Media {
    if is_grpc_request(exchange) {
        return Media::Grpc;
    }
    negotiate(&exchange.request.headers).unwrap_or(Media::Json)
}

fn error_body(exchange: &mut Exchange, media: Media, message: &str) -> Bytes {
    exchange.response.headers.remove(b"content-length");
    if media == Media::Grpc {
        let code = grpc_status(exchange.response.status);
        exchange.response.headers.set(b"Content-Type", &[media.content_type()]);
        exchange.response.headers.set(b"grpc-status", &[code.to_string()]);
        let message = if message.is_empty() { grpc_name(code) } else { message };
        exchange.response.headers.set(b"grpc-message", &[message]);
        return Bytes::new();
    }
    let body = render(
        media,
        message,
        exchange.id_text(),
        &exchange.live.settings.error_templates,
    );
    exchange.response.headers.set(b"Content-Type", &[media.content_type()]);
    Bytes::from(body)
}

/// A type that error bodies exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`, the default.
    Json,
    /// `text/html`
    Html,
    /// `text/plain`
    Plain,
    /// `application/xml`
    Xml,
    /// No body; status and message as fields.
    Grpc,
}

impl Media {
    /// The response's Content-Type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Grpc => "application/grpc",
        }
    }

    /// The type that an exact media type names, JSON for unknown ones.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        let essence = media_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        Self::of_exact(&essence).unwrap_or(Self::Json)
    }

    /// The type of a lower-case essence, None for unknown ones.
    #[must_use]
    pub fn of_exact(essence: &str) -> Option<Self> {
        match essence {
            "text/html" => Some(Self::Html),
            "text/plain" | "text/*" => Some(Self::Plain),
            "application/xml" => Some(Self::Xml),
            "application/grpc" => Some(Self::Grpc),
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The entry of Accept with the highest quality, first among equals; None without a usable entry.
#[must_use]
pub fn negotiate(request: &HeaderBlock) -> Option<Media> {
    let mut best: Option<(u32, Media)> = None;
    for value in request.known_values(Known::Accept) {
        for entry in String::from_utf8_lossy(value).split(',') {
            let Some((quality, media)) = parse_entry(entry) else {
                continue;
            };
            if quality > best.map_or(0, |(quality, _)| quality) {
                best = Some((quality, media));
            }
        }
    }
    best.map(|(_, media)| media)
}

fn parse_entry(entry: &str) -> Option<(u32, Media)> {
    let mut parts = entry.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    let is_token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let mut quality = 1000;
    for parameter in parts {
        if let Some(text) = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")) {
            let number: f32 = text.parse().ok()?;
            if !(0.0..=1.0).contains(&number) {
                return None;
            }
            quality = (number * 1000.0) as u32;
        }
    }
    Some((quality, Media::of(&essence)))
}

/// The body for a message; the message and the id go in as they are, like the contract's own templates do.
#[must_use]
pub fn render(media: Media, message: &str, request_id: &str, templates: &ErrorTemplates) -> Vec<u8> {
    let custom = match media {
        Media::Json => templates.json.as_deref(),
        Media::Html => templates.html.as_deref(),
        Media::Plain => templates.plain.as_deref(),
        Media::Xml => templates.xml.as_deref(),
        Media::Grpc => return Vec::new(),
    };
    if let Some(template) = custom {
        return template
            .replacen("%s", message, 1)
            .replacen("%s", request_id, 1)
            .into_bytes();
    }
    match media {
        Media::Json => format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{request_id}\"\n}}"),
        Media::Html => format!(
            "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  \
             <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: {request_id}</p>\n  </body>\n</html>\n"
        ),
        Media::Plain => format!("{message}\nrequest_id: {request_id}\n"),
        Media::Xml => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  \
             <requestid>{request_id}</requestid>\n</error>\n"
        ),
        Media::Grpc => String::new(),
    }
    .into_bytes()
}

/// gRPC status of an HTTP status (routing reference 14.3).
#[must_use]
pub const fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        501 => 12,
        503 => 14,
        504 => 4,
        500 | 502 | 505..=599 => 13,
        402 | 405..=408 | 410..=428 | 430..=498 => 3,
        200..=299 => 0,
        _ => 2,
    }
}

/// Name of a gRPC status.
#[must_use]
pub const fn grpc_name(code: u8) -> &'static str {
    match code {
        0 => "OK",
        1 => "Canceled",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Option<Media> {
        let mut block = HeaderBlock::new();
        block.add(b"Accept", value.as_bytes());
        negotiate(&block)
    }

    #[test]
    fn highest_quality_wins_and_first_among_equals() {
        assert_eq!(accept("text/html;q=0.5, application/xml"), Some(Media::Xml));
        assert_eq!(accept("text/plain, text/html"), Some(Media::Plain));
        assert_eq!(accept("text/html;q=0, application/xml;q=0.1"), Some(Media::Xml));
    }

    #[test]
    fn unknown_types_are_answered_in_json_and_nonsense_is_skipped() {
        assert_eq!(accept("image/png"), Some(Media::Json));
        assert_eq!(accept("html, text/html"), Some(Media::Html));
        assert_eq!(accept("html"), None);
        assert_eq!(negotiate(&HeaderBlock::new()), None);
    }

    #[test]
    fn json_body_has_two_space_indent_and_no_final_newline() {
        let body = render(Media::Json, "Not found", "abc", &ErrorTemplates::default());
        assert_eq!(body, b"{\n  \"message\":\"Not found\",\n  \"request_id\":\"abc\"\n}");
    }

    #[test]
    fn html_adds_a_full_stop() {
        let body = render(Media::Html, "M", "R", &ErrorTemplates::default());
        let text = String::from_utf8(body).unwrap_or_default();
        assert!(text.contains("    <p>M.</p>\n    <p>request_id: R</p>\n"), "{text}");
        assert!(text.starts_with("<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n"));
    }

    #[test]
    fn custom_template_gets_message_and_id() {
        let templates = ErrorTemplates {
            plain: Some("E %s I %s".to_owned()),
            ..ErrorTemplates::default()
        };
        assert_eq!(render(Media::Plain, "m", "i", &templates), b"E m I i");
    }
}
