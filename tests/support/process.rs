//! Processes, told by what `/proc` says and not by what the product recorded about them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub(crate) use rustix::process::Signal;

use super::wait::eventually;

/// How long a killed process may take to be gone: it may hang in a write to a busy disk.
const GONE: Duration = Duration::from_mins(1);

/// A process, told apart from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl Process {
    /// The living process of this number; a zombie is not alive.
    pub(crate) fn of(pid: i32) -> Option<Process> {
        let fields = stat(pid)?;
        let state = fields.first()?.as_str();
        let started = fields.get(19)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Process { pid, started })
    }

    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    /// Sends a signal; a process that has ended since is left in peace.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the look and the signal; that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill_9(self) {
        self.signal(Signal::KILL);
        eventually("a killed process to be gone", GONE, || {
            if self.is_alive() { Err(format!("{self:?} is still there")) } else { Ok(()) }
        });
    }

    /// CPU time used so far, in clock ticks (a hundredth of a second each).
    pub(crate) fn cpu_ticks(self) -> u64 {
        let number = |at: usize| stat(self.pid)?.get(at)?.parse::<u64>().ok();
        number(11).unwrap_or(0) + number(12).unwrap_or(0)
    }

    /// Memory held, in KiB.
    pub(crate) fn resident_kib(self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most memory it ever held, in KiB.
    pub(crate) fn peak_kib(self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }
}

/// The fields of `/proc/PID/stat` from the third on (the second may hold blanks).
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The arguments a process was started with.
fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Every living process that works in `dir` or names it in its arguments.
pub(crate) fn all_of(dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(dir))
                || arguments(*pid).iter().any(|argument| names(argument, dir))
        })
        .filter_map(Process::of)
        .collect()
}

/// `kill -9` of every process of [`all_of`], and of those that these start meanwhile; waits until
/// all are gone.
#[track_caller]
pub(crate) fn kill_all_of(dir: &Path) {
    eventually("killed processes to be gone", GONE, || {
        let left = all_of(dir);
        for process in &left {
            process.signal(Signal::KILL);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are still there")) }
    });
}

/// True if the argument is `dir`, something below it, or an option set to either.
fn names(argument: &str, dir: &Path) -> bool {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    Path::new(value).starts_with(dir)
}

/// The processes of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeProcesses {
    /// `quorate node`, if it is there.
    pub(crate) wrapper: Option<Process>,
    /// What serves: the upstream etcd, or `quorate node` itself when it embeds the engine.
    pub(crate) engine: Option<Process>,
}

impl NodeProcesses {
    /// What runs now for the node with this home.
    pub(crate) fn of(node_home: &Path) -> NodeProcesses {
        let mut seen = NodeProcesses { wrapper: None, engine: None };
        let mut embeds = false;
        for process in all_of(node_home) {
            let arguments = arguments(process.pid);
            let mut words = arguments.iter().map(String::as_str);
            let program = words.next().unwrap_or_default();
            if program.ends_with("quorate") && words.next() == Some("node") {
                embeds = !words.any(|word| word == "--exec");
                seen.wrapper = Some(process);
            } else if !program.is_empty() && !arguments.iter().any(|it| it == "--version") {
                // That one is only asked which etcd it is, and soon gone.
                seen.engine = Some(process);
            }
        }
        if embeds {
            seen.engine = seen.wrapper;
        }
        seen
    }

    /// Both, each once.
    pub(crate) fn all(self) -> impl Iterator<Item = Process> {
        let engine = self.engine.filter(|engine| Some(*engine) != self.wrapper);
        self.wrapper.into_iter().chain(engine)
    }
}

/// A finished command.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs to its end, at most two minutes: some of them wait for a whole replacement.
    pub(crate) fn of(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Ran {
        Ran::with_env(program, args, &[])
    }

    /// As [`Ran::of`], with variables set.
    pub(crate) fn with_env(
        program: impl AsRef<std::ffi::OsStr>,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Ran {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "120"]).arg(program).args(args).envs(env.iter().copied());
        let output = command.output().expect("coreutils' timeout can be started");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output, of a command that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "the command failed: {self:#?}");
        self.stdout
    }

    /// Both streams, for tools that are not particular about which one they use.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}
