//! The PROXY protocol head that a load balancer puts before a connection's bytes, versions 1 and 2.
//!
//! Owns the two forms (the HAProxy specification of the PROXY protocol, sections 2.1 and 2.2) and their bounds; whether
//! the sender is believed is the listener's decision. Nothing is guessed: what is no valid head ends the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head of version 1 (specification, section 2.1).
const V1_MAX_BYTES: usize = 107;
/// Longest head of version 2 that is read, as nginx bounds it; TLVs of cloud balancers take some hundred bytes.
const V2_MAX_BYTES: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;
/// TLV of AWS, whose first byte says what follows.
const TLV_AWS: u8 = 0xEA;
/// The id of a VPC endpoint follows.
const TLV_AWS_VPCE_ID: u8 = 0x01;

/// What a head says about the connection it precedes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// The client, as the balancer saw it.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// VPC endpoint of AWS through which the client came.
    pub vpce_id: Option<String>,
}

/// Why a connection has no usable head.
#[derive(Debug, thiserror::Error)]
pub enum HeadFault {
    /// The client left or the socket failed.
    #[error("the connection ended within the PROXY protocol head")]
    Ended,
    /// These bytes are no head.
    #[error("malformed PROXY protocol head: {0}")]
    Malformed(&'static str),
    /// The head is larger than what is read.
    #[error("PROXY protocol head longer than {V2_MAX_BYTES} bytes")]
    TooLong,
}

/// Read the head from a connection's start; what follows it stays in `buffer`.
///
/// None: the balancer speaks for itself (`LOCAL`, `UNKNOWN`), the connection's own addresses count.
///
/// # Errors
/// No valid head. The caller bounds the time.
///
/// # Cancel safety
/// Bytes that were read stay in `buffer`.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Proxied>, HeadFault> {
    loop {
        if let Some((length, found)) = parse(buffer)? {
            buffer.advance(length);
            return Ok(found);
        }
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err(HeadFault::Ended),
            Ok(_) => {}
        }
    }
}

/// (length of the head, what it says); None while more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<Proxied>)>, HeadFault> {
    let start = bytes.len().min(V2_SIGNATURE.len());
    if bytes.get(..start) == V2_SIGNATURE.get(..start) {
        return if bytes.len() < V2_FIXED_BYTES {
            Ok(None)
        } else {
            parse_v2(bytes)
        };
    }
    let start = bytes.len().min(6);
    if bytes.get(..start) != b"PROXY ".get(..start) {
        return Err(HeadFault::Malformed("neither version 1 nor version 2"));
    }
    let end = bytes.windows(2).take(V1_MAX_BYTES - 1).position(|pair| pair == b"\r\n");
    match end {
        Some(end) => {
            let line = bytes.get(6..end).unwrap_or_default();
            Ok(Some((end + 2, parse_v1(line)?)))
        }
        None if bytes.len() >= V1_MAX_BYTES => Err(HeadFault::Malformed("version 1 without line end")),
        None => Ok(None),
    }
}

fn parse_v1(line: &[u8]) -> Result<Option<Proxied>, HeadFault> {
    let malformed = || HeadFault::Malformed("version 1");
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let source = address().ok_or_else(malformed)?;
    let destination = address().ok_or_else(malformed)?;
    let mut port = || -> Option<u16> {
        let text = words.next()?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if is_plain {
            text.parse().ok()
        } else {
            None
        }
    };
    let source_port = port().ok_or_else(malformed)?;
    let destination_port = port().ok_or_else(malformed)?;
    if words.next().is_some() {
        return Err(malformed());
    }
    Ok(Some(Proxied {
        source: SocketAddr::new(source.to_canonical(), source_port),
        destination: SocketAddr::new(destination.to_canonical(), destination_port),
        vpce_id: None,
    }))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(usize, Option<Proxied>)>, HeadFault> {
    let mut fixed = bytes.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let (command, family, length) = (fixed.get_u8(), fixed.get_u8(), usize::from(fixed.get_u16()));
    let whole = V2_FIXED_BYTES + length;
    if whole > V2_MAX_BYTES {
        return Err(HeadFault::TooLong);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeadFault::Malformed("unknown version or command")),
    };
    let Some(mut body) = bytes.get(V2_FIXED_BYTES..whole) else {
        return Ok(None);
    };
    if is_local {
        return Ok(Some((whole, None)));
    }
    let short = HeadFault::Malformed("version 2 shorter than its addresses");
    let (source, destination) = match family {
        0x11 | 0x12 => {
            if body.len() < 12 {
                return Err(short);
            }
            let mut address = || IpAddr::from(Ipv4Addr::from(body.get_u32()));
            (address(), address())
        }
        0x21 | 0x22 => {
            if body.len() < 36 {
                return Err(short);
            }
            let mut address = || IpAddr::from(Ipv6Addr::from(body.get_u128())).to_canonical();
            (address(), address())
        }
        // Unspecified and unix sockets: nothing that could be an address of a client here.
        0x00 | 0x31 | 0x32 => return Ok(Some((whole, None))),
        _ => return Err(HeadFault::Malformed("unknown address family or protocol")),
    };
    let (source_port, destination_port) = (body.get_u16(), body.get_u16());
    Ok(Some((
        whole,
        Some(Proxied {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            vpce_id: vpce_id(body)?,
        }),
    )))
}

