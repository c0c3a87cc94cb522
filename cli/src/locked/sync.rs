//! A mutex and a condition variable that work between processes.

use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use libc::{c_int, pthread_cond_t, pthread_mutex_t, timespec};

/// Turns the error number a pthread call returns into an error.
fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// The error of a mutex whose owner died while holding it.
///
/// The state behind it may be half changed, so nobody may use it any more: the
/// mutex is left inconsistent, which makes every later attempt fail too.
fn abandoned() -> io::Error {
    io::Error::other("a process died while it held the lock of the queue; start the run again")
}

/// A robust, process-shared mutex around a value that lives in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct SharedMutex<T> {
    raw: UnsafeCell<pthread_mutex_t>,
    value: UnsafeCell<T>,
}

impl<T> SharedMutex<T> {
    /// A value to be written to its final place, where [`Self::initialise`]
    /// makes it usable.
    pub fn unready(value: T) -> Self {
        Self {
            raw: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            value: UnsafeCell::new(value),
        }
    }

    /// Makes the mutex robust and process-shared.
    ///
    /// # Safety
    ///
    /// `self` must be at its final address, and no process may use it before
    /// this returns.
    pub unsafe fn initialise(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the pointer is to writable memory of the attribute type.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: the attributes were initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: the attributes were initialised above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST)
        })?;
        // SAFETY: the attributes are initialised; the caller vouches that the
        // mutex is at its final address and not in use.
        check(unsafe { libc::pthread_mutex_init(self.raw.get(), attributes) })?;
        // SAFETY: the attributes are initialised and not used again.
        check(unsafe { libc::pthread_mutexattr_destroy(attributes) })
    }

    /// Waits for the mutex.
    ///
    /// # Errors
    ///
    /// When a process died while holding it.
    pub fn lock(&self) -> io::Result<Guard<'_, T>> {
        // SAFETY: whoever has a `&SharedMutex` got it from a segment whose
        // creator ran `initialise` before it published the segment's magic word.
        let code = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        if code == libc::EOWNERDEAD {
            // The lock is held now, but inconsistent; dropping the guard without
            // repairing it makes it unusable for everyone, as it should be.
            drop(Guard { mutex: self, not_send: PhantomData });
            return Err(abandoned());
        }
        if code == libc::ENOTRECOVERABLE {
            return Err(abandoned());
        }
        check(code)?;
        Ok(Guard { mutex: self, not_send: PhantomData })
    }
}

/// The mutex is held while this lives.
#[derive(Debug)]
pub struct Guard<'a, T> {
    mutex: &'a SharedMutex<T>,
    /// A mutex has to be released by the thread that took it.
    not_send: PhantomData<*const ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is only reached through a guard, and the mutex
        // excludes every other guard in this and in every other process.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` excludes other borrows through
        // this guard.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: a guard exists only while this thread holds the mutex.
        unsafe { libc::pthread_mutex_unlock(self.mutex.raw.get()) };
    }
}

/// A process-shared condition variable whose timeouts follow CLOCK_MONOTONIC.
#[derive(Debug)]
#[repr(transparent)]
pub struct SharedCondition {
    raw: UnsafeCell<pthread_cond_t>,
}

impl SharedCondition {
    /// A value to be written to its final place, where [`Self::initialise`]
    /// makes it usable.
    pub fn unready() -> Self {
        Self { raw: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER) }
    }

    /// Makes the condition process-shared.
    ///
    /// # Safety
    ///
    /// `self` must be at its final address, and no process may use it before
    /// this returns.
    pub unsafe fn initialise(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the pointer is to writable memory of the attribute type.
        check(unsafe { libc::pthread_condattr_init(attributes) })?;
        // SAFETY: the attributes were initialised above.
        check(unsafe {
            libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
        })?;
        // SAFETY: the attributes were initialised above.
        check(unsafe { libc::pthread_condattr_setclock(attributes, libc::CLOCK_MONOTONIC) })?;
        // SAFETY: the attributes are initialised; the caller vouches that the
        // condition is at its final address and not in use.
        check(unsafe { libc::pthread_cond_init(self.raw.get(), attributes) })?;
        // SAFETY: the attributes are initialised and not used again.
        check(unsafe { libc::pthread_condattr_destroy(attributes) })
    }

    /// Releases the mutex and sleeps until notified or until `deadline_ns` on
    /// CLOCK_MONOTONIC; returns with the mutex held again, `false` on a timeout.
    /// It may return `true` without a notification.
    ///
    /// # Errors
    ///
    /// When a process died while holding the mutex.
    pub fn wait_until<T>(&self, guard: &mut Guard<'_, T>, deadline_ns: u64) -> io::Result<bool> {
        let deadline = timespec {
            tv_sec: (deadline_ns / 1_000_000_000).cast_signed(),
            tv_nsec: (deadline_ns % 1_000_000_000).cast_signed(),
        };
        // SAFETY: the condition was initialised before the segment was
        // published, the guard proves that this thread holds the mutex, and one
        // condition is only ever used with the one mutex of its segment.
        let code = unsafe {
            libc::pthread_cond_timedwait(self.raw.get(), guard.mutex.raw.get(), &raw const deadline)
        };
        match code {
            libc::ETIMEDOUT => Ok(false),
            libc::EOWNERDEAD | libc::ENOTRECOVERABLE => Err(abandoned()),
            _ => check(code).map(|()| true),
        }
    }

    /// Wakes one sleeper.
    pub fn notify_one(&self) {
        // SAFETY: the condition was initialised before the segment was published.
        unsafe { libc::pthread_cond_signal(self.raw.get()) };
    }

    /// Wakes every sleeper.
    pub fn notify_all(&self) {
        // SAFETY: the condition was initialised before the segment was published.
        unsafe { libc::pthread_cond_broadcast(self.raw.get()) };
    }
}
