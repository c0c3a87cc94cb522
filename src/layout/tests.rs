use super::*;
use crate::sync::zeroed;

/// The cells of all table rows in the documentation under `heading`, up to the next heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("../../docs/layout.md");
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .expect("the section is there");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn sizes(payload_bytes: usize, slots: usize) -> Sizes {
    Sizes { payload_bytes, payload_align: 8, slots, readers: 4, producers: 1 }
}

#[test]
fn the_documented_table_is_the_layout() {
    let code = [
        ("MAGIC", MAGIC),
        ("ABI", ABI),
        ("SEGMENT_BYTES", SEGMENT_BYTES),
        ("INSTANCE", INSTANCE),
        ("KIND", KIND),
        ("PAYLOAD_BYTES", PAYLOAD_BYTES),
        ("PAYLOAD_ALIGN", PAYLOAD_ALIGN),
        ("SLOTS", SLOTS),
        ("STRIDE", STRIDE),
        ("PAYLOAD_WORD", PAYLOAD_WORD),
        ("SLOTS_WORD", SLOTS_WORD),
        ("GRANULARITY", GRANULARITY),
        ("NAME_BYTES", NAME_BYTES),
        ("TYPE_BYTES", TYPE_BYTES),
        ("META_BYTES", META_BYTES),
        ("CREATED", CREATED),
        ("READERS", READERS),
        ("TABLE_WORD", TABLE_WORD),
        ("PRODUCERS", PRODUCERS),
        ("PARKABLE", PARKABLE),
        ("STATE", STATE),
        ("EPOCH", EPOCH),
        ("PRODUCER_PID", PRODUCER_PID),
        ("HEAD", HEAD),
    ];
    let documented: Vec<(&str, usize)> = table("Header")
        .iter()
        .chain(&table("Control"))
        .map(|row| (row[1], row[0].parse::<usize>().unwrap() / WORD))
        .collect();
    assert_eq!(documented, code);

    let rows = [
        ("ROW_CURSOR", ROW_CURSOR),
        ("ROW_RECEIVED", ROW_RECEIVED),
        ("ROW_LOST", ROW_LOST),
        ("ROW_LONGEST_LAG", ROW_LONGEST_LAG),
        ("ROW_CHECKPOINT", ROW_CHECKPOINT),
        ("ROW_SLEEPS", ROW_SLEEPS),
        ("ROW_PID", ROW_PID),
        ("ROW_STATE", ROW_STATE),
        ("ROW_COMMANDS", ROW_COMMANDS),
        ("ROW_SKIP_TO", ROW_SKIP_TO),
        ("ROW_NAME_BYTES", ROW_NAME_BYTES),
        ("ROW_NAME", ROW_NAME),
        ("ROW_WAITS", ROW_WAITS),
        ("ROW_WAITED", ROW_WAITED),
    ];
    let documented: Vec<(&str, usize)> =
        table("Reader table").iter().map(|row| (row[1], row[0].parse().unwrap())).collect();
    assert_eq!(documented, rows);
    let prose = include_str!("../../docs/layout.md");
    assert!(
        prose.contains(&format!("Word {BELL} of the table is the bell"))
            && prose.contains(&format!("word {ROOM} the one by which producers sleep"))
    );
    assert!(
        prose.contains(&format!("word {ROSTER} of the table"))
            && prose.contains(&format!("begins at word {ROWS} of the table"))
    );

    let slot: Vec<(&str, &str)> = table("Slots").iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(
        slot,
        [
            ("0", "SLOT_STAMP"),
            ("1 or 9", "SLOT_LENGTH"),
            ("0 or 8", "SLOT_MARK"),
            ("PAYLOAD_WORD", "payload")
        ]
    );
    assert_eq!((SLOT_STAMP, SLOT_LENGTH, SLOT_LENGTH_APART, SLOT_MARK), (0, 1, 9, 8));
}

#[test]
fn a_real_segment_has_the_documented_bytes() {
    let name = format!("layout-{}", std::process::id());
    let ring = crate::Ring::<[u8]>::builder(&name)
        .slots(3)
        .slot_bytes(300)
        .metadata("{}")
        .create()
        .unwrap();
    let mut producer = ring.producer().unwrap();
    for message in [&b"zero"[..], b"one", b"two", b"three"] {
        producer.publish(message).unwrap();
    }
    let bytes = std::fs::read(ring.path()).unwrap();
    let at = |offset: usize| u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap());
    let offset_of = |field: &str| {
        let tables = [table("Header"), table("Control")].concat();
        tables.iter().find(|row| row[1] == field).expect("a documented field")[0]
            .parse::<usize>()
            .unwrap()
    };
    let field = |name: &str| at(offset_of(name));

    assert_eq!(&bytes[..8], b"SEQRING1");
    // 300 bytes are 38 words. With two lines before them that makes 54 words, which are 56 in whole
    // lines.
    let expected = [
        ("ABI", 1),
        ("SEGMENT_BYTES", bytes.len() as u64),
        ("KIND", 2),
        ("PAYLOAD_BYTES", 300),
        ("PAYLOAD_ALIGN", 1),
        ("SLOTS", 3),
        ("STRIDE", 56),
        ("PAYLOAD_WORD", 16),
        ("SLOTS_WORD", 512 + 2560),
        ("GRANULARITY", 2),
        ("NAME_BYTES", name.len() as u64),
        ("TYPE_BYTES", 4),
        ("META_BYTES", 2),
        ("READERS", 64),
        ("TABLE_WORD", 512),
        ("STATE", 1),
        ("EPOCH", 1),
        ("PRODUCER_PID", u64::from(std::process::id())),
        ("HEAD", 4),
    ];
    for (name, value) in expected {
        assert_eq!(field(name), value, "{name}");
    }
    assert_eq!(bytes.len() as u64, 8 * (field("SLOTS_WORD") + field("SLOTS") * field("STRIDE")));

    let texts = 1024 + name.len().next_multiple_of(8);
    assert_eq!(&bytes[1024..1024 + name.len()], name.as_bytes());
    assert_eq!(&bytes[texts..texts + 4], b"[u8]");
    assert_eq!(&bytes[texts + 8..texts + 10], b"{}");

    let slot = |index: usize| 8 * (512 + 2560 + 56 * index);
    assert_eq!((at(slot(0)), at(slot(0) + 64), at(slot(0) + 72)), (4 * 3 + 2, 4 * 3 + 1, 5));
    assert_eq!(&bytes[slot(0) + 128..slot(0) + 133], b"three");
    assert_eq!((at(slot(2)), at(slot(2) + 64), at(slot(2) + 72)), (4 * 2 + 2, 4 * 2 + 1, 3));
}

