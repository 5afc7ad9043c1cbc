//! Whose turn it is to boot. Machines that share a processor all boot late: four domains at once on a slow host of two made
//! no headway that could be seen for two minutes, and systemd gave up waiting for devices. So domains boot as many at a time
//! as Xen has processors, over all sites of this daemon. UML and QEMU are processes, which the host shares well enough.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::site::Site;
use crate::task::Task;
use crate::verdicts::Engine;

static TURNS: OnceLock<(Semaphore, u32)> = OnceLock::new();

/// A turn, to be dropped when the machine has booted.
pub type Turn = SemaphorePermit<'static>;

/// Waits until a machine may boot.
pub async fn take(engine: Engine, node: &str, task: &Arc<Task>) -> Option<Turn> {
    if engine != Engine::Xen {
        return None;
    }
    let (turns, at_once) = TURNS.get_or_init(|| {
        let at_once = gridgate_machine::xen::processors().unwrap_or(1).max(1);
        (Semaphore::new(at_once as usize), at_once)
    });
    if let Ok(turn) = turns.try_acquire() {
        return Some(turn);
    }
    let stage = task.stage(node, "turn", String::new());
    stage.waiting(format!("a processor to boot on: {at_once} domains at a time"), None);
    // The semaphore is never closed.
    let turn = turns.acquire().await.ok();
    stage.finish("its turn to boot");
    turn
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
