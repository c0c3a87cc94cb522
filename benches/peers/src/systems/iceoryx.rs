//! iceoryx2 0.10, in two processes, with the settings of its own benchmark of publish and
//! subscribe: slices of bytes, one publisher, as many subscribers as there are, no history, loans
//! written in place. Overwriting is its safe overflow; lossless is a publisher that retries
//! until its message is delivered. To sleep, a subscriber needs a second service, whose notifier
//! the publisher calls for each message.
//!
//! Its files go under directories and a prefix of this run, which are removed with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use anyhow::{Context as _, Result};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe};
use seqring_cli::bench::scenario::leftovers::DIRECTORY;

use super::Channel;
use crate::ends::{Receiver, Sender, each_alone, intact, one_by_one};
use crate::payload::Payload;
use crate::spec::{Mode, Spec};

/// What no other program begins its names with.
const PREFIX: &str = "seqio-";

type Service = ipc::Service;
type Topic = publish_subscribe::PortFactory<Service, [u8], ()>;

/// iceoryx2.
pub struct Iceoryx;

/// The sending end.
pub struct LoanSender<const W: usize> {
    publisher: Publisher<Service, [u8], ()>,
    notifier: Option<Notifier<Service>>,
    message: Box<Payload<W>>,
    _services: Rc<Services>,
}

/// The receiving end.
pub struct LoanReceiver<const W: usize> {
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Option<Listener<Service>>,
    message: Box<Payload<W>>,
    _services: Rc<Services>,
}

/// What the ports came from, which has to outlive them.
struct Services {
    topic: Topic,
    bell: Option<event::PortFactory<Service>>,
    _node: Node<Service>,
}

/// The start of all names that iceoryx2 gives its files in a run. It is short: some of them are
/// names of sockets, which have room for 107 bytes with all directories.
pub fn prefix(run: &str) -> String {
    format!("{PREFIX}{}", run.rsplit('-').next().unwrap_or(run))
}

/// Where the files of a run go that iceoryx2 keeps outside of `/dev/shm`.
pub fn directory(run: &str) -> PathBuf {
    std::env::temp_dir().join(prefix(run))
}

/// Removes the files of a run.
pub fn remove(run: &str) {
    let prefix = prefix(run);
    for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // Somebody else may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    // It is not there unless iceoryx2 took part.
    let _ = std::fs::remove_dir_all(directory(run));
}

/// Removes what killed runs have left: whose marker is gone, which the session of this run has seen
/// to.
pub fn sweep() {
    let files = |directory: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let shared = files(std::path::Path::new(DIRECTORY));
    let is_alive = |id: &str| shared.iter().any(|name| name.ends_with(&format!("-{id}.run")));
    for name in shared.iter().chain(&files(&std::env::temp_dir())) {
        if let Some(id) = id_of(name)
            && !is_alive(id)
        {
            remove(id);
        }
    }
}

/// The part of a run's name that a file of iceoryx2 carries, if it is one.
fn id_of(name: &str) -> Option<&str> {
    let (id, rest) = name.strip_prefix(PREFIX)?.split_at_checked(8)?;
    let is_id = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_id && (rest.is_empty() || rest.starts_with('_'))).then_some(id)
}

fn config(spec: &Spec) -> Result<Config> {
    let mut config = Config::default();
    let directory = directory(&spec.run);
    let directory =
        directory.to_str().context("the directory for temporary files has no UTF-8 name")?;
    config.global.set_root_path(
        &Path::new(directory.as_bytes()).map_err(|error| failed("take its directory", error))?,
    );
    let prefix = format!("{}_", prefix(&spec.run));
    config.global.prefix =
        FileName::new(prefix.as_bytes()).map_err(|error| failed("take its prefix", error))?;
    Ok(config)
}

fn failed(what: &str, error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("iceoryx2 cannot {what}: {error:?}")
}

thread_local! {
    /// A process has one node, and opens a service once, however many ports it creates.
    static OPEN: RefCell<HashMap<String, Weak<Services>>> = RefCell::default();
}

impl Services {
    fn of(spec: &Spec) -> Result<Rc<Self>> {
        if let Some(services) =
            OPEN.with_borrow(|open| open.get(&spec.name).and_then(Weak::upgrade))
        {
            return Ok(services);
        }
        let services = Rc::new(Self::open(spec)?);
        OPEN.with_borrow_mut(|open| {
            open.retain(|_, services| services.strong_count() > 0);
            open.insert(spec.name.clone(), Rc::downgrade(&services));
        });
        Ok(services)
    }

