//! HTTP/1 bodies: decoding what arrives, encoding what leaves (RFC 9112, sections 6 and 7).
//!
//! No I/O: the decoder takes bytes out of the connection's read buffer, the encoder puts frames into its write queue.

use bytes::{Bytes, BytesMut};

use crate::http::h1::parse::Framing;
use crate::http::h1::transport::WriteQueue;
use crate::http::headers::HeaderBlock;

/// Longest chunk-size line with its extensions; nginx reads 4 KiB.
const CHUNK_LINE_BYTES: usize = 4096;
/// Longest trailer section.
const TRAILER_BYTES: usize = 16 * 1024;
/// Trailer fields at most.
const TRAILER_FIELDS: usize = 64;

/// The bytes are no valid body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed body: {0}")]
pub struct BodyFault(pub &'static str);

/// One step of decoding.
#[derive(Debug)]
pub enum Decoded {
    /// Body bytes.
    Data(Bytes),
    /// The body is complete.
    End,
    /// Nothing to take out before more bytes arrive.
    NeedMore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Takes one body out of a read buffer.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    trailers: Option<HeaderBlock>,
}

impl BodyDecoder {
    /// A decoder for what the head announced.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: None }
    }

    /// True when the whole body was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes still to come, when their number is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The trailer fields, once, after the end.
    pub fn take_trailers(&mut self) -> Option<HeaderBlock> {
        self.trailers.take()
    }

    /// The connection ended: was that the end of the body?
    ///
    /// # Errors
    /// The body was cut.
    pub fn finish_at_close(&mut self) -> Result<(), BodyFault> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyFault("connection closed in mid-body")),
        }
    }

    /// Take the next piece out of `buffer`.
    ///
    /// # Errors
    /// The chunked framing is broken.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyFault> {
        loop {
            match self.state {
                State::Done => return Ok(Decoded::End),
                State::UntilClose => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    return Ok(Decoded::Data(buffer.split().freeze()));
                }
                State::Length(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let (data, left) = take(buffer, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkData(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let (data, left) = take(buffer, left);
                    self.state = if left == 0 {
                        State::ChunkEnd
                    } else {
                        State::ChunkData(left)
                    };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => {
                    let Some(end) = buffer.get(..2) else {
                        return Ok(Decoded::NeedMore);
                    };
                    if end != b"\r\n" {
                        return Err(BodyFault("chunk longer than its size"));
                    }
                    let _ = buffer.split_to(2);
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => match self.chunk_size(buffer)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::ChunkData(size),
                },
                State::Trailers => {
                    if !self.read_trailers(buffer)? {
                        return Ok(Decoded::NeedMore);
                    }
                    self.state = State::Done;
                }
            }
        }
    }

    fn chunk_size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, BodyFault> {
        let Some(end) = memchr::memchr(b'\n', buffer) else {
            if buffer.len() > CHUNK_LINE_BYTES {
                return Err(BodyFault("chunk size line too long"));
            }
            return Ok(None);
        };
        if end > CHUNK_LINE_BYTES {
            return Err(BodyFault("chunk size line too long"));
        }
        let line = buffer.split_to(end + 1);
        let line = line
            .get(..end)
            .and_then(|line| line.strip_suffix(b"\r"))
            .ok_or(BodyFault("chunk line without CR"))?;
        let digits = line
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii_end();
        if line.contains(&b'\r') || digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit)
        {
            return Err(BodyFault("invalid chunk size"));
        }
        let text = std::str::from_utf8(digits).map_err(|_| BodyFault("invalid chunk size"))?;
        u64::from_str_radix(text, 16)
            .map(Some)
            .map_err(|_| BodyFault("invalid chunk size"))
    }

    /// True when the section is complete.
    fn read_trailers(&mut self, buffer: &mut BytesMut) -> Result<bool, BodyFault> {
        if buffer.starts_with(b"\r\n") {
            let _ = buffer.split_to(2);
            return Ok(true);
        }
        let mut slots = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
        let (length, fields) = match httparse::parse_headers(buffer, &mut slots) {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) if buffer.len() > TRAILER_BYTES => {
                return Err(BodyFault("trailers too large"));
            }
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(BodyFault("invalid trailers")),
        };
        let mut trailers = HeaderBlock::new();
        for field in fields {
            trailers.add(field.name.as_bytes(), field.value);
        }
        let _ = buffer.split_to(length);
        self.trailers = Some(trailers);
        Ok(true)
    }
}

fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(count).freeze(), left - count as u64)
}

/// Frames one body into a write queue.
#[derive(Debug)]
pub struct BodyEncoder {
    framing: Framing,
    sent_bytes: u64,
}

impl BodyEncoder {
    /// An encoder for what the head announced.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, sent_bytes: 0 }
    }

    /// Queue body bytes. With `Framing::None` they are dropped (HEAD, 204, 304); beyond an announced length too.
    pub fn data(&mut self, queue: &mut WriteQueue, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        match self.framing {
            Framing::None => {}
            Framing::UntilClose => queue.push(chunk),
            Framing::Length(length) => {
                let room = usize::try_from(length - self.sent_bytes).unwrap_or(usize::MAX);
                let chunk = if chunk.len() > room { chunk.slice(..room) } else { chunk };
                self.sent_bytes += chunk.len() as u64;
                queue.push(chunk);
            }
            Framing::Chunked => {
                queue.push_hex_line(chunk.len());
                queue.push(chunk);
                queue.push_slice(b"\r\n");
            }
        }
    }

    /// Queue the end; true when the body is whole (false: fewer bytes than announced, the connection must close).
    pub fn end(&mut self, queue: &mut WriteQueue, trailers: Option<&HeaderBlock>) -> bool {
        match self.framing {
            Framing::Length(length) => self.sent_bytes == length,
            Framing::Chunked => {
                queue.push_slice(b"0\r\n");
                for (_, name, value) in trailers.iter().flat_map(|block| block.iter()) {
                    queue.push_slice(name);
                    queue.push_slice(b": ");
                    queue.push_slice(value);
                    queue.push_slice(b"\r\n");
                }
                queue.push_slice(b"\r\n");
                true
            }
            Framing::None | Framing::UntilClose => true,
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
