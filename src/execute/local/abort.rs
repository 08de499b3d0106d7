//! Dies in the middle of a step, for the tests that prove that the next `up` resumes from there.
//!
//! `QUORATE_TEST_ABORT=remove:before` kills this process, as kill -9 would, right before its
//! first removal; `found:2` right after the second first start of a founding.

use crate::execute::word;
use crate::plan::Step;

const VARIABLE: &str = "QUORATE_TEST_ABORT";

pub(super) fn before(step: &Step) {
    at(word(step), "before");
}

pub(super) fn after(step: &Step) {
    at(word(step), "after");
}

pub(super) fn found(count: usize) {
    at("found", &count.to_string());
}

fn at(step: &str, when: &str) {
    if std::env::var(VARIABLE).is_ok_and(|v| v == format!("{step}:{when}")) {
        // Death is the point; nothing is left that could fail.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
