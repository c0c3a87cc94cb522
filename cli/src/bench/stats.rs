//! The middle of many measurements, and how far they spread.

/// Quartiles: half of the values lie between `q1` and `q3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quartiles {
    /// A quarter of the values are at most this.
    pub q1: f64,
    /// Half of the values are at most this.
    pub median: f64,
    /// Three quarters of the values are at most this.
    pub q3: f64,
}

impl Quartiles {
    /// Of these values, by linear interpolation between neighbours.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let below = sorted[place.floor() as usize];
            below + (sorted[place.ceil() as usize] - below) * place.fract()
        };
        Self { q1: at(0.25), median: at(0.5), q3: at(0.75) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours() {
        assert_eq!(
            Quartiles::of([4.0, 1.0, 3.0, 2.0]),
            Quartiles { q1: 1.75, median: 2.5, q3: 3.25 }
        );
        assert_eq!(Quartiles::of([5.0, 1.0, 9.0]), Quartiles { q1: 3.0, median: 5.0, q3: 7.0 });
        assert_eq!(Quartiles::of([7.0]), Quartiles { q1: 7.0, median: 7.0, q3: 7.0 });
    }
}
