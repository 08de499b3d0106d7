//! Which store is the current one, and what becomes of the others.
//!
//! ```text
//! data/store/CURRENT     the name of the store in use, 0 for none, and a checksum
//! data/store/NAME/       that store
//! data/store/LATER/      a store that is being imported: `import` in it says of what
//! ```
//!
//! Names are numbers and never used twice. The switch from one store to another is the rename of
//! CURRENT; before it the new one is durable, and after it the old one is a leftover. Leftovers
//! are removed, but never without a CURRENT that says so: stores without one are damage.

use std::path::{Path, PathBuf};

use super::Stored;
use super::files::{failed, make_dir, read_if_there, remove_dir, write_whole};
use super::import::{self, Import};
use crate::node::ground::disk;
use crate::node::mvcc::StoreError;

const CURRENT: &str = "CURRENT";
/// No store has this name.
const NONE: u64 = 0;

/// A directory of stores.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// The place in this directory, which need not be there yet.
    pub fn new(dir: impl Into<PathBuf>) -> Place {
        Place { dir: dir.into() }
    }

    /// Opens the current store; `None` if there is none yet. Removes what other stores are
    /// there, but for an import that can go on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if there is one and it cannot be read.
    pub fn open(&self) -> Result<Option<Stored>, StoreError> {
        let current = self.current()?;
        self.clear(current, import::is_begun)?;
        let Some(name) = current else { return Ok(None) };
        let store = self.store(name);
        import::end(&store)?;
        Stored::open(&store).map(Some)
    }

    /// Makes an empty store and makes it the current one. The former, and any import, is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn create(&self) -> Result<Stored, StoreError> {
        let current = self.current()?;
        self.clear(current, |_| false)?;
        let name = self.free_name(current)?;
        let store = Stored::create(&self.store(name))?;
        self.switch(name)?;
        Ok(store)
    }

    /// Gives up the current store, durably, whatever is in it: it is damaged, and there is
    /// another source for what was in it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn abandon(&self) -> Result<(), StoreError> {
        match self.current() {
            Ok(Some(name)) => {
                // Nor may it be taken for an import that could go on.
                import::end(&self.store(name))?;
                self.switch(NONE)?;
            }
            Ok(None) => {}
            // Any of them may be it, so none is an import to go on with.
            Err(StoreError::Damaged(_)) => {
                self.clear(None, |_| false)?;
                self.switch(NONE)?;
            }
            Err(error) => return Err(error),
        }
        self.clear(None, import::is_begun)
    }

    /// Begins to import the snapshot of this ID, or goes on with it after a break. An import of
    /// any other ID is given up. The current store stays as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn begin_import(&self, id: &[u8]) -> Result<Import, StoreError> {
        let current = self.current()?;
        let mut begun = None;
        self.clear(current, |store| {
            let is_it = begun.is_none() && import::is_of(store, id);
            if is_it {
                begun = Some(store.to_owned());
            }
            is_it
        })?;
        if let Some(store) = begun {
            match Import::resume(self.clone(), &store) {
                Ok(import) => return Ok(import),
                // What came of it can come again.
                Err(StoreError::Damaged(_)) => remove_dir(&store)?,
                Err(error) => return Err(error),
            }
        }
        let name = self.free_name(current)?;
        Import::begin(self.clone(), &self.store(name), id)
    }

    /// Removes an import that was begun, if there is one: it is not needed any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn drop_import(&self) -> Result<(), StoreError> {
        self.clear(self.current()?, |_| false)
    }

    /// Makes a store the current one; it is durable. [`Place::open`] removes the former.
    pub(super) fn switch_to(&self, store: &Path) -> Result<(), StoreError> {
        let name = store.file_name().and_then(|it| it.to_str()).and_then(|it| it.parse().ok());
        let no_name = || StoreError::Io(format!("{} is no store's name", store.display()));
        self.switch(name.ok_or_else(no_name)?)
    }

    fn switch(&self, name: u64) -> Result<(), StoreError> {
        let text = name.to_string();
        let text = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
        write_whole(&self.dir, CURRENT, text.as_bytes())
    }

    fn current(&self) -> Result<Option<u64>, StoreError> {
        make_dir(&self.dir)?;
        let path = self.dir.join(CURRENT);
        let damaged = |what| StoreError::Damaged(format!("{} {what}", path.display()));
        let Some(bytes) = read_if_there(&path)? else {
            if !self.names()?.is_empty() {
                return Err(damaged("is missing, and there are stores"));
            }
            self.switch(NONE)?;
            return Ok(None);
        };
        let name = std::str::from_utf8(&bytes).ok().and_then(|text| {
            let (name, sum) = text.strip_suffix('\n')?.split_once(' ')?;
            let same = u32::from_str_radix(sum, 16).ok()? == crc32c::crc32c(name.as_bytes());
            if same { name.parse().ok() } else { None }
        });
        let name = name.ok_or_else(|| damaged("cannot be read"))?;
        Ok((name != NONE).then_some(name))
    }

    fn store(&self, name: u64) -> PathBuf {
        self.dir.join(name.to_string())
    }

    /// All stores that are there.
    fn names(&self) -> Result<Vec<u64>, StoreError> {
        let mut names = Vec::new();
        for path in disk::list(&self.dir).map_err(failed("list", &self.dir))? {
            let name = path.file_name().and_then(|it| it.to_str());
            names.extend(name.and_then(|it| it.parse::<u64>().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn free_name(&self, current: Option<u64>) -> Result<u64, StoreError> {
        let last = self.names()?.last().copied().max(current);
        Ok(last.map_or(1, |it| it + 1))
    }

    /// Removes all stores but the current one and those to `keep`.
    fn clear(
        &self,
        current: Option<u64>,
        mut keep: impl FnMut(&Path) -> bool,
    ) -> Result<(), StoreError> {
        for name in self.names()? {
            let store = self.store(name);
            if Some(name) != current && !keep(&store) {
                remove_dir(&store)?;
            }
        }
        Ok(())
    }
}
