//! The newest part of what the guest printed, at positions that count from its
//! first byte, so that every reader can be behind by its own measure without a
//! buffer of its own.

use std::collections::VecDeque;

/// A bounded byte history.
#[derive(Debug)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    /// Position after the newest byte.
    end: u64,
    limit: usize,
}

impl History {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), end: 0, limit }
    }

    /// Position of the oldest byte that is still there.
    pub(super) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Position after the newest byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds at the end and forgets at the start.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    /// A run of bytes from `position`, not always all; empty at the end. A
    /// position before [`History::start`] gives the bytes from the start.
    pub(super) fn from(&self, position: u64) -> &[u8] {
        let skip = usize::try_from(position.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let (older, newer) = self.bytes.as_slices();
        match older.get(skip..) {
            Some(run) if !run.is_empty() => run,
            _ => newer.get(skip - older.len()..).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(history: &History, mut position: u64) -> Vec<u8> {
        let mut all = Vec::new();
        position = position.max(history.start());
        loop {
            let run = history.from(position);
            if run.is_empty() {
                return all;
            }
            all.extend(run);
            position += run.len() as u64;
        }
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_bytes_and_no_more(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 1usize..64,
            behind in 0u64..100,
        ) {
            let mut history = History::new(limit);
            parts.iter().for_each(|part| history.push(part));
            let all = parts.concat();
            prop_assert_eq!(history.end(), all.len() as u64);
            let kept = &all[all.len().saturating_sub(limit)..];
            prop_assert_eq!(&read_all(&history, 0), kept);
            let position = history.end().saturating_sub(behind).max(history.start());
            prop_assert_eq!(read_all(&history, position), &all[usize::try_from(position).unwrap()..]);
            prop_assert!(history.from(history.end() + behind).is_empty());
        }
    }
}
