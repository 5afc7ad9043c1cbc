//! The record of an installation: what the installer says and what the host sees, put together; on disk as
//! `log/install-N.json`.

use gridgate_protocol::install_api::{
    Begin, InstallFailure, InstallOutcome, InstallRecord, Method, Progress, Resume, Stage,
    StageRecord,
};
use gridgate_protocol::site_api::ErrorKind;
use jiff::Timestamp;

use crate::failure::{Failure, caused};
use crate::home::{NodeDir, write_atomic};

/// The installer's own stages of a method that leave something on the disk, in their order.
fn stages(method: Method) -> &'static [Stage] {
    match method {
        Method::Image => {
            &[Stage::Partition, Stage::FileSystems, Stage::Fetch, Stage::NodeConfiguration]
        }
        Method::Packages => &[
            Stage::Partition,
            Stage::FileSystems,
            Stage::Fetch,
            Stage::Unpack,
            Stage::Configure,
            Stage::NodeConfiguration,
        ],
    }
}

/// Milliseconds since an installation began.
pub fn since_begin(record: &InstallRecord, now: Timestamp) -> u64 {
    let begun: Timestamp = record.begun.parse().unwrap_or(now);
    u64::try_from(now.as_millisecond() - begun.as_millisecond()).unwrap_or(0)
}

/// An installer has begun: its order is there.
pub fn begins(record: &mut InstallRecord, begin: &Begin, now: Timestamp) {
    record.disk = Some(begin.disk);
    record.kernel = Some(begin.kernel.clone());
    record.clock_off_s = Some(begin.clock - now.as_second());
    end(record, Stage::Start, now);
}

/// Where an installation goes on; none from the beginning. Whatever the disk has from before its partitions were
/// made does not count.
pub fn resume(record: &InstallRecord) -> Option<Resume> {
    let finished =
        |stage: &Stage| record.stages.iter().any(|s| s.stage == *stage && s.millis.is_some());
    let all = stages(record.method);
    if !finished(&Stage::Partition) {
        return None;
    }
    // A stage that a method leaves out of its reports was not begun; one before a finished one is past.
    let last = all.iter().rposition(finished)?;
    let stage = all.get(last + 1).copied().unwrap_or(Stage::NodeConfiguration);
    Some(Resume { stage, pieces: record.pieces })
}

/// Takes over what the installer says; `shift` turns its times into the host's. Says whether a stage turned.
pub fn take(record: &mut InstallRecord, progress: &Progress, shift: i64) -> bool {
    let mut turned = false;
    let host = |ms: u64| u64::try_from(i64::try_from(ms).unwrap_or(0) + shift).unwrap_or(0);
    // Its first stage is the host's: it began with the launch.
    for report in progress.stages.iter().filter(|report| report.stage != Stage::Start) {
        let start = host(report.start_ms);
        let found = StageRecord {
            stage: report.stage,
            start_ms: start,
            millis: report.end_ms.map(|end| host(end).saturating_sub(start)),
            bytes: report.bytes,
            items: report.items,
        };
        match record.stages.iter_mut().find(|stage| stage.stage == report.stage) {
            // A report that was overtaken by a newer one does not open a stage again.
            Some(old) if old.start_ms == found.start_ms && old.millis.is_some() => {}
            Some(old) => {
                turned |= old.millis.is_some() != found.millis.is_some();
                *old = found;
            }
            None => {
                turned = true;
                record.stages.push(found);
            }
        }
    }
    record.stages.sort_by_key(|stage| stage.stage);
    record.doing.clone_from(&progress.doing);
    record.pieces = progress.pieces;
    if let Some(failure) = &progress.failure {
        record.outcome = InstallOutcome::Failed(failure.clone());
        record.ended = Some(Timestamp::now().to_string());
        turned = true;
    }
    turned
}

/// A stage that the host sees begins. What an earlier launch told of it and of later ones counts no more: they are
/// gone through again.
pub fn start(record: &mut InstallRecord, stage: Stage, now: Timestamp) {
    let start_ms = since_begin(record, now);
    record.stages.retain(|s| s.stage < stage);
    record.stages.push(StageRecord { stage, start_ms, millis: None, bytes: None, items: None });
    record.doing.clear();
}

/// It ends.
pub fn end(record: &mut InstallRecord, stage: Stage, now: Timestamp) {
    let at = since_begin(record, now);
    if let Some(stage) = record.stages.iter_mut().find(|s| s.stage == stage) {
        stage.millis = Some(at.saturating_sub(stage.start_ms));
    }
}

/// The stage that goes on, or that was the last.
pub fn current(record: &InstallRecord) -> Stage {
    let open = record.stages.iter().find(|stage| stage.millis.is_none());
    open.or(record.stages.last()).map_or(Stage::Start, |stage| stage.stage)
}

/// It failed by what the host saw.
pub fn fail(record: &mut InstallRecord, what: &str) {
    record.outcome = InstallOutcome::Failed(InstallFailure {
        stage: current(record),
        what: what.to_owned(),
        package: None,
        output: String::new(),
        again: true,
    });
    record.ended = Some(Timestamp::now().to_string());
}

/// One record.
pub fn read(dir: &NodeDir, number: u32) -> Option<InstallRecord> {
    serde_json::from_slice(&std::fs::read(dir.install_log(number)).ok()?).ok()
}

/// All records of a node, ascending.
pub fn all(dir: &NodeDir) -> Vec<InstallRecord> {
    numbers(dir).into_iter().filter_map(|number| read(dir, number)).collect()
}

/// The number of a new one.
pub fn next(dir: &NodeDir) -> u32 {
    numbers(dir).last().map_or(1, |last| last + 1)
}

fn numbers(dir: &NodeDir) -> Vec<u32> {
    let entries = std::fs::read_dir(dir.log()).into_iter().flatten().flatten();
    let number =
        |name: &str| name.strip_prefix("install-")?.strip_suffix(".json")?.parse::<u32>().ok();
    let mut numbers: Vec<_> =
        entries.filter_map(|entry| number(&entry.file_name().to_string_lossy())).collect();
    numbers.sort_unstable();
    numbers
}

/// Writes it.
pub fn write(dir: &NodeDir, record: &InstallRecord) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(record).map_err(std::io::Error::other);
    json.and_then(|json| write_atomic(&dir.install_log(record.number), &json)).map_err(|e| {
        let what = format!("the log of {}'s installation could not be written", record.node);
        caused(ErrorKind::Host, what, &e)
    })
}
