//! File names of rings.

use std::path::PathBuf;

/// Directory of POSIX shared memory on Linux.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// Prefix of all file names of this library, by which `ls` and tools find them.
const PREFIX: &str = "seqring.";

/// Longest name in bytes that is used as it is, if it needs no other change.
const PLAIN_BYTES: usize = 128;

/// The file name for a ring called `name`, which may be any string.
///
/// Letters, digits and `. _ -` are kept. A name with other characters, or a long name, becomes its
/// readable part and a hash of the whole name. The `~` before the hash distinguishes the two forms,
/// because a `~` in a name is never kept. The header contains the real name, which distinguishes
/// two rings whose names have the same hash.
pub(crate) fn file_name(name: &str) -> String {
    let stays = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if !name.is_empty() && name.len() <= PLAIN_BYTES && name.chars().all(stays) {
        return format!("{PREFIX}{name}");
    }
    let readable: String = name.chars().map(|c| if stays(c) { c } else { '_' }).take(64).collect();
    format!("{PREFIX}{readable}~{:016x}", fnv1a(name.as_bytes()))
}

/// The path of the file of the ring called `name`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(file_name(name))
}

/// The 64-bit FNV-1a hash. It is part of the naming convention, so it must never change and must be
/// the same in every language.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(file_name("ticks.EURUSD-1_a"), "seqring.ticks.EURUSD-1_a");
    }

    #[test]
    fn the_hash_is_fnv1a() {
        // Test vectors published with the algorithm (Fowler, Noll, Vo).
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn any_string_becomes_one_short_path_component() {
        let long = "x".repeat(5000);
        let names = [
            "",
            "/",
            "a/b",
            "a_b",
            "..",
            ".",
            "naïve",
            "a\0b",
            "a~b",
            "new\nline",
            &long,
            &long[1..],
            "日本語",
        ];
        let files: std::collections::HashSet<String> =
            names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len(), "two names share a file");
        for file in files {
            assert!(
                file.starts_with(PREFIX) && file.len() < 200 && !file.contains(['/', '\0']),
                "{file:?}"
            );
        }
    }
}
