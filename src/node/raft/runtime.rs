//! The runtime that openraft is given. In a simulation what it draws by chance comes from the seed;
//! all else, time included, is tokio's, whose clock a simulation stops.

#[cfg(not(feature = "simulation"))]
pub(super) type Runtime = openraft_rt_tokio::TokioRuntime;

#[cfg(feature = "simulation")]
pub(super) use simulated::Runtime;

#[cfg(feature = "simulation")]
mod simulated {
    use std::time::Duration;

    use openraft::{AsyncRuntime, OptionalSend};
    use openraft_rt_tokio::TokioRuntime as Tokio;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use crate::node::ground::simulated::draw;

    /// See [the module](super).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub(in crate::node::raft) struct Runtime;

    impl AsyncRuntime for Runtime {
        type JoinError = <Tokio as AsyncRuntime>::JoinError;
        type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
        type Sleep = <Tokio as AsyncRuntime>::Sleep;
        type Instant = <Tokio as AsyncRuntime>::Instant;
        type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
        type Timeout<R, T: Future<Output = R> + OptionalSend> =
            <Tokio as AsyncRuntime>::Timeout<R, T>;
        type ThreadLocalRng = SmallRng;
        type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
        type Watch = <Tokio as AsyncRuntime>::Watch;
        type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
        type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

        fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
        where
            T: Future + OptionalSend + 'static,
            T::Output: OptionalSend + 'static,
        {
            Tokio::spawn(future)
        }

        fn sleep(duration: Duration) -> Self::Sleep {
            Tokio::sleep(duration)
        }

        fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
            Tokio::sleep_until(deadline)
        }

        fn timeout<R, F: Future<Output = R> + OptionalSend>(
            duration: Duration,
            future: F,
        ) -> Self::Timeout<R, F> {
            Tokio::timeout(duration, future)
        }

        fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
            deadline: Self::Instant,
            future: F,
        ) -> Self::Timeout<R, F> {
            Tokio::timeout_at(deadline, future)
        }

        fn is_panic(join_error: &Self::JoinError) -> bool {
            Tokio::is_panic(join_error)
        }

        fn thread_rng() -> SmallRng {
            SmallRng::seed_from_u64(draw())
        }

        fn new(_: usize) -> Self {
            Runtime
        }

        /// Nobody asks for it: a simulation has its runtime before it has a member.
        fn block_on<F, T>(&mut self, future: F) -> T
        where
            F: Future<Output = T>,
        {
            <Tokio as AsyncRuntime>::new(1).block_on(future)
        }
    }
}
