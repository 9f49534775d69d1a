//! Frames on the wire: from bytes to whole messages, and back (RFC 6455, sections 5 and 7).
//!
//! Owns masking, fragmentation, the size limit and what is malformed. Fragments are put together and compression is undone
//! here, so nobody above sees them; a message in one frame is handed out as the memory that it was read into. It does no
//! I/O.

use bytes::BytesMut;

use crate::http::h1::transport::WriteQueue;
use crate::ws::deflate::{decompress, most_compressed_bytes};

/// Payload of a control frame at most (RFC 6455, section 5.5).
pub const CONTROL_BYTES: usize = 125;
/// Longest reason of a close frame: a control frame less the code.
pub const REASON_BYTES: usize = CONTROL_BYTES - 2;
/// Frame headers are no longer than this.
const HEADER_BYTES: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The reserved bit of a compressed message (RFC 7692, section 6), in its first frame.
const DEFLATED: u8 = 0x40;
const MASKED: u8 = 0x80;

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The sender sends nothing more.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping, or just tells that its sender lives.
    Pong,
}

impl Kind {
    /// The name that plugins use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }

    /// Control frames have at most `CONTROL_BYTES` and are never fragmented.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn opcode(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// Its payload; of a close frame only the reason.
    pub data: BytesMut,
    /// Status of a close frame, None when it has none.
    pub status: Option<u16>,
}

/// Why a peer's frames are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// Against the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The message is larger than allowed.
    #[error("message larger than {0} bytes")]
    TooLarge(usize),
    /// Text that is no UTF-8.
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A compressed message that cannot be decompressed.
    #[error("compressed message is no deflate data")]
    NotDeflate,
}

impl FrameFault {
    /// The status to close with (RFC 6455, section 7.4.1).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 | Self::NotDeflate => 1007,
            Self::TooLarge(_) => 1009,
        }
    }

    /// The reason to close with.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(text) => text,
            Self::NotUtf8 => "Invalid UTF-8",
            Self::NotDeflate => "Invalid compressed data",
            Self::TooLarge(_) => "Payload Too Large",
        }
    }
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    /// None: goes on with the message under way.
    kind: Option<Kind>,
    is_last: bool,
    length: usize,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload that are unmasked and checked.
    seen: usize,
}

/// Takes one direction of a connection apart.
#[derive(Debug)]
pub struct Decoder {
    expects_mask: bool,
    /// Compression was agreed on.
    takes_deflated: bool,
    incoming: Option<Incoming>,
    /// Fragments so far of a message in several frames.
    assembling: Option<(Kind, BytesMut)>,
    /// The text or binary message that began last is compressed.
    is_deflated: bool,
    text: Utf8Check,
}

/// How the payload of a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Plain,
    /// It was compressed.
    Deflated,
}

impl Decoder {
    /// A decoder; clients mask what they send, servers do not. `takes_deflated`: compression was agreed on.
    #[must_use]
    pub fn new(expects_mask: bool, takes_deflated: bool) -> Self {
        Self {
            expects_mask,
            takes_deflated,
            incoming: None,
            assembling: None,
            is_deflated: false,
            text: Utf8Check::default(),
        }
    }

    /// The next whole message in `read`, None when more bytes are needed. `limit_bytes` holds for text and binary.
    ///
    /// # Errors
    /// What came is refused; the decoder must not be used again.
    pub fn decode(&mut self, read: &mut BytesMut, limit_bytes: usize) -> Result<Option<Message>, FrameFault> {
        loop {
            let mut incoming = match self.incoming.take() {
                Some(incoming) => incoming,
                None => match self.header(read, limit_bytes)? {
                    Some(incoming) => incoming,
                    None => return Ok(None),
                },
            };
            let here = read.len().min(incoming.length);
            let fresh = read.get_mut(incoming.seen..here).unwrap_or_default();
            if let Some(mask) = incoming.mask {
                apply_mask(fresh, rotated(mask, incoming.seen));
            }
            let is_text = match incoming.kind {
                Some(kind) => kind == Kind::Text,
                None => matches!(self.assembling, Some((Kind::Text, _))),
            };
            if is_text && !self.is_deflated {
                self.text.feed(fresh)?;
            }
            incoming.seen = here;
            if here < incoming.length {
                self.incoming = Some(incoming);
                return Ok(None);
            }
            let payload = read.split_to(incoming.length);
            if let Some(message) = self.finish(incoming, payload, limit_bytes)? {
                return Ok(Some(message));
            }
        }
    }

