//! The last requests of a kind that one thread has seen.

use super::kept::Kept;

/// Requests that are kept.
pub(super) const SLOTS: usize = 128;

/// The last requests. The memory of the oldest is that of the next.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Kept>,
    /// Where the next one goes.
    next: usize,
}

impl Ring {
    pub(super) fn keep(&mut self, write: impl FnOnce(&mut Kept)) {
        if self.next == self.slots.len() {
            self.slots.push(Kept::default());
        }
        write(&mut self.slots[self.next]);
        self.next = (self.next + 1) % SLOTS;
    }

    /// So many of them, the newest first.
    pub(super) fn newest(&self, count: usize) -> Vec<Kept> {
        let (newer, older) = self.slots.split_at(self.next);
        let found = newer.iter().rev().chain(older.iter().rev());
        found.take(count).cloned().collect()
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let texts: usize = self.slots.iter().map(Kept::size).sum();
        self.slots.capacity() * size_of::<Kept>() + texts
    }
}
