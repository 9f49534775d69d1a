//! permessage-deflate (RFC 7692): what is agreed on with each side, and messages through it.
//!
//! Always without context takeover, both ways: a message is compressed on its own. So one compressor and one decompressor
//! serve all connections of a worker, and an open WebSocket holds no memory for it; short messages gain less. A
//! decompressed message is bounded by the same limit as any other, however little arrived.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::ws::frame::FrameFault;

/// What is offered to upstreams.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const NAME: &[u8] = b"permessage-deflate";
const SERVER_NO_TAKEOVER: &[u8] = b"server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &[u8] = b"client_no_context_takeover";
const SERVER_WINDOW: &[u8] = b"server_max_window_bits";
const CLIENT_WINDOW: &[u8] = b"client_max_window_bits";

/// Ends what a flush of the compressor gives; not sent (RFC 7692, section 7.2.1).
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];
/// Shorter messages are sent as they are: there is nothing to gain.
const LEAST_BYTES: usize = 32;
/// Room that a decompressed message is given at first.
const FIRST_BYTES: usize = 4096;
/// The compressor makes raw deflate with windows of these sizes; with 8 it cannot.
const LEAST_WINDOW_BITS: u8 = 9;
const MOST_WINDOW_BITS: u8 = 15;
const WINDOWS: usize = (MOST_WINDOW_BITS - LEAST_WINDOW_BITS) as usize + 1;
/// Of 9: a proxy's time is dearer than the last per cent of size (own choice).
const LEVEL: u32 = 2;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompress>> = const { RefCell::new(None) };
    static COMPRESSORS: RefCell<[Option<Compress>; WINDOWS]> = const { RefCell::new([const { None }; WINDOWS]) };
}

/// How messages to one side are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// Two to this power is how far back the compressor looks, in bytes.
    window_bits: u8,
}

impl Deflate {
    const WIDEST: Self = Self {
        window_bits: MOST_WINDOW_BITS,
    };

    /// The payload compressed; None when it would not be shorter.
    #[must_use]
    pub fn compress(self, payload: &[u8]) -> Option<BytesMut> {
        if payload.len() < LEAST_BYTES {
            return None;
        }
        COMPRESSORS.with_borrow_mut(|compressors| {
            let place = usize::from(self.window_bits.checked_sub(LEAST_WINDOW_BITS)?);
            let compressor = compressors.get_mut(place)?.get_or_insert_with(|| {
                Compress::new_with_window_bits(Compression::new(LEVEL), false, self.window_bits)
            });
            compressor.reset();
            let mut packed = Vec::with_capacity(payload.len());
            compressor
                .compress_vec(payload, &mut packed, FlushCompress::Sync)
                .ok()?;
            let is_whole = compressor.total_in() == payload.len() as u64 && packed.len() < packed.capacity();
            if !is_whole || !packed.ends_with(TAIL) {
                return None;
            }
            packed.truncate(packed.len() - TAIL.len());
            Some(BytesMut::from(Bytes::from(packed)))
        })
    }
}

/// Undo the compression of a whole message.
///
/// # Errors
/// It is no deflate data, or becomes more than `limit_bytes`.
pub fn decompress(payload: &[u8], limit_bytes: usize) -> Result<BytesMut, FrameFault> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = decompressor.get_or_insert_with(|| Decompress::new(false));
        decompressor.reset(false);
        let mut message = Vec::new();
        for mut part in [payload, TAIL] {
            loop {
                if message.len() == message.capacity() {
                    // One byte more than allowed shows that it is too much.
                    let room = (limit_bytes + 1).saturating_sub(message.len());
                    message.reserve_exact(message.len().max(FIRST_BYTES).min(room).max(1));
                }
                let (before, length) = (decompressor.total_in(), message.len());
                let status = decompressor
                    .decompress_vec(part, &mut message, FlushDecompress::Sync)
                    .map_err(|_| FrameFault::NotDeflate)?;
                let taken = decompressor.total_in().saturating_sub(before) as usize;
                part = part.get(taken..).unwrap_or_default();
                if message.len() > limit_bytes {
                    return Err(FrameFault::TooLarge(limit_bytes));
                }
                if status == Status::StreamEnd {
                    // A final block; what follows begins anew (RFC 7692, section 7.2.3.4).
                    decompressor.reset(false);
                }
                let has_room = message.len() < message.capacity();
                if part.is_empty() && has_room {
                    break;
                }
                if taken == 0 && message.len() == length && has_room {
                    return Err(FrameFault::NotDeflate);
                }
            }
        }
        Ok(BytesMut::from(Bytes::from(message)))
    })
}

