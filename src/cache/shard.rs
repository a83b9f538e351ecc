//! A part of what is kept, under one lock: the answers by their keys, in memory, on disk and on their way,
//! and the keys by what they are about.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ahash::RandomState;

use super::disk::OnDisk;
use super::fill::Fill;
use super::object::{Object, used};
use super::queue::{Queues, USES_TO_STAY};
use super::tags::TagIndex;

/// Answers by their keys.
#[derive(Debug, Default)]
pub(super) struct Shard {
    slots: HashMap<u128, Slot, RandomState>,
    /// Keys by the hash of the location.
    locations: HashMap<u64, Vec<u128>, RandomState>,
    tags: TagIndex,
    queues: Queues,
    /// The order in which files go.
    disk_queues: Queues,
    /// How many there are, or are to be.
    files: usize,
    /// Changes whenever one has to go.
    round: u8,
}

#[derive(Debug)]
struct Slot {
    location: u64,
    stored: Option<Arc<Object>>,
    fill: Option<Arc<Fill>>,
    disk: Option<Arc<OnDisk>>,
    /// The tags of all of them, as the index knows them.
    tags: Vec<u64>,
}

/// What is there for a key.
#[derive(Debug)]
pub(super) enum Found {
    /// It is on its way.
    Fill(Arc<Fill>),
    /// It is there as a whole.
    Object(Arc<Object>),
    /// It is not in memory, but on disk.
    Disk(Arc<OnDisk>),
}

/// By how much what is kept became more or less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) bytes: i64,
    pub(super) objects: i64,
}

impl Difference {
    fn minus(object: &Object) -> Self {
        Self {
            bytes: -(object.size as i64),
            objects: -1,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.objects += other.objects;
    }
}

impl Shard {
    /// What a client gets: what comes just now goes before what was there.
    pub(super) fn find(&self, key: u128) -> Option<Found> {
        let slot = self.slots.get(&key)?;
        if let Some(fill) = slot.fill.as_ref().filter(|fill| fill.is_open()) {
            return Some(Found::Fill(fill.clone()));
        }
        if let Some(object) = &slot.stored {
            object.used();
            return Some(Found::Object(object.clone()));
        }
        let entry = slot.disk.as_ref()?;
        used(&entry.uses);
        Some(Found::Disk(entry.clone()))
    }

    /// An answer begins to come.
    pub(super) fn begin(&mut self, location: u64, fill: &Arc<Fill>) {
        self.slot(fill.key, location).fill = Some(fill.clone());
        self.tag(fill.key);
    }

    /// An answer does not come any more.
    pub(super) fn abandon(&mut self, key: u128, number: u64) {
        if let Some(slot) = self.slots.get_mut(&key)
            && slot.fill.as_ref().is_some_and(|fill| fill.number == number)
        {
            slot.fill = None;
        }
        self.clear(key);
    }

    /// An answer is there as a whole.
    pub(super) fn store(&mut self, key: u128, location: u64, object: Arc<Object>) -> Difference {
        let mut difference = Difference {
            bytes: object.size as i64,
            objects: 1,
        };
        let (number, size) = (object.number, object.size);
        let before = self.slot(key, location).stored.replace(object);
        self.tag(key);
        if let Some(before) = before {
            difference.add(Difference::minus(&before));
            if before.number == number {
                return difference;
            }
            self.note_removal();
        }
        self.queues.insert(key, number, size);
        difference
    }

    /// The answer that is kept as a whole.
    pub(super) fn stored(&self, key: u128) -> Option<&Arc<Object>> {
        self.slots.get(&key)?.stored.as_ref()
    }

    /// Lets an answer go that is kept.
    pub(super) fn remove(&mut self, key: u128) -> Difference {
        let Some(object) = self.slots.get_mut(&key).and_then(|slot| slot.stored.take()) else {
            return Difference::default();
        };
        self.clear(key);
        self.note_removal();
        Difference::minus(&object)
    }

    /// Lets the answer go whose turn it is; `None` if nothing is left.
    pub(super) fn evict(&mut self) -> Option<Difference> {
        let slots = &self.slots;
        let key = self.queues.evict(|key, number| uses(slots, key, number))?;
        let object = self.slots.get_mut(&key)?.stored.take()?;
        self.clear(key);
        Some(Difference::minus(&object))
    }

    /// An answer is on disk from now on, or is to be. Returns what was there before.
    pub(super) fn put_on_disk(
        &mut self,
        key: u128,
        location: u64,
        entry: Arc<OnDisk>,
    ) -> Option<Arc<OnDisk>> {
        let (number, size) = (entry.number, entry.size);
        let before = self.slot(key, location).disk.replace(entry);
        self.files += usize::from(before.is_none());
        self.tag(key);
        if before
            .as_ref()
            .is_some_and(|before| before.number == number)
        {
            return before;
        }
        if before.is_some() {
            self.note_disk_removal();
        }
        self.disk_queues.insert(key, number, size);
        before
    }

