//! Takes turns between reading a connection's requests and answering them.
//!
//! A client with many calls under way sends many of them at once. If all of these were answered
//! before the first answer is written, client and member would work by turns, each waiting for
//! the other, and half of two cores would rest. So after a few answers those are written, and what
//! has come meanwhile is read.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::coop::unconstrained;

use crate::clock::{Clock, Moment};

/// So many answers at least are written together: the system call costs little beside them.
const TOGETHER: usize = 16;
/// Of many streams, one in so many is answered before the answers are written, so that what belongs
/// together, as the writes of one fsync, is not torn into many small pieces. So many turns are taken
/// before the node's other tasks have theirs.
const TURNS: usize = 4;
/// No turn is longer than this and one stream's part, as heartbeats wait for its end: what is asked
/// for may be large.
const TURN: Duration = Duration::from_millis(5);

/// The streams that a connection has begun and nobody has gone on with.
type List = Mutex<Vec<Answering>>;

/// Takes the streams that a connection begins. Each of them has one of these, so it holds none of
/// the others.
#[derive(Clone)]
pub(super) struct Begun {
    list: Weak<List>,
    until: Arc<AtomicU64>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, stream: F) {
        let Some(list) = self.list.upgrade() else { return };
        // What one task may do at a time was not meant for a thousand calls: `TURN` bounds them. A
        // panic, which the hook has told of, ends the call that it is in and no other.
        let stream = AssertUnwindSafe(unconstrained(stream)).catch_unwind().map(drop);
        let until = Arc::clone(&self.until);
        list.lock().push(Answering { stream: Box::pin(stream), until });
    }
}

/// One stream, which waits for another turn once this one's time is over.
struct Answering {
    stream: Pin<Box<dyn Future<Output = ()> + Send>>,
    until: Arc<AtomicU64>,
}

impl Future for Answering {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Clock.monotonic() > Moment(self.until.load(Ordering::Relaxed)) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.stream.as_mut().poll(context)
    }
}

/// The streams of one connection.
pub(super) struct Turns {
    begun: Arc<List>,
    streams: FuturesUnordered<Answering>,
    until: Arc<AtomicU64>,
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
        Turns {
            begun: Arc::default(),
            streams: FuturesUnordered::new(),
            until: Arc::default(),
            bell,
            waker,
        }
    }

    /// What the connection is to begin its streams with.
    pub(super) fn begun(&self) -> Begun {
        Begun { list: Arc::downgrade(&self.begun), until: Arc::clone(&self.until) }
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
            self.streams.extend(self.begun.lock().drain(..));
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
        let until = Clock.monotonic().after(TURN);
        self.until.store(until.0, Ordering::Relaxed);
        let together = TOGETHER.max(self.streams.len() / TURNS);
        let mut done = 0;
        while done < together {
            self.bell.has_rung.store(false, Ordering::Release);
            match Pin::new(&mut self.streams).poll_next(&mut context) {
                Poll::Ready(Some(())) => done += 1,
                // It breaks off after two that woke themselves, as those do that send something
                // and those that wait for another turn.
                Poll::Pending
                    if self.bell.has_rung.load(Ordering::Acquire) && Clock.monotonic() < until =>
                {
                    done += 2;
                }
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

    #[tokio::test]
    async fn streams_that_were_begun_last_end_with_their_connection() {
        let held = Arc::new(());
        let mut turns = Turns::new();
        let begun = turns.begun();
        let mut connection = pin!(poll_fn(|_| {
            // As hyper's, it has the means to begin others.
            let has = (Arc::clone(&held), begun.clone());
            begun.execute(async move {
                std::future::pending::<()>().await;
                drop(has);
            });
            Poll::Ready(())
        }));
        poll_fn(|context| turns.poll(connection.as_mut(), context)).await;
        drop(turns);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_no_other() {
        let (end, ended) = mpsc::channel(1);
        let told = Told::default();
        let streams = [true, false].map(|panics| {
            let (told, end) = (told.clone(), end.clone());
            async move {
                tokio::task::yield_now().await;
                assert!(!panics, "this one is meant to");
                told.say("answer");
                drop(end);
            }
        });
        drop(end);
        serves(streams.into(), told.clone(), ended).await;
        assert!(told.0.lock().unwrap().contains(&"answer"));
    }

    #[tokio::test]
    async fn long_answers_do_not_keep_others_from_their_turn() {
        const ANSWERS: usize = 40;
        let (end, ended) = mpsc::channel(1);
        let told = Told::default();
        let streams = (0..ANSWERS).map(|_| {
            let (told, end) = (told.clone(), end.clone());
            async move {
                std::thread::sleep(TURN * 2);
                told.say("answer");
                drop(end);
            }
        });
        let streams: Vec<_> = streams.collect();
        drop(end);
        let other = told.clone();
        tokio::spawn(async move {
            loop {
                other.say("other");
                tokio::task::yield_now().await;
            }
        });
        serves(streams, told.clone(), ended).await;
        let told = told.0.lock().unwrap();
        let together = told.split(|it| *it == "other");
        let most = together.map(|it| it.iter().filter(|it| **it == "answer").count()).max();
        assert_eq!(most, Some(1), "{told:?}");
    }
}
