//! Series by their labels: at most so many, the same from one configuration to the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exposition::{Exposition, Labels};
use super::lines::Lines;

/// The name of those that share a series because there are too many.
pub(in crate::telemetry) const OTHERS: &str = "other";

/// Series that have their labels in common, and what is counted for them.
#[derive(Debug)]
pub(in crate::telemetry) struct Series<const N: usize> {
    pub(in crate::telemetry) labels: Labels,
    pub(in crate::telemetry) counts: Lines<N>,
}

/// All of the same kind.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct AllSeries<const N: usize>(Mutex<BTreeMap<Labels, Known<N>>>);

#[derive(Debug)]
struct Known<const N: usize> {
    series: Arc<Series<N>>,
    /// Whether it has been read since nobody holds it any more.
    is_read: bool,
}

impl<const N: usize> AllSeries<N> {
    /// The series of these labels, or of `others` if there are `most` already. The same labels always lead
    /// to the same series.
    pub(in crate::telemetry) fn of(
        &self,
        own: &[(&str, &str)],
        others: &[(&str, &str)],
        most: usize,
    ) -> Arc<Series<N>> {
        let mut labels = Labels::new(own);
        let mut all = self.lock();
        if all.len() >= most && !all.contains_key(&labels) {
            labels = Labels::new(others);
        }
        let known = all.entry(labels.clone()).or_insert_with(|| Known {
            series: Arc::new(Series {
                labels,
                counts: Lines::default(),
            }),
            is_read: false,
        });
        known.is_read = false;
        known.series.clone()
    }

    /// If there are as many as may be, those make room that no configuration in force has. Done once before
    /// series are asked for, since it looks at all of them.
    pub(in crate::telemetry) fn make_room(&self, most: usize) {
        let mut all = self.lock();
        if all.len() >= most {
            all.retain(|_, known| known.is_held());
        }
    }

    /// All of them, to be read. What nobody holds any more is read once more if anything was counted for it,
    /// and then forgotten.
    pub(in crate::telemetry) fn read(&self) -> Vec<Arc<Series<N>>> {
        let mut all = self.lock();
        all.retain(|_, known| {
            known.is_held()
                || (!known.series.counts.is_untouched()
                    && !std::mem::replace(&mut known.is_read, true))
        });
        all.values().map(|known| known.series.clone()).collect()
    }

    /// All of them, with what is counted for each as it is now, to be written on a page.
    pub(in crate::telemetry) fn sums(
        &self,
        page: &mut Exposition,
    ) -> Vec<([u64; N], Arc<Series<N>>)> {
        let sum = |series: Arc<Series<N>>| {
            page.step();
            (series.counts.sums(), series)
        };
        self.read().into_iter().map(sum).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Labels, Known<N>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Known<N> {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.series) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &AllSeries<1>, name: &str) -> Arc<Series<1>> {
        all.of(&[("name", name)], &[("name", OTHERS)], 2)
    }

    fn names(series: &[Arc<Series<1>>]) -> Vec<&str> {
        series.iter().map(|it| it.labels.as_str()).collect()
    }

    #[test]
    fn those_beyond_the_bound_share_one_and_what_is_gone_makes_room() {
        let all = AllSeries::default();
        let kept = ["a", "b", "c", "d"].map(|name| of(&all, name));
        let expected = [r#"name="a""#, r#"name="b""#, r#"name="other""#];
        assert_eq!(names(&all.read()), expected);
        assert!(Arc::ptr_eq(&kept[2], &kept[3]));
        assert!(Arc::ptr_eq(&kept[0], &of(&all, "a")));
        drop(kept);
        all.make_room(2);
        let _e = of(&all, "e");
        assert_eq!(names(&all.read()), [r#"name="e""#]);
    }

    #[test]
    fn what_nobody_holds_is_read_once_more() {
        let all = AllSeries::default();
        of(&all, "a").counts.count(0);
        assert_eq!(all.read().len(), 1);
        // It came back.
        assert_eq!(of(&all, "a").counts.sums(), [1]);
        assert_eq!(all.read().len(), 1);
        assert_eq!(all.read().len(), 0);
        let held = of(&all, "a");
        for _ in 0..3 {
            assert_eq!(all.read().len(), 1);
        }
        // Nothing was counted, so there is nothing to be read.
        drop(held);
        assert_eq!(all.read().len(), 0);
    }
}
