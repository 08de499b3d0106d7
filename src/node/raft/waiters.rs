//! Who waits for which operation to be applied here. The ticket in each operation finds them, on
//! whatever member it was proposed and whoever led.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::node::apply::{Response, Ticket};
use crate::node::fault::Fault;

/// What applying gave.
pub(super) type Answer = Result<Response, Fault>;

/// Proposals of this member that are under way at most; more only wait longer, and hold memory.
const MOST: usize = 20_000;

/// All that wait.
#[derive(Debug)]
pub(super) struct Waiters {
    proposer: u64,
    serial: AtomicU64,
    slots: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// One that waits; no longer once this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    all: Arc<Waiters>,
    serial: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Waiters {
    /// `proposer` is drawn at random, so that a former process's operations are not taken for
    /// ours.
    pub(super) fn new(proposer: u64) -> Arc<Waiters> {
        Arc::new(Waiters { proposer, serial: AtomicU64::new(0), slots: Mutex::default() })
    }

    /// A place to wait, under a new ticket; `None` if too many do.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Waiting> {
        let mut slots = self.slots.lock();
        if slots.len() >= MOST {
            return None;
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let (tell, answer) = oneshot::channel();
        slots.insert(serial, tell);
        Some(Waiting { all: Arc::clone(self), serial, answer })
    }

    /// Something was applied; whoever waits for it hears.
    pub(super) fn answer(&self, ticket: Ticket, answer: Answer) {
        if ticket.proposer != self.proposer {
            return;
        }
        let slot = self.slots.lock().remove(&ticket.serial);
        if let Some(slot) = slot {
            let _ = slot.send(answer); // who waited may have gone
        }
    }
}

impl Waiting {
    pub(super) fn ticket(&self) -> Ticket {
        Ticket { proposer: self.all.proposer, serial: self.serial }
    }

    /// What applying gave; `None` if the node has stopped. Dropped before it returns, the answer
    /// is still to be had.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.slots.lock().remove(&self.serial);
    }
}
