//! Days and months somewhere on earth: which one it is, and when it ends.
//!
//! A request reads one word. The time zone is asked when a period may have ended, and once a second
//! beside the requests, since clocks are set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::civil::{Date, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::algorithm::CalendarPeriod;
use super::check::checked_zone;
use super::clock::Clock;
use super::store::Store;
use crate::config::{self, Diagnostics, LimitKey, LimitWindow, nearest};

/// Whose days and months they are, unless it is said.
const UTC: &str = "UTC";
const EPOCH: Date = date(1970, 1, 1);
const END_BITS: u32 = 46;
const END_MASK: u64 = (1 << END_BITS) - 1;

/// What a window of the calendar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CalendarUnit {
    Day,
    Month,
}

/// The calendar that a limit is kept by.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) unit: CalendarUnit,
    pub(super) zone: Arc<Zone>,
    /// Whether that of who comes goes before.
    is_consumers: bool,
}

impl Calendar {
    pub(super) fn compile(
        limit: &config::RateLimit,
        unit: CalendarUnit,
        store: &Store,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let zone = match &limit.time_zone {
            Some(name) => checked_zone(name, store, diagnostics),
            None => store.zone(UTC).ok(),
        };
        Some(Self {
            unit,
            zone: zone?,
            is_consumers: limit.by.iter().any(|key| key.value == LimitKey::Consumer),
        })
    }

    /// The zone for somebody who has a home there. Only limits that count consumers apart go by that:
    /// others would count the same twice where two days overlap.
    pub(super) fn zone<'h>(&'h self, home: impl FnOnce() -> Option<&'h Arc<Zone>>) -> &'h Zone {
        let home = self.is_consumers.then(home).flatten();
        home.unwrap_or(&self.zone)
    }
}

impl CalendarUnit {
    /// `None` for a window that starts by itself.
    pub(super) fn of(window: LimitWindow) -> Option<Self> {
        match window {
            LimitWindow::Length(_) => None,
            LimitWindow::Day => Some(Self::Day),
            LimitWindow::Month => Some(Self::Month),
        }
    }

    /// Its usual length in seconds; the longest one's, if there is none.
    pub(super) fn seconds(self) -> u64 {
        match self {
            Self::Day => 86_400,
            Self::Month => 31 * 86_400,
        }
    }
}

/// A time zone, and what its calendar says.
#[derive(Debug)]
pub struct Zone {
    name: Box<str>,
    zone: TimeZone,
    day: Current,
    month: Current,
}

/// The period that it is.
#[derive(Debug, Default)]
struct Current {
    /// Its number (18 bits), and when it ends in milliseconds on the store's clock (46 bits).
    word: AtomicU64,
    seen: Mutex<Seen>,
}

/// Numbers of periods, which are not the same after the clock was set back.
#[derive(Debug, Default)]
struct Seen {
    /// The one that was last seen on the wall clock.
    by_clock: u64,
    /// The one that is counted.
    counted: u64,
}

