//! A process that cannot be mistaken for another one with the same pid.

use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process: its pid and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The process ID; used again by others once the process is gone.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

impl ProcessRef {
    /// This process.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let (_, start) = stat(pid)?;
        Ok(ProcessRef { pid, start })
    }

    /// Whether it still runs; one that is only waiting to be reaped does not.
    pub fn alive(&self) -> bool {
        self.state().is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// Whether it was stopped by a signal (SIGSTOP) and so cannot do its work.
    pub fn is_frozen(&self) -> bool {
        self.state().is_some_and(|state| matches!(state, 'T' | 't'))
    }

    /// Sends it a signal, unless it is gone.
    ///
    /// # Errors
    ///
    /// The system's own refusal; a process that is gone is none.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let gone = rustix::io::Errno::SRCH;
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // The handle is taken before the start time is compared, so that the signal cannot reach
        // one who gets the pid in between.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(error) if error == gone => return Ok(()),
            other => other?,
        };
        if !self.alive() {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Err(error) if error != gone => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn state(&self) -> Option<char> {
        stat(self.pid).ok().filter(|(_, start)| *start == self.start).map(|(state, _)| state)
    }
}

/// The state and the start time of a process.
fn stat(pid: u32) -> io::Result<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let malformed = || io::Error::other(format!("/proc/{pid}/stat is malformed"));
    // The command's name stands in parentheses and may hold anything, so count from its end.
    let after_name = text.rsplit_once(") ").ok_or_else(malformed)?.1;
    let mut fields = after_name.split(' ');
    let state = fields.next().and_then(|s| s.chars().next()).ok_or_else(malformed)?;
    let start = fields.nth(18).and_then(|s| s.parse().ok()).ok_or_else(malformed)?;
    Ok((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_its_successor_with_the_same_pid() {
        let me = ProcessRef::current().unwrap();
        assert!(me.alive() && !me.is_frozen());
        let other = ProcessRef { start: me.start + 1, ..me };
        assert!(!other.alive());
        // Nobody is hurt by a signal to a process that is gone.
        other.signal(Signal::KILL).unwrap();
    }
}
