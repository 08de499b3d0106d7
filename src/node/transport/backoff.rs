//! How long to wait before the next attempt: longer each time, and never in step with others.

use std::time::Duration;

use parking_lot::Mutex;

use crate::node::ground;

/// A small generator (xorshift64*); good enough to scatter waits, and for nothing else.
#[derive(Debug)]
pub struct Jitter(Mutex<u64>);

/// Seeded by the system; by a constant if that has no randomness to give.
impl Default for Jitter {
    fn default() -> Jitter {
        Jitter(Mutex::new(ground::random().unwrap_or_default() | 1))
    }
}

impl Jitter {
    /// The wait after so many failures in a row: doubled each time from the first to the longest,
    /// and then between a half and the whole of it.
    pub fn wait(&self, failures: u32, (first, longest): (Duration, Duration)) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let whole = doubled.min(longest);
        whole / 2 + whole.mul_f64(f64::from(self.next()) / f64::from(u32::MAX)) / 2
    }

    fn next(&self) -> u32 {
        let mut state = self.0.lock();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        let [_, _, _, _, high @ ..] = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        u32::from_le_bytes(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_differ() {
        let (jitter, ms) = (Jitter::default(), Duration::from_millis);
        let bounds = (ms(20), ms(500));
        for (failures, most) in [(1, 20), (2, 40), (5, 320), (6, 500), (1000, 500)] {
            let waits: Vec<_> = (0..50).map(|_| jitter.wait(failures, bounds)).collect();
            assert!(waits.iter().all(|it| (ms(most) / 2..=ms(most)).contains(it)), "{waits:?}");
            assert!(waits.iter().any(|it| it != &waits[0]));
        }
    }
}
