use proptest::prelude::*;

use super::*;

#[test]
fn units_are_summed() {
    assert_eq!(Period::parse("1h30m"), Ok(Period::seconds(5400)));
    assert_eq!(
        Period::parse("250ms"),
        Ok(Period(Duration::from_millis(250)))
    );
    assert_eq!(ByteSize::parse("64KiB"), Ok(ByteSize(65536)));
}

#[test]
fn a_rate_is_a_size_a_second() {
    assert_eq!(ByteRate::parse("10MiB/s"), Ok(ByteRate(10 << 20)));
    assert_eq!(ByteRate::parse("64 kB/s"), Ok(ByteRate(64_000)));
    for text in ["10MiB", "10", "10/s", "/s", "10Mbit/s", "-1B/s", "10MiB/m"] {
        assert!(ByteRate::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_share_is_of_a_hundred() {
    assert_eq!(Share::parse("20%"), Ok(Share(20)));
    assert_eq!(Share::parse("100 %"), Ok(Share(100)));
    for text in ["20", "101%", "-1%", "0.2", "%", "1.5%"] {
        assert!(Share::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_ratio_is_as_fine_as_a_millionth() {
    for (text, millionths) in [
        ("0%", 0),
        ("100%", 1_000_000),
        ("1 %", 10_000),
        ("0.1%", 1_000),
        ("12.3456%", 123_456),
        ("0.0001%", 1),
        ("0.0", 0),
        ("1.0", 1_000_000),
        ("0.01", 10_000),
        ("0.000001", 1),
    ] {
        assert_eq!(Ratio::parse(text), Ok(Ratio { millionths }), "{text}");
    }
    for text in [
        "1",
        "1.01",
        "0.0000001",
        ".5",
        "1.",
        "100.0001%",
        "101%",
        "-1%",
        "%",
        ".5%",
        "1.%",
        "0.00001%",
        "1e1%",
    ] {
        assert!(Ratio::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_bare_number_is_told_to_add_a_unit() {
    assert!(Period::parse("5").unwrap_err().contains("`5s`"));
    assert!(ByteSize::parse("10").unwrap_err().contains("`10KiB`"));
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        "s",
        "5x",
        "-5s",
        "1.5s",
        "5m5m",
        "5s1m",
        "99999999999999999999s",
        "9999999d",
    ] {
        assert!(Period::parse(text).is_err(), "{text}");
    }
    for text in [
        "",
        "B",
        "5XB",
        "-5B",
        "99999999999999999999B",
        "99999999TiB",
    ] {
        assert!(ByteSize::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(ms in 0..LONGEST_MS, bytes in 0..(i64::MAX as u64)) {
        let period = Period(Duration::from_millis(ms));
        prop_assert_eq!(Period::parse(&period.to_string()), Ok(period));
        prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()), Ok(ByteSize(bytes)));
        prop_assert_eq!(ByteRate::parse(&ByteRate(bytes).to_string()), Ok(ByteRate(bytes)));
    }

    #[test]
    fn a_ratio_that_is_shown_reads_back(millionths in 0..=1_000_000_u32) {
        let ratio = Ratio { millionths };
        prop_assert_eq!(Ratio::parse(&ratio.to_string()), Ok(ratio));
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = Period::parse(&text);
        let _ = ByteSize::parse(&text);
        let _ = ByteRate::parse(&text);
        let _ = Ratio::parse(&text);
    }
}
