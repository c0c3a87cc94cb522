//! The rows for people.

use super::Row;
use crate::bench::output::{bytes, nanoseconds, table};

/// One line per row, and what it means.
pub fn of(rows: &[Row]) -> String {
    let mut lines = table([
        "engine",
        "payload",
        "p50",
        "p99",
        "p99.9",
        "floor",
        "one way / floor",
        "quartiles",
        "/ apart",
    ]);
    for row in rows {
        lines.add_row([
            row.engine.to_string(),
            bytes(row.payload_bytes),
            nanoseconds(row.p50_ns),
            nanoseconds(row.p99_ns),
            nanoseconds(row.p999_ns),
            nanoseconds(row.floor_ns),
            format!("{:.2}", row.ratio_to_floor),
            format!("{:.2} - {:.2}", row.ratio_q1, row.ratio_q3),
            format!("{:.2}", row.ratio_to_apart),
        ]);
    }
    format!(
        "{lines}\none way = half of a round trip between two pinned processes; floor = a bare cache line, in the same rounds;\n\
         apart = two bare lines, one for each direction, as a ring has them: on some processors twice as slow.\n\
         Percentiles include two looks at the clock per round trip; the ratios do not.\n"
    )
}
