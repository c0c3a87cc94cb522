//! The systems that are measured through Python: a program of its own, with a child, both pinned;
//! see `python/peers.py`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use seqring_cli::interrupt::Interrupt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::spec::Spec;

const PROGRAM: &str = include_str!("../../python/peers.py");

/// Tried in this order.
const INTERPRETERS: [&str; 2] = ["python3.11", "python3"];

/// The program. Dropping this ends it, and it removes what it made.
pub struct Python<'a> {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    interrupt: &'a Interrupt,
    /// Its version, for the report.
    pub version: String,
}

/// What opening a channel took.
#[derive(Debug, Deserialize)]
pub struct Opened {
    /// Nanoseconds to create it.
    pub create_ns: f64,
    /// Bytes of named shared memory, if it has any.
    pub shared_bytes: Option<f64>,
}

/// What a turn took.
#[derive(Debug, Deserialize)]
pub struct Turn {
    /// Nanoseconds of each message, or of all of them.
    pub times: Vec<f64>,
    /// Nanoseconds until all of them were sent.
    pub sent: f64,
}

impl<'a> Python<'a> {
    /// Starts the program on two CPUs.
    ///
    /// # Errors
    ///
    /// When there is no interpreter.
    pub fn start([own, other]: [usize; 2], interrupt: &'a Interrupt) -> Result<Self> {
        let version = |name: &&str| {
            let output = Command::new(name).arg("--version").stderr(Stdio::null()).output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let found = INTERPRETERS.iter().find_map(|name| Some((name, version(name)?)));
        let (name, version) =
            found.with_context(|| format!("there is no {}", INTERPRETERS.join(" and no ")))?;
        let mut child = Command::new(name)
            .args(["-c", PROGRAM, &own.to_string(), &other.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let output =
            BufReader::new(child.stdout.take().context("the program has no standard output")?);
        Ok(Self { child, input, output, interrupt, version })
    }

    fn order<T: DeserializeOwned>(&mut self, order: &Value) -> Result<T> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Answer<T> {
            Done(T),
            Failed(String),
        }
        self.interrupt.check()?;
        let input = self.input.as_mut().context("the Python program was ended")?;
        writeln!(input, "{order}").context("the Python program is gone")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the Python program ended too early");
        }
        match serde_json::from_str(&line)
            .with_context(|| format!("the Python program said {line:?}"))?
        {
            Answer::Done(answer) => Ok(answer),
            Answer::Failed(reason) => bail!("the Python program failed: {reason}"),
        }
    }

    /// Creates a channel with its readers; for ping-pong another one back.
    ///
    /// # Errors
    ///
    /// When the program cannot.
    pub fn open(&mut self, id: u32, spec: &Spec, ping_pong: bool) -> Result<Opened> {
        let kind = if ping_pong { "ping-pong" } else { "flow" };
        self.order(&json!({
            "do": "open", "id": id, "system": spec.system, "kind": kind, "name": spec.name, "bytes": spec.bytes, "depth": spec.depth,
            "readers": spec.readers,
        }))
    }

    /// Plays a turn; with `nap` between the messages, so that the follower falls asleep.
    ///
    /// # Errors
    ///
    /// When a message was damaged, or the program is gone.
    pub fn turn(&mut self, id: u32, count: u64, answered: bool, nap: Duration) -> Result<Turn> {
        self.order(&json!({ "do": "turn", "id": id, "count": count, "answered": answered, "nap": nap.as_secs_f64() }))
    }

    /// Removes a channel.
    ///
    /// # Errors
    ///
    /// When the program is gone.
    pub fn close(&mut self, id: u32) -> Result<()> {
        self.order::<Value>(&json!({ "do": "close", "id": id })).map(drop)
    }
}

impl Drop for Python<'_> {
    fn drop(&mut self) {
        // It ends when it hears nothing any more.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
