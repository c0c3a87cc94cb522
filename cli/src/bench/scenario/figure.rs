//! How figures are written for people.

use crate::bench::output;

/// A number with thousands separated.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with one decimal below a thousand.
pub fn rate(number: f64) -> String {
    if number < 1000.0 { format!("{number:.1}") } else { count(number.round() as u64) }
}

/// A percentage with its sign; `+0.00 %` rather than `-0.00 %`.
pub fn percent(number: f64) -> String {
    let rounded = (number * 100.0).round() / 100.0 + 0.0;
    format!("{rounded:+.2} %")
}

/// A latency in its natural unit.
pub fn latency(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or("-".to_owned(), |nanoseconds| output::nanoseconds(nanoseconds as f64))
}

/// A number that somebody asked for: no more than three decimals, and none that are zero.
pub fn short(number: f64) -> String {
    ((number * 1e3).round() / 1e3).to_string()
}

/// Seconds with milliseconds.
pub fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let text: Vec<_> = [0, 999, 1000, 1_234_567].map(count).to_vec();
        assert_eq!(text, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn latencies_have_their_unit() {
        let text =
            [Some(999), Some(1_500), Some(2_340_000), Some(1_250_000_000), None].map(latency);
        assert_eq!(text, ["999 ns", "1.5 µs", "2.3 ms", "1.25 s", "-"]);
    }

    #[test]
    fn what_was_asked_for_is_shown_short() {
        assert_eq!([1.0, 0.25, 1.0 / 3.0, 50_000.0].map(short), ["1", "0.25", "0.333", "50000"]);
    }

    #[test]
    fn a_percentage_of_nearly_nothing_has_no_minus() {
        assert_eq!(percent(-0.001), "+0.00 %");
        assert_eq!(percent(-1.239), "-1.24 %");
    }
}
