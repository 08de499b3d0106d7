//! Small files that are whole or not there at all, and what the file system's errors mean here.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::node::ground::disk::{self, File};
use crate::node::mvcc::StoreError;

/// Says what was tried on what.
pub(super) fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let tried = format!("{doing} {}", path.display());
    move |error| store_error(&tried, &error)
}

/// Sorts an error: damage, no room, or the rest.
pub(super) fn store_error(tried: &str, error: &io::Error) -> StoreError {
    let what = format!("{tried}: {error}");
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => StoreError::Damaged(what),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(what),
        _ => StoreError::Io(what),
    }
}

/// Makes created, renamed and removed names of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    disk::sync_dir(dir).map_err(failed("sync", dir))
}

/// Makes a directory that only we may enter, and its name durable.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    disk::make_dirs(dir).map_err(failed("create", dir))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Writes beside the file, fsyncs, renames, fsyncs the directory.
pub(super) fn write_whole(dir: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let (path, draft) = (dir.join(name), dir.join(format!(".{name}.new")));
    let write = || {
        let file = File::create(&draft)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        disk::rename(&draft, &path)
    };
    write().map_err(failed("write", &path))?;
    sync_dir(dir)
}

/// A file's content; `None` if it is not there.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match disk::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(failed("read", path)),
    }
}

/// Removes a file, and makes that durable.
pub(super) fn remove_file(dir: &Path, name: &str) -> Result<(), StoreError> {
    let path = dir.join(name);
    match disk::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", &path)),
    }?;
    sync_dir(dir)
}

/// Removes a directory with all that is in it, and makes that durable.
pub(super) fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match disk::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", dir)),
    }?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// What a file or directory takes on the disk, in bytes, as far as it can be seen: files come and
/// go under a running store.
pub(super) fn disk_use(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|it| disk_use(&it.path())).sum::<u64>()
}
