//! The rows for people.

use super::row::{Beside, Row};
use crate::bench::output::{bytes, figure, table};

/// One line per row, and what it means.
pub fn of(rows: &[Row]) -> String {
    let mut lines = table([
        "mode",
        "engine",
        "payload",
        "batch",
        "messages/s",
        "bytes/s",
        "per hand-off",
        "beside",
        "quartiles",
    ]);
    for row in rows {
        let (beside, quartiles) = beside(row);
        lines.add_row([
            row.mode.to_owned(),
            row.engine.to_string(),
            bytes(row.payload_bytes),
            row.batch.to_string(),
            figure(row.messages_per_second),
            figure(row.bytes_per_second),
            figure(row.messages_per_floor),
            beside,
            quartiles,
        ]);
    }
    format!(
        "{lines}\nper hand-off = messages in the time that a bare cache line takes from one CPU to the other; beside = measured in the same rounds:\n\
         time in SeqCst fences, speed in speeds of memcpy, time in times without consumers, or with one that does not gate.\n"
    )
}

fn beside(row: &Row) -> (String, String) {
    let quartiles = |q1: f64, q3: f64| format!("{q1:.2} - {q3:.2}");
    match (row.beside, row.loss) {
        (Some(Beside::Fence { ratio_to_fence, ratio_q1, ratio_q3, .. }), _) => {
            (format!("{ratio_to_fence:.2} fences"), quartiles(ratio_q1, ratio_q3))
        }
        (Some(Beside::Memcpy { ratio_to_memcpy, ratio_q1, ratio_q3, .. }), _) => {
            (format!("{ratio_to_memcpy:.2} memcpy"), quartiles(ratio_q1, ratio_q3))
        }
        (Some(Beside::NoConsumers { ratio_to_no_consumers, ratio_q1, ratio_q3 }), _) => {
            (format!("{ratio_to_no_consumers:.2} without"), quartiles(ratio_q1, ratio_q3))
        }
        (Some(Beside::FreeReader { ratio_to_free_reader, ratio_q1, ratio_q3 }), _) => {
            (format!("{ratio_to_free_reader:.2} free"), quartiles(ratio_q1, ratio_q3))
        }
        (Some(Beside::SpinOnly { ratio_to_spin_only, ratio_q1, ratio_q3 }), _) => {
            (format!("{ratio_to_spin_only:.2} spin-only"), quartiles(ratio_q1, ratio_q3))
        }
        (None, Some(loss)) => (
            format!("{:.1} % lost", 100.0 * loss.lost as f64 / loss.published as f64),
            String::new(),
        ),
        (None, None) => (String::new(), String::new()),
    }
}
