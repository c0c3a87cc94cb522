//! Creating, opening and removing, in every state that a name can be in.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant};

use seqring::{IfExists, Ring};

use crate::peer;
use crate::support::role::Child;
use crate::support::{Name, expect_error, variant};

fn create(name: &str, if_exists: IfExists) -> Result<Ring<u64>, seqring::Error> {
    Ring::builder(name).slots(16).if_exists(if_exists).create()
}

#[test]
fn a_ring_that_does_not_exist() {
    let name = Name::new("missing");
    for text in [
        expect_error(Ring::<u64>::open(&name), "NotFound", &name),
        expect_error(Ring::<u64>::open_read_only(&name), "NotFound", &name),
        expect_error(Ring::<u64>::open_wait(&name, Duration::from_millis(30)), "NotFound", &name),
    ] {
        assert!(text.contains("start its producer first"), "{text}");
    }
    assert!(!Ring::<u64>::unlink(&name).unwrap());
    let started = Instant::now();
    let _ = Ring::<u64>::open_wait(&name, Duration::from_millis(50));
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[test]
fn waiting_for_a_ring_that_is_created_later() {
    let name = Name::new("later");
    let mut early = peer::start(&name);
    early.tell("open_wait");
    thread::sleep(Duration::from_millis(50));
    let ring = create(&name, IfExists::Error).unwrap();
    assert_eq!(early.line(), "ok");
    assert_eq!(early.ask("consume"), "ok");
    let mut producer = ring.producer().unwrap();
    producer.publish(&5);
    assert_eq!(early.ask("recv"), "Ok(5)");
}

/// Somebody else, who may read only once the mode says so, waits while the ring is being created.
#[test]
fn waiting_for_a_ring_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let name = Name::new("other-user");
    // The other user must be able to start this binary, wherever it was built.
    let copy = std::env::temp_dir().join(format!("seqring-test-{}", std::process::id()));
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args(Child::command().get_args()).current_dir("/").uid(65534).gid(65534);
    let mut other = Child::spawn("peer", &name, command);
    assert_eq!(other.ask("open_read_only"), "NotFound");
    fs::remove_file(&copy).unwrap();
    for _ in 0..20 {
        other.tell("open_wait");
        thread::sleep(Duration::from_millis(3));
        // Reserving this takes a while.
        let ring = Ring::<u64>::builder(&name).slots(1 << 20).mode(0o644).create().unwrap();
        assert_eq!(other.line(), "ok");
        drop(ring);
        assert_eq!(other.ask("drop"), "ok");
    }
}

#[test]
fn types_and_sizes_must_match() {
    let name = Name::new("types");
    let _ring = create(&name, IfExists::Error).unwrap();
    let text = expect_error(Ring::<u32>::open(&name), "TypeMismatch", &name);
    assert!(text.contains("u32") && text.contains("u64"), "{text}");
    expect_error(Ring::<i64>::open_read_only(&name), "TypeMismatch", &name);
    expect_error(Ring::<[u8; 8]>::open(&name), "TypeMismatch", &name);
    expect_error(Ring::<[u8]>::open_wait(&name, Duration::from_secs(10)), "TypeMismatch", &name);
    expect_error(Ring::<u64>::options(&name).type_name("Price").open(), "TypeMismatch", &name);
    expect_error(
        Ring::<u32>::builder(&name).slots(16).if_exists(IfExists::Attach).create(),
        "TypeMismatch",
        &name,
    );
    expect_error(
        Ring::<u64>::builder(&name).slots(17).if_exists(IfExists::Attach).create(),
        "GeometryMismatch",
        &name,
    );

    let bytes = Name::new("types-bytes");
    let _ring = Ring::<[u8]>::builder(&bytes).slots(4).slot_bytes(100).create().unwrap();
    expect_error(Ring::<u64>::open(&bytes), "TypeMismatch", &bytes);
    let other_size =
        Ring::<[u8]>::builder(&bytes).slots(4).slot_bytes(101).if_exists(IfExists::Attach).create();
    let text = expect_error(other_size, "GeometryMismatch", &bytes);
    assert!(text.contains("100 bytes") && text.contains("101 bytes"), "{text}");
}

#[test]
fn type_name_and_metadata_travel() {
    let name = Name::new("metadata");
    let metadata: Vec<u8> = (0..=255).cycle().take(100_001).collect();
    let made = Ring::<u64>::builder(&name)
        .slots(3)
        .type_name("Preis in €")
        .metadata(metadata.clone())
        .create()
        .unwrap();
    let ring = Ring::<u64>::options(&name).read_only(true).type_name("Preis in €").open().unwrap();
    assert_eq!(
        (ring.type_name(), ring.metadata(), ring.name()),
        ("Preis in €", &metadata[..], &*name)
    );
    assert_eq!((ring.slots(), ring.slot_bytes(), ring.path()), (3, 8, name.path()));
    assert_eq!(ring.segment_bytes(), fs::metadata(name.path()).unwrap().len());
    assert_eq!(ring.created(), made.created());
    expect_error(Ring::<u64>::open(&name), "TypeMismatch", &name);
}

