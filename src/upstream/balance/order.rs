//! The order in which round robin visits endpoints of different weights.

/// The longest order that is kept; above it weights are scaled down.
const LONGEST: u64 = 10_000;

/// Endpoint indexes, each as often as its weight says and as evenly spread as can be (the smooth
/// weighted round robin of NGINX: the highest current weight goes next and pays the total).
pub(super) fn smooth_order(weights: &[u32]) -> Box<[u16]> {
    let divisor = weights
        .iter()
        .fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)))
        .max(1);
    let mut weights: Vec<i64> = weights
        .iter()
        .map(|weight| (u64::from(*weight) / divisor) as i64)
        .collect();
    let mut total: i64 = weights.iter().sum();
    if total as u64 > LONGEST {
        let scale = total as f64 / LONGEST as f64;
        for weight in &mut weights {
            *weight = ((*weight as f64 / scale).round() as i64).max(1);
        }
        total = weights.iter().sum();
    }
    let mut current = vec![0; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for index in 0..weights.len() {
                current[index] += weights[index];
                if current[index] > current[best] {
                    best = index;
                }
            }
            current[best] -= total;
            best as u16
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heavy_endpoints_do_not_come_in_a_row() {
        assert_eq!(*smooth_order(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*smooth_order(&[2, 2]), [0, 1]);
    }

    proptest! {
        #[test]
        fn each_comes_as_often_as_its_weight(weights in prop::collection::vec(1..100u32, 1..20)) {
            let order = smooth_order(&weights);
            let total: u32 = weights.iter().sum();
            for (index, weight) in weights.iter().enumerate() {
                let visits = order.iter().filter(|visited| usize::from(**visited) == index).count();
                prop_assert_eq!(visits as u64 * u64::from(total), u64::from(*weight) * order.len() as u64);
            }
        }

        #[test]
        fn the_order_stays_short(weights in prop::collection::vec(1..=1000u32, 1..200)) {
            let order = smooth_order(&weights);
            prop_assert!(order.len() as u64 <= LONGEST + weights.len() as u64);
            for index in 0..weights.len() {
                prop_assert!(order.iter().any(|visited| usize::from(*visited) == index));
            }
        }
    }
}
