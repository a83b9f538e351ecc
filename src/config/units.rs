//! Quantities with their units written out: durations and sizes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

/// A length of time, written `250ms`, `5s`, `1m30s`, `2h`, `1d`. Whole milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

/// An amount of bytes, written `512B`, `64KiB`, `10MiB`, `1GiB` (or `kB`, `MB`, `GB` for powers of
/// a thousand).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// Bytes a second, written `10MiB/s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteRate(pub u64);

/// A share of a whole, written `20%`. Whole percents, 0 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(pub u8);

/// A share of very many, written `0.1%` with up to four digits behind the point, or `0.001` with up to six.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ratio {
    millionths: u32,
}

/// Largest period that is accepted: a hundred years keeps every sum far from overflow.
const LONGEST_MS: u64 = 100 * 366 * 86_400_000;

impl Period {
    /// A period of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A period of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Reads `1h30m`, `250ms` and the like.
    ///
    /// # Errors
    /// What is wrong and what would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err("expected a duration such as `30s` or `250ms`".into());
        }
        if rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "a duration needs a unit: `{rest}s` for seconds, `{rest}ms` for milliseconds"
            ));
        }
        let mut total: u64 = 0;
        let mut last_scale = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .bytes()
                .take_while(|byte| !byte.is_ascii_digit())
                .count();
            let (unit, tail) = tail.split_at(letters);
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => {
                    return Err(format!(
                        "`{text}` is not a duration: expected numbers with the units `ms`, `s`, `m`, `h` or `d`, such as `1m30s`"
                    ));
                }
            };
            let number: u64 = number.parse().map_err(|_| {
                format!("`{text}` is not a duration: `{unit}` needs a whole number before it")
            })?;
            if scale >= last_scale {
                return Err(format!(
                    "`{text}` is not a duration: write larger units first, each once"
                ));
            }
            last_scale = scale;
            total = number
                .checked_mul(scale)
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= LONGEST_MS)
                .ok_or_else(|| format!("`{text}` is longer than a hundred years"))?;
            rest = tail;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl ByteSize {
    /// A size of whole kibibytes.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// A size of whole mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// Reads `64KiB`, `10MiB` and the like.
    ///
    /// # Errors
    /// What is wrong and what would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let scale: u64 = match unit.trim_start() {
            "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "" if digits > 0 => {
                return Err(format!(
                    "a size needs a unit: `{number}B` for bytes, `{number}KiB` or `{number}MiB`"
                ));
            }
            _ => {
                return Err(format!(
                    "`{text}` is not a size: expected a number and `B`, `KiB`, `MiB`, `GiB` or `TiB`, such as `64KiB`"
                ));
            }
        };
        let number: u64 = number.parse().map_err(|_| {
            format!("`{text}` is not a size: expected a whole number before the unit")
        })?;
        number
            .checked_mul(scale)
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl ByteRate {
    /// Reads `10MiB/s` and the like.
    ///
    /// # Errors
    /// What is wrong and what would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(size) = text.trim().strip_suffix("/s") else {
            return Err(format!(
                "`{text}` is not a rate: expected bytes a second, such as `10MiB/s`"
            ));
        };
        if !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "a rate needs a unit: `{size}B/s` for bytes, `{size}KiB/s` or `{size}MiB/s`"
            ));
        }
        ByteSize::parse(size).map(|size| Self(size.0))
    }
}

impl Share {
    /// Reads `20%` and the like.
    ///
    /// # Errors
    /// What would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').map(str::trim_end);
        match number.and_then(|number| number.parse().ok()) {
            Some(percent @ 0..=100) => Ok(Self(percent)),
            _ => Err(format!(
                "`{text}` is not a share: expected a whole number of percent from `0%` to `100%`"
            )),
        }
    }
}

impl Ratio {
    /// A ratio of whole percents, 100 at most.
    pub const fn percent(percent: u32) -> Self {
        Self {
            millionths: percent * 10_000,
        }
    }

    /// How many of a million.
    pub const fn millionths(self) -> u32 {
        self.millionths
    }

    /// Reads `1%`, `0.05%`, `0.01` and the like. A whole number without `%` could mean either.
    ///
    /// # Errors
    /// What would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a share: expected `0%` to `100%`, with up to four digits behind the point, or `0.0` to `1.0`"
            )
        };
        let text_of_number = text.trim();
        let (whole, fraction, places) = match text_of_number.strip_suffix('%') {
            Some(number) => {
                let number = number.trim_end();
                let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
                (whole, fraction, 4)
            }
            None => {
                let (whole, fraction) = text_of_number.split_once('.').ok_or_else(wrong)?;
                (whole, fraction, 6)
            }
        };
        let is_number = |digits: &str, most| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(fraction, places) {
            return Err(wrong());
        }
        let millionths: u32 = format!("{whole}{fraction:0<places$}")
            .parse()
            .map_err(|_| wrong())?;
        match millionths {
            0..=1_000_000 => Ok(Self { millionths }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.millionths / 10_000, self.millionths % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (scale, unit) in [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
            (1, "ms"),
        ] {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

impl fmt::Debug for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
