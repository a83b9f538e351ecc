//! Lets answers go before their time, wherever they are: in memory, on disk, and on their way.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::disk::Purging;
use super::object::seconds;
use super::purge::{Purge, Purged, Target};
use super::shard::{Difference, Shard};
use super::store::{Store, index, write};

impl Store {
    /// Lets answers go before their time. What is on disk is gone for good only when what is returned
    /// comes; `None` if it is already.
    pub fn purge(&self, purge: &Purge, now: SystemTime) -> (Purged, Option<oneshot::Receiver<()>>) {
        let (purged, purging) = self.meet(purge, now);
        let carried_out = self.disk.get().and_then(|disk| disk.purge(purging));
        (purged, carried_out)
    }

    /// What an unsafe request changed is not what is kept (RFC 9111 §4.4). Nobody waits for the disk here.
    pub fn invalidate(&self, location: String, now: SystemTime) {
        let target = Target::Url(location);
        let soft = false;
        let (_, purging) = self.meet(&Purge { target, soft }, now);
        if let Some(disk) = self.disk.get() {
            disk.invalidate(purging);
        }
    }

    fn meet(&self, purge: &Purge, now: SystemTime) -> (Purged, Purging) {
        self.purges.note(purge.clone());
        let mut purged = Purged::default();
        let mut purging = Purging::default();
        // The hash of a location says where it is only if the host is known.
        let location = match &purge.target {
            Target::Url(url) if !url.starts_with('/') => Some(self.hash(url)),
            _ => None,
        };
        for (number, shard) in self.shards.iter().enumerate() {
            if location.is_some_and(|location| index(location) != number) {
                continue;
            }
            let mut shard = write(shard);
            let keys = match (location, &purge.target) {
                (Some(location), _) => shard.at(location),
                (None, Target::Tag(tag)) => shard.tagged(tag),
                (None, _) => shard.keys(),
            };
            let mut difference = Difference::default();
            for key in keys {
                difference.add(purge_one(
                    &mut shard,
                    key,
                    (purge, now),
                    (&mut purged, &mut purging),
                ));
            }
            self.count(difference);
        }
        (purged, purging)
    }
}

fn purge_one(
    shard: &mut Shard,
    key: u128,
    (purge, now): (&Purge, SystemTime),
    (purged, purging): (&mut Purged, &mut Purging),
) -> Difference {
    let (stored, fill) = shard.look(key);
    let fill = fill
        .filter(|fill| purge.target.covers(&fill.ticket.location, &fill.tags))
        .cloned();
    let stored = stored
        .filter(|it| purge.target.covers(&it.location, &it.tags))
        .cloned();
    // What is on disk is the same answer as in memory.
    let on_disk = shard
        .on_disk(key)
        .filter(|it| stored.is_some() || purge.target.covers(&it.location, &it.tags))
        .cloned();
    let is_kept = stored.is_some() || on_disk.is_some();
    purged.objects += usize::from(fill.is_some()) + usize::from(is_kept);
    if purge.soft {
        if let Some(fill) = fill {
            fill.expire(seconds(now));
        }
        if let Some(stored) = stored {
            stored.expire(now);
        }
        if let Some(entry) = on_disk {
            purging.expire(&entry, seconds(now));
        }
        return Difference::default();
    }
    if let Some(fill) = fill {
        fill.revoke();
        shard.abandon(key, fill.number);
    }
    if on_disk.is_some()
        && let Some(entry) = shard.take_off_disk(key)
    {
        purging.remove(entry);
    }
    match is_kept {
        true => shard.remove(key),
        false => Difference::default(),
    }
}
