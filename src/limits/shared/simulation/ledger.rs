//! What a simulated fleet has decided.

/// Decisions, by key. Of the first keys it is known when they were admitted.
#[derive(Debug)]
pub(super) struct Ledger {
    admitted: Vec<u32>,
    watched: Vec<Watched>,
    refused: u64,
    asked: u64,
}

/// A key that is watched.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// Tokens, by the time when they were spent.
    spent: Vec<u64>,
    /// When the store began windows.
    windows: Vec<u64>,
    refused: u64,
    asked: u64,
}

impl Ledger {
    /// Of `keys` keys, of which the first `watched` are watched.
    pub(super) fn new(keys: usize, watched: usize) -> Self {
        Self {
            admitted: vec![0; keys],
            watched: vec![Watched::default(); watched],
            refused: 0,
            asked: 0,
        }
    }

    pub(super) fn admit(&mut self, key: u32, cost: u64, now: u64) {
        self.admitted[key as usize] += cost as u32;
        if let Some(watched) = self.watched.get_mut(key as usize) {
            watched.spent.extend((0..cost).map(|_| now));
        }
    }

    pub(super) fn refuse(&mut self, key: u32) {
        self.refused += 1;
        if let Some(watched) = self.watched.get_mut(key as usize) {
            watched.refused += 1;
        }
    }

    /// What was admitted then was not after all.
    pub(super) fn undo(&mut self, key: u32, cost: u64, then: u64) {
        self.admitted[key as usize] -= cost as u32;
        if let Some(Watched { spent, .. }) = self.watched.get_mut(key as usize) {
            let place = spent.partition_point(|time| *time < then);
            spent.drain(place..place + cost as usize);
        }
    }

    /// The store is asked about a key.
    pub(super) fn ask(&mut self, key: u32) {
        self.asked += 1;
        if let Some(watched) = self.watched.get_mut(key as usize) {
            watched.asked += 1;
        }
    }

    /// The store counts in a window that began then.
    pub(super) fn begin(&mut self, key: u32, start: u64) {
        if let Some(Watched { windows, .. }) = self.watched.get_mut(key as usize)
            && windows.last() != Some(&start)
        {
            windows.push(start);
        }
    }

    /// Tokens that were admitted of each key.
    pub(super) fn admitted(&self) -> &[u32] {
        &self.admitted
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// What the store was asked about the first so many keys that are watched, and requests of them.
    pub(super) fn asked_of_first(&self, keys: usize) -> (u64, u64) {
        let first = || self.watched.iter().take(keys);
        let requests = |it: &Watched| it.spent.len() as u64 + it.refused;
        let asked = first().map(|it| it.asked).sum();
        (asked, first().map(requests).sum())
    }

    /// The most of a watched key in a window that the store began.
    pub(super) fn fullest(&self, window: u64) -> u64 {
        self.most(|Watched { spent, windows, .. }| {
            let before = |time: u64| spent.partition_point(|it| *it < time);
            let count = |start: &u64| before(start + window) - before(*start);
            windows.iter().map(count).max()
        })
    }

    /// The most of a watched key in any interval of this length.
    pub(super) fn densest(&self, length: u64) -> u64 {
        self.most(|Watched { spent, .. }| {
            let mut start = 0;
            let counts = spent.iter().enumerate().map(|(end, time)| {
                while spent[start] + length <= *time {
                    start += 1;
                }
                end - start + 1
            });
            counts.max()
        })
    }

    fn most(&self, count: impl Fn(&Watched) -> Option<usize>) -> u64 {
        self.watched.iter().filter_map(count).max().unwrap_or(0) as u64
    }
}
