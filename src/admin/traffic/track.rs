//! The last readings of things that are counted, and what came of each in every minute of an hour.

use std::collections::{BTreeMap, VecDeque};

use crate::telemetry::{Outcomes, Tally};

/// Ticks from one mark to the next.
const MARK: u64 = 10;
/// Marks that are kept: the oldest one is up to a minute old.
const MARKS: usize = 6;
/// Ticks of a minute.
const MINUTE: u64 = 60;
/// Minutes that are kept.
const MINUTES: usize = 60;

/// Counts that were read, which only grow.
pub(super) trait Reading: Copy + Default + PartialEq {
    /// What came since an earlier reading.
    fn since(&self, earlier: &Self) -> Self;
    /// How the requests among it went.
    fn outcomes(&self) -> Outcomes;
}

impl Reading for Tally {
    fn since(&self, earlier: &Self) -> Self {
        Self::since(self, earlier)
    }

    fn outcomes(&self) -> Outcomes {
        self.outcomes
    }
}

impl Reading for Outcomes {
    fn since(&self, earlier: &Self) -> Self {
        Self::since(self, earlier)
    }

    fn outcomes(&self) -> Outcomes {
        *self
    }
}

/// What is remembered of one thing.
#[derive(Debug)]
pub(super) struct Track<R> {
    newest: R,
    /// When that was read.
    tick: u64,
    /// Earlier readings.
    marks: VecDeque<R>,
    /// The reading when this minute began.
    minute: Outcomes,
    minutes: VecDeque<Outcomes>,
}

impl<R: Reading> Track<R> {
    fn new(first: R) -> Self {
        Self {
            newest: first,
            tick: 0,
            marks: VecDeque::from([first]),
            minute: first.outcomes(),
            minutes: VecDeque::new(),
        }
    }

    fn note(&mut self, reading: R, tick: u64) -> R {
        if tick.is_multiple_of(MARK) {
            push(&mut self.marks, self.newest, MARKS);
        }
        if tick.is_multiple_of(MINUTE) {
            let now = self.newest.outcomes();
            push(&mut self.minutes, now.since(&self.minute), MINUTES);
            self.minute = now;
        }
        self.tick = tick;
        let came = reading.since(&self.newest);
        self.newest = reading;
        came
    }

    /// So far.
    pub(super) fn total(&self) -> R {
        self.newest
    }

    /// What came within [`window`].
    pub(super) fn recent(&self) -> R {
        let oldest = self.marks.front().copied().unwrap_or_default();
        self.newest.since(&oldest)
    }

    /// What came in each of the last minutes, the one that goes on last.
    pub(super) fn minutes(&self) -> Vec<Outcomes> {
        let current = self.newest.outcomes().since(&self.minute);
        self.minutes.iter().copied().chain([current]).collect()
    }

    /// Whether nothing came in any of them.
    pub(super) fn is_quiet(&self) -> bool {
        self.minutes().iter().all(|it| it.requests == 0)
    }
}

/// The seconds that [`Track::recent`] is about at most, of something that was there all along.
pub(super) fn window(tick: u64) -> u64 {
    let marked = MARK * (MARKS as u64 - 1);
    tick.min(marked + tick % MARK + 1)
}

fn push<T>(ring: &mut VecDeque<T>, item: T, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// Tracks by two names, such as those of a service and of a route.
#[derive(Debug)]
pub(super) struct Tracks<R>(BTreeMap<Box<str>, BTreeMap<Box<str>, Track<R>>>);

impl<R> Default for Tracks<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Reading> Tracks<R> {
    /// Notes a reading and returns what came since the one before, which is `first` for what is new; `None` if
    /// there was one at this tick already.
    pub(super) fn note(
        &mut self,
        (of, name): (&str, &str),
        reading: R,
        first: R,
        tick: u64,
    ) -> Option<R> {
        // Names are copied for what is new only.
        if !self.0.contains_key(of) {
            self.0.insert(of.into(), BTreeMap::new());
        }
        let tracks = self.0.get_mut(of)?;
        if !tracks.contains_key(name) {
            tracks.insert(name.into(), Track::new(first));
        }
        let track = tracks.get_mut(name)?;
        (track.tick != tick).then(|| track.note(reading, tick))
    }

    /// Whether there is something of these names.
    pub(super) fn contains(&self, names: (&str, &str)) -> bool {
        self.find(names).is_some()
    }

    /// What was counted of it so far, as far as it was read.
    pub(super) fn total(&self, names: (&str, &str)) -> R {
        self.find(names).map(Track::total).unwrap_or_default()
    }

    fn find(&self, (of, name): (&str, &str)) -> Option<&Track<R>> {
        self.0.get(of)?.get(name)
    }

    /// Forgets what was not noted at this tick.
    pub(super) fn forget_others(&mut self, tick: u64) {
        for tracks in self.0.values_mut() {
            tracks.retain(|_, track| track.tick == tick);
        }
        self.0.retain(|_, tracks| !tracks.is_empty());
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Track<R>)> {
        self.0.iter().flat_map(|(of, tracks)| {
            let named = tracks.iter();
            named.map(move |(name, track)| (&**of, &**name, track))
        })
    }

    /// Those of one first name.
    pub(super) fn of(&self, of: &str) -> impl Iterator<Item = (&str, &Track<R>)> {
        let tracks = self.0.get(of).into_iter().flatten();
        tracks.map(|(name, track)| (&**name, track))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: (&str, &str) = ("shop", "/orders");

    fn counted(requests: u64) -> Outcomes {
        Outcomes {
            requests,
            ..Outcomes::default()
        }
    }

    fn only(tracks: &Tracks<Outcomes>) -> &Track<Outcomes> {
        tracks.of("shop").next().unwrap().1
    }

    #[test]
    fn a_track_knows_the_last_minute_and_the_last_hour() {
        let mut tracks = Tracks::default();
        // Three a second.
        for tick in 1..=2 * 60 * 60 {
            let came = tracks.note(NAME, counted(3 * tick), counted(0), tick);
            assert_eq!(came, Some(counted(3)));
            let track = only(&tracks);
            assert_eq!(track.recent(), counted(3 * window(tick)), "{tick}");
            assert!(window(tick) <= 60);
        }
        let minutes = only(&tracks).minutes();
        assert_eq!(minutes.len(), MINUTES + 1);
        assert!(minutes[..MINUTES].iter().all(|it| *it == counted(180)));
    }

    #[test]
    fn what_was_counted_before_it_was_known_did_not_just_come() {
        let mut tracks = Tracks::default();
        let came = tracks.note(NAME, counted(1_000), counted(1_000), 7);
        assert_eq!(came, Some(counted(0)));
        assert!(only(&tracks).is_quiet());
        // Two routes of one name are counted together.
        assert_eq!(tracks.note(NAME, counted(1_000), counted(0), 7), None);
        assert_eq!(
            tracks.note(NAME, counted(1_002), counted(0), 8),
            Some(counted(2))
        );
        assert!(!only(&tracks).is_quiet());
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut tracks = Tracks::default();
        tracks.note(NAME, counted(1), counted(0), 1);
        tracks.note(("shop", "/new"), counted(1), counted(0), 2);
        tracks.forget_others(2);
        assert!(!tracks.contains(NAME));
        assert_eq!(tracks.iter().count(), 1);
        tracks.forget_others(3);
        assert_eq!(tracks.iter().count(), 0);
    }
}
