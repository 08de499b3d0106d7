//! The checkpoint on a real disk: what is in it after a break, what damage does to it, how a
//! snapshot comes in, and what all of it costs.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod breaks;
mod cost;
mod damage;
mod importing;
mod support;
mod writing;
