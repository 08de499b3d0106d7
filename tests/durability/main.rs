//! What three real nodes keep: through `kill -9`, without power, on damaged disks, and when a
//! member has to begin anew. The nodes are started as `quorate node`, each in a home of its own;
//! what is written goes through the generated client alone, and what was acknowledged is compared
//! with what every member has.
//!
//! `cargo test --test durability -- --ignored torture` plays the rounds longer; `QUORATE_ROUNDS`
//! sets how many, `QUORATE_SEED` which, and `QUORATE_TEST_KEEP=1` keeps the homes.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod load;
mod nodes;
mod probes;
mod rounds;
mod wiped;
