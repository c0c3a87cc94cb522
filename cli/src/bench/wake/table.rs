//! The rows for people.

use super::row::Row;
use crate::bench::output::{nanoseconds, table};

/// One line per row, and what it means.
pub fn of(rows: &[Row]) -> String {
    let mut wakes =
        table(["woken", "by", "asleep", "p50", "p99", "p99.9", "max", "ring / bare", "quartiles"]);
    let mut idle = table(["idle consumer", "seconds", "CPU s", "CPU"]);
    for row in rows {
        match row {
            Row::Wake(wake) => {
                let times = |all: [f64; 4]| all.map(nanoseconds);
                let [p50, p99, p999, max] =
                    times([wake.p50_ns, wake.p99_ns, wake.p999_ns, wake.max_ns]);
                let quartiles = format!("{:.2} - {:.2}", wake.ratio_q1, wake.ratio_q3);
                let asleep = |count: u64| format!("{count} of {}", wake.trips);
                let ratio = format!("{:.2}", wake.ratio_to_bare);
                wakes.add_row([
                    wake.role.to_owned(),
                    "ring".to_owned(),
                    asleep(wake.asleep),
                    p50,
                    p99,
                    p999,
                    max,
                    ratio,
                    quartiles,
                ]);
                let [p50, p99, p999, max] = times([
                    wake.bare_p50_ns,
                    wake.bare_p99_ns,
                    wake.bare_p999_ns,
                    wake.bare_max_ns,
                ]);
                let none = String::new;
                wakes.add_row([
                    none(),
                    "bare futex".to_owned(),
                    asleep(wake.bare_asleep),
                    p50,
                    p99,
                    p999,
                    max,
                    none(),
                    none(),
                ]);
            }
            Row::Idle(row) => {
                let figures = [
                    format!("{:.1}", row.seconds),
                    format!("{:.4}", row.cpu_seconds),
                    format!("{:.3} %", row.cpu_percent),
                ];
                let [seconds, cpu_seconds, percent] = figures;
                idle.add_row([row.wait.to_owned(), seconds, cpu_seconds, percent]);
            }
        }
    }
    format!(
        "{wakes}\nFrom the look at the clock before the message, the receive that makes room, or the system call, until the sleeper, in another\n\
         process on another CPU, has it. Counted are those that found the sleeper asleep. The ratio is that of the medians of each round.\n\n\
         {idle}\nparked: registered, so that the producer can wake it. napping: it only reads, and looks again after up to a millisecond.\n"
    )
}
