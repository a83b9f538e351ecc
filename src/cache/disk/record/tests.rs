use std::time::{Duration, SystemTime};

use pingora::http::ResponseHeader;
use proptest::prelude::*;

use super::*;

fn head() -> Head {
    let mut header = ResponseHeader::build(200, None).unwrap();
    header.append_header("Surrogate-Key", "one two").unwrap();
    header.append_header("ETag", "\"v1\"").unwrap();
    let now = SystemTime::now();
    let mut meta = CacheMeta::new(now + Duration::from_secs(60), now, 7, 8, header);
    meta.set_variance([7; 16]);
    meta.set_epoch_override(now - Duration::from_secs(9));
    Head::of(&meta)
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn written(body: &[u8], part: usize) -> Vec<u8> {
    let parts: Vec<Bytes> = body.chunks(part).map(Bytes::copy_from_slice).collect();
    let of = (5_u128, "h/a", &head());
    let mut bytes = encode(of, 0, (body.len() as u64, 77)).unwrap();
    write_body(&mut bytes, &parts, 77).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<(Record, Vec<u8>), Unreadable> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let record = Record::read(&file)?;
    let body = record.body.read(&file, 0..u64::MAX)?.concat();
    Ok((record, body))
}

#[test]
fn what_is_written_is_read_again() {
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let body = body(length);
        let (record, read) = read(&written(&body, 1000)).unwrap();
        assert_eq!(read, body, "{length}");
        assert_eq!(
            (record.key, &*record.location, record.expired),
            (5, "h/a", 0)
        );
        assert_eq!(record.head.headers()["etag"], "\"v1\"");
    }
}

#[test]
fn a_torn_write_is_found_wherever_it_was_torn() {
    let whole = written(&body(300), 100);
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length} bytes");
        // A file system may give the length and not the bytes.
        let mut holes = whole.clone();
        holes[length..].fill(0);
        if holes != whole {
            assert!(read(&holes).is_err(), "{length} bytes and zeros");
        }
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(read(&longer).is_err());
}

#[test]
fn a_soft_purge_is_written_into_the_file_and_leaves_the_rest() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&written(&body(10), 3)).unwrap();
    expire(&file, 42).unwrap();
    let record = Record::read(&file).unwrap();
    assert_eq!(record.expired, 42);
    assert_eq!(record.body.read(&file, 0..10).unwrap().concat(), body(10));
}

#[test]
fn a_header_is_replaced_and_the_body_stays() {
    let bytes = written(&body(70_000), 999);
    let (record, _) = read(&bytes).unwrap();
    let (mut new, rest) = restate(&record, &head()).unwrap();
    new.extend_from_slice(&bytes[rest.start as usize..rest.end as usize]);
    let (record, read) = read(&new).unwrap();
    assert_eq!((record.expired, read), (0, body(70_000)));
}

proptest! {
    #[test]
    fn no_damaged_byte_is_given_to_anybody(at in 0..150_000usize, bit in 0..8u32) {
        let mut bytes = written(&body(140_000), 7000);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes).is_err(), "byte {}", at);
    }

    #[test]
    fn any_part_of_a_body_can_be_read(start in 0..150_000u64, length in 1..150_000u64) {
        let body = body(140_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&written(&body, 5000)).unwrap();
        let record = Record::read(&file).unwrap();
        let read = record.body.read(&file, start..start + length).unwrap().concat();
        let end = (start + length).min(140_000) as usize;
        prop_assert_eq!(&read[..], body.get(start as usize..end).unwrap_or_default());
    }
}
