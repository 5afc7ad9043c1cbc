//! Where readers put faults while they go on reading.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::{Fault, FaultCode, Faults, MAX_KEPT};

/// Collects faults. Shared by reference between readers, hence the cell.
#[derive(Debug, Default)]
pub(crate) struct FaultSink {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    faults: Faults,
    /// Where each kept fault stands, to merge the same fault of several nodes.
    seen: HashMap<(String, Range<usize>, String), usize>,
}

impl FaultSink {
    /// Takes a fault. One that is kept already only gains the node's name.
    pub(crate) fn push(&self, fault: Fault) {
        let mut inner = self.inner.borrow_mut();
        let key = (fault.place.source.name.clone(), fault.place.span.clone(), fault.rule.clone());
        if let Some(&index) = inner.seen.get(&key) {
            let known = &mut inner.faults.faults[index].nodes;
            for node in fault.nodes {
                if !known.contains(&node) {
                    known.push(node);
                }
            }
            return;
        }
        if inner.faults.faults.len() >= MAX_KEPT {
            inner.faults.omitted += 1;
            return;
        }
        let index = inner.faults.faults.len();
        inner.seen.insert(key, index);
        inner.faults.faults.push(fault);
    }

    /// Whether nothing was found so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.inner.borrow().faults.faults.is_empty()
    }

    /// Drops what only follows from a text that could not be read as TOML:
    /// names and keys may be missing because their line was not understood.
    pub(crate) fn drop_consequences(&self, of: &str) {
        let mut inner = self.inner.borrow_mut();
        let broken_lines: Vec<usize> = inner
            .faults
            .faults
            .iter()
            .filter(|fault| fault.code == FaultCode::Syntax && fault.place.source.name == of)
            .map(|fault| fault.place.source.position(fault.place.span.start).0)
            .collect();
        if broken_lines.is_empty() {
            return;
        }
        inner.faults.faults.retain(|fault| match fault.code {
            FaultCode::Syntax => true,
            FaultCode::Missing | FaultCode::UnknownName => false,
            // The reader puts an empty value without a place where it found none.
            _ if fault.place.span.is_empty() => false,
            _ => !broken_lines.contains(&fault.place.source.position(fault.place.span.start).0),
        });
        inner.seen.clear();
    }

    /// The value when nothing was wrong, else the faults in the order of the files.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        let mut faults = self.inner.into_inner().faults;
        if let Some(value) = value.filter(|_| faults.faults.is_empty()) {
            return Ok(value);
        }
        faults.faults.sort_by(|a, b| {
            let key = |fault: &Fault| (fault.place.source.name.clone(), fault.place.span.start);
            key(a).cmp(&key(b))
        });
        Err(faults)
    }
}
