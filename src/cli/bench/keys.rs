//! Which key an operation touches, and what a value is made of: functions of the seed and of the
//! operation's number, so that a run can be repeated whatever the clients' timing.

use bytes::Bytes;

use super::options::{KeyChoice, KeyForm};
use crate::cli::BadInput;

/// The keys of a load.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    size: usize,
    space: u64,
    sequential: bool,
    seed: u64,
}

impl Keys {
    /// # Errors
    ///
    /// The prefix and the largest number do not fit into a key.
    pub(super) fn new(form: &KeyForm, choice: KeyChoice) -> Result<Keys, BadInput> {
        let keys = Keys {
            prefix: form.prefix.clone(),
            size: form.key_size,
            space: choice.key_space,
            sequential: choice.sequential,
            seed: form.seed,
        };
        let digits = (choice.key_space - 1).to_string().len();
        let least = form.prefix.len() + digits;
        if form.key_size < least {
            return Err(BadInput(format!(
                "--key-size {} is too short: the prefix {:?} and {digits} digits for {} keys \
                 need {least} bytes",
                form.key_size, form.prefix, choice.key_space
            )));
        }
        Ok(keys)
    }

    /// The number of the key of the operation with this number.
    pub(super) fn choose(&self, operation: u64) -> u64 {
        let number = if self.sequential { operation } else { mix(self.seed, operation) };
        number % self.space
    }

    /// The key with this number, past the last of which comes the first again.
    pub(super) fn key(&self, number: u64) -> Bytes {
        let width = self.size - self.prefix.len();
        format!("{}{:0width$}", self.prefix, number % self.space).into()
    }

    /// The end of the range that holds every key; what `range_end` is given.
    pub(super) fn end(&self) -> Bytes {
        let mut end = self.prefix.clone().into_bytes();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return end.into();
            }
        }
        Bytes::from_static(&[0]) // to the end of all keys
    }
}

/// The value of the operation with this number. It does not compress, neither by itself nor
/// beside the others: a store that packs its pages would do less for this load than for another.
pub(super) fn value(seed: u64, operation: u64, size: usize) -> Bytes {
    let own = mix(!seed, operation);
    let mut bytes = Vec::with_capacity(size + 8);
    for (_, at) in (0..size.div_ceil(8)).zip(0_u64..) {
        bytes.extend_from_slice(&mix(own, at).to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// The `at`th output of the generator with this seed (`SplitMix64`; Steele, Lea and Flood 2014),
/// which unlike most can be had without those before it.
fn mix(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(prefix: &str, key_size: usize, key_space: u64, sequential: bool, seed: u64) -> Keys {
        let form = KeyForm { prefix: prefix.to_owned(), key_size, seed };
        Keys::new(&form, KeyChoice { key_space, sequential }).expect("these fit")
    }

    #[test]
    fn the_generator_gives_the_published_sequence() {
        let first: Vec<_> = (0..3).map(|at| mix(0, at)).collect();
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn a_seed_fixes_the_keys_and_a_sequence_meets_each_once() {
        let choose = |keys: &Keys| (0..1000).map(|at| keys.choose(at)).collect::<Vec<_>>();
        let random = keys("k/", 10, 500, false, 7);
        assert_eq!(choose(&random), choose(&random.clone()));
        assert_ne!(choose(&random), choose(&keys("k/", 10, 500, false, 8)));
        let met: BTreeSet<_> = choose(&random).into_iter().collect();
        assert!(met.len() > 400 && met.iter().all(|it| *it < 500), "{} of 500", met.len());

        let sequence = keys("k/", 10, 500, true, 7);
        let met: BTreeSet<_> = (0..500).map(|at| sequence.key(sequence.choose(at))).collect();
        assert_eq!(met.len(), 500);
        assert_eq!(met.first().map(|it| &it[..]), Some(&b"k/00000000"[..]));
        assert!(met.iter().all(|it| it.len() == 10 && *it < sequence.end()));
    }

    #[test]
    fn a_key_that_cannot_hold_its_number_is_refused() {
        let form = KeyForm { prefix: "bench/".to_owned(), key_size: 9, seed: 1 };
        let choice = KeyChoice { key_space: 1001, sequential: false };
        let error = Keys::new(&form, choice).expect_err("four digits do not fit into three");
        assert!(error.0.contains("10 bytes"), "{error}");
        assert!(Keys::new(&form, KeyChoice { key_space: 1000, sequential: false }).is_ok());
    }

    #[test]
    fn values_have_their_size_and_do_not_repeat_themselves() {
        assert_eq!(value(1, 1, 0).len(), 0);
        assert_eq!(value(1, 1, 13).len(), 13);
        assert_eq!(value(1, 1, 64), value(1, 1, 64));
        assert_ne!(value(1, 1, 64)[..8], value(1, 1, 64)[8..16]);
        assert_ne!(value(1, 1, 64), value(1, 2, 64));
    }
}
