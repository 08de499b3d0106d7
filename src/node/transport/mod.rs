//! Between members: who may connect, and what travels.
//!
//! ```text
//!   Peers ── Peer ──┬─ calls   many at once, answered in any order      ┐
//!   (one a target)  ├─ append  pipelined, begun and answered in order   ├──> serve ──> Door
//!                   └─ bulk    chunks of a snapshot, past the others    ┘
//! ```
//!
//! A peer port is one listener that speaks HTTP/1. A GET of `/quorate/raft` with an upgrade is a
//! greeting ([`greeting`]): cluster, member, incarnation and target are checked by both sides, and
//! a no has a type, so that a removed member learns that it was removed. What was greeted carries
//! frames ([`frame`]) on a plain TCP connection from there on, one connection a lane. Everything
//! else, such as `/members`, is a page that the [`Door`] gives.
//!
//! What always holds: every queue has a bound, and beyond it a call fails at once and says that
//! nothing was sent; a peer that is slow, frozen or gone costs its own calls their time and no
//! other peer anything; bytes that are no frames end the one connection they came on; a connection
//! on which nothing is heard for [`Limits::silence`] is given up.
//!
//! Nothing here knows raft or the state. The caller says what a method means.

mod answer;
mod append;
mod backoff;
mod dial;
mod error;
pub mod frame;
pub mod greeting;
mod hearing;
mod link;
mod listen;
mod pages;
mod peers;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

pub use append::{AppendReceiver, AppendSender};
pub use backoff::Jitter;
pub use error::{CallError, DialError, Failure, LinkError};
pub use greeting::{Hello, Identity, Refusal, RefusalKind};
pub use hearing::Hearing;
pub use listen::{Server, serve};
pub use pages::Page;
pub use peers::{Address, Peer, Peers};

/// Which of a peer's connections something travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Calls that know nothing of each other: votes, heartbeats, forwarded requests.
    Calls,
    /// Calls that are begun in the order in which they were sent, and answered so.
    Append,
    /// Large and slow ones, which must not stand before the others.
    Bulk,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Calls, Lane::Append, Lane::Bulk];

    fn name(self) -> &'static str {
        match self {
            Lane::Calls => "calls",
            Lane::Append => "append",
            Lane::Bulk => "bulk",
        }
    }

    fn new(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

/// How much may be under way on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Calls that are not answered yet.
    pub calls: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
}

/// What the transport keeps to. All members of a cluster should have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For connecting to one URL and being greeted there.
    pub dial: Duration,
    /// After so long without a byte a connection is given up; pinged four times in it.
    pub silence: Duration,
    /// Between two attempts to connect: the first wait and the longest.
    pub backoff: (Duration, Duration),
    /// A bulk connection that nobody used for so long is closed.
    pub bulk_idle: Duration,
    /// Bytes of a body on the lanes `calls` and `append`.
    pub body: usize,
    /// Bytes of a body on the lane `bulk`.
    pub chunk: usize,
    /// What may be under way on each lane to, and from, one peer.
    pub bounds: [Bound; 3],
    /// The HTTP part of a connection to the peer port, from the first byte to the last.
    pub greeting: Duration,
    /// Connections to the peer port that have not been greeted; beyond it the oldest goes.
    pub half_open: usize,
    /// Greeted connections to the peer port; beyond it the next is [`RefusalKind::NotReady`].
    pub greeted: usize,
    /// What calls that are under way are given to end when the port closes.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            dial: Duration::from_secs(1),
            silence: Duration::from_secs(2),
            backoff: (Duration::from_millis(20), Duration::from_millis(500)),
            bulk_idle: Duration::from_secs(30),
            body: 16 << 20,
            chunk: (1 << 20) + (4 << 10),
            bounds: [
                Bound { calls: 4096, bytes: 64 << 20 },
                Bound { calls: 64, bytes: 64 << 20 },
                Bound { calls: 8, bytes: 16 << 20 },
            ],
            greeting: Duration::from_secs(5),
            half_open: 256,
            greeted: 256,
            drain: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The bound of a lane.
    pub fn bound(&self, lane: Lane) -> Bound {
        self.bounds[lane as usize]
    }

    /// The longest body of a lane.
    pub fn most(&self, lane: Lane) -> usize {
        if lane == Lane::Bulk { self.chunk } else { self.body }
    }
}

/// What stands behind a peer port.
pub trait Door: Send + Sync + 'static {
    /// Who this member is.
    fn identity(&self) -> Identity;

    /// Whether a member may connect. Cluster and target are right already; what is left is what
    /// the state knows: that it was removed, that it is known to run on other data. Asked again
    /// several times in each [`Limits::silence`] of a connection, which ends when the answer is no.
    ///
    /// # Errors
    ///
    /// The refusal that the other member gets to read.
    fn greet(&self, who: &Hello) -> Result<(), Refusal>;

    /// Carries out a call.
    ///
    /// On the lane `append` the futures of one connection are first polled in the order in which
    /// the calls were sent, and answered in it. On the others they run side by side. A future is
    /// dropped when its connection ends or the port closes for good, at any of its awaits.
    ///
    /// # Errors
    ///
    /// What the caller gets as [`CallError::Failed`].
    fn call(
        &self,
        from: &Hello,
        method: u8,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, Failure>> + Send;

    /// The page of a path, for a GET; `None` is answered 404.
    fn http(&self, path: &str) -> Option<Page>;
}
