//! Threads that are tasks, and blocking that is done at once.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};

pub(crate) use std::sync::mpsc::RecvTimeoutError;
pub(crate) type Sender<T> = mpsc::UnboundedSender<T>;

#[derive(Debug)]
pub(crate) struct Queue<T>(UnboundedReceiver<T>);

pub(crate) fn queue<T>() -> (Sender<T>, Queue<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Queue(receiver))
}

impl<T> Queue<T> {
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.0.recv().await
    }

    pub(crate) async fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvTimeoutError> {
        match tokio::time::timeout(limit, self.0.recv()).await {
            Ok(it) => it.ok_or(RecvTimeoutError::Disconnected),
            Err(_) => Err(RecvTimeoutError::Timeout),
        }
    }

    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

#[derive(Debug)]
pub(crate) struct Thread;

#[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on a machine")]
impl Thread {
    pub(crate) fn start(
        _: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Thread> {
        tokio::spawn(work);
        Ok(Thread)
    }

    /// It ends by itself; nobody can wait for it here.
    pub(crate) fn join(self) -> bool {
        true
    }
}

pub(crate) fn reading<T: Send + 'static>(
    ahead: usize,
    read: impl FnOnce(&mut dyn FnMut(T) -> bool) + Send + 'static,
) -> mpsc::Receiver<T> {
    let (send, receive) = mpsc::channel(ahead);
    tokio::spawn(async move {
        let mut pieces = Vec::new();
        read(&mut |it| {
            pieces.push(it);
            true
        });
        for it in pieces {
            if send.send(it).await.is_err() {
                return;
            }
        }
    });
    receive
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let pause = super::with(|run| run.within(&(Duration::ZERO..Duration::from_millis(2))));
    tokio::time::sleep(pause).await;
    Some(work())
}
