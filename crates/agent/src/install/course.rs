//! The installation's course, stage by stage.

use std::fs;

use gridgate_protocol::agent_api::Identity;
use gridgate_protocol::install_api::{
    Begin, INSTALL_IDENTITY, InstallFailure, Method, Order, Stage,
};

use super::disk::Disk;
use super::progress::Progress;
use super::{again, clock, image, never, packages, seed};
use crate::client::install::InstallClient;
use crate::client::until_reachable;
use crate::init::{CommandLine, Events, Modules};
use crate::{kernel, network};

/// From the identity to the last word.
pub(super) fn run(
    line: &CommandLine,
    events: &mut Events,
    modules: &mut Modules,
) -> Result<(), InstallFailure> {
    let progress = Progress::new();
    let identity = identity()?;
    let set_back = clock::correct_from_file();
    bring_up_network(&identity, events, modules)?;
    let disk = Disk::find(line, events, modules)?;
    let begin = begin(&disk, modules, set_back);
    let begun = until_reachable(|| InstallClient::begin(&identity, &begin));
    let (client, order) = begun.map_err(|e| again(Stage::Start, e))?;
    clock::correct(order.clock);
    progress.tell(client.clone()).map_err(|e| again(Stage::Start, e))?;
    let result = install(&client, &order, &disk, &progress, events);
    let last = progress.last(result.as_ref().err().cloned());
    let told = until_reachable(|| match &last.failure {
        None => client.done(&last),
        Some(_) => client.progress(&last),
    });
    result?;
    told.map_err(|e| again(Stage::NodeConfiguration, format!("the last word was not taken: {e}")))
}

fn identity() -> Result<Identity, InstallFailure> {
    let fault = |what: String| never(Stage::Start, format!("{INSTALL_IDENTITY}: {what}"));
    let text = fs::read(INSTALL_IDENTITY).map_err(|e| fault(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| fault(e.to_string()))
}

fn bring_up_network(
    identity: &Identity,
    events: &mut Events,
    modules: &mut Modules,
) -> Result<(), InstallFailure> {
    let mut last = None;
    let what = format!("a network card with the address {}", identity.mac);
    let up = events.until(&what, None, || {
        modules.load_wanted();
        match network::bring_up(identity) {
            Ok(()) => Some(()),
            Err(error) => {
                last = Some(error);
                None
            }
        }
    });
    let why = || last.map_or_else(String::new, |error| error.to_string());
    up.ok_or_else(|| again(Stage::Start, why()))
}

fn begin(disk: &Disk, modules: &Modules, set_back: i64) -> Begin {
    Begin {
        boot_id: kernel::boot_id(),
        kernel: modules.release().to_owned(),
        disk: disk.block.bytes,
        partitions: disk.names(),
        // As it would be had nobody set it: what is off is to be known.
        clock: clock::now() + set_back,
    }
}

fn install(
    client: &InstallClient,
    order: &Order,
    disk: &Disk,
    progress: &Progress,
    events: &mut Events,
) -> Result<(), InstallFailure> {
    progress.begin(Stage::Partition, &disk.block.device);
    let is_new = disk.partition(&order.disk)?;
    // Where a table had to be written, nothing of an earlier launch is on the disk.
    let pieces = order.resume.as_ref().filter(|_| !is_new).map_or(0, |resume| resume.pieces);
    progress.flushed(pieces);
    progress.begin(Stage::FileSystems, "");
    disk.make_swap(&order.disk, events)?;
    let root = disk.root(Stage::FileSystems, events)?;
    match order.method {
        Method::Image => image::install(client, pieces, &root, progress)?,
        Method::Packages => packages::install(client, order, &root, progress)?,
    }
    match progress.stage() {
        Stage::NodeConfiguration => progress.doing("seed"),
        _ => progress.begin(Stage::NodeConfiguration, "seed"),
    }
    let part = disk.seed(events)?;
    seed::write(client, &part)?;
    progress.doing("flushing to the disk");
    part.file.sync_all().and_then(|()| root.file.sync_all()).map_err(|e| {
        again(Stage::NodeConfiguration, format!("flush to {}: {e}", disk.block.device))
    })?;
    progress.check()
}
