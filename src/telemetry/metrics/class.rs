//! Classes of statuses, by which answers are counted.

/// Where they are counted: by the first digit, and last what was not answered.
pub(in crate::telemetry) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The place of a status; 0 is none.
pub(in crate::telemetry) fn class_of(status: u16) -> usize {
    match usize::from(status / 100) {
        class @ 1..=5 => class - 1,
        _ => CLASSES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in [
            (101, "1xx"),
            (204, "2xx"),
            (599, "5xx"),
            (0, "none"),
            (999, "none"),
        ] {
            assert_eq!(CLASSES[class_of(status)], class);
        }
    }
}