/// Most bytes that a message of `limit_bytes` has when it is compressed: what cannot be is stored with a few bytes more.
#[must_use]
pub const fn most_compressed_bytes(limit_bytes: usize) -> usize {
    limit_bytes.saturating_add(limit_bytes / 1024).saturating_add(64)
}

/// The first of a client's offers that can be met: how to send to it, and the answer to it.
pub fn accept<'a>(offers: impl Iterator<Item = &'a [u8]>) -> Option<(Deflate, String)> {
    offers
        .flat_map(|value| split(value, b','))
        .filter_map(parameters)
        .find_map(|parameters| {
            let parameters = parameters?;
            let deflate = match parameters.server_window {
                None => Deflate::WIDEST,
                Some(Some(window_bits)) if window_bits >= LEAST_WINDOW_BITS => Deflate { window_bits },
                Some(_) => return None,
            };
            let mut answer = OFFER.to_owned();
            if parameters.server_window.is_some() {
                answer.push_str(&format!("; server_max_window_bits={}", deflate.window_bits));
            }
            Some((deflate, answer))
        })
}

/// What an upstream made of `OFFER`; None when it took no extension.
///
/// # Errors
/// It answered something that was not offered.
pub fn adopt<'a>(answer: impl Iterator<Item = &'a [u8]>) -> Result<Option<Deflate>, &'static str> {
    let mut extensions = answer
        .flat_map(|value| split(value, b','))
        .filter(|extension| !extension.is_empty());
    let Some(extension) = extensions.next() else {
        return Ok(None);
    };
    let accepted = match (parameters(extension), extensions.next()) {
        (Some(accepted), None) => accepted,
        _ => return Err("an extension that was not offered"),
    };
    match accepted {
        // Its window is of no concern: the decompressor has the widest.
        Some(accepted)
            if accepted.server_no_takeover
                && accepted.client_window.is_none()
                && accepted.server_window != Some(None) =>
        {
            Ok(Some(Deflate::WIDEST))
        }
        _ => Err("permessage-deflate with parameters that were not offered"),
    }
}

/// Parameters of one element of `Sec-WebSocket-Extensions`; `Some(None)` is a window without a value.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window: Option<Option<u8>>,
    client_window: Option<Option<u8>>,
}

/// None for another extension, `Some(None)` for parameters that make it invalid.
fn parameters(extension: &[u8]) -> Option<Option<Parameters>> {
    let mut parts = split(extension, b';');
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut found = Parameters::default();
    for part in parts {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().map(unquoted);
        let is_new = match (name, value) {
            (SERVER_NO_TAKEOVER, None) => !std::mem::replace(&mut found.server_no_takeover, true),
            (CLIENT_NO_TAKEOVER, None) => !std::mem::replace(&mut found.client_no_takeover, true),
            (SERVER_WINDOW | CLIENT_WINDOW, value) => {
                let bits = match value.map(window_bits) {
                    Some(None) => return Some(None),
                    Some(bits) => bits,
                    None => None,
                };
                let window = match name {
                    SERVER_WINDOW => &mut found.server_window,
                    _ => &mut found.client_window,
                };
                window.replace(bits).is_none()
            }
            _ => false,
        };
        if !is_new {
            return Some(None);
        }
    }
    Some(Some(found))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(value)
}

