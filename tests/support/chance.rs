//! Chance that a seed repeats.

use std::thread::sleep;
use std::time::Duration;

/// Spreads a number over 64 bits (`splitmix64`).
pub(crate) fn mix(it: u64) -> u64 {
    let mut it = it.wrapping_add(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// A chance, drawn anew with each call.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % end
    }

    /// From the first up to the second.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// One of these.
    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(all.len() as u64);
        &all[usize::try_from(at).expect("an index")]
    }

    /// Lets so many milliseconds pass, at random.
    pub(crate) fn pause(&mut self, from: u64, to: u64) {
        sleep(Duration::from_millis(self.between(from, to)));
    }
}
