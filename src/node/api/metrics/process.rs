//! The process as Linux sees it, by the names every Prometheus client library uses.

use std::fs;

use prometheus::{Counter, Error, Gauge, Registry};

/// Clock ticks a second in `/proc`: the same on every Linux that is built today.
const TICKS: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    open_files: Gauge,
    most_files: Gauge,
    resident: Gauge,
    virtual_size: Gauge,
    started: Gauge,
    /// etcd's own names of the two above.
    used_files: Gauge,
    file_limit: Gauge,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Process, Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let cpu = Counter::new("process_cpu_seconds_total", "User and system CPU time.")?;
        registry.register(Box::new(cpu.clone()))?;
        Ok(Process {
            cpu,
            open_files: gauge("process_open_fds", "Open file descriptors.")?,
            most_files: gauge("process_max_fds", "Their limit.")?,
            resident: gauge("process_resident_memory_bytes", "Resident memory.")?,
            virtual_size: gauge("process_virtual_memory_bytes", "Virtual memory.")?,
            started: gauge("process_start_time_seconds", "The start, in Unix seconds.")?,
            used_files: gauge("os_fd_used", "Open file descriptors.")?,
            file_limit: gauge("os_fd_limit", "Their limit.")?,
        })
    }

    /// Reads `/proc`. What cannot be read keeps its last value.
    pub(super) fn look(&self) {
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The folder itself is open for the look.
            let open = u32::try_from(open.count()).unwrap_or(u32::MAX).saturating_sub(1);
            self.open_files.set(f64::from(open));
            self.used_files.set(f64::from(open));
        }
        if let Some(limit) = field("/proc/self/limits", "Max open files") {
            self.most_files.set(limit);
            self.file_limit.set(limit);
        }
        for (gauge, name) in [(&self.resident, "VmRSS:"), (&self.virtual_size, "VmSize:")] {
            if let Some(kib) = field("/proc/self/status", name) {
                gauge.set(kib * 1024.0);
            }
        }
        if let Some([user, system, started]) = ticks() {
            self.cpu.reset();
            self.cpu.inc_by((user + system) / TICKS);
            if let Some(boot) = field("/proc/stat", "btime") {
                self.started.set(boot + started / TICKS);
            }
        }
    }
}

/// The first number behind a name in a file of lines.
fn field(file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User time, system time, and the start after boot.
fn ticks() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command, which may hold blanks.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some([number(11)?, number(12)?, number(19)?])
}
