//! Which of the agent's threads goes first while a node boots and everything wants the processor: nice values, of one
//! thread each (setpriority(2) with a thread's number). Programs that a thread starts have its own.

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How a thread stands to the node's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Before them: it does little, and its silence would be taken for the node's.
    Ahead,
    /// As they.
    Ordinary,
    /// After them: it only looks how far they are.
    Behind,
}

impl Priority {
    /// Gives it to this thread, and to those it starts from now on. Where it may not be changed, it stays.
    pub(crate) fn take(self) {
        let nice = match self {
            Self::Ahead => -10,
            Self::Ordinary => 0,
            Self::Behind => 10,
        };
        if let Err(error) = setpriority_process(Some(gettid()), nice) {
            tracing::debug!(%error, nice, "the priority stays");
        }
    }
}
