//! What the kernel offers: a named pipe and a Unix stream socket, in two processes, blocking reads
//! and writes.
//!
//! Every reader has a stream of its own, to which the sender writes. A pipe gets the largest buffer
//! that everybody may ask for where messages are large. Batches are one write and one read.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode as FileMode;
use nix::unistd::mkfifo;

use super::Channel;
use crate::ends::{Receiver, Sender, batch_of, intact};
use crate::payload::Payload;
use crate::spec::Spec;

/// What `/proc/sys/fs/pipe-max-size` is unless somebody changed it.
const PIPE_BYTES: i32 = 1 << 20;
/// Messages from this size on get pipes of [`PIPE_BYTES`].
const LARGE: usize = 16 << 10;

/// A named pipe.
pub struct Pipe;

/// A Unix stream socket, with a name that is no file.
pub struct Socket;

/// A stream between processes that one side prepares and the other opens.
pub trait Stream: 'static {
    /// What the sender keeps until the reader is there.
    type Prepared;

    /// Creates the stream.
    fn prepare(name: &str) -> Result<Self::Prepared>;

    /// The reader's side, which opens first.
    fn open_reader(name: &str, bytes: usize) -> Result<impl Read + 'static>;

    /// Removes what the stream leaves in the file system, if anything.
    fn remove(_prepared: &[Self::Prepared]) {}

    /// The sender's side.
    fn open_sender(prepared: &Self::Prepared) -> Result<impl Write + 'static>;
}

impl Stream for Pipe {
    type Prepared = PathBuf;

    fn prepare(name: &str) -> Result<PathBuf> {
        let path = PathBuf::from("/dev/shm").join(name);
        mkfifo(&path, FileMode::S_IRUSR | FileMode::S_IWUSR)
            .with_context(|| format!("cannot create the pipe {}", path.display()))?;
        Ok(path)
    }

    fn open_reader(name: &str, bytes: usize) -> Result<impl Read + 'static> {
        let path = PathBuf::from("/dev/shm").join(name);
        // Without blocking until there is a writer; reading itself shall block.
        let file = File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)
            .with_context(|| format!("cannot open the pipe {}", path.display()))?;
        fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::empty()))
            .context("cannot make the pipe block")?;
        if bytes >= LARGE {
            fcntl(file.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))
                .context("cannot enlarge the pipe")?;
        }
        Ok(file)
    }

    fn remove(paths: &[PathBuf]) {
        for path in paths {
            // Gone already is gone.
            let _ = std::fs::remove_file(path);
        }
    }

    fn open_sender(path: &PathBuf) -> Result<impl Write + 'static> {
        File::options()
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open the pipe {}", path.display()))
    }
}

impl Stream for Socket {
    type Prepared = UnixListener;

    fn prepare(name: &str) -> Result<UnixListener> {
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
            .with_context(|| format!("cannot listen as {name:?}"))
    }

    fn open_reader(name: &str, _bytes: usize) -> Result<impl Read + 'static> {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
            .with_context(|| format!("cannot connect to {name:?}"))
    }

    fn open_sender(listener: &UnixListener) -> Result<impl Write + 'static> {
        Ok(listener.accept().context("no reader has come")?.0)
    }
}

/// The sending end.
pub struct StreamSender<S: Stream, const W: usize> {
    prepared: Vec<S::Prepared>,
    /// One for each reader, opened by the first message.
    open: Vec<Box<dyn Write>>,
    messages: Vec<Payload<W>>,
}

/// The receiving end.
pub struct StreamReceiver<const W: usize> {
    stream: Box<dyn Read>,
    messages: Vec<Payload<W>>,
}

impl<S: Stream> Channel for S {
    type Sender<const W: usize> = StreamSender<S, W>;
    type Receiver<const W: usize> = StreamReceiver<W>;

    fn sender<const W: usize>(spec: &Spec) -> Result<Self::Sender<W>> {
        let prepared =
            (0..spec.readers).map(|reader| S::prepare(&spec.leg(reader))).collect::<Result<_>>()?;
        Ok(StreamSender { prepared, open: Vec::new(), messages: Payload::several(batch_of(W)) })
    }

    fn receiver<const W: usize>(spec: &Spec, reader: usize) -> Result<Self::Receiver<W>> {
        let stream = S::open_reader(&spec.leg(reader), spec.bytes)?;
        Ok(StreamReceiver { stream: Box::new(stream), messages: Payload::several(batch_of(W)) })
    }
}

impl<S: Stream, const W: usize> StreamSender<S, W> {
    #[cold]
    fn open(&mut self) -> Result<()> {
        for prepared in &self.prepared {
            self.open.push(Box::new(S::open_sender(prepared)?));
        }
        Ok(())
    }
}

impl<S: Stream, const W: usize> Sender for StreamSender<S, W> {
    fn send(&mut self, n: u64) -> Result<()> {
        self.send_batch(n, 1)
    }

    fn send_batch(&mut self, first: u64, count: usize) -> Result<()> {
        if self.open.is_empty() {
            self.open()?;
        }
        let messages = &mut self.messages[..count];
        for (message, n) in messages.iter_mut().zip(first..) {
            message.mark(n);
        }
        let bytes = bytemuck::cast_slice(messages);
        self.open
            .iter_mut()
            .try_for_each(|stream| stream.write_all(bytes))
            .context("the reader is gone")
    }
}

impl<const W: usize> StreamReceiver<W> {
    /// Reads at least one message and at most `most`, and returns how many: whole ones.
    fn read(&mut self, most: usize) -> Result<usize> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.messages[..most]);
        let size = size_of::<Payload<W>>();
        let mut filled = self.stream.read(bytes).context("cannot read")?;
        if filled == 0 {
            // Nobody has opened the other side yet, or nobody has it open any more.
            return Ok(0);
        }
        let count = filled.div_ceil(size);
        while filled < count * size {
            let more = self.stream.read(&mut bytes[filled..count * size]).context("cannot read")?;
            anyhow::ensure!(more > 0, "the sender is gone");
            filled += more;
        }
        black_box(&self.messages);
        Ok(count)
    }
}

impl<const W: usize> Receiver for StreamReceiver<W> {
    fn poll(&mut self) -> Result<Option<u64>> {
        if self.read(1)? == 0 { Ok(None) } else { intact(self.messages[0].number()).map(Some) }
    }

    fn poll_batch(&mut self, each: &mut impl FnMut(u64) -> Result<()>) -> Result<usize> {
        let count = self.read(batch_of(W))?;
        self.messages[..count].iter().try_for_each(|message| each(intact(message.number())?))?;
        Ok(count)
    }

    fn wait(&mut self) -> Result<Option<u64>> {
        self.poll()
    }
}

impl<S: Stream, const W: usize> Drop for StreamSender<S, W> {
    fn drop(&mut self) {
        S::remove(&self.prepared);
    }
}
