//! Numbers as they stand in a narrow column.

/// What stands for what is not known.
pub(super) const NOTHING: &str = "-";

/// A rate: how many in so many seconds.
pub(super) fn rate(count: u64, seconds: u64) -> String {
    if count == 0 {
        return "0".to_owned();
    }
    let rate = count as f64 / seconds.max(1) as f64;
    match rate {
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => format!("{rate:.0}"),
        rate if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// A share in percent.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.to_owned();
    }
    match part as f64 * 100.0 / whole as f64 {
        0.0 => "0 %".to_owned(),
        share if share < 0.1 => "<0.1 %".to_owned(),
        share if share < 9.95 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

/// A time that is given in microseconds.
pub(super) fn time(micros: Option<u64>) -> String {
    let Some(micros) = micros else {
        return NOTHING.to_owned();
    };
    match micros as f64 {
        micros if micros < 999.5 => format!("{micros:.0} µs"),
        micros if micros < 9_950.0 => format!("{:.1} ms", micros / 1e3),
        micros if micros < 999_500.0 => format!("{:.0} ms", micros / 1e3),
        micros => format!("{:.1} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (count, expected) in [
            (0, "0"),
            (1, "0.1"),
            (99, "9.9"),
            (100, "10"),
            (99_990, "9999"),
            (100_000, "10.0k"),
            (10_000_000, "1.0M"),
        ] {
            assert_eq!(rate(count, 10), expected);
        }
        assert_eq!(rate(7, 0), "7.0");
        for (part, expected) in [
            (0, "0 %"),
            (1, "<0.1 %"),
            (10, "0.1 %"),
            (999, "10 %"),
            (10_000, "100 %"),
        ] {
            assert_eq!(share(part, 10_000), expected);
        }
        assert_eq!(share(0, 0), "-");
        for (micros, expected) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1000, "1.0 ms"),
            (12_345, "12 ms"),
            (1_500_000, "1.5 s"),
        ] {
            assert_eq!(time(Some(micros)), expected);
        }
        assert_eq!(time(None), "-");
    }
}
