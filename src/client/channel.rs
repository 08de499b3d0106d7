//! Connections: one per endpoint, made when first needed, given up when nothing comes back.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tonic::transport::{Channel, Endpoint};

use super::ClientError;

/// How long an endpoint may hesitate before the next one is asked as well. Longer than a healthy
/// cluster takes to agree on a read, shorter than anyone notices.
const HESITATION: Duration = Duration::from_millis(100);

/// A handle on the members of clusters; cheap to clone, all clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    timeout: Duration,
    lines: Arc<Mutex<Lines>>,
}

/// The open connections, by endpoint. An endpoint that could not be reached is not kept, so
/// those of members long gone do not pile up.
#[derive(Debug, Default)]
struct Lines {
    by_endpoint: BTreeMap<String, Line>,
    /// How many lines were ever opened; numbers them.
    opened: u64,
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    number: u64,
    /// Answers of any kind that came through it. Two equal readings mean silence between them,
    /// which tells a frozen member from a slow call without reading a clock.
    answers: u64,
    /// The last call on it ended in an answer, in good time.
    prompt: bool,
}

impl Client {
    /// A client whose every call ends within `timeout`, connecting included. Endpoints are
    /// client URLs such as `http://127.0.0.1:2379`.
    ///
    /// A call that takes several endpoints ends within `timeout` (and a tenth of a second) when
    /// it reads, and within twice that when it changes something: it first finds an endpoint that
    /// has a quorum.
    pub fn new(timeout: Duration) -> Client {
        Client { timeout, lines: Arc::default() }
    }

    /// The deadline of each call.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes one call on one endpoint, within the deadline.
    pub(super) async fn call<T, Fut>(
        &self,
        call: &'static str,
        endpoint: &str,
        make: impl FnOnce(Channel) -> Fut,
    ) -> Result<T, ClientError>
    where
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let (channel, number, answers) = self.line(endpoint).map_err(|source| {
            ClientError::Unreachable { call, endpoint: endpoint.to_owned(), source }
        })?;
        let result = match tokio::time::timeout(self.timeout, make(channel)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ClientError::from_status(call, endpoint, status)),
            Err(_) => Err(ClientError::Timeout {
                call,
                endpoint: endpoint.to_owned(),
                after: self.timeout,
            }),
        };
        self.note(endpoint, number, answers, result.as_ref().err());
        result
    }

    /// Makes `attempt` on the endpoints in turn until one succeeds; returns it and its result.
    ///
    /// The next endpoint is tried when one fails, and beside one that hesitates: so a frozen
    /// member costs a moment, not a deadline. Endpoints that answered promptly last time come
    /// first. What still runs when one succeeds is dropped, so `attempt` must only read.
    pub(super) async fn first_of<'a, T, Fut>(
        &self,
        call: &'static str,
        endpoints: impl IntoIterator<Item = &'a String>,
        attempt: impl Fn(&'a str) -> Fut,
    ) -> Result<(&'a str, T), ClientError>
    where
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let mut waiting: Vec<&str> = endpoints.into_iter().map(String::as_str).collect();
        let tried = waiting.len();
        self.prompt_first(&mut waiting);
        let mut waiting = waiting.into_iter();
        let mut running = FuturesUnordered::new();
        let start = |endpoint: &'a str| {
            let attempt = attempt(endpoint);
            async move { (endpoint, attempt.await) }
        };
        running.extend(waiting.next().map(start));

        let mut failure: Option<ClientError> = None;
        // A moment later than the first endpoint's own, whose error is worth having.
        let deadline = tokio::time::sleep(self.timeout + HESITATION);
        tokio::pin!(deadline);
        while !running.is_empty() {
            tokio::select! {
                Some((endpoint, result)) = running.next() => match result {
                    Ok(value) => return Ok((endpoint, value)),
                    Err(error) => {
                        if failure.as_ref().is_none_or(|it| it.weight() <= error.weight()) {
                            failure = Some(error);
                        }
                        running.extend(waiting.next().map(start));
                    }
                },
                () = tokio::time::sleep(HESITATION), if waiting.len() > 0 => {
                    running.extend(waiting.next().map(start));
                }
                () = &mut deadline => break,
            }
        }
        Err(ClientError::NoEndpoint {
            call,
            tried,
            after: self.timeout,
            source: failure.map(Box::new),
        })
    }

    /// Sorts endpoints whose last answer came promptly before the others; otherwise keeps order.
    fn prompt_first(&self, endpoints: &mut [&str]) {
        let lines = self.lock();
        endpoints.sort_by_key(|it| !lines.by_endpoint.get(*it).is_some_and(|line| line.prompt));
    }

    /// The endpoint's connection, its number and its count of answers. Until the call that takes
    /// it has been answered, it does not count as prompt.
    fn line(&self, endpoint: &str) -> Result<(Channel, u64, u64), Box<dyn StdError + Send + Sync>> {
        let mut lines = self.lock();
        if !lines.by_endpoint.contains_key(endpoint) {
            let channel = self.open(endpoint)?;
            lines.opened += 1;
            let line = Line { channel, number: lines.opened, answers: 0, prompt: false };
            lines.by_endpoint.insert(endpoint.to_owned(), line);
        }
        let line = lines.by_endpoint.get_mut(endpoint).ok_or("the connection is gone")?;
        line.prompt = false;
        Ok((line.channel.clone(), line.number, line.answers))
    }

    fn open(&self, endpoint: &str) -> Result<Channel, Box<dyn StdError + Send + Sync>> {
        if !endpoint.starts_with("http://") {
            return Err("not an http:// URL".into());
        }
        // Connecting gets half of the time, so that a host that is gone shows as unreachable
        // (nothing was sent) and not as a timeout (who knows).
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(self.timeout / 2)
            .connect_lazy();
        Ok(channel)
    }

    /// Remembers how a call on a line ended, and gives the line up when it is of no use: when
    /// nothing listens, or when nothing at all came back on it while the call waited. A host
    /// that vanished leaves its connection half open, and only a new one can tell.
    fn note(&self, endpoint: &str, number: u64, answers: u64, error: Option<&ClientError>) {
        let mut lines = self.lock();
        let Some(line) = lines.by_endpoint.get_mut(endpoint).filter(|it| it.number == number)
        else {
            return;
        };
        let useless = match error {
            Some(ClientError::Unreachable { .. } | ClientError::Interrupted { .. }) => true,
            Some(ClientError::Timeout { .. }) => line.answers == answers,
            _ => {
                line.answers += 1;
                line.prompt = true;
                false
            }
        };
        if useless {
            lines.by_endpoint.remove(endpoint);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Every change under the lock is complete in itself, so a panic leaves nothing half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
