//! Whose turn it is to boot. Machines that share a processor all boot late: four domains at once on a slow host of two made
//! no headway that could be seen for two minutes, and systemd gave up waiting for devices. So domains boot as many at a time
//! as Xen has processors, over all sites of this daemon. UML and QEMU are processes, which the host shares well enough.

use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::failure::Failure;
use crate::site::Site;
use crate::task::Task;
use crate::verdicts::Engine;
use crate::wait::blocking;

static TURNS: OnceCell<(Semaphore, u32)> = OnceCell::const_new();

/// A turn, to be dropped when the machine has booted.
pub type Turn = SemaphorePermit<'static>;

/// Waits until a machine may boot.
///
/// # Errors
/// When this host's processors cannot be counted.
pub async fn take(engine: Engine, node: &str, task: &Arc<Task>) -> Result<Option<Turn>, Failure> {
    if engine != Engine::Xen {
        return Ok(None);
    }
    let (turns, at_once) = TURNS.get_or_try_init(count).await?;
    if let Ok(turn) = turns.try_acquire() {
        return Ok(Some(turn));
    }
    let stage = task.stage(node, "turn", String::new());
    stage.waiting(format!("a processor to boot on: {at_once} domains at a time"), None);
    // The semaphore is never closed.
    let turn = turns.acquire().await.ok();
    stage.finish("its turn to boot");
    Ok(turn)
}

/// As many turns as Xen has processors, which a program tells.
async fn count() -> Result<(Semaphore, u32), Failure> {
    let processors = blocking(gridgate_machine::xen::processors).await?;
    let at_once = processors.unwrap_or(1).max(1);
    Ok((Semaphore::new(at_once as usize), at_once))
}

/// Returns when the node's agent has spoken in this launch: it has booted.
pub async fn booted(site: &Site, node: &str) {
    let mut changes = site.links.watch();
    loop {
        changes.mark_unchanged();
        if site.links.heard(node).is_some() || changes.changed().await.is_err() {
            return;
        }
    }
}