#[test]
fn the_mode_is_as_asked_whatever_the_umask() {
    let name = Name::new("mode");
    for (umask, mode) in [("077", 0o640), ("000", 0o600), ("777", 0o644)] {
        // In a process of its own: the umask is everybody's.
        let mut command = std::process::Command::new("sh");
        command.args(["-c", r#"umask "$0" && exec "$@""#, umask]);
        command.arg(Child::command().get_program()).args(Child::command().get_args());
        let mut child = Child::spawn("peer", &name, command);
        assert_eq!(child.ask("create replace 4"), "ok");
        assert_eq!(fs::metadata(name.path()).unwrap().mode() & 0o7777, 0o600, "umask {umask}");
        child.finish();
        let _ring = Ring::<u64>::builder(&name).slots(4).mode(mode).create().unwrap();
        assert_eq!(fs::metadata(name.path()).unwrap().mode() & 0o7777, mode);
    }
    expect_error(Ring::<u64>::builder(&name).mode(0o4644).create(), "InvalidArgument", &name);
}

#[test]
fn consumers_map_the_memory_read_only() {
    let name = Name::new("read-only");
    let mut owner = peer::start(&name);
    assert_eq!(owner.ask("create replace 16"), "ok");
    let mut consumer = peer::start(&name);
    assert_eq!(consumer.ask("open_read_only"), "ok");
    assert_eq!(consumer.ask("mappings"), "r--s");
    assert_eq!(consumer.ask("produce"), "ReadOnly");
    assert_eq!(consumer.ask("drop"), "ok");
    assert_eq!(consumer.ask("mappings"), "");
    assert_eq!(consumer.ask("open_wait"), "ok");
    assert_eq!(consumer.ask("mappings"), "r--s");
    assert_eq!(owner.ask("mappings"), "rw-s");
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    expect_error(ring.producer(), "ReadOnly", &name);
}

/// What each policy makes of a name that is taken, in whatever state.
#[test]
fn policies_by_state() {
    let name = Name::new("policies");
    let ask = |policy| {
        create(&name, policy)
            .map(|ring| (ring.head(), ring.epoch()))
            .map_err(|error| variant(&error))
    };
    let all = || [ask(IfExists::Error), ask(IfExists::ReplaceStale), ask(IfExists::Attach)];
    let exists = || Err("AlreadyExists".to_owned());

    // Alive: owned, and produced into.
    let mut owner = peer::start(&name);
    assert_eq!(owner.ask("create error 16"), "ok");
    assert_eq!(all(), [exists(), Err("InUse".into()), Ok((0, 0))]);
    assert_eq!(owner.ask("produce"), "ok");
    assert_eq!(owner.ask("publish 20"), "ok");
    assert_eq!(all(), [exists(), Err("InUse".into()), Ok((20, 1))]);
    // Closed, and still owned.
    assert_eq!(owner.ask("close"), "ok");
    assert_eq!(all(), [exists(), Err("InUse".into()), Ok((20, 1))]);
    // Dead. Who attaches becomes the owner, and takes the name along.
    owner.kill();
    assert_eq!(ask(IfExists::Error), exists());
    assert_eq!(ask(IfExists::Attach), Ok((20, 1)));
    assert!(!name.path().exists());
    // Closed and left behind.
    let leave = || {
        let ring = Ring::<u64>::builder(&name).slots(16).persistent(true).create().unwrap();
        ring.producer().unwrap().publish(&1);
    };
    leave();
    assert!(name.path().exists(), "a persistent ring stays");
    assert_eq!(ask(IfExists::Error), exists());
    assert_eq!(ask(IfExists::Attach), Ok((1, 1)));
    leave();
    assert_eq!(ask(IfExists::ReplaceStale), Ok((0, 0)));
    // Another geometry.
    let _other = Ring::<u64>::builder(&name).slots(17).create().unwrap();
    assert_eq!(all(), [exists(), Err("InUse".into()), Err("GeometryMismatch".into())]);
}

/// Half-created segments are recognised: nobody opens them, and the next creator clears them away.
#[test]
fn unfinished_segments() {
    let name = Name::new("unfinished");
    let complete = {
        let ring = create(&name, IfExists::Error).unwrap();
        fs::read(ring.path()).unwrap()
    };
    let mut no_magic = complete.clone();
    no_magic[..8].fill(0);
    let leave = |bytes: &[u8], size: usize| {
        let _ = fs::remove_file(name.path());
        let file = OpenOptions::new().write(true).create_new(true).open(name.path()).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_len(size as u64).unwrap();
    };
    let states: [(&str, &[u8], usize); 5] = [
        ("just created", &[], 0),
        ("sized, not reserved", &[], complete.len()),
        ("reserved", &vec![0; complete.len()], complete.len()),
        ("without its magic word", &no_magic, complete.len()),
        ("reserved in part", &vec![0; 4096], complete.len()),
    ];
    for (state, bytes, size) in states {
        for policy in [IfExists::ReplaceStale, IfExists::Attach] {
            leave(bytes, size);
            expect_error(Ring::<u64>::open(&name), "NotReady", &name);
            expect_error(Ring::<u64>::open_read_only(&name), "NotReady", &name);
            expect_error(
                Ring::<u64>::open_wait(&name, Duration::from_millis(5)),
                "NotReady",
                &name,
            );
            expect_error(create(&name, IfExists::Error), "AlreadyExists", &name);
            let ring = create(&name, policy)
                .unwrap_or_else(|error| panic!("{state}, {policy:?}: {error}"));
            ring.producer().unwrap().publish(&1);
            assert_eq!(ring.head(), 1);
        }
        leave(bytes, size);
        assert!(Ring::<u64>::unlink(&name).unwrap(), "{state}");
        assert!(!name.path().exists());
    }
}

#[test]
fn files_that_are_no_rings() {
    let name = Name::new("garbage");
    let garbage: Vec<u8> =
        (0..10_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for length in [1, 7, 8, 1023, 1024, 10_000] {
        fs::write(name.path(), &garbage[..length]).unwrap();
        expect_error(Ring::<u64>::open(&name), "Invalid", &name);
        expect_error(create(&name, IfExists::Error), "AlreadyExists", &name);
        expect_error(create(&name, IfExists::Attach), "Invalid", &name);
        drop(create(&name, IfExists::ReplaceStale).unwrap());
        assert!(!name.path().exists());
    }
}

#[test]
fn only_ones_own_file_is_removed() {
    let name = Name::new("own-file");
    let ring = create(&name, IfExists::Error).unwrap();
    // Somebody puts another file under the name.
    fs::remove_file(name.path()).unwrap();
    fs::write(name.path(), b"another").unwrap();
    drop(ring);
    assert_eq!(fs::read(name.path()).unwrap(), b"another");
}

#[test]
fn the_last_handle_of_the_creator_removes_the_name() {
    let name = Name::new("last-handle");
    let ring = create(&name, IfExists::Error).unwrap();
    let opened = Ring::<u64>::open(&name).unwrap();
    let producer = ring.producer().unwrap();
    let consumer = ring.consumer().attach();
    expect_error(Ring::<u64>::unlink(&name).map(drop), "InUse", &name);
    drop(ring);
    drop(producer);
    assert!(name.path().exists(), "a consumer of the creator is left");
    drop(consumer);
    assert!(!name.path().exists());
    // Who has it open keeps it.
    opened.producer().unwrap().publish(&1);
    assert_eq!(opened.head(), 1);
}

#[test]
fn creators_that_race_get_one_ring() {
    let name = Name::new("race");
    for policy in ["attach", "replace"] {
        for _ in 0..10 {
            let mut peers: Vec<Child> = (0..4).map(|_| peer::start(&name)).collect();
            peers.iter_mut().for_each(|peer| peer.tell(&format!("create {policy} 16")));
            let answers: Vec<String> = peers.iter_mut().map(Child::line).collect();
            let made = answers.iter().filter(|answer| *answer == "ok").count();
            if policy == "attach" {
                assert_eq!(made, 4, "{answers:?}");
            } else {
                assert!(
                    made == 1 && answers.iter().filter(|answer| *answer == "InUse").count() == 3,
                    "{answers:?}"
                );
            }
            let produced = peers
                .iter_mut()
                .zip(&answers)
                .filter(|(_, answer)| *answer == "ok")
                .filter_map(|(peer, _)| (peer.ask("produce") == "ok").then_some(()));
            assert_eq!(produced.count(), 1);
            peers.iter_mut().for_each(Child::kill);
        }
    }
}

#[test]
fn who_dies_over_a_replacement_leaves_a_ring_that_can_be_continued() {
    use std::os::unix::fs::FileExt;

    let name = Name::new("half-replaced");
    drop(Ring::<u64>::builder(&name).slots(8).persistent(true).create().unwrap());
    // Marked as superseded, and then nothing: STATE is at offset 256.
    let file = fs::File::options().write(true).open(name.path()).unwrap();
    file.write_all_at(&3u64.to_ne_bytes(), 256).unwrap();
    let ring = Ring::<u64>::builder(&name).slots(8).if_exists(IfExists::Attach).create().unwrap();
    assert_eq!(ring.producer().unwrap().publish(&1), 0);
}

#[test]
fn a_file_beyond_all_sizes_is_refused_and_can_be_replaced() {
    let name = Name::new("beyond");
    let huge = || fs::File::create(name.path()).unwrap().set_len(1 << 47).unwrap();
    huge();
    expect_error(Ring::<u64>::open(&name), "Invalid", &name);
    assert!(Ring::<u64>::unlink(&name).unwrap());
    huge();
    Ring::<u64>::builder(&name).slots(8).create().unwrap();
}

#[test]
fn a_mode_that_locks_out_its_creator_is_refused() {
    let name = Name::new("mode-zero");
    for mode in [0, 0o044, 0o400, 0o1600] {
        expect_error(Ring::<u64>::builder(&name).mode(mode).create(), "InvalidArgument", &name);
    }
}