    fn header(&mut self, read: &mut BytesMut, limit_bytes: usize) -> Result<Option<Incoming>, FrameFault> {
        let &[first, second, ..] = &read[..] else {
            return Ok(None);
        };
        let is_deflated = match first & RESERVED {
            0 => false,
            // The bit is of the message: it stands in the first frame, and never in control frames.
            DEFLATED if self.takes_deflated && matches!(first & 0x0f, 1 | 2) => true,
            _ => return Err(FrameFault::Protocol("Reserved bits are set")),
        };
        let is_last = first & FIN != 0;
        let kind = match first & 0x0f {
            0 => None,
            1 => Some(Kind::Text),
            2 => Some(Kind::Binary),
            8 => Some(Kind::Close),
            9 => Some(Kind::Ping),
            10 => Some(Kind::Pong),
            _ => return Err(FrameFault::Protocol("Unknown opcode")),
        };
        if (second & MASKED != 0) != self.expects_mask {
            return Err(FrameFault::Protocol(if self.expects_mask {
                "Frame is not masked"
            } else {
                "Frame is masked"
            }));
        }
        let short = usize::from(second & !MASKED);
        let is_control = kind.is_some_and(Kind::is_control);
        if is_control && (!is_last || short > CONTROL_BYTES) {
            return Err(FrameFault::Protocol("Control frame is fragmented or too long"));
        }
        let (length, mut used) = match short {
            126 => match read.get(2..4) {
                Some(&[high, low]) => (u64::from(u16::from_be_bytes([high, low])), 4),
                _ => return Ok(None),
            },
            127 => match read.get(2..10).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            _ => (short as u64, 2),
        };
        if short == 126 && length < 126 || short == 127 && (length < 65_536 || length >> 63 != 0) {
            return Err(FrameFault::Protocol("Payload length is not minimal"));
        }
        match (kind, &self.assembling) {
            (None, None) => return Err(FrameFault::Protocol("Continuation without a message")),
            (Some(Kind::Text | Kind::Binary), Some(_)) => {
                return Err(FrameFault::Protocol("New message inside a message"));
            }
            _ => {}
        }
        if !is_control {
            // Before the payload is read: nobody makes us hold what will be refused.
            let so_far = self.assembling.as_ref().map_or(0, |(_, data)| data.len());
            let most = match is_deflated || kind.is_none() && self.is_deflated {
                true => most_compressed_bytes(limit_bytes),
                false => limit_bytes,
            };
            if length > (most.saturating_sub(so_far)) as u64 {
                return Err(FrameFault::TooLarge(limit_bytes));
            }
        }
        let mut mask = None;
        if self.expects_mask {
            let Some(&[a, b, c, d]) = read.get(used..used + 4) else {
                return Ok(None);
            };
            mask = Some([a, b, c, d]);
            used += 4;
        }
        let _ = read.split_to(used);
        if matches!(kind, Some(Kind::Text | Kind::Binary)) {
            self.is_deflated = is_deflated;
        }
        Ok(Some(Incoming {
            kind,
            is_last,
            length: length as usize,
            mask,
            seen: 0,
        }))
    }

    /// A frame is complete: the message that it completes, if any.
    fn finish(
        &mut self,
        incoming: Incoming,
        payload: BytesMut,
        limit_bytes: usize,
    ) -> Result<Option<Message>, FrameFault> {
        let (kind, mut data) = match incoming.kind {
            Some(Kind::Close) => return close_message(payload).map(Some),
            Some(kind) if kind.is_control() => {
                return Ok(Some(Message {
                    kind,
                    data: payload,
                    status: None,
                }));
            }
            Some(kind) if incoming.is_last => (kind, payload),
            Some(kind) => {
                self.assembling = Some((kind, payload));
                return Ok(None);
            }
            None => {
                let Some((kind, mut data)) = self.assembling.take() else {
                    return Err(FrameFault::Protocol("Continuation without a message"));
                };
                data.extend_from_slice(&payload);
                if !incoming.is_last {
                    self.assembling = Some((kind, data));
                    return Ok(None);
                }
                (kind, data)
            }
        };
        if self.is_deflated {
            data = decompress(&data, limit_bytes)?;
            if kind == Kind::Text {
                self.text.feed(&data)?;
            }
        }
        if kind == Kind::Text {
            self.text.end()?;
        }
        Ok(Some(Message {
            kind,
            data,
            status: None,
        }))
    }
}