impl Zone {
    /// The time zone of this name.
    ///
    /// # Errors
    /// The name that was probably meant, if there is none like this.
    pub(super) fn find(name: &str, clock: &Clock) -> Result<Self, Option<String>> {
        let known = TimeZoneDatabase::bundled();
        let Ok(zone) = known.get(name) else {
            let names: Vec<_> = known.available().collect();
            let names = || names.iter().map(|name| name.as_str());
            let city = |known: &&str| {
                let city = known.rsplit('/').next();
                city.is_some_and(|city| city.eq_ignore_ascii_case(name))
            };
            let meant = names().find(city).or_else(|| nearest(name, names()));
            return Err(meant.map(str::to_owned));
        };
        let zone = Self {
            name: name.into(),
            zone,
            day: Current::default(),
            month: Current::default(),
        };
        zone.turn(clock);
        Ok(zone)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The period that it is at `now`, on the store's clock.
    pub(super) fn period(&self, unit: CalendarUnit, now: u64, clock: &Clock) -> CalendarPeriod {
        let period = self.current(unit).period(now);
        match now < period.end {
            true => period,
            false => self.look(unit, clock),
        }
    }

    /// Looks at the clock. To be called about once a second.
    pub(super) fn turn(&self, clock: &Clock) {
        self.look(CalendarUnit::Day, clock);
        self.look(CalendarUnit::Month, clock);
    }

    #[cold]
    fn look(&self, unit: CalendarUnit, clock: &Clock) -> CalendarPeriod {
        let current = self.current(unit);
        let mut seen = current.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now(Instant::now());
        let (number, rest) = self.on_the_wall(unit, clock.wall());
        // A clock that is set back does not bring a period back whose quota may be spent. What is
        // counted then goes on until the clock comes to the end of a period.
        if number > seen.by_clock {
            seen.counted = number;
        }
        seen.by_clock = number;
        let end = (now + rest).div_ceil(1000).min(END_MASK);
        let word = seen.counted << END_BITS | end;
        current.word.store(word, Ordering::Release);
        current.period(now)
    }

    /// The number of the period in which the time is, and the microseconds that are left of it.
    fn on_the_wall(&self, unit: CalendarUnit, time: Timestamp) -> (u64, u64) {
        let today = self.zone.to_datetime(time).date();
        let (number, last) = match unit {
            CalendarUnit::Day => (today.duration_since(EPOCH).as_hours() / 24, today),
            CalendarUnit::Month => {
                let months = i64::from(today.year() - 1970) * 12 + i64::from(today.month() - 1);
                (months, today.last_of_month())
            }
        };
        // Where midnight is skipped, the day begins when the clock has been put forward.
        let next = last.tomorrow();
        let next = next.and_then(|next| next.to_zoned_datetime(self.zone.clone()));
        let end = next.map_or(Timestamp::MAX, |next| next.timestamp());
        // A day that a clock put back over midnight comes to twice has a first end in the past.
        let rest = end.duration_since(time).max(SignedDuration::from_secs(1));
        let rest = u64::try_from(rest.as_micros()).unwrap_or_default();
        (u64::try_from(number).unwrap_or_default(), rest)
    }

    fn current(&self, unit: CalendarUnit) -> &Current {
        match unit {
            CalendarUnit::Day => &self.day,
            CalendarUnit::Month => &self.month,
        }
    }
}

impl Current {
    fn period(&self, now: u64) -> CalendarPeriod {
        let word = self.word.load(Ordering::Acquire);
        let end = (word & END_MASK) * 1000;
        CalendarPeriod {
            number: word >> END_BITS,
            end,
            left: end.saturating_sub(now).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    const HOUR: i64 = 3600;

    /// A zone, and the seconds since 1970 on its wall clock.
    fn zone(name: &str, time: &str) -> (Zone, Clock, Arc<AtomicI64>) {
        let seconds = time.parse::<Timestamp>().unwrap().as_second();
        let wall = Arc::new(AtomicI64::new(seconds));
        let shown = wall.clone();
        let read = move || Timestamp::from_second(shown.load(Ordering::Relaxed)).unwrap();
        let clock = Clock::with_wall(Box::new(read));
        (Zone::find(name, &clock).unwrap(), clock, wall)
    }

    /// The hours that are left, rounded to whole ones.
    fn hours_left(name: &str, unit: CalendarUnit, time: &str) -> u64 {
        let (zone, _, _) = zone(name, time);
        let rest = zone.on_the_wall(unit, time.parse().unwrap()).1;
        (rest + 1_800_000_000) / 3_600_000_000
    }

    #[test]
    fn days_have_23_to_25_hours_and_months_their_length() {
        let day = |time| hours_left("Europe/Berlin", CalendarUnit::Day, time);
        assert_eq!(day("2026-01-14T23:00:00Z"), 24);
        assert_eq!(day("2026-03-28T23:00:00Z"), 23);
        assert_eq!(day("2026-10-24T22:00:00Z"), 25);
        let month = |time| hours_left("Europe/Berlin", CalendarUnit::Month, time);
        assert_eq!(month("2026-01-31T23:00:00Z"), 28 * 24);
        assert_eq!(month("2028-01-31T23:00:00Z"), 29 * 24);
        assert_eq!(month("2026-02-28T23:00:00Z"), 31 * 24 - 1);
        assert_eq!(month("2026-09-30T22:00:00Z"), 31 * 24 + 1);
        assert_eq!(month("2026-12-31T22:59:00Z"), 0);
    }

    #[test]
    fn a_day_may_begin_at_one() {
        // At midnight of 6 September 2026 clocks in Santiago go to 1:00.
        let day = |time| hours_left("America/Santiago", CalendarUnit::Day, time);
        assert_eq!(day("2026-09-06T03:00:00Z"), 1);
        assert_eq!(day("2026-09-06T04:00:00Z"), 23);
    }

    #[test]
    fn it_is_tomorrow_in_one_place_and_today_in_another() {
        let number = |name| {
            let (zone, clock, _) = zone(name, "2026-06-30T12:00:00Z");
            let number = |unit| zone.period(unit, 0, &clock).number;
            (number(CalendarUnit::Day), number(CalendarUnit::Month))
        };
        assert_eq!(number("UTC"), (20_634, 677));
        assert_eq!(number("Pacific/Kiritimati"), (20_635, 678));
        assert_eq!(number("pacific/niue"), (20_634, 677));
    }

    #[test]
    fn a_period_is_over_when_its_clock_says_so() {
        let (zone, clock, wall) = zone("UTC", "2026-06-30T23:59:59Z");
        let before = zone.period(CalendarUnit::Day, 0, &clock);
        let now = clock.now(Instant::now());
        assert!((1..=2_000_000).contains(&(before.end - now)));
        wall.fetch_add(1, Ordering::Relaxed);
        let after = zone.period(CalendarUnit::Day, before.end, &clock);
        assert_eq!(after.number, before.number + 1);
        assert!(after.end > before.end + 86_390_000_000);
    }

    #[test]
    fn a_clock_that_is_set_back_reopens_no_period() {
        let (zone, clock, wall) = zone("UTC", "2026-06-30T23:59:00Z");
        let number = |step| {
            wall.fetch_add(step, Ordering::Relaxed);
            zone.turn(&clock);
            zone.period(CalendarUnit::Day, 0, &clock).number
        };
        let june = number(0);
        assert_eq!(number(60), june + 1);
        // Over midnight and forth again.
        assert_eq!(number(-60), june + 1);
        assert_eq!(number(60), june + 1);
        // Far ahead by mistake, and right again: at the next midnight there is a new period.
        assert_eq!(number(40 * 24 * HOUR), june + 41);
        assert_eq!(number(-40 * 24 * HOUR), june + 41);
        assert_eq!(number(23 * HOUR), june + 41);
        assert_eq!(number(HOUR), june + 2);
    }

    #[test]
    fn a_name_that_is_none_is_told_what_was_meant() {
        let meant = |name| {
            let clock = Clock::default();
            Zone::find(name, &clock).unwrap_err()
        };
        assert_eq!(meant("Europe/Berln").as_deref(), Some("Europe/Berlin"));
        assert_eq!(meant("berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(meant("Nowhere at all, really"), None);
    }
}
