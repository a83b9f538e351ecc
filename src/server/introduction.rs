//! Reads what a load balancer says of a connection before its first byte: the header of the PROXY protocol,
//! version 1 or 2. Whose word is believed is decided by the listener.
//!
//! No byte behind the header is read, and no more of it than a bound.

use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Protocol, Type};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a line of version 1 at most (specification §2.1), with its end.
const LONGEST_LINE: usize = 107;
/// Bytes of a header of version 2 before those that it counts.
const FIXED: usize = 16;
/// Bytes that it may count; the specification's examples have some hundred, with a certificate's name.
const LONGEST: usize = 4096;

/// Where a connection comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the first of these, to the second.
    Client(SocketAddr, SocketAddr),
    /// From the load balancer itself, such as its health checks, or from where it can't say.
    Sender,
}

/// Why a header can't be believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unintroduced {
    /// It did not come in time.
    #[error("it did not come in time")]
    Slow,
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Gone(#[from] std::io::Error),
    /// It is none, or not as it has to be.
    #[error("it is none of the PROXY protocol: {0}")]
    Invalid(String),
}

/// Reads the header at the beginning of a connection.
///
/// # Errors
/// If there is none that can be believed.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Origin, Unintroduced> {
    let mut header = vec![stream.read_u8().await?];
    match header[0] {
        b'P' => {
            read_line(stream, &mut header).await?;
            line(&header)
        }
        b'\r' => {
            read_counted(stream, &mut header).await?;
            counted(&header)
        }
        _ => Err(Unintroduced::Invalid("it does not begin as one".to_owned())),
    }
}