/// The VPC endpoint id among the TLVs (AWS: type 0xEA, subtype 0x01).
fn vpce_id(mut tlvs: &[u8]) -> Result<Option<String>, HeadFault> {
    let mut found = None;
    while !tlvs.is_empty() {
        if tlvs.len() < 3 {
            return Err(HeadFault::Malformed("a TLV is cut off"));
        }
        let (kind, length) = (tlvs.get_u8(), usize::from(tlvs.get_u16()));
        let Some(value) = tlvs.get(..length) else {
            return Err(HeadFault::Malformed("a TLV is longer than the head"));
        };
        tlvs.advance(length);
        if let (TLV_AWS, Some((&TLV_AWS_VPCE_ID, id))) = (kind, value.split_first()) {
            found = std::str::from_utf8(id).ok().map(str::to_owned);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut head = V2_SIGNATURE.to_vec();
        head.extend([command, family]);
        head.extend((body.len() as u16).to_be_bytes());
        head.extend(body);
        head
    }

    #[test]
    fn version_1_gives_both_ends() {
        let head = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET";
        let (length, found) = parse(head).expect("valid").expect("whole");
        assert_eq!(&head[length..], b"GET");
        let found = found.expect("proxied");
        assert_eq!(found.source.to_string(), "192.0.2.1:56324");
        assert_eq!(found.destination.to_string(), "198.51.100.7:443");
        let v6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        assert_eq!(parse(v6).expect("valid").expect("whole").0, v6.len());
        assert_eq!(
            parse(b"PROXY UNKNOWN ffff::1 x 1 2\r\n").expect("valid"),
            Some((29, None))
        );
    }

    #[test]
    fn version_2_gives_both_ends_and_the_endpoint() {
        let mut body = vec![192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 0x04, 0x01, 0xBB];
        body.extend(b"\xE0\x00\x02xx");
        body.extend(b"\xEA\x00\x0D\x01vpce-0123456");
        let (length, found) = parse(&v2(0x21, 0x11, &body)).expect("valid").expect("whole");
        assert_eq!(length, 16 + body.len());
        let found = found.expect("proxied");
        assert_eq!(found.source.to_string(), "192.0.2.1:56324");
        assert_eq!(found.vpce_id.as_deref(), Some("vpce-0123456"));
        assert_eq!(parse(&v2(0x20, 0x00, b"ignored")).expect("valid"), Some((23, None)));
    }

    #[test]
    fn every_cut_of_a_head_asks_for_more() {
        let mut body = vec![0; 36];
        body.extend(b"\xEA\x00\x02\x01v");
        for head in [b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), v2(0x21, 0x21, &body)] {
            for end in 0..head.len() {
                assert_eq!(parse(&head[..end]).expect("no fault"), None, "{end}");
            }
            assert!(parse(&head).expect("valid").is_some());
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let cases: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
            long,
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x44, &[0; 12]),
            v2(0x21, 0x11, &[[0; 12].as_slice(), b"\xEA\x00\x09\x01"].concat()),
            v2(0x21, 0x11, &vec![0; 5000]),
        ];
        for case in cases {
            assert!(parse(&case).is_err(), "{}", String::from_utf8_lossy(&case));
        }
    }
}
