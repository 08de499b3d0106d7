//! A pipelined exchange on a peer's append lane: what is sent is begun there in that order, and
//! the answers come back in it.
//!
//! It holds to one connection. When that ends, the exchange is over and the next one begins from
//! what the last answer said; nothing is repeated or left out behind the caller's back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::error::{CallError, LinkError};
use super::link::{Link, Reply};
use crate::cluster::MemberId;

/// The end that sends.
#[derive(Debug)]
pub struct AppendSender {
    link: Arc<Link>,
    places: Arc<Semaphore>,
    sent: mpsc::Sender<(Reply, OwnedSemaphorePermit)>,
}

/// The end that receives.
#[derive(Debug)]
pub struct AppendReceiver {
    member: MemberId,
    sent: mpsc::Receiver<(Reply, OwnedSemaphorePermit)>,
    /// What is waited for, kept if the wait is given up.
    next: Option<(Reply, OwnedSemaphorePermit)>,
}

/// An exchange with at most `depth` unanswered calls, at least one.
pub(super) fn exchange(link: Arc<Link>, depth: usize) -> (AppendSender, AppendReceiver) {
    let depth = depth.max(1);
    let (sender, sent) = mpsc::channel(depth);
    let member = link.met.member;
    let places = Arc::new(Semaphore::new(depth));
    (AppendSender { link, places, sent: sender }, AppendReceiver { member, sent, next: None })
}

impl AppendSender {
    /// Sends, as soon as fewer than the agreed number are unanswered. Dropped before it returns,
    /// nothing was sent.
    ///
    /// # Errors
    ///
    /// [`CallError::Lost`] when the exchange is over, and [`CallError::Busy`] and
    /// [`CallError::TooLong`], after which it goes on.
    pub async fn send(&mut self, method: u8, body: &[u8]) -> Result<(), CallError> {
        let member = self.link.met.member;
        let over = || CallError::Lost { member, source: Arc::new(LinkError::Dropped) };
        let place = tokio::select! {
            biased;
            place = Arc::clone(&self.places).acquire_owned() => place.map_err(|_| over())?,
            () = self.sent.closed() => return Err(over()),
        };
        let reply = self.link.send(method, body).map_err(|error| error.or_lost(member))?;
        // There are as many places as the channel has.
        self.sent.try_send((reply, place)).map_err(|_| over())
    }
}

impl AppendReceiver {
    /// The next answer, in the order of what was sent; `None` once the sender is gone and all is
    /// answered. The limit is for this answer, from when it is waited for. Dropped before it
    /// returns, the answer is still to be had.
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`] and [`CallError::Declined`] are of this one call. After any other the
    /// exchange is over: drop both ends and begin another.
    pub async fn recv(&mut self, limit: Duration) -> Option<Result<Bytes, CallError>> {
        if self.next.is_none() {
            self.next = self.sent.recv().await;
        }
        let (reply, _) = self.next.as_mut()?;
        let answer = tokio::time::timeout(limit, reply).await.unwrap_or_else(|_| {
            Err(CallError::Timeout { member: self.member, after: limit, was_sent: true })
        });
        self.next = None;
        Some(answer)
    }
}
