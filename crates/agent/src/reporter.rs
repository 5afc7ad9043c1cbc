//! Sends the report: when something changed, and every few seconds as a sign of
//! life. A report that could not be sent is replaced by the newest one.

use std::thread;
use std::time::{Duration, Instant};

use crate::board::Board;
use crate::client::{Backoff, Client};
use crate::priority::Priority;

/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Reports until the agent ends.
pub(crate) fn run(board: &Board, client: &Client) {
    Priority::Ahead.take();
    let mut seen = 0;
    let mut backoff = Backoff::default();
    let mut deadline = Instant::now();
    while let Some((generation, report)) = board.wait_report(seen, deadline) {
        match client.report(&report) {
            Ok(()) => {
                seen = generation;
                deadline = Instant::now() + HEARTBEAT;
                backoff = Backoff::default();
            }
            Err(error) => {
                tracing::debug!(%error, "the report waits");
                thread::sleep(backoff.step());
            }
        }
    }
}
