//! What a reader of figures has to know about the machine they come from.

use std::env;
use std::fs;
use std::thread;
use std::time::SystemTime;

use indicatif::BinaryBytes;

/// Facts as pairs of name and value, for the report.
pub fn facts() -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let cpus = thread::available_parallelism().map_or_else(|_| unknown(), |n| n.to_string());
    vec![
        ("CPU", cpu_model().unwrap_or_else(unknown)),
        ("usable CPUs", cpus),
        ("memory", memory().unwrap_or_else(unknown)),
        ("kernel", first_line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown)),
        ("architecture", env::consts::ARCH.to_owned()),
        ("seqring", format!("{}{}", env!("CARGO_PKG_VERSION"), build_kind())),
        ("time", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("command", command_line()),
    ]
}

/// Figures of an unoptimised build are worth nothing, so it has to be seen.
fn build_kind() -> &'static str {
    if cfg!(debug_assertions) { ", debug build" } else { "" }
}

fn cpu_model() -> Option<String> {
    // x86 has the first; some Arm kernels have the second.
    field("/proc/cpuinfo", "model name").or_else(|| field("/proc/cpuinfo", "Processor"))
}

fn memory() -> Option<String> {
    let kibibytes: u64 =
        field("/proc/meminfo", "MemTotal")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(BinaryBytes(kibibytes * 1024).to_string())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

/// The arguments; the path of the program tells nothing but somebody's home.
fn command_line() -> String {
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    ["seqring".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}
