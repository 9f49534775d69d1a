use super::*;

/// Decode `input` given in pieces of `step` bytes: (body, trailers seen, is whole) or the fault.
fn decode(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, bool, bool), BodyFault> {
    let mut decoder = BodyDecoder::new(framing);
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => body.extend_from_slice(&data),
                Decoded::End => return Ok((body, decoder.take_trailers().is_some(), true)),
                Decoded::NeedMore => break,
            }
        }
    }
    Ok((body, false, decoder.is_done()))
}

#[test]
fn chunks_decode_alike_whole_and_split() {
    let input = b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: v\r\n\r\n";
    for step in 1..=input.len() {
        assert_eq!(
            decode(Framing::Chunked, input, step),
            Ok((b"abc0123456789".to_vec(), true, true)),
            "step {step}"
        );
    }
}

#[test]
fn broken_chunks_are_refused() {
    for input in [
        &b"3\nabc\r\n0\r\n\r\n"[..],
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3 g\r\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
    ] {
        assert!(
            decode(Framing::Chunked, input, input.len()).is_err(),
            "{:?}",
            String::from_utf8_lossy(input)
        );
    }
}

#[test]
fn a_length_ends_where_it_says() {
    assert_eq!(
        decode(Framing::Length(3), b"abcdef", 6),
        Ok((b"abc".to_vec(), false, true))
    );
    assert_eq!(
        decode(Framing::Length(9), b"abcdef", 6),
        Ok((b"abcdef".to_vec(), false, false))
    );
}

#[test]
fn a_cut_body_is_a_fault_unless_it_ends_by_closing() {
    assert!(BodyDecoder::new(Framing::Length(3)).finish_at_close().is_err());
    assert!(BodyDecoder::new(Framing::Chunked).finish_at_close().is_err());
    assert!(BodyDecoder::new(Framing::UntilClose).finish_at_close().is_ok());
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    let mut queue = WriteQueue::default();
    let mut encoder = BodyEncoder::new(Framing::Chunked);
    encoder.data(&mut queue, Bytes::from_static(b"hello"));
    encoder.data(&mut queue, Bytes::new());
    encoder.data(&mut queue, Bytes::from(vec![b'x'; 10_000]));
    assert!(encoder.end(&mut queue, None));
    let wire = queue.to_vec();
    let (body, _, is_whole) = decode(Framing::Chunked, &wire, 777).unwrap();
    assert!(is_whole);
    assert_eq!(body.len(), 10_005);
    assert!(body.starts_with(b"hellox"));
}

#[test]
fn an_encoder_never_exceeds_the_announced_length() {
    let mut queue = WriteQueue::default();
    let mut encoder = BodyEncoder::new(Framing::Length(4));
    encoder.data(&mut queue, Bytes::from_static(b"abcdef"));
    assert!(encoder.end(&mut queue, None));
    assert_eq!(queue.to_vec(), b"abcd");
    let mut short = BodyEncoder::new(Framing::Length(4));
    short.data(&mut queue, Bytes::from_static(b"a"));
    assert!(!short.end(&mut queue, None));
}

proptest::proptest! {
    #[test]
    fn any_bytes_decode_or_fail(input: Vec<u8>, step in 1_usize..20) {
        let _ = decode(Framing::Chunked, &input, step);
    }
}
