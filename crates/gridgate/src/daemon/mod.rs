//! Finding, starting and calling the site daemon.
//!
//! | module | does |
//! |---|---|
//! | [`client`] | requests and event streams on the daemon's socket |
//! | [`launch`] | a daemon of this very executable, started when it is missing |
//! | [`follow`] | watching a task to its end |
//! | [`process`] | the few things asked of the kernel |

pub mod client;
pub mod follow;
pub mod launch;
mod process;

use crate::failure::Failure;
use crate::settings::Settings;
use client::Client;

/// Runs a conversation with the daemon, which is started when it does not answer.
pub fn with_daemon<T>(
    settings: &Settings,
    talk: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_runtime(async { talk(&launch::connect(settings).await?).await })
}

/// Runs on this thread; when it returns, no thread is left behind.
pub fn with_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::host("the event loop cannot be made").because(&e))?.block_on(work)
}
