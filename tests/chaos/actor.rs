//! A process in a role, as the director sees it.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::board::{Board, Line};
use crate::roles::Role;
use crate::stage::Part;
use crate::support::role::{self, PATIENCE};

/// Killed when dropped.
#[derive(Debug)]
pub struct Actor {
    pub role: &'static Role,
    pub is_veteran: bool,
    /// What it last said; progress 0 and epoch 0 before it has said anything.
    pub line: Line,
    /// Killed, and not started again yet.
    pub is_dead: bool,
    place: usize,
    process: Child,
    /// When it last got further.
    moved: Instant,
}

impl Actor {
    pub fn start(role: &'static Role, is_veteran: bool, board: &Board, part: &Part) -> Self {
        let place = part.place;
        board.set_line(place, Line::default());
        let argument = serde_json::to_string(part).expect("plain data");
        let mut command = role::Child::command();
        role::cast(&mut command, role.name, &argument).stdin(Stdio::null()).stdout(Stdio::null());
        let process =
            command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        Self {
            role,
            is_veteran,
            line: Line::default(),
            is_dead: false,
            place,
            process,
            moved: Instant::now(),
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has found the ring and its place in it.
    pub fn has_begun(&self) -> bool {
        self.line.epoch > 0
    }

    /// Reads what it says and checks it, if it is not dead.
    ///
    /// # Panics
    /// If it has ended, goes back, or does not move.
    pub fn watch(&mut self, board: &Board) {
        if self.is_dead {
            return;
        }
        let before = self.line;
        self.read(board);
        if self.line != before {
            self.moved = Instant::now();
        }
        let hangs = self.moved.elapsed() >= PATIENCE;
        assert!(
            !hangs,
            "{} {} stays at {:?} for {PATIENCE:?}",
            self.role.name,
            self.id(),
            self.line
        );
        let ended = self.process.try_wait().expect("a child can be waited for");
        assert!(
            ended.is_none(),
            "{} {} ended by itself: {ended:?}; it was at {:?}",
            self.role.name,
            self.id(),
            self.line
        );
    }

    fn read(&mut self, board: &Board) {
        let line = board.line(self.place);
        let back = line.progress < self.line.progress || line.epoch < self.line.epoch;
        assert!(
            !back,
            "{} {} went from {:?} back to {line:?}",
            self.role.name,
            self.id(),
            self.line
        );
        self.line = line;
    }

    /// Whether it sleeps until somebody wakes it, by the kernel's word; it may be awake by now.
    pub fn is_asleep(&self) -> bool {
        let id = self.id();
        let number = |text: String| {
            text.split(' ').next().and_then(|number| number.parse::<libc::c_long>().ok())
        };
        let sleeps = |thread: fs::DirEntry| {
            Some(
                number(fs::read_to_string(thread.path().join("syscall")).ok()?)
                    == Some(libc::SYS_futex),
            )
        };
        let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        threads.map(sleeps).all(|sleeps| sleeps == Some(true))
    }

    /// SIGKILL; [`Actor::mourn`] waits for its end.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child that was not waited for can be killed");
    }

    /// Returns when the process has ended and the kernel has released what it held.
    ///
    /// It is not reaped yet. That can keep the kernel busy for two seconds, if a thread was ending
    /// while somebody looked at `/proc`, and would be taken for time that the survivors have
    /// waited.
    pub fn mourn(&mut self, board: &Board) {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the call writes into `info`, which lives through it and is never read; it
        // concerns a child that was not reaped.
        let ended = unsafe {
            libc::waitid(libc::P_PID, self.id(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT)
        };
        assert_eq!(ended, 0, "a child can be waited for: {}", std::io::Error::last_os_error());
        self.is_dead = true;
        self.read(board);
    }

    /// Reaps the process, which has ended.
    pub fn bury(&mut self) {
        let status = self.process.wait().expect("a child can be waited for");
        assert!(
            status.code().is_none(),
            "{} {} ended before it was killed: {status}",
            self.role.name,
            self.id()
        );
    }

    /// Expects it to end well by itself.
    pub fn finish(&mut self, board: &Board) {
        let started = Instant::now();
        loop {
            self.read(board);
            if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
                assert!(status.success(), "{} {} ended with {status}", self.role.name, self.id());
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} {} does not end; it is at {:?}",
                self.role.name,
                self.id(),
                self.line
            );
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
