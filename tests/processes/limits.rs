//! Names, sizes and space at and beyond their limits.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use seqring::{Error, Ring, TooLarge};

use crate::peer;
use crate::support::role::Child;
use crate::support::{Name, expect_error};

/// Removes a ring's file even if the test fails.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn any_string_is_a_name() {
    let unique = std::process::id();
    let names = [
        format!("/{unique}"),
        format!("../../tmp/{unique}"),
        format!("{unique}/a//b/"),
        format!("nul\0{unique}"),
        format!("new\nline \t{unique}"),
        format!("日本語 – naïve – 🦀 {unique}"),
        format!("~{unique}"),
        format!("{}{unique}", "x".repeat(4000)),
        format!("{}{unique}", "ü".repeat(100_000)),
    ];
    for (index, name) in names.iter().enumerate() {
        let ring = Ring::<u64>::builder(name)
            .slots(2)
            .create()
            .unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let _remove = Remove(ring.path().into());
        assert!(
            ring.path().parent().is_some_and(|parent| parent == std::path::Path::new("/dev/shm")),
            "{:?}",
            ring.path()
        );
        ring.producer().unwrap().publish(&(index as u64));
        let other = Ring::<u64>::open_read_only(name).unwrap();
        assert_eq!((other.name(), other.head()), (&name[..], 1));
        let mut consumer = other.consumer().start(seqring::Start::Oldest).attach();
        assert_eq!(consumer.recv(), Ok(index as u64));
        drop(ring);
        expect_error(Ring::<u64>::open(name), "NotFound", name);
    }
}

#[test]
fn texts_that_are_too_long() {
    let name = "n".repeat((1 << 20) + 1);
    let text = expect_error(Ring::<u64>::builder(&name).create(), "InvalidArgument", &name);
    assert!(text.contains("= 1048577") && text.contains("at most 1048576"), "{text}");
    expect_error(Ring::<u64>::open(&name), "NotFound", &name);
    let name = Name::new("long-texts");
    expect_error(
        Ring::<u64>::builder(&name).type_name(&"t".repeat((1 << 20) + 1)).create(),
        "InvalidArgument",
        &name,
    );
    expect_error(
        Ring::<u64>::builder(&name).metadata(vec![0; (1 << 20) + 1]).create(),
        "InvalidArgument",
        &name,
    );
    let ring = Ring::<u64>::builder(&name)
        .type_name(&"t".repeat(1 << 20))
        .metadata(vec![7; 1 << 20])
        .create()
        .unwrap();
    let own = Ring::<u64>::options(&name).type_name(ring.type_name()).open().unwrap();
    assert_eq!(own.metadata().len(), 1 << 20);
}

#[test]
fn sizes_of_nothing() {
    let name = Name::new("nothing");
    expect_error(Ring::<u64>::builder(&name).slots(0).create(), "InvalidArgument", &name);
    expect_error(
        Ring::<[u8]>::builder(&name).slots(4).slot_bytes(0).create(),
        "InvalidArgument",
        &name,
    );
    expect_error(Ring::<[u8]>::builder(&name).slots(4).create(), "InvalidArgument", &name);
    expect_error(Ring::<()>::builder(&name).slots(4).create(), "InvalidArgument", &name);
    assert!(!name.path().exists());
}

#[test]
fn absurd_sizes() {
    let name = Name::new("absurd");
    for slots in [
        1 << 40,
        1 << 46,
        1 << 61,
        1 << 62,
        1 << 63,
        usize::MAX / 8,
        usize::MAX / 16 + 1,
        usize::MAX - 1,
        usize::MAX,
    ] {
        for bytes in [1, 48, 1 << 20, 1 << 45, 1 << 62, usize::MAX - 7, usize::MAX] {
            for (slots, bytes) in [(slots, bytes), (bytes, slots)] {
                let error = Ring::<[u8]>::builder(&name)
                    .slots(slots)
                    .slot_bytes(bytes)
                    .create()
                    .expect_err("there is no such machine");
                assert!(
                    matches!(error, Error::NoSpace { .. } | Error::InvalidArgument { .. }),
                    "{error}"
                );
                assert!(error.to_string().contains(&*name), "{error}");
            }
        }
        let error = Ring::<u64>::builder(&name)
            .slots(slots)
            .create()
            .expect_err("there is no such machine");
        assert!(matches!(error, Error::NoSpace { .. } | Error::InvalidArgument { .. }), "{error}");
    }
    assert!(!name.path().exists());
}

#[test]
fn messages_larger_than_a_slot() {
    // Batches become ready line by line or, in larger rings with larger slots, in groups; slots of
    // either kind have their limits.
    for (slot_bytes, slots) in [1, 8, 13, 64, 65, 256, 257, 5000]
        .into_iter()
        .flat_map(|slot_bytes| [(slot_bytes, 4), (slot_bytes, 64)])
    {
        let name = Name::new("too-large");
        let ring =
            Ring::<[u8]>::builder(&name).slots(slots).slot_bytes(slot_bytes).create().unwrap();
        let mut producer = ring.producer().unwrap();
        let mut consumer = ring.consumer().attach();
        let (full, large) = (vec![7; slot_bytes], vec![8; slot_bytes + 1]);
        let refused = TooLarge { bytes: slot_bytes + 1, slot_bytes };
        assert_eq!(producer.publish(&large), Err(refused));
        assert_eq!(producer.publish(&full), Ok(0));
        assert_eq!(producer.publish_batch([&full, &vec![], &large, &full]), Err(refused));
        assert_eq!(
            producer.publish_with(|slot| slot.write(&full).and_then(|()| slot.write(&[1]))),
            Err(refused)
        );
        assert_eq!(producer.publish(b""), Ok(3));
        for expected in [&full[..], &full, b"", b""] {
            assert_eq!(consumer.recv().unwrap(), expected);
        }
        assert_eq!((consumer.lag(), producer.next_sequence()), (0, 4));
    }
}

/// In a mount namespace of its own, with a `/dev/shm` of a megabyte.
#[test]
fn a_full_dev_shm() {
    let works = |arguments: &[&str]| {
        Command::new("unshare")
            .args(arguments)
            .arg("true")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    // Root needs no user namespace; others do, and may not be allowed one.
    let Some(unshare) = [&["--mount"][..], &["--user", "--map-root-user", "--mount"]]
        .into_iter()
        .find(|arguments| works(arguments))
    else {
        println!("SKIPPED: this system allows no mount namespace");
        return;
    };
    let name = Name::new("full");
    let mut command = Command::new("unshare");
    command.args(unshare).args([
        "sh",
        "-c",
        r#"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" "$@""#,
    ]);
    command.arg(Child::command().get_program()).args(Child::command().get_args());
    let mut child = Child::spawn("peer", &name, command);
    // 16 bytes a slot, and six pages.
    assert_eq!(child.ask("create replace 65536"), "NoSpace");
    assert_eq!(child.ask("create replace 1000000000"), "NoSpace");
    // Exactly all of it: 256 pages, of which one is for the header and five for the reader table.
    assert_eq!(child.ask("create replace 64001"), "NoSpace");
    assert_eq!(child.ask("create replace 64000"), "ok");
    assert_eq!(child.ask("produce"), "ok");
    // Every page is there.
    assert_eq!(child.ask("publish 70000"), "ok");
    let mut second = peer::start(&name);
    assert_eq!(second.ask("open"), "NotFound", "the namespace is not ours");
    assert_eq!(child.ask("drop"), "ok");
    assert_eq!(child.ask("create replace 1000"), "ok");
    child.finish();
}
