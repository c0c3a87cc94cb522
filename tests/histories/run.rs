//! Runs of a plan: on threads of this process, or on processes of their own.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use seqring::Ring;
use serde::{Deserialize, Serialize};

use crate::history::{History, Read, Written};
use crate::plan::Plan;
use crate::record::{Traffic, read, write};
use crate::support::Name;
use crate::support::role::{self, Child};

/// Calls a function of a [`Traffic`] with the type that a plan asks for.
macro_rules! with_traffic {
    ($plan:expr, $function:ident($($argument:expr),*)) => {
        match $plan.shape {
            $crate::plan::Shape::Word => $function::<$crate::record::Words<1>>($($argument),*),
            $crate::plan::Shape::Line => $function::<$crate::record::Words<6>>($($argument),*),
            $crate::plan::Shape::Straddling => $function::<$crate::record::Words<8>>($($argument),*),
            $crate::plan::Shape::Block => $function::<$crate::record::Words<64>>($($argument),*),
            $crate::plan::Shape::Bytes(_) => $function::<$crate::record::Bytes>($($argument),*),
        }
    };
}
pub(crate) use with_traffic;

/// Runs `plan` with one thread for the producer and one for each consumer.
pub fn threads(plan: &Plan) -> History {
    with_traffic!(plan, threads_of(plan))
}

fn threads_of<T: Traffic>(plan: &Plan) -> History {
    let name = Name::new("threads");
    let ring = T::builder(&name, plan).create().expect("a new ring");
    let producer = ring.producer().expect("the only producer");
    let ready = Barrier::new(plan.readings.len() + 1);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..plan.readings.len())
            .map(|index| {
                let (ring, name, ready) = (&ring, &name, &ready);
                scope.spawn(move || {
                    let reading = &plan.readings[index];
                    let own = Ring::open_read_only(name).expect("an open ring");
                    let ring = if reading.writable { ring } else { &own };
                    if reading.join_percent == 0 {
                        return read::<T>(ring, reading, index, || {
                            ready.wait();
                        });
                    }
                    ready.wait();
                    wait_to_join(ring, plan, index);
                    read::<T>(ring, reading, index, || ())
                })
            })
            .collect();
        ready.wait();
        let writer = write::<T>(&ring, producer, plan);
        let readers = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        History { slots: plan.slots as u64, writer, readers }
    })
}

/// Waits until as much has been published as a late reader's plan says.
fn wait_to_join<M: seqring::Message + ?Sized>(ring: &Ring<M>, plan: &Plan, index: usize) {
    let due = plan.messages() * plan.readings[index].join_percent / 100;
    while ring.head() < due {
        thread::sleep(Duration::from_micros(50));
    }
}

/// What a child is told: the ring, the plan, and which of the readers it is.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    plan: Plan,
    reader: usize,
}

/// Runs `plan` with one process for the producer and one for each consumer.
pub fn processes(plan: &Plan) -> History {
    with_traffic!(plan, processes_of(plan))
}

fn processes_of<T: Traffic>(plan: &Plan) -> History {
    let name = Name::new("processes");
    let _ring = T::builder(&name, plan).create().expect("a new ring");
    let part = |reader| {
        let part = Part { name: name.to_string(), plan: plan.clone(), reader };
        serde_json::to_string(&part).expect("plain data")
    };
    let mut readers: Vec<Child> =
        (0..plan.readings.len()).map(|index| Child::start("reader", &part(index))).collect();
    for reader in &mut readers {
        assert_eq!(reader.line(), "ready");
    }
    let mut writer = Child::start("writer", &part(0));
    let written: Written = heard(&writer.line());
    writer.finish();
    let readers = readers.into_iter().map(|mut reader| {
        let read: Read = heard(&reader.line());
        reader.finish();
        read
    });
    History { slots: plan.slots as u64, writer: written, readers: readers.collect() }
}

fn heard<H: for<'a> Deserialize<'a>>(line: &str) -> H {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("a child said {line:?}: {error}"))
}

/// This process is a child of [`processes`].
pub fn child(role: &str, argument: &str) {
    let part: Part = heard(argument);
    match role {
        "writer" => with_traffic!(part.plan, writer(&part)),
        "reader" => with_traffic!(part.plan, reader(&part)),
        other => panic!("no role is called {other:?}"),
    }
}

fn writer<T: Traffic>(part: &Part) {
    let ring = Ring::<T::Message>::open(&part.name).expect("an open ring");
    let producer = ring.producer().expect("the only producer");
    role::say(
        &serde_json::to_string(&write::<T>(&ring, producer, &part.plan)).expect("plain data"),
    );
}

fn reader<T: Traffic>(part: &Part) {
    let ring = Ring::<T::Message>::open_read_only(&part.name).expect("an open ring");
    let reading = &part.plan.readings[part.reader];
    let ready = || role::say("ready");
    let read = if reading.join_percent == 0 {
        read::<T>(&ring, reading, part.reader, ready)
    } else {
        ready();
        wait_to_join(&ring, &part.plan, part.reader);
        read::<T>(&ring, reading, part.reader, || ())
    };
    role::say(&serde_json::to_string(&read).expect("plain data"));
}
