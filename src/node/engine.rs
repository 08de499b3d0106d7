//! The upstream engine: which version it is, how it is run.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::barrier::Refused;
use super::home::NodeHome;
use super::messages::{EngineVersion, OLDEST};
use crate::cluster::ExitKind;
use crate::render::NodeConfig;

/// Where a program is looked for that is on no PATH: images of etcd have theirs in one of these.
const PLACES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/"];

/// An upstream engine's binary.
#[derive(Clone, Debug)]
pub struct Engine {
    path: PathBuf,
    version: EngineVersion,
}

impl Engine {
    /// Asks the binary for its version. A bare name is looked for on the PATH, and then in the
    /// usual places.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it is nowhere, cannot be run, is no etcd, or is older than 3.4.
    pub async fn new(path: &Path) -> Result<Self, Refused> {
        let bad = |detail: String| Refused { kind: ExitKind::BadConfig, detail };
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&on_path).chain(PLACES.map(PathBuf::from));
        let path = &find(path, places).ok_or_else(|| {
            let places = PLACES.join(", ");
            let name = path.display();
            bad(format!("no program {name} is on the PATH ({}) or in {places}", on_path.display()))
        })?;
        let output = scrubbed(path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|e| bad(format!("the engine {} cannot be run: {e}", path.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = EngineVersion::parse(&text).ok_or_else(|| {
            bad(format!("{} is no etcd: it says {:?}", path.display(), text.trim()))
        })?;
        if version < OLDEST {
            return Err(bad(format!(
                "{} is etcd {}.{}, which has no learners: 3.4 is the oldest that can be run",
                path.display(),
                version.0,
                version.1
            )));
        }
        Ok(Engine { path: path.to_owned(), version })
    }

    /// Its version.
    pub fn version(&self) -> EngineVersion {
        self.version
    }

    /// Starts it. Its output goes to the node's log file, never through a pipe: the engine
    /// outlives a killed `quorate node`, and a broken pipe would end it.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the configuration cannot be given as flags or the process not be started.
    pub fn start(&self, home: &NodeHome, config: &NodeConfig) -> Result<Child, Refused> {
        let bad = |detail: String| Refused { kind: ExitKind::BadConfig, detail };
        let flags = config.to_flags().map_err(|e| bad(e.to_string()))?;
        let given = |flag: &str| {
            let name = flag.trim_start_matches('-').split('=').next().unwrap_or_default();
            config.extra.contains_key(name)
        };
        let own = self.version.own_flags().iter().filter(|flag| !given(flag));
        let log = open_log(home).map_err(|e| bad(format!("{}: {e}", home.log().display())))?;
        let errors = log.try_clone().map_err(|e| bad(e.to_string()))?;
        scrubbed(&self.path)
            .args(flags)
            .args(own)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // The terminal's Ctrl-C comes to us, and from us to the engine: once, and as TERM.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|e| bad(format!("the engine {} cannot be run: {e}", self.path.display())))
    }
}

/// The program of this name; one with a slash in it is taken as it is.
fn find(name: &Path, mut places: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Some(name.to_owned());
    }
    let runs = |path: &PathBuf| {
        let file = fs::metadata(path);
        file.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    places.find_map(|place| Some(place.join(name)).filter(runs))
}

/// A command without any `ETCD_*` variable: a setting given twice is fatal to etcd.
fn scrubbed(path: &Path) -> Command {
    let mut command = Command::new(path);
    let ours = |name: &OsString| name.to_string_lossy().starts_with("ETCD");
    for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
        command.env_remove(name);
    }
    command
}

fn open_log(home: &NodeHome) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(home.log())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_the_first_program_of_that_name_and_a_path_is_itself() {
        let root = tempfile::tempdir().unwrap();
        let places =
            ["none", "directory", "text", "first", "second"].map(|it| root.path().join(it));
        for place in &places[1..] {
            fs::create_dir(place).unwrap();
        }
        fs::create_dir(places[1].join("etcd")).unwrap();
        for (place, mode) in [(2, 0o644), (3, 0o755), (4, 0o755)] {
            let file = places[place].join("etcd");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let found = |name: &str| find(Path::new(name), places.iter().cloned());
        assert_eq!(found("etcd"), Some(places[3].join("etcd")));
        assert_eq!(found("etcd3"), None);
        assert_eq!(found("./etcd"), Some("./etcd".into()));
    }
}
