//! What stands between a client's socket and HTTP: finds out what the client speaks, lets it pass
//! through the [`filter`], and has answers go out together.
//!
//! HTTP/2 flushes at the end of each turn, and where it is told that pieces can be written together
//! also after each frame of 256 bytes and more, lest it copies that: a system call for each answer
//! that has a value in it, which costs ten times as much as the copy. So it is told that they
//! cannot be. It then gathers frames of up to a KiB by itself; of larger ones it hands over the
//! beginning and the rest apart, and [`Front`] makes one call of these.

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
#[cfg(feature = "runtime")]
pub(crate) use hpack::put_string;

/// Enough for what a client sends before its first answer.
const PIECE: usize = 2048;
/// What is written in smaller pieces waits for the next one or a flush, up to so many bytes.
const HELD: usize = 4096;

/// A client's stream, as HTTP is to read it.
#[derive(Debug)]
pub(super) struct Front<S> {
    stream: S,
    filter: Filter,
    /// Passed, and not read yet from `read` on.
    passed: Vec<u8>,
    read: usize,
    /// Written to us, and to nobody else yet.
    held: Vec<u8>,
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
                return Ok((protocol, Front { stream, filter, passed, read: 0, held: Vec::new() }));
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

impl<S: AsyncWrite + Unpin> Front<S> {
    /// Writes what is held and as much of `more` as goes with it. Returns how much of that.
    fn poll_release(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let pieces = [io::IoSlice::new(&self.held), io::IoSlice::new(more)];
            let stream = Pin::new(&mut self.stream);
            let length = ready!(stream.poll_write_vectored(context, &pieces))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let own = length.min(self.held.len());
            self.held.drain(..own);
            if length > own {
                return Poll::Ready(Ok(length - own));
            }
        }
        match more {
            [] => Poll::Ready(Ok(0)),
            more => Pin::new(&mut self.stream).poll_write(context, more),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Front<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= HELD {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_release(context, bytes)
    }

    /// See [the module](self).
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(context, &[]))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(context, &[]))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Through a pipe of any width, small pieces and large ones come out as they went in, and
    /// nothing is left behind by a flush or the end.
    #[tokio::test]
    async fn what_is_written_comes_out_in_order_and_whole() {
        let sizes = [9, 300, 0, 1033, 15_000, 9, HELD, 1, HELD - 1, 2, 20_000, 50, 60];
        for width in [1, 7, 100, 5000, 1 << 20] {
            let (ours, mut theirs) = tokio::io::duplex(width);
            let reader = tokio::spawn(async move {
                let (mut flushed, mut rest) = (vec![0; 20_000], Vec::new());
                theirs.read_exact(&mut flushed).await.unwrap();
                theirs.read_to_end(&mut rest).await.unwrap();
                [flushed, rest].concat()
            });
            let filter = Filter::new();
            let (passed, held) = (Vec::new(), Vec::new());
            let mut front = Front { stream: ours, filter, passed, read: 0, held };
            let mut wanted = Vec::new();
            for (n, size) in (0_u8..).zip(sizes) {
                let piece = vec![n; size];
                front.write_all(&piece).await.unwrap();
                wanted.extend(piece);
                if n % 4 == 3 {
                    front.flush().await.unwrap();
                    assert!(front.held.is_empty());
                }
            }
            front.shutdown().await.unwrap();
            drop(front);
            assert_eq!(reader.await.unwrap(), wanted, "width {width}");
        }
    }
}
