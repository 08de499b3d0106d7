//! Reads an input from its front. Past its end everything is zero, so that every input means
//! something and a mutation of one byte changes one thing.

/// What is left of an input.
#[derive(Clone, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two, the small one first.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight, the small one first.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let found = self.take(N);
        array[..found.len()].copy_from_slice(found);
        array
    }

    /// So many bytes, or as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    /// Bytes with their length before them, in two bytes.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = self.u16();
        self.take(usize::from(count))
    }
}

/// Bytes as [`Input::piece`] reads them.
pub fn piece(bytes: &[u8]) -> Vec<u8> {
    let mut all = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes().to_vec();
    all.extend_from_slice(&bytes[..bytes.len().min(usize::from(u16::MAX))]);
    all
}