    fn open(spec: &Spec) -> Result<Self> {
        // What goes wrong comes as an error; warnings would go into the progress bar.
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new()
            .config(&config(spec)?)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<Service>()
            .map_err(|error| failed("create a node", error))?;
        let name: ServiceName =
            spec.name.as_str().try_into().map_err(|error| failed("take the name", error))?;
        let topic = node
            .service_builder(&name)
            .publish_subscribe::<[u8]>()
            .max_publishers(1)
            .max_subscribers(spec.readers.max(1))
            .max_nodes(2)
            .history_size(0)
            .subscriber_max_buffer_size(spec.depth)
            .enable_safe_overflow(spec.mode == Mode::Overwrite)
            .open_or_create()
            .map_err(|error| failed("create a service", error))?;
        let bell = if spec.parks {
            Some(
                node.service_builder(&name)
                    .event()
                    .open_or_create()
                    .map_err(|error| failed("create an event service", error))?,
            )
        } else {
            None
        };
        Ok(Self { topic, bell, _node: node })
    }
}

impl Channel for Iceoryx {
    type Sender<const W: usize> = LoanSender<W>;
    type Receiver<const W: usize> = LoanReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        let services = Services::of(spec)?;
        let publisher = services
            .topic
            .publisher_builder()
            .initial_max_slice_len(spec.bytes)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(|error| failed("create a publisher", error))?;
        let notifier = match &services.bell {
            Some(bell) => Some(
                bell.notifier_builder()
                    .create()
                    .map_err(|error| failed("create a notifier", error))?,
            ),
            None => None,
        };
        Ok(LoanSender { publisher, notifier, message: Payload::boxed(), _services: services })
    }

    fn receiver<const W: usize>(spec: &Spec, _reader: usize) -> Result<Self::Receiver<W>> {
        let services = Services::of(spec)?;
        let subscriber = services
            .topic
            .subscriber_builder()
            .create()
            .map_err(|error| failed("create a subscriber", error))?;
        let listener = match &services.bell {
            Some(bell) => Some(
                bell.listener_builder()
                    .create()
                    .map_err(|error| failed("create a listener", error))?,
            ),
            None => None,
        };
        Ok(LoanReceiver { subscriber, listener, message: Payload::boxed(), _services: services })
    }
}

impl<const W: usize> Sender for LoanSender<W> {
    #[inline(always)]
    fn send(&mut self, n: u64) -> Result<()> {
        self.message.mark(n);
        let sample = self
            .publisher
            .loan_slice_uninit(size_of::<Payload<W>>())
            .map_err(|error| failed("loan", error))?;
        sample
            .write_from_slice(self.message.bytes())
            .send()
            .map_err(|error| failed("send", error))?;
        if let Some(notifier) = &self.notifier {
            notifier.notify().map_err(|error| failed("notify", error))?;
        }
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        each_alone(self, first, count)
    }
}

impl<const W: usize> Receiver for LoanReceiver<W> {
    #[inline(always)]
    fn poll(&mut self) -> Result<Option<u64>> {
        match self.subscriber.receive().map_err(|error| failed("receive", error))? {
            Some(sample) => {
                self.message.bytes_mut().copy_from_slice(&sample);
                black_box(&self.message);
                intact(self.message.number()).map(Some)
            }
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        one_by_one(self, each)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        let listener = self.listener.as_ref().context("this channel was not made for sleeping")?;
        listener.blocking_wait(|_| {}).map_err(|error| failed("wait", error))?;
        self.poll()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_files_are_recognised() {
        assert_eq!(id_of("seqio-0a1b2c3d_node"), Some("0a1b2c3d"));
        assert_eq!(id_of("seqio-0a1b2c3d"), Some("0a1b2c3d"));
        for other in [
            "iox2_0a1b2c3d_node",
            "seqio-0a1b2c3",
            "seqio-0a1b2c3dd",
            "seqio-0A1B2C3D_x",
            "seqio-nothexes_x",
        ] {
            assert_eq!(id_of(other), None, "{other}");
        }
        assert_eq!(prefix("seqring-bench-17-0a1b2c3d"), "seqio-0a1b2c3d");
    }
}
