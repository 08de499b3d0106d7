//! What sled does not check of its own files when it opens them, checked before.
//!
//! sled reads the log of its metadata up to the first frame that it cannot read and forgets the
//! rest without a word. After a crash that is right for the last frame; otherwise it is an older
//! state, with pages that were overwritten since, in which sled may look for a page for ever. So
//! how far the metadata went at the last flush is written down beside it, and a store whose
//! metadata ends before that is damaged.
//!
//! ```text
//! NAME/seal             "log u64 hex" "bytes u64 dec" "crc32c hex"
//! NAME/sled/metadata/   log_%016x, snapshot_%016x: frames, see [`frames`]
//! ```

use std::fs::{self, File};
use std::path::Path;

use crate::node::checkpoint::files::{failed, read_if_there, sync_dir, write_whole};
use crate::node::mvcc::StoreError;

const NAME: &str = "seal";

/// How far sled's metadata went: into which log, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seal {
    log: u64,
    bytes: u64,
}

/// The metadata files of a store, each kind in order.
#[derive(Debug, Default)]
struct Files {
    logs: Vec<u64>,
    snapshot: Option<u64>,
}

/// Writes down how far the metadata goes now, durably; sled is flushed and nobody else flushes.
pub(super) fn seal(dir: &Path, sled: &Path) -> Result<(), StoreError> {
    let metadata = sled.join("metadata");
    let log = list(&metadata)?.logs.last().copied().unwrap_or_default();
    // Only a flush begins a new log, so this one stays while we look.
    let path = log_path(&metadata, log);
    let bytes = fs::metadata(&path).map_err(failed("measure", &path))?.len();
    let text = format!("{log:016x} {bytes}");
    let text = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
    write_whole(dir, NAME, text.as_bytes())
}

#[cfg(not(feature = "simulation"))]
/// Whether a store was ever finished here.
pub(super) fn is_sealed(dir: &Path) -> Result<bool, StoreError> {
    Ok(read_if_there(&dir.join(NAME))?.is_some())
}

/// Checks the metadata against the seal and itself, and cuts off a flush that broke off: sled would
/// pass over it, but first set aside as much memory as its torn length may ask for.
///
/// # Errors
///
/// [`StoreError::Damaged`].
pub(super) fn check(dir: &Path, sled: &Path) -> Result<(), StoreError> {
    let damaged = |what: String| StoreError::Damaged(format!("{}: {what}", sled.display()));
    let seal = read_if_there(&dir.join(NAME))?.as_deref().and_then(read);
    let seal = seal.ok_or_else(|| damaged("its seal cannot be read".to_owned()))?;
    let metadata = sled.join("metadata");
    if !metadata.is_dir() {
        return Err(damaged("its metadata is gone".to_owned()));
    }
    let Files { logs, snapshot } = list(&metadata)?;
    if let Some(at) = snapshot {
        let name = format!("snapshot_{at:016x}");
        let path = metadata.join(&name);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        if frames(&bytes) != bytes.len() || bytes.is_empty() {
            return Err(damaged(format!("{name} is broken")));
        }
    }
    let done = snapshot.unwrap_or(0);
    let mut sealed = seal.log <= done;
    let mut expected = done;
    let logs: Vec<_> = logs.into_iter().filter(|log| *log > done).collect();
    for (n, log) in logs.iter().enumerate() {
        expected += 1;
        let name = format!("log_{log:016x}");
        if *log != expected {
            return Err(damaged(format!("the log before {name} is gone")));
        }
        let path = log_path(&metadata, *log);
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let whole = frames(&bytes);
        let is_last = n + 1 == logs.len();
        let is_short = *log == seal.log && (whole as u64) < seal.bytes;
        if is_short || (whole < bytes.len() && !is_last) {
            return Err(damaged(format!("{name} is broken at byte {whole}")));
        }
        sealed |= *log == seal.log;
        if whole < bytes.len() {
            let cut = File::options().write(true).open(&path).and_then(|file| {
                file.set_len(whole as u64)?;
                file.sync_all()
            });
            cut.map_err(failed("cut", &path))?;
        }
    }
    if sealed { Ok(()) } else { Err(damaged(format!("log_{:016x} is gone", seal.log))) }
}

/// Makes sure that sled finds a log to open: with a snapshot alone, as a crash in the midst of
/// opening leaves it, it writes that anew under the same name and then removes it as the old one
/// (`read_snapshot_and_apply_logs` in its `metadata_store.rs`). An empty log makes it a new name.
pub(super) fn leave_a_log(sled: &Path) -> Result<(), StoreError> {
    let metadata = sled.join("metadata");
    if !metadata.is_dir() {
        return Ok(());
    }
    let Files { logs, snapshot } = list(&metadata)?;
    match snapshot {
        Some(at) if logs.last().is_none_or(|log| *log <= at) => {
            let path = log_path(&metadata, at + 1);
            File::create(&path).map_err(failed("create", &path))?;
            sync_dir(&metadata)
        }
        _ => Ok(()),
    }
}

fn read(bytes: &[u8]) -> Option<Seal> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (text, sum) = text.rsplit_once(' ')?;
    let (log, bytes) = text.split_once(' ')?;
    let same = u32::from_str_radix(sum, 16).ok()? == crc32c::crc32c(text.as_bytes());
    let seal = Seal { log: u64::from_str_radix(log, 16).ok()?, bytes: bytes.parse().ok()? };
    same.then_some(seal)
}

fn log_path(metadata: &Path, log: u64) -> std::path::PathBuf {
    metadata.join(format!("log_{log:016x}"))
}

fn list(metadata: &Path) -> Result<Files, StoreError> {
    let mut files = Files::default();
    for entry in fs::read_dir(metadata).map_err(failed("list", metadata))? {
        let name = entry.map_err(failed("list", metadata))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let id = |prefix| name.strip_prefix(prefix).map(|id| u64::from_str_radix(id, 16));
        match (id("log_"), id("snapshot_")) {
            (Some(Ok(log)), _) => files.logs.push(log),
            (_, Some(Ok(at))) => files.snapshot = files.snapshot.max(Some(at)),
            // sled removes drafts itself; what else begins so, it panics over.
            (Some(Err(_)), _) | (_, Some(Err(_))) if !is_draft(name) => {
                let what = format!("{}: nothing is called {name}", metadata.display());
                return Err(StoreError::Damaged(what));
            }
            _ => {}
        }
    }
    files.logs.sort_unstable();
    Ok(files)
}

/// A file that sled had begun and not renamed yet.
fn is_draft(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "tmp")
}

/// How many bytes of a metadata file are whole frames: length in six bytes, small end first, its
/// checksum in two, the payload, and a checksum of all that (`serialize_batch` in sled's
/// `metadata_store.rs`).
fn frames(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(frame) = frame(&bytes[at..]) {
        at += frame;
    }
    at
}

fn frame(bytes: &[u8]) -> Option<usize> {
    let head: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    let (length, sum) = head.split_at(6);
    if crc32(length).to_le_bytes()[..2] != *sum {
        return None;
    }
    let length = length.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    let sum = bytes.get(end..end.checked_add(4)?)?;
    let same = (crc32(&bytes[..end]) ^ 0xaf).to_le_bytes() == sum;
    same.then_some(end + 4)
}

/// The checksum of Ethernet and zip, which is the one that sled uses.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut sum = n;
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
                bit += 1;
            }
            table[n as usize] = sum;
            n += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize];
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
