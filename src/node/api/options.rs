//! What may be set of the API: limits, for the most part, each with etcd's default.

use std::time::Duration;

/// Limits and times of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--max-request-bytes`: the largest change that is proposed, in bytes.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`: the most operations of a transaction.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams`: calls under way on one connection.
    pub max_concurrent_streams: u32,
    /// Connections at a time, over all listeners; more wait in the kernel. Keep it below the
    /// limit of open files.
    pub max_connections: usize,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// `--warning-unary-request-duration`: what takes longer is logged.
    pub slow: Duration,
    /// How long a client may take to begin: to say what it speaks, and to send the header of an
    /// HTTP/1 request.
    pub greeting: Duration,
    /// `--grpc-keepalive-interval`: after so long a silence an HTTP/2 client is pinged.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: a ping not answered for so long ends the connection.
    pub keepalive_timeout: Duration,
    /// How long calls under way may take at the end of the server.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_request_bytes: 3 << 19, // 1.5 MiB
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            max_connections: 10_000,
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
            slow: Duration::from_millis(300),
            greeting: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            grace: Duration::from_millis(500),
        }
    }
}

impl Options {
    /// The largest message a client may send: a request and what gRPC may put around it (etcd's
    /// config.MaxRequestBytesWithOverhead).
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(512 << 10)
    }

    /// How long a request may take: 5 s for the disk and queues, and one election that fails and
    /// one that does not (etcd's config.ReqTimeout).
    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }

    /// The shortest TTL of a lease in seconds: one and a half elections, counted in whole
    /// heartbeats and rounded up to whole seconds (etcd's `NewServer`: `minTTL`).
    pub fn min_lease_ttl(&self) -> i64 {
        let heartbeat = self.heartbeat.as_millis().max(1);
        let ticks = self.election.as_millis() / heartbeat;
        let millis = 3 * ticks / 2 * heartbeat;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_lease_is_etcds_at_every_timing() {
        for (heartbeat, election, ttl) in
            [(100, 1000, 2), (10, 100, 1), (100, 5000, 8), (500, 2500, 4), (300, 1000, 2)]
        {
            let options = Options {
                heartbeat: Duration::from_millis(heartbeat),
                election: Duration::from_millis(election),
                ..Options::default()
            };
            assert_eq!(options.min_lease_ttl(), ttl, "{heartbeat} {election}");
        }
        assert_eq!(Options::default().request_timeout(), Duration::from_secs(7));
    }
}