async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    header: &mut Vec<u8>,
) -> Result<(), Unintroduced> {
    while !header.ends_with(b"\r\n") {
        if header.len() == LONGEST_LINE {
            return Err(Unintroduced::Invalid("its line does not end".to_owned()));
        }
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

async fn read_counted<S: AsyncRead + Unpin>(
    stream: &mut S,
    header: &mut Vec<u8>,
) -> Result<(), Unintroduced> {
    header.resize(FIXED, 0);
    stream.read_exact(&mut header[1..]).await?;
    if !header.starts_with(v2::PROTOCOL_PREFIX) {
        return Err(Unintroduced::Invalid("it does not begin as one".to_owned()));
    }
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > LONGEST {
        return Err(Unintroduced::Invalid(format!("it has {length} bytes")));
    }
    header.resize(FIXED + length, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    Ok(())
}

/// A header of version 1.
fn line(header: &[u8]) -> Result<Origin, Unintroduced> {
    let parsed = v1::Header::try_from(header).map_err(invalid)?;
    Ok(match parsed.addresses {
        v1::Addresses::Unknown => Origin::Sender,
        v1::Addresses::Tcp4(it) => Origin::Client(
            (it.source_address, it.source_port).into(),
            (it.destination_address, it.destination_port).into(),
        ),
        v1::Addresses::Tcp6(it) => Origin::Client(
            (it.source_address, it.source_port).into(),
            (it.destination_address, it.destination_port).into(),
        ),
    })
}

/// A header of version 2. What it says beside the addresses is skipped.
fn counted(header: &[u8]) -> Result<Origin, Unintroduced> {
    let parsed = v2::Header::try_from(header).map_err(invalid)?;
    for field in parsed.tlvs() {
        let field = field.map_err(invalid)?;
        if field.kind == u8::from(Type::CRC32C) && !is_intact(header, &field.value) {
            return Err(Unintroduced::Invalid("its checksum is wrong".to_owned()));
        }
    }
    if parsed.command == Command::Local {
        return Ok(Origin::Sender);
    }
    match (parsed.protocol, parsed.addresses) {
        (Protocol::Stream, Addresses::IPv4(it)) => Ok(Origin::Client(
            (it.source_address, it.source_port).into(),
            (it.destination_address, it.destination_port).into(),
        )),
        (Protocol::Stream, Addresses::IPv6(it)) => Ok(Origin::Client(
            (it.source_address, it.source_port).into(),
            (it.destination_address, it.destination_port).into(),
        )),
        // Of no protocol or family: the addresses mean nothing, whatever they are.
        (Protocol::Stream, _) | (Protocol::Unspecified, _) => Ok(Origin::Sender),
        (Protocol::Datagram, _) => Err(Unintroduced::Invalid("it is for datagrams".to_owned())),
    }
}

fn invalid(error: impl std::fmt::Display) -> Unintroduced {
    Unintroduced::Invalid(error.to_string())
}

/// Whether a header has the checksum that a field of it says, which counts as zeros itself (§2.2.3).
fn is_intact(header: &[u8], said: &[u8]) -> bool {
    let Ok(said) = <[u8; 4]>::try_from(said) else {
        return false;
    };
    // There may be other bytes like these, so the field is found by its head.
    let mark = [&[u8::from(Type::CRC32C), 0, 4][..], &said].concat();
    let Some(place) = header.windows(mark.len()).rposition(|it| it == mark) else {
        return false;
    };
    let mut cleared = header.to_vec();
    cleared[place + 3..place + 7].fill(0);
    crc32c(&cleared) == u32::from_be_bytes(said)
}

/// CRC-32C (RFC 3720 §12.1), bit by bit: headers are short, and few have one.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (POLYNOMIAL * (sum & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn of(bytes: &[u8]) -> Result<Origin, Unintroduced> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut stream = bytes;
        runtime.block_on(read(&mut stream))
    }

    fn client(source: &str, destination: &str) -> Origin {
        Origin::Client(source.parse().unwrap(), destination.parse().unwrap())
    }

    /// A header of version 2.
    fn header(command: u8, family: u8, addresses: &[u8], fields: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + fields.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        [PREFIX, &[command, family, high, low], addresses, fields].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn a_line_says_where_a_connection_comes_from() {
        for (text, origin) in [
            (
                "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n",
                client("192.0.2.7:4660", "10.0.0.1:80"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 1 443\r\n",
                client("[2001:db8::7]:1", "[::1]:443"),
            ),
            ("PROXY UNKNOWN\r\n", Origin::Sender),
            ("PROXY UNKNOWN ff::1 ff::2 1 2\r\n", Origin::Sender),
        ] {
            assert_eq!(of(text.as_bytes()).unwrap(), origin, "{text}");
        }
        for text in [
            "PROXY\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80 9\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 80\r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 1 80\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 80\r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 1 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 80\n\r\n",
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(
                matches!(of(text.as_bytes()), Err(Unintroduced::Invalid(_))),
                "{text}"
            );
        }
        let endless = format!("PROXY UNKNOWN {}\r\n", "a".repeat(100));
        assert!(matches!(
            of(endless.as_bytes()),
            Err(Unintroduced::Invalid(_))
        ));
        assert!(matches!(of(b"PROXY TCP4 192"), Err(Unintroduced::Gone(_))));
    }

    #[test]
    fn bytes_say_where_a_connection_comes_from() {
        let six = [
            &[0x20, 1, 0xd, 0xb8][..],
            &[0; 11],
            &[7],
            &[0; 15],
            &[1],
            &[0, 1, 1, 0xbb],
        ]
        .concat();
        let ours = client("192.0.2.7:4660", "10.0.0.1:80");
        for (header, origin) in [
            (header(0x21, 0x11, &FOUR, &[]), ours),
            (
                header(0x21, 0x21, &six, &[]),
                client("[2001:db8::7]:1", "[::1]:443"),
            ),
            (
                header(0x21, 0x11, &FOUR, &[4, 0, 2, 1, 2, 0xEE, 0, 0]),
                client("192.0.2.7:4660", "10.0.0.1:80"),
            ),
            (header(0x20, 0, &[], &[]), Origin::Sender),
            (header(0x20, 0x11, &FOUR, &[]), Origin::Sender),
            (header(0x21, 0, &[1, 0, 0], &[]), Origin::Sender),
            (header(0x21, 0x31, &[7; 216], &[]), Origin::Sender),
        ] {
            assert_eq!(of(&header).unwrap(), origin, "{}", header.escape_ascii());
        }
        for bad in [
            header(0x11, 0x11, &FOUR, &[]),
            header(0x22, 0x11, &FOUR, &[]),
            header(0x21, 0x12, &FOUR, &[]),
            header(0x21, 0x41, &FOUR, &[]),
            header(0x21, 0x13, &FOUR, &[]),
            header(0x21, 0x11, &FOUR[..11], &[]),
            header(0x21, 0x11, &FOUR, &[4, 0, 9, 1]),
            header(0x20, 0, &[0; LONGEST + 1], &[]),
        ] {
            assert!(
                matches!(of(&bad), Err(Unintroduced::Invalid(_))),
                "{}",
                bad.escape_ascii()
            );
        }
        let cut = &header(0x21, 0x11, &FOUR, &[])[..20];
        assert!(matches!(of(cut), Err(Unintroduced::Gone(_))));
    }

    #[test]
    fn a_checksum_that_is_there_is_right() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        let mut good = header(0x21, 0x11, &FOUR, &[3, 0, 4, 0, 0, 0, 0]);
        let sum = crc32c(&good).to_be_bytes();
        let place = good.len() - 4;
        good[place..].copy_from_slice(&sum);
        assert!(matches!(of(&good), Ok(Origin::Client(..))));
        for index in (FIXED..good.len()).filter(|it| *it != place - 3) {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(of(&bad).is_err(), "{index}");
        }
        assert!(of(&header(0x21, 0x11, &FOUR, &[3, 0, 2, 0, 0])).is_err());
    }

    #[test]
    fn nothing_behind_the_header_is_read() {
        for start in [
            header(0x21, 0x11, &FOUR, &[]),
            b"PROXY UNKNOWN\r\n".to_vec(),
        ] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let all = [&start[..], b"GET"].concat();
            let mut stream = &all[..];
            runtime.block_on(read(&mut stream)).unwrap();
            assert_eq!(stream, b"GET");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&bytes);
            let _ = of(&[PREFIX, &bytes].concat());
            let _ = of(&[b"PROXY ", &bytes[..]].concat());
        }
    }
}
