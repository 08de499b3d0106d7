//! Takes turns between reading a connection's requests and answering them.
//!
//! A client with many calls under way sends many of them at once. If all of these were answered
//! before the first answer is written, client and member would work by turns, each waiting for
//! the other, and half of two cores would rest. So after a few answers those are written, and what
//! has come meanwhile is read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::coop::unconstrained;

/// So many answers at least are written together: the system call costs little beside them.
const TOGETHER: usize = 16;
/// Of many streams, one in so many is answered before the answers are written, so that what belongs
/// together, as the writes of one fsync, is not torn into many small pieces. So many turns are taken
/// before the node's other tasks have theirs.
const TURNS: usize = 4;

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that a connection begins.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Answering>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, stream: F) {
        // What one task may do at a time was not meant for a thousand calls: `TURNS` bounds them.
        self.0.lock().push(Box::pin(unconstrained(stream)));
    }
}

/// The streams of one connection.
pub(super) struct Turns {
    begun: Begun,
    streams: FuturesUnordered<Answering>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the connection's task, and knows whether it has.
#[derive(Default)]
struct Bell {
    task: AtomicWaker,
    has_rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Turns {
    pub(super) fn new() -> Turns {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        Turns { begun: Begun::default(), streams: FuturesUnordered::new(), bell, waker }
    }

    /// What the connection is to begin its streams with.
    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// Waits for the connection's end, and has its streams answered until then. Those that are left
    /// are given up.
    pub(super) fn poll<C: Future>(
        &mut self,
        mut connection: Pin<&mut C>,
        context: &mut Context<'_>,
    ) -> Poll<C::Output> {
        self.bell.task.register(context.waker());
        for _ in 0..TURNS {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            self.streams.extend(self.begun.0.lock().drain(..));
            if !self.answer() {
                // What was answered has woken us, and is written then.
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes on with some of the streams; whether there may be more to go on with.
    fn answer(&mut self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        let together = TOGETHER.max(self.streams.len() / TURNS);
        let mut done = 0;
        while done < together {
            self.bell.has_rung.store(false, Ordering::Release);
            match Pin::new(&mut self.streams).poll_next(&mut context) {
                Poll::Ready(Some(())) => done += 1,
                // It breaks off after two that are to be polled again.
                Poll::Pending if self.bell.has_rung.load(Ordering::Acquire) => done += 2,
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// What happened, in order: answers, and between them when the connection had its turn.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<&'static str>>>);

    impl Told {
        fn say(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }
    }

    /// A connection that begins these streams at its first turn, and ends when it is told to.
    async fn serves(
        streams: Vec<impl Future<Output = ()> + Send + 'static>,
        told: Told,
        mut end: mpsc::Receiver<()>,
    ) {
        let mut turns = Turns::new();
        let begun = turns.begun();
        let mut streams = Some(streams);
        let mut connection = pin!(poll_fn(|context| {
            told.say("turn");
            streams.take().into_iter().flatten().for_each(|stream| begun.execute(stream));
            end.poll_recv(context).map(drop)
        }));
        poll_fn(|context| turns.poll(connection.as_mut(), context)).await;
    }

    #[tokio::test]
    async fn answers_are_written_after_a_few_and_never_kept_for_all() {
        let (told, (end, ended)) = (Told::default(), mpsc::channel(1));
        let (left, all) = (Arc::new(Mutex::new(100)), end);
        let answers = (0..100).map(|_| {
            let (told, left, end) = (told.clone(), Arc::clone(&left), all.clone());
            async move {
                told.say("answer");
                *left.lock().unwrap() -= 1;
                if *left.lock().unwrap() == 0 {
                    end.send(()).await.unwrap();
                }
            }
        });
        serves(answers.collect(), told.clone(), ended).await;
        let told = told.0.lock().unwrap();
        assert_eq!(told.iter().filter(|it| **it == "answer").count(), 100);
        let together = told.split(|it| *it == "turn").map(<[_]>::len).max();
        assert_eq!(together, Some(100 / TURNS), "{told:?}");
    }

    /// Streams wait for others, are woken from other threads, and wake themselves.
    #[tokio::test]
    async fn whoever_wakes_a_stream_it_goes_on() {
        let (end, ended) = mpsc::channel(1);
        let streams = (0..300).map(|n| {
            let end = end.clone();
            async move {
                let (wake, woken) = oneshot::channel();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(n % 7));
                    wake.send(()).unwrap();
                });
                woken.await.unwrap();
                for _ in 0..n % 5 {
                    tokio::task::yield_now().await;
                }
                drop(end);
            }
        });
        let streams: Vec<_> = streams.collect();
        drop(end);
        // It ends once every stream has let go of its handle.
        let served = serves(streams, Told::default(), ended);
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap();
    }
}
