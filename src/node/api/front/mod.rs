//! What stands between a client's socket and HTTP: finds out what the client speaks, and lets it
//! pass through the [`filter`].

mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hpack;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use filter::Filter;
pub(super) use filter::Protocol;

/// Enough for what a client sends before its first answer.
const PIECE: usize = 2048;

/// A client's stream, as HTTP is to read it.
#[derive(Debug)]
pub(super) struct Front<S> {
    stream: S,
    filter: Filter,
    /// Passed, and not read yet from `read` on.
    passed: Vec<u8>,
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Front<S> {
    /// Reads until it is known what the client speaks; set a limit of time around it.
    ///
    /// # Errors
    ///
    /// Those of the stream, and an end of it before anything came.
    pub(super) async fn meet(mut stream: S) -> io::Result<(Protocol, Front<S>)> {
        let (mut filter, mut passed) = (Filter::new(), Vec::new());
        loop {
            if let Some(protocol) = filter.protocol() {
                return Ok((protocol, Front { stream, filter, passed, read: 0 }));
            }
            let mut piece = [0; PIECE];
            match stream.read(&mut piece).await? {
                0 if passed.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => filter.end(&mut passed),
                length => filter.pass(&piece[..length], &mut passed),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Front<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let waiting = &this.passed[this.read..];
            if !waiting.is_empty() {
                let length = waiting.len().min(into.remaining());
                into.put_slice(&waiting[..length]);
                this.read += length;
                return Poll::Ready(Ok(()));
            }
            if this.filter.is_through() {
                if this.read > 0 {
                    (this.passed, this.read) = (Vec::new(), 0);
                }
                return Pin::new(&mut this.stream).poll_read(context, into);
            }
            this.passed.clear();
            this.read = 0;
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut piece))?;
            match piece.filled() {
                [] => this.filter.end(&mut this.passed),
                filled => this.filter.pass(filled, &mut this.passed),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Front<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