fn close_message(mut payload: BytesMut) -> Result<Message, FrameFault> {
    let status = match &payload[..] {
        [] => None,
        [_] => return Err(FrameFault::Protocol("Close frame of one byte")),
        [high, low, ..] => {
            let status = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(status) {
                return Err(FrameFault::Protocol("Invalid close status"));
            }
            let _ = payload.split_to(2);
            Some(status)
        }
    };
    if std::str::from_utf8(&payload).is_err() {
        return Err(FrameFault::NotUtf8);
    }
    Ok(Message {
        kind: Kind::Close,
        data: payload,
        status,
    })
}

/// True for a status that a close frame may carry (RFC 6455, section 7.4, and the registry it made).
#[must_use]
pub const fn may_be_sent(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Queue a message as one frame; `mask` for what goes to a server.
pub fn encode(queue: &mut WriteQueue, mut message: Message, coding: Coding, mask: Option<[u8; 4]>) {
    let status = message.status.map(u16::to_be_bytes);
    // A reason without a status cannot be sent.
    if message.kind == Kind::Close && status.is_none() {
        message.data.clear();
    }
    let status: &[u8] = status.as_ref().map_or(&[], |bytes| &bytes[..]);
    let length = status.len() + message.data.len();
    let mut header = [0_u8; HEADER_BYTES];
    header[0] = FIN | message.kind.opcode();
    if coding == Coding::Deflated {
        header[0] |= DEFLATED;
    }
    let mut used = 2;
    match length {
        0..=125 => header[1] = length as u8,
        126..=65_535 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            used = 4;
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            used = 10;
        }
    }
    if let Some(mask) = mask {
        header[1] |= MASKED;
        header[used..used + 4].copy_from_slice(&mask);
        used += 4;
    }
    queue.push_slice(&header[..used]);
    if !status.is_empty() {
        let mut bytes = [status[0], status[1]];
        if let Some(mask) = mask {
            apply_mask(&mut bytes, mask);
        }
        queue.push_slice(&bytes);
    }
    if let Some(mask) = mask {
        apply_mask(&mut message.data, rotated(mask, status.len()));
    }
    queue.push(message.data.freeze());
}

/// The mask as it applies from `offset` on.
fn rotated(mask: [u8; 4], offset: usize) -> [u8; 4] {
    let mut turned = mask;
    turned.rotate_left(offset % 4);
    turned
}

/// XOR `data` with the mask; the same again undoes it.
fn apply_mask(data: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = data.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// UTF-8 that arrives in pieces; a character may be cut anywhere.
#[derive(Debug, Default)]
struct Utf8Check {
    begun: [u8; 4],
    begun_bytes: usize,
}

impl Utf8Check {
    fn feed(&mut self, mut piece: &[u8]) -> Result<(), FrameFault> {
        while self.begun_bytes > 0 {
            let Some((next, rest)) = piece.split_first() else {
                return Ok(());
            };
            let Some(place) = self.begun.get_mut(self.begun_bytes) else {
                return Err(FrameFault::NotUtf8);
            };
            *place = *next;
            self.begun_bytes += 1;
            piece = rest;
            match std::str::from_utf8(self.begun.get(..self.begun_bytes).unwrap_or_default()) {
                Ok(_) => self.begun_bytes = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(FrameFault::NotUtf8),
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            let tail = piece.get(error.valid_up_to()..).unwrap_or_default();
            if error.error_len().is_some() || tail.len() > 3 {
                return Err(FrameFault::NotUtf8);
            }
            for (place, byte) in self.begun.iter_mut().zip(tail) {
                *place = *byte;
            }
            self.begun_bytes = tail.len();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), FrameFault> {
        match self.begun_bytes {
            0 => Ok(()),
            _ => Err(FrameFault::NotUtf8),
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
