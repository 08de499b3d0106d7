//! Small files that are whole or not there at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HomeError, io_error};

/// Reads a JSON file; `None` if there is none.
///
/// # Errors
///
/// [`HomeError::Corrupt`] if it cannot be understood.
pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, HomeError> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error("read", path))?,
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|source| HomeError::Corrupt { path: path.to_owned(), source })
}

/// Writes a JSON file, durable when this returns.
///
/// # Errors
///
/// [`HomeError::Io`]; the former file is then still whole.
pub fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), HomeError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| io_error("write", &dir.join(name))(io::Error::other(e)))?;
    text.push('\n');
    write_text(dir, name, &text)
}

/// Writes beside the file, fsyncs, renames, fsyncs the directory.
///
/// # Errors
///
/// [`HomeError::Io`]; the former file is then still whole.
pub fn write_text(dir: &Path, name: &str, text: &str) -> Result<(), HomeError> {
    let (path, draft) = (dir.join(name), dir.join(format!(".{name}.new")));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().map_err(io_error("write", &path))?;
    sync_dir(dir)
}

/// Makes created, renamed and removed names of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), HomeError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error("sync", dir))
}

/// Keeps a little room for the day the file system is full; does without where there is none.
pub(super) fn keep_spare(path: &Path) {
    const ROOM: [u8; 8192] = [b'.'; 8192];
    if fs::metadata(path).is_ok_and(|it| it.len() == ROOM.len() as u64) {
        return;
    }
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(&ROOM)?;
        file.sync_all()
    };
    if write().is_err() {
        // What was had of it is given back.
        let _ = fs::remove_file(path);
    }
}

/// What a file or directory takes on the disk, in bytes; nothing where there is none.
pub(super) fn disk_use(path: &Path) -> Result<u64, HomeError> {
    use std::os::unix::fs::MetadataExt;
    let meta = match fs::symlink_metadata(path) {
        // A running engine renames and purges files while we look.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(io_error("measure", path))?,
    };
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(io_error("list", path))? {
            bytes += disk_use(&entry.map_err(io_error("list", path))?.path())?;
        }
    }
    Ok(bytes)
}