/// 8 to 15, without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The parts between separators outside of quotes, trimmed.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    value
        .split(move |byte| {
            is_quoted ^= *byte == b'"';
            *byte == separator && !is_quoted
        })
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer_to(offer: &str) -> Option<String> {
        accept([offer.as_bytes()].into_iter()).map(|(_, answer)| answer)
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_accepted() {
        for plain in [
            "permessage-deflate",
            "x-other, permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            "x; y=\"a, permessage-deflate; server_max_window_bits=9\", permessage-deflate",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "permessage-deflate; unknown, permessage-deflate",
        ] {
            assert_eq!(answer_to(plain).as_deref(), Some(OFFER), "{plain}");
        }
        for bits in ["9", "\"12\"", "15"] {
            let answer = answer_to(&format!("permessage-deflate; server_max_window_bits={bits}"));
            let bits = bits.trim_matches('"');
            assert_eq!(answer, Some(format!("{OFFER}; server_max_window_bits={bits}")));
        }
        for bad in [
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-bzip2",
            "",
        ] {
            assert_eq!(answer_to(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_upstream_may_take_the_offer_or_leave_it() {
        let adopted = |answer: &'static str| adopt([answer.as_bytes()].into_iter());
        assert_eq!(adopt(std::iter::empty()), Ok(None));
        assert_eq!(adopted(""), Ok(None));
        assert_eq!(adopted(OFFER), Ok(Some(Deflate::WIDEST)));
        let with_window = "permessage-deflate; server_no_context_takeover; server_max_window_bits=8";
        assert_eq!(adopted(with_window), Ok(Some(Deflate::WIDEST)));
        for bad in [
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits",
            "permessage-deflate; server_no_context_takeover; other",
            "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
            "x-other",
        ] {
            assert!(adopted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_samples_of_the_rfc_are_read() {
        // RFC 7692, sections 7.2.3.2 to 7.2.3.5.
        for sample in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(decompress(sample, 5).expect("sample"), "Hello");
            assert_eq!(decompress(sample, 4), Err(FrameFault::TooLarge(4)));
        }
        assert_eq!(decompress(&[0], 0).expect("empty"), "");
        assert_eq!(decompress(&[], 0).expect("nothing"), "");
    }

    #[test]
    fn what_is_no_deflate_data_is_refused() {
        for bad in [&b"\xff\xff\xff"[..], b"hello", &[0x07; 40]] {
            assert_eq!(decompress(bad, 1000), Err(FrameFault::NotDeflate), "{bad:?}");
        }
        // Nothing of it stays behind for the next message.
        assert_eq!(
            decompress(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 9).expect("sample"),
            "Hello"
        );
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        let bomb = Deflate::WIDEST.compress(&zeros).expect("shorter");
        assert!(bomb.len() < 1 << 20);
        assert_eq!(decompress(&bomb, 1 << 20), Err(FrameFault::TooLarge(1 << 20)));
        assert_eq!(decompress(&bomb, zeros.len()).expect("whole").len(), zeros.len());
    }

    #[test]
    fn noise_and_short_messages_are_not_compressed() {
        assert_eq!(Deflate::WIDEST.compress(b"short"), None);
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(100_000)
        .collect();
        assert_eq!(Deflate::WIDEST.compress(&noise), None);
    }

    proptest! {
        #[test]
        fn whatever_came_is_refused_or_within_the_limit(
            data in proptest::collection::vec(any::<u8>(), 0..400),
            limit_bytes in 0_usize..2000,
        ) {
            if let Ok(message) = decompress(&data, limit_bytes) {
                prop_assert!(message.len() <= limit_bytes);
            }
        }

        #[test]
        fn what_was_compressed_is_read_back(
            word in proptest::collection::vec(any::<u8>(), 1..40),
            times in 1_usize..3000,
            window_bits in LEAST_WINDOW_BITS..=MOST_WINDOW_BITS,
        ) {
            let message = word.repeat(times);
            if let Some(packed) = (Deflate { window_bits }).compress(&message) {
                prop_assert!(packed.len() < message.len());
                prop_assert!(packed.len() <= most_compressed_bytes(message.len()));
                prop_assert_eq!(&decompress(&packed, message.len()).expect("whole")[..], &message[..]);
                prop_assert!(decompress(&packed, message.len() - 1).is_err());
            }
        }

        #[test]
        fn no_header_of_extensions_is_too_strange(value in "[ -~]{0,80}") {
            let _ = accept([value.as_bytes()].into_iter());
            let _ = adopt([value.as_bytes()].into_iter());
        }
    }

    #[test]
    fn every_window_is_read_back() {
        let text: Vec<u8> = (0..40_000_u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect();
        for window_bits in LEAST_WINDOW_BITS..=MOST_WINDOW_BITS {
            let packed = Deflate { window_bits }.compress(&text).expect("shorter");
            assert!(packed.len() < text.len());
            assert_eq!(decompress(&packed, text.len()).expect("whole"), text);
        }
    }
}
