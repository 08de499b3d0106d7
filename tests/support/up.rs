//! One run of `quorate up`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::process::{Process, Signal};
use super::wait::{eventually, now};

/// The program under test.
pub(crate) const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

/// The arguments that choose the engine: what `QUORATE_TEST_ENGINE` names, or the default.
pub(crate) fn engine_arguments() -> Vec<String> {
    let named = std::env::var("QUORATE_TEST_ENGINE").ok();
    named.map_or_else(Vec::new, |path| vec!["--engine".to_owned(), path])
}

/// A running, or ended, `quorate up`. Ends with `kill -9` when dropped.
pub(crate) struct Up {
    child: Child,
    process: Process,
    output: PathBuf,
}

impl Up {
    /// Starts `up` on a manifest, or without one, and a home; what it prints goes to a file in
    /// `dir`.
    pub(crate) fn start(
        dir: &Path,
        manifest: Option<&Path>,
        home: &Path,
        env: &[(&str, &str)],
    ) -> Up {
        Up::start_on(&engine_arguments(), dir, manifest, home, env)
    }

    /// As [`Up::start`], with the engine that these arguments of `up` choose.
    pub(crate) fn start_on(
        engine: &[String],
        dir: &Path,
        manifest: Option<&Path>,
        home: &Path,
        env: &[(&str, &str)],
    ) -> Up {
        let runs = fs::read_dir(dir).map_or(0, Iterator::count);
        let output = dir.join(format!("up-{runs}.log"));
        let file = File::create(&output).expect("a test can write its own directory");
        let errors = file.try_clone().expect("a file can be opened twice");
        let child = Command::new(QUORATE)
            .arg("up")
            .args(manifest.iter().flat_map(|file| [Path::new("-f"), file]))
            .arg("--home")
            .arg(home)
            .args(engine)
            .envs(env.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .expect("the program under test can be started");
        let pid = i32::try_from(child.id()).expect("a pid fits");
        // Even if it has ended already it is a zombie until waited for, with the same start time.
        let process = Process::of(pid).unwrap_or(Process { pid, started: 0 });
        Up { child, process, output }
    }

    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Everything it printed so far.
    pub(crate) fn text(&self) -> String {
        let bytes = fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The line that a person copies, once it is there.
    pub(crate) fn export_line(&self) -> Option<String> {
        let text = self.text();
        text.lines().find(|line| line.contains("export ETCDCTL_ENDPOINTS=")).map(str::to_owned)
    }

    /// Waits until it says that the cluster is ready.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self, within: Duration) {
        let begun = now();
        loop {
            if self.export_line().is_some() && self.text().contains("ready") {
                return;
            }
            if let Some(status) = self.try_wait() {
                panic!("`up` ended before it was ready, {status}:\n{}", self.text());
            }
            assert!(begun.elapsed() < within, "not ready in {within:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line with this in it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, part: &str, within: Duration) -> String {
        eventually(&format!("a line with {part:?}"), within, || {
            let text = self.text();
            let found = text.lines().find(|line| line.contains(part)).map(str::to_owned);
            found.ok_or(text)
        })
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let begun = now();
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(begun.elapsed() < within, "`up` did not end in {within:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`.
    pub(crate) fn kill_9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill_9();
    }
}