#[test]
fn headers_survive_the_memory() {
    for (kind, payload, slots) in [(Kind::Fixed, 8, 1), (Kind::Variable, 100_000, 7)] {
        let header = Header {
            parkable: true,
            geometry: Geometry::plan(kind, sizes(payload, slots), text_words(5, 0, 9)).unwrap(),
            instance: 42,
            created: 7,
            name: b"ticks".to_vec(),
            type_name: Vec::new(),
            metadata: b"{\"a\": 1}\n".to_vec(),
        };
        let words = zeroed(header.geometry.end_word());
        assert_eq!(Header::read(&words), Err(Refused::NoMagic(0)));
        header.write(&words);
        assert_eq!(Header::read(&words), Ok(header));
        assert!(
            matches!(Header::read(&words[..words.len() - 1]), Err(Refused::Field(_))),
            "a truncated segment"
        );
    }
}

#[test]
fn slots_that_fit_into_a_line_stay_in_it() {
    for (payload, stride) in [
        (1, 2),
        (8, 2),
        (9, 4),
        (24, 4),
        (25, 8),
        (56, 8),
        (57, 9),
        (64, 9),
        (65, 24),
        (128, 24),
        (256, 40),
        (257, 56),
    ] {
        let geometry = Geometry::plan(Kind::Fixed, sizes(payload, 4), 0).unwrap();
        assert_eq!(geometry.stride, stride, "{payload} bytes");
        // The mark has a word before the payload: that of the stamp, or one on another line.
        assert!(mark_word(payload) < payload_word(Kind::Fixed, payload), "{payload} bytes");
        assert_eq!(
            mark_word(payload) / LINE != SLOT_STAMP / LINE,
            payload > MARK_SHARED_UP_TO,
            "{payload} bytes"
        );
    }
}

#[test]
fn impossible_sizes_are_refused_without_overflow() {
    let huge = [usize::MAX, usize::MAX / 2 + 1, 1 << 60, 1 << 46];
    for size in huge {
        for (payload, slots) in [(size, 1), (1, size), (size, size)] {
            assert!(
                Geometry::plan(Kind::Variable, sizes(payload, slots), 0).is_err(),
                "{payload} x {slots}"
            );
        }
    }
    let refused = |sizes| Geometry::plan(Kind::Fixed, sizes, 0).unwrap_err().what;
    assert_eq!(refused(sizes(0, 1)), "slot_bytes");
    assert_eq!(refused(sizes(1, 0)), "slots");
    assert_eq!(refused(Sizes { readers: 0, ..sizes(1, 1) }), "readers");
    assert_eq!(refused(Sizes { readers: MAX_READERS + 1, ..sizes(1, 1) }), "readers");
}

#[test]
fn shapes_tell_slots_with_lines_of_their_own_from_others() {
    let is_lines = |bytes| Shape::fixed(bytes).is_lines();
    for bytes in [8, 16, 24, 57, 64] {
        assert!(!is_lines(bytes), "{bytes} bytes");
    }
    for bytes in [25, 48, 56, 256, 1024, 4096] {
        assert!(is_lines(bytes), "{bytes} bytes");
    }
    for (bytes, is_medium) in
        [(256, false), (257, true), (1024, true), (4032, true), (4033, false), (4096, false)]
    {
        assert_eq!(Shape::fixed(bytes).is_medium(), is_medium, "{bytes} bytes");
    }
}

#[test]
fn a_place_knows_the_slot_before_it() {
    for slots in [1, 2, 7] {
        let geometry = Geometry::plan(Kind::Fixed, sizes(48, slots), 0).unwrap();
        let words = zeroed(geometry.end_word());
        let mut place = Place::of(&geometry, 0);
        for sequence in 0..20 {
            let slot = place.slot(&words);
            place.advance();
            assert_eq!(
                place.previous_slot(&words).as_ptr_range(),
                slot.as_ptr_range(),
                "{slots} slots, {sequence}"
            );
        }
    }
}
