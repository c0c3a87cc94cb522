//! What happens under way, and when.

/// Something that the demo does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Kill a reader.
    Kill,
    /// Start another one in its place.
    Replace,
    /// Start one more, which begins with the history in the ring.
    JoinLate,
    /// Stop the producer.
    End,
}

/// The acts, each at its share of the time.
const SCRIPT: [(f64, Act); 4] =
    [(0.3, Act::Kill), (0.5, Act::Replace), (0.65, Act::JoinLate), (1.0, Act::End)];

/// The acts to come.
#[derive(Debug)]
pub struct Story {
    seconds: f64,
    next: usize,
}

impl Story {
    /// The script, stretched to so many seconds.
    pub fn new(seconds: f64) -> Self {
        Self { seconds, next: 0 }
    }

    /// The next act, if it is time.
    pub fn due(&mut self, elapsed_seconds: f64) -> Option<Act> {
        let &(share, act) = SCRIPT.get(self.next)?;
        (elapsed_seconds >= share * self.seconds).then(|| {
            self.next += 1;
            act
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_comes_once_in_order_even_if_late() {
        let mut story = Story::new(10.0);
        assert_eq!(story.due(2.9), None);
        assert_eq!(story.due(3.0), Some(Act::Kill));
        assert_eq!(story.due(3.1), None);
        let rest: Vec<_> = std::iter::from_fn(|| story.due(60.0)).collect();
        assert_eq!(rest, [Act::Replace, Act::JoinLate, Act::End]);
    }
}
