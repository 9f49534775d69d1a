use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

fn all(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameFault> {
    let mut read = BytesMut::new();
    let mut found = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        read.extend_from_slice(part);
        while let Some(message) = decoder.decode(&mut read, LIMIT)? {
            found.push(message);
        }
    }
    Ok(found)
}

fn server_sent(bytes: &[u8]) -> Result<Vec<Message>, FrameFault> {
    let whole = all(&mut Decoder::new(false, false), bytes, bytes.len());
    let split = all(&mut Decoder::new(false, false), bytes, 1);
    assert_eq!(whole, split);
    whole
}

fn text(data: &str) -> Message {
    Message {
        kind: Kind::Text,
        data: BytesMut::from(data),
        status: None,
    }
}

#[test]
fn fragments_are_one_message_and_control_frames_pass_between_them() {
    let bytes = [frame(0x01, b"ab"), frame(0x89, b"p"), frame(0x80, b"cd")].concat();
    let found = server_sent(&bytes).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].kind, &found[0].data[..]), (Kind::Ping, &b"p"[..]));
    assert_eq!(found[1], text("abcd"));
}

#[test]
fn masked_frames_are_read_back_as_they_were() {
    let mut queue = WriteQueue::default();
    encode(&mut queue, text("hello"), Coding::Plain, Some([1, 2, 3, 4]));
    let close = Message {
        kind: Kind::Close,
        data: BytesMut::from("gone"),
        status: Some(1001),
    };
    encode(&mut queue, close, Coding::Plain, Some([9, 8, 7, 6]));
    let found = all(&mut Decoder::new(true, false), &queue.to_vec(), 3).unwrap();
    assert_eq!(found[0], text("hello"));
    assert_eq!((found[1].status, &found[1].data[..]), (Some(1001), &b"gone"[..]));
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    for (bytes, why) in [
        (frame(0xc1, b"x"), "Reserved bits are set"),
        (frame(0x83, b""), "Unknown opcode"),
        (frame(0x8b, b""), "Unknown opcode"),
        (frame(0x80, b"x"), "Continuation without a message"),
        (
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            "New message inside a message",
        ),
        (frame(0x09, b""), "Control frame is fragmented or too long"),
        (frame(0x89, &[0; 126]), "Control frame is fragmented or too long"),
        (vec![0x81, 0x80, 0, 0, 0, 0], "Frame is masked"),
        (vec![0x81, 126, 0, 5], "Payload length is not minimal"),
        (vec![0x81, 127, 0, 0, 0, 0, 0, 0, 1, 0], "Payload length is not minimal"),
        (frame(0x88, b"x"), "Close frame of one byte"),
        (frame(0x88, &1005_u16.to_be_bytes()), "Invalid close status"),
        (frame(0x88, &999_u16.to_be_bytes()), "Invalid close status"),
    ] {
        assert_eq!(server_sent(&bytes), Err(FrameFault::Protocol(why)), "{bytes:?}");
    }
    let unmasked = all(&mut Decoder::new(true, false), &frame(0x81, b"x"), 9);
    assert_eq!(unmasked, Err(FrameFault::Protocol("Frame is not masked")));
}

#[test]
fn a_message_beyond_the_limit_is_refused_by_its_header() {
    let mut read = BytesMut::from(&[0x82_u8, 126, 1, 0][..]);
    assert_eq!(
        Decoder::new(false, false).decode(&mut read, 255),
        Err(FrameFault::TooLarge(255))
    );
    let mut decoder = Decoder::new(false, false);
    let mut read = BytesMut::from(&[frame(0x02, &[0; 200]), vec![0x80, 56]].concat()[..]);
    assert_eq!(decoder.decode(&mut read, 255), Err(FrameFault::TooLarge(255)));
    let mut ping = BytesMut::from(&frame(0x89, &[0; 125])[..]);
    assert!(Decoder::new(false, false).decode(&mut ping, 10).unwrap().is_some());
}

/// RFC 7692, section 7.2.3.1: "Hello".
const DEFLATED_HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn a_compressed_message_is_handed_out_as_it_was() {
    let (begin, end) = DEFLATED_HELLO.split_at(3);
    let bytes = [
        frame(0xc1, &DEFLATED_HELLO),
        frame(0x41, begin),
        frame(0x89, b"p"),
        frame(0x80, end),
        frame(0x81, b"plain"),
    ]
    .concat();
    for piece in [1, bytes.len()] {
        let found = all(&mut Decoder::new(false, true), &bytes, piece).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!((found[1].kind, &found[1].data[..]), (Kind::Ping, &b"p"[..]));
        assert_eq!((&found[0], &found[2]), (&text("Hello"), &text("Hello")));
        assert_eq!(found[3], text("plain"));
    }
}

