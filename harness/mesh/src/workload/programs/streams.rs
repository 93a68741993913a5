//! What a program reads from and writes to.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::{Mutex, mpsc};

/// Where a program writes. Clones write to the same place; writing never waits.
#[derive(Clone)]
pub struct Out(Arc<Write>);

/// Takes bytes, and says whether anybody still reads.
type Write = dyn Fn(&[u8]) -> bool + Send + Sync;

impl Out {
    /// Hands all that is written to a function, which says whether anybody still reads.
    #[must_use]
    pub fn new(write: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Nowhere.
    #[must_use]
    pub fn null() -> Self {
        Self::new(|_| true)
    }

    /// Keeps what is written; the second part is that.
    #[must_use]
    pub fn kept() -> (Self, Arc<std::sync::Mutex<Vec<u8>>>) {
        let kept = Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let into = kept.clone();
        let out = Self::new(move |bytes| {
            into.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
            true
        });
        (out, kept)
    }

    /// Writes. False when nobody reads any more.
    pub fn write(&self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        bytes.is_empty() || (self.0)(bytes)
    }

    /// Writes a line with its end. False when nobody reads any more.
    pub fn line(&self, text: &str) -> bool {
        self.write(format!("{text}\n"))
    }
}

/// Where a program reads. Clones take from the same place.
#[derive(Clone)]
pub struct In(Arc<Mutex<Source>>);

struct Source {
    buffer: BytesMut,
    more: Option<mpsc::UnboundedReceiver<Bytes>>,
}

/// What is written to the first can be read from the second, which ends when all clones of the first are gone.
#[must_use]
pub fn pipe() -> (Out, In) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let out = Out::new(move |bytes| sender.send(Bytes::copy_from_slice(bytes)).is_ok());
    (out, In(Arc::new(Mutex::new(Source { buffer: BytesMut::new(), more: Some(receiver) }))))
}

impl In {
    /// Nothing to read.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(&[])
    }

    /// These bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Source { buffer: BytesMut::from(bytes), more: None })))
    }

    /// All that is left.
    pub async fn read_all(&self) -> Vec<u8> {
        let mut source = self.0.lock().await;
        while source.fill().await {}
        source.buffer.split().to_vec()
    }

    /// What has come, at least one byte; None at the end.
    pub async fn read_some(&self) -> Option<Bytes> {
        let mut source = self.0.lock().await;
        if source.buffer.is_empty() && !source.fill().await {
            return None;
        }
        Some(source.buffer.split().freeze())
    }

    /// The next line with its end, if it has one; None at the end.
    pub async fn read_line(&self) -> Option<Vec<u8>> {
        let mut source = self.0.lock().await;
        loop {
            if let Some(at) = source.buffer.iter().position(|b| *b == b'\n') {
                return Some(source.buffer.split_to(at + 1).to_vec());
            }
            if !source.fill().await {
                let rest = source.buffer.split().to_vec();
                return (!rest.is_empty()).then_some(rest);
            }
        }
    }

    /// Ends the reading: whoever writes is told that nobody reads.
    pub async fn close(&self) {
        let mut source = self.0.lock().await;
        source.more = None;
        let left = source.buffer.len();
        source.buffer.advance(left);
    }
}

impl Source {
    async fn fill(&mut self) -> bool {
        let Some(more) = &mut self.more else { return false };
        match more.recv().await {
            Some(bytes) => {
                self.buffer.extend_from_slice(&bytes);
                true
            }
            None => {
                self.more = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_the_rest_are_read_until_the_writers_are_gone() {
        let (out, input) = pipe();
        assert!(out.write("a\nb") && out.write("c\nd"));
        drop(out);
        assert_eq!(input.read_line().await.unwrap(), b"a\n");
        assert_eq!(input.read_line().await.unwrap(), b"bc\n");
        assert_eq!(input.read_line().await.unwrap(), b"d");
        assert_eq!(input.read_line().await, None);
    }

    #[tokio::test]
    async fn a_writer_learns_that_nobody_reads() {
        let (out, input) = pipe();
        input.close().await;
        assert!(!out.write("x"));
    }
}
