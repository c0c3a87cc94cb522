//! The header: unfinished or complete, nothing in between.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use loom_tests::{Bound, explore};
use seqring::layout::{Geometry, Header, Kind, Refused, Sizes, WORD, text_words};
use seqring::sync::{AtomicU64, zeroed};

/// A creator, an opener: no magic word, or the complete header.
#[test]
fn published_while_opened() {
    explore(
        "header::published_while_opened",
        Bound::Complete,
        &["unfinished", "complete"],
        |outcomes| {
            let texts = [b"a ring's name".as_slice(), b"u64", b"{\"unit\":\"kg\"}"];
            let [name, type_name, metadata] = texts.map(<[u8]>::to_vec);
            let text_words = text_words(name.len(), type_name.len(), metadata.len());
            let geometry = Geometry::plan(
                Kind::Fixed,
                Sizes {
                    payload_bytes: WORD,
                    payload_align: WORD,
                    slots: 2,
                    readers: 1,
                    producers: 1,
                },
                text_words,
            )
            .unwrap();
            let header = Header {
                geometry,
                parkable: true,
                instance: 0x1D,
                created: 1_700_000_000_000_000_000,
                name,
                type_name,
                metadata,
            };
            let words: Arc<[AtomicU64]> = zeroed(geometry.end_word()).into();
            let creating = {
                let (words, header) = (words.clone(), header.clone());
                thread::spawn(move || header.write(&words))
            };
            outcomes.saw(match Header::read(&words) {
                Err(Refused::NoMagic(0)) => "unfinished",
                Ok(read) => {
                    assert_eq!(read, header);
                    "complete"
                }
                Err(refused) => {
                    panic!("a header that is being written was refused for {refused:?}")
                }
            });
            creating.join().unwrap();
            assert_eq!(Header::read(&words), Ok(header));
        },
    );
}