    /// Takes an answer off the disk.
    pub(super) fn take_off_disk(&mut self, key: u128) -> Option<Arc<OnDisk>> {
        let entry = self.slots.get_mut(&key)?.disk.take()?;
        self.files -= 1;
        self.clear(key);
        self.note_disk_removal();
        Some(entry)
    }

    /// Takes the answer off the disk whose turn it is.
    pub(super) fn evict_from_disk(&mut self) -> Option<Arc<OnDisk>> {
        self.round = self.round.wrapping_add(1);
        let (slots, round) = (&self.slots, self.round);
        // What is used in memory is used, too, but counts once a round, so that it comes to an end.
        let key = self.disk_queues.evict(|key, number| {
            let slot = slots.get(&key)?;
            let entry = slot.disk.as_ref().filter(|it| it.number == number)?;
            let is_used = slot.stored.as_ref().is_some_and(|it| it.is_used());
            if is_used && entry.round.swap(round, Ordering::Relaxed) != round {
                entry.uses.fetch_max(USES_TO_STAY, Ordering::Relaxed);
            }
            Some(&entry.uses)
        })?;
        let entry = self.slots.get_mut(&key)?.disk.take()?;
        self.files -= 1;
        self.clear(key);
        Some(entry)
    }

    /// How many answers are on disk, or are to be.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// What is on disk, or is to be.
    pub(super) fn on_disk(&self, key: u128) -> Option<&Arc<OnDisk>> {
        self.slots.get(&key)?.disk.as_ref()
    }

    /// The keys of what is about a location.
    pub(super) fn at(&self, location: u64) -> Vec<u128> {
        self.locations.get(&location).cloned().unwrap_or_default()
    }

    /// The keys that a tag may stand for.
    pub(super) fn tagged(&self, tag: &str) -> Vec<u128> {
        self.tags.keys(tag)
    }

    /// All keys.
    pub(super) fn keys(&self) -> Vec<u128> {
        self.slots.keys().copied().collect()
    }

    /// What is at a key, whether it is whole or on its way.
    pub(super) fn look(&self, key: u128) -> (Option<&Arc<Object>>, Option<&Arc<Fill>>) {
        match self.slots.get(&key) {
            Some(slot) => (slot.stored.as_ref(), slot.fill.as_ref()),
            None => (None, None),
        }
    }

    fn slot(&mut self, key: u128, location: u64) -> &mut Slot {
        self.slots.entry(key).or_insert_with(|| {
            self.locations.entry(location).or_default().push(key);
            Slot {
                location,
                stored: None,
                fill: None,
                disk: None,
                tags: Vec::new(),
            }
        })
    }

    /// Tells the index which tags a key has.
    fn tag(&mut self, key: u128) {
        let Some(slot) = self.slots.get_mut(&key) else {
            return;
        };
        let stored = slot.stored.iter().map(|it| &it.tags);
        let fill = slot.fill.iter().map(|it| &it.tags);
        let disk = slot.disk.iter().map(|it| &it.tags);
        let tags = stored.chain(fill).chain(disk);
        let tags = tags.flat_map(|it| it.iter().map(|tag| &**tag));
        self.tags.set(key, &mut slot.tags, tags);
    }

    /// Forgets a key that nothing is kept under.
    fn clear(&mut self, key: u128) {
        self.tag(key);
        let Some(slot) = self.slots.get(&key) else {
            return;
        };
        if slot.stored.is_some() || slot.fill.is_some() || slot.disk.is_some() {
            return;
        }
        let location = slot.location;
        self.slots.remove(&key);
        if let Some(keys) = self.locations.get_mut(&location) {
            keys.retain(|it| *it != key);
            if keys.is_empty() {
                self.locations.remove(&location);
            }
        }
    }

    fn note_disk_removal(&mut self) {
        let slots = &self.slots;
        self.disk_queues.removed(|key, number| {
            let entry = slots.get(&key)?.disk.as_ref()?;
            (entry.number == number).then_some(&entry.uses)
        });
    }

    fn note_removal(&mut self) {
        let slots = &self.slots;
        self.queues.removed(|key, number| uses(slots, key, number));
    }
}

fn uses(slots: &HashMap<u128, Slot, RandomState>, key: u128, number: u64) -> Option<&AtomicU8> {
    let object = slots.get(&key)?.stored.as_ref()?;
    (object.number == number).then_some(&object.uses)
}