#[test]
fn the_bit_of_compression_stands_where_it_may_only() {
    for (bytes, takes_deflated) in [
        (frame(0xc1, &DEFLATED_HELLO), false),
        (frame(0xc9, b"p"), true),
        ([frame(0x01, b"x"), frame(0xc0, b"y")].concat(), true),
        (frame(0xe1, &DEFLATED_HELLO), true),
    ] {
        let found = all(&mut Decoder::new(false, takes_deflated), &bytes, bytes.len());
        assert_eq!(found, Err(FrameFault::Protocol("Reserved bits are set")), "{bytes:?}");
    }
}

#[test]
fn a_compressed_message_is_held_to_the_limit_and_to_utf8() {
    let mut read = BytesMut::from(&frame(0xc1, &DEFLATED_HELLO)[..]);
    assert_eq!(
        Decoder::new(false, true).decode(&mut read, 4),
        Err(FrameFault::TooLarge(4))
    );
    // More compressed bytes than any message of the limit has: refused by the header.
    let mut read = BytesMut::from(&[0xc2_u8, 126, 1, 0][..]);
    assert_eq!(
        Decoder::new(false, true).decode(&mut read, 100),
        Err(FrameFault::TooLarge(100))
    );
    let decoded = |bytes: &[u8]| all(&mut Decoder::new(false, true), bytes, bytes.len());
    assert_eq!(decoded(&frame(0xc1, b"hello")), Err(FrameFault::NotDeflate));
    // A stored block with 0xff, which is no text.
    let stored = [0, 1, 0, 0xfe, 0xff, 0xff, 0];
    assert_eq!(decoded(&frame(0xc1, &stored)), Err(FrameFault::NotUtf8));
    assert_eq!(&decoded(&frame(0xc2, &stored)).unwrap()[0].data[..], [0xff]);
}

#[test]
fn text_that_is_no_utf8_is_refused_as_soon_as_it_shows() {
    // The frame promises 20 bytes; the fifth is impossible.
    let mut read = BytesMut::from(&[0x81, 20, b'a', b'b', 0xf4, 0x90][..]);
    assert_eq!(
        Decoder::new(false, false).decode(&mut read, LIMIT),
        Err(FrameFault::NotUtf8)
    );
    assert_eq!(server_sent(&frame(0x81, &[0xe2, 0x82])), Err(FrameFault::NotUtf8));
    let cut = [frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0xac])].concat();
    assert_eq!(server_sent(&cut).unwrap(), vec![text("€")]);
    assert!(server_sent(&frame(0x82, &[0xff])).is_ok());
}

proptest! {
    #[test]
    fn any_message_survives_any_fragmentation(
        data in proptest::collection::vec(any::<char>(), 0..300),
        cuts in proptest::collection::vec(0_usize..1200, 0..6),
        piece in 1_usize..70,
        mask in any::<[u8; 4]>(),
    ) {
        let whole: String = data.into_iter().collect();
        let bytes = whole.as_bytes();
        let mut places: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let mut wire = Vec::new();
        let count = places.len() - 1;
        for (index, window) in places.windows(2).enumerate() {
            let mut part = bytes[window[0]..window[1]].to_vec();
            let first = u8::from(index == 0) | if index + 1 == count { 0x80 } else { 0 };
            apply_mask(&mut part, mask);
            let mut masked = frame(first, &part);
            let header = masked.len() - part.len();
            masked[1] |= MASKED;
            masked.splice(header..header, mask);
            wire.extend(masked);
        }
        let found = all(&mut Decoder::new(true, false), &wire, piece).unwrap();
        prop_assert_eq!(found, vec![text(&whole)]);
    }

    #[test]
    fn whole_and_split_input_agree(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let whole = all(&mut Decoder::new(false, false), &bytes, bytes.len());
        let split = all(&mut Decoder::new(false, false), &bytes, 1);
        prop_assert_eq!(whole.is_err(), split.is_err());
        if let (Ok(whole), Ok(split)) = (whole, split) {
            prop_assert_eq!(whole, split);
        }
    }
}
