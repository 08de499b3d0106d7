//! The operating system's own.

/// Files.
pub(crate) mod disk {
    use std::fs::{self, DirBuilder, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileExt};
    use std::path::{Path, PathBuf};

    /// An open file.
    #[derive(Debug)]
    pub(crate) struct File(fs::File);

    impl File {
        /// Opens one that is there.
        pub(crate) fn open(path: &Path, writing: bool) -> io::Result<File> {
            OpenOptions::new().read(true).write(writing).open(path).map(File)
        }

        /// Makes one that is empty.
        pub(crate) fn create(path: &Path) -> io::Result<File> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).open(path).map(File)
        }

        pub(crate) fn length(&self) -> io::Result<u64> {
            Ok(self.0.metadata()?.len())
        }

        pub(crate) fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            self.0.read_exact_at(buffer, at)
        }

        pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            self.0.write_all_at(bytes, at)
        }

        /// Makes its bytes durable, and what is needed to read them.
        #[allow(clippy::unused_async, reason = "time passes in a simulation")]
        pub(crate) async fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        /// Makes all of it durable, but for its name.
        pub(crate) fn sync_all(&self) -> io::Result<()> {
            self.0.sync_all()
        }
    }

    pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes a directory with all that is in it.
    pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    /// Makes a directory that only its owner may enter.
    pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    /// The same, and every one above that is missing; no error if it is there.
    pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// What is in a directory.
    pub(crate) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|it| Ok(it?.path())).collect()
    }

    pub(crate) fn is_there(path: &Path) -> bool {
        path.exists()
    }

    /// Makes what was created, renamed or removed in a directory durable.
    pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

/// Connections between members.
pub(crate) mod net {
    use std::io;

    use crate::cluster::MemberId;
    use crate::node::port::{self, Taken};

    /// An address that was taken, to be listened on later.
    pub type Port = tokio::net::TcpSocket;

    pub(crate) type Listener = tokio::net::TcpListener;

    pub(crate) type Stream = tokio::net::TcpStream;

    /// Connects; who does is known to nobody here.
    pub(crate) async fn connect(_: MemberId, host: &str, port: u16) -> io::Result<Stream> {
        Stream::connect((host, port)).await
    }

    pub(crate) fn listen(ports: Vec<Port>) -> Result<Vec<Listener>, Taken> {
        port::listen(ports)
    }
}

/// Threads.
pub(crate) mod work {
    use std::io;
    use std::sync::mpsc::{self, Receiver};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use futures_util::FutureExt;

    pub(crate) use std::sync::mpsc::{RecvTimeoutError, Sender};

    /// What a thread is sent. Only for futures of [`Thread::start`]: waiting for it blocks.
    #[derive(Debug)]
    pub(crate) struct Queue<T>(Receiver<T>);

    pub(crate) fn queue<T>() -> (Sender<T>, Queue<T>) {
        let (sender, receiver) = mpsc::channel();
        (sender, Queue(receiver))
    }

    #[allow(clippy::unused_async, reason = "these wait in a simulation")]
    impl<T> Queue<T> {
        /// The next; `None` when nobody can send any more.
        pub(crate) async fn recv(&mut self) -> Option<T> {
            self.0.recv().ok()
        }

        pub(crate) async fn recv_timeout(
            &mut self,
            limit: Duration,
        ) -> Result<T, RecvTimeoutError> {
            self.0.recv_timeout(limit)
        }

        /// The next, if there is one.
        pub(crate) fn try_recv(&mut self) -> Option<T> {
            self.0.try_recv().ok()
        }
    }

    /// A thread that was started.
    #[derive(Debug)]
    pub(crate) struct Thread(JoinHandle<()>);

    impl Thread {
        /// Starts one for work that blocks where it has to wait.
        pub(crate) fn start(
            name: &str,
            work: impl Future<Output = ()> + Send + 'static,
        ) -> io::Result<Thread> {
            let run = move || {
                let end = work.now_or_never();
                debug_assert!(end.is_some(), "work that waits without blocking");
            };
            thread::Builder::new().name(name.to_owned()).spawn(run).map(Thread)
        }

        /// Returns once it has ended, and whether it did so in good order. On the thread itself
        /// there is nothing to wait for.
        pub(crate) fn join(self) -> bool {
            self.0.thread().id() == thread::current().id() || self.0.join().is_ok()
        }
    }

    /// Reads piece after piece where nobody waits for it, so many ahead of who takes them. `read`
    /// hands each one over, and ends when it is told that nobody wants more.
    pub(crate) fn reading<T: Send + 'static>(
        ahead: usize,
        read: impl FnOnce(&mut dyn FnMut(T) -> bool) + Send + 'static,
    ) -> tokio::sync::mpsc::Receiver<T> {
        let (send, receive) = tokio::sync::mpsc::channel(ahead);
        tokio::task::spawn_blocking(move || read(&mut |it| send.blocking_send(it).is_ok()));
        receive
    }

    /// Does something that takes its time where nobody waits for it; `None` if the runtime is
    /// ending, or it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// A number that nobody can foretell.
///
/// # Errors
///
/// The system has none to give.
pub(crate) fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|it| it.to_string())
}
