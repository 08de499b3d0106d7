//! The write-ahead log on real files: what it keeps, what it repairs, what it refuses, and what
//! is left after the power fails.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod damage;
mod full;
mod life;
mod power;
mod speed;
mod support;
