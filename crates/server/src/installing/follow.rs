//! Watching an installer to its end: each stage as it comes, silence by name, and an end of the machine that came too soon.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gridgate_protocol::install_api::{
    InstallFailure, InstallOutcome, InstallRecord, Stage, StageRecord,
};
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, Hint, failure};
use crate::install::installation::{Look, Phase};
use crate::install::record;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::task::{self, Task};
use crate::wait::blocking;

/// How often the machine itself is looked at; the installer's words wake the wait at once.
const LOOK: Duration = Duration::from_millis(500);

/// An installer that says nothing for this long is called stalled. It speaks twice a second while it works, but
/// not while one package's script runs.
const STALLED_MS: u64 = 15_000;

/// After this long without a word the wait is handed back to the person; the machine goes on.
const PATIENCE_MS: u64 = 300_000;

/// Lines of a failed program's output that are shown with the failure; the log has all that were kept.
const SHOWN: usize = 12;

/// What the machine is, for this wait.
enum Machine {
    Runs { last_line: Option<String> },
    Ended(String),
}

/// Follows the installation until the installer is done and its machine has ended.
pub async fn to_its_end(site: &Arc<Site>, node: &str, task: &Arc<Task>) -> Result<(), Failure> {
    let mut changes = site.installations.watch();
    let mut shown = Shown::new(task, node);
    loop {
        changes.mark_unchanged();
        let machine = machine(site, node).await?;
        // Looked at after the machine: what it said before its end has arrived by now.
        let look = site.installations.look(node).ok_or_else(|| {
            failure(ErrorKind::Internal, format!("{node}'s installation is not known any more"))
        })?;
        shown.record(&look.record);
        if let InstallOutcome::Failed(why) = &look.record.outcome {
            stop_failed(site, node).await?;
            return Err(shown.fail(failed(node, &look.record, why)));
        }
        match (&machine, look.phase) {
            (Machine::Ended(_), Phase::Installed | Phase::Over) => return Ok(()),
            (Machine::Ended(how), Phase::Open) => {
                let failure = ended(node, &look, how);
                let what = format!("its machine ended: {how}");
                site.installations.note(node, |known| record::fail(known, &what))?;
                return Err(shown.fail(failure));
            }
            (Machine::Runs { last_line }, _) => {
                if look.silent_ms > PATIENCE_MS {
                    return Err(shown.fail(stalled(node, &look, last_line.as_deref())));
                }
                shown.waiting(&look, last_line.clone());
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn machine(site: &Arc<Site>, node: &str) -> Result<Machine, Failure> {
    let dir = site.dir.node(node);
    blocking(move || match observe::machine(&dir) {
        Found::Running(machine, _) => Machine::Runs { last_line: machine.last_line() },
        Found::Ended { how, .. } => Machine::Ended(how),
        Found::None => Machine::Ended("it is not there".to_owned()),
    })
    .await
}

/// An installer that cannot go on has nothing more to do; what it said is kept.
async fn stop_failed(site: &Arc<Site>, node: &str) -> Result<(), Failure> {
    let dir = site.dir.node(node);
    blocking(move || {
        if let Found::Running(machine, _) = observe::machine(&dir)
            && let Err(e) = machine.kill()
        {
            tracing::warn!("the machine of a failed installation could not be ended: {e}");
        }
    })
    .await
}

fn failed(node: &str, record: &InstallRecord, why: &InstallFailure) -> Failure {
    let package = why.package.as_ref().map(|p| format!(", package {p}")).unwrap_or_default();
    let what =
        format!("{node} could not be installed; stage {}{package}: {}", why.stage.word(), why.what);
    let mut failed = failure(ErrorKind::Node, what);
    let lines: Vec<&str> = why.output.lines().collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    if !last.is_empty() {
        failed.why.push(format!("it said:\n{}", last.join("\n")));
    }
    let log = format!("gridgate install-log {node} --number {}", record.number);
    failed.hint(if why.again {
        format!("`gridgate install {node} --resume` goes on at this stage; `{log}` shows all of it")
    } else {
        format!("the same would happen again: change what is named there; `{log}` shows all of it")
    })
}

fn ended(node: &str, look: &Look, how: &str) -> Failure {
    let stage = record::current(&look.record).word();
    let mut failure = failure(
        ErrorKind::Node,
        format!("{node}'s machine ended in stage {stage} of its installation: {how}"),
    );
    if let Some(line) = &look.record.last_line {
        failure.why.push(format!("the last line on its console: {line}"));
    }
    failure.hint(format!("`gridgate install {node} --resume` goes on from the last finished stage"))
}

fn stalled(node: &str, look: &Look, last_line: Option<&str>) -> Failure {
    let stage = record::current(&look.record).word();
    let seconds = look.silent_ms / 1000;
    let mut failure = failure(
        ErrorKind::Node,
        format!(
            "{node}'s installer has said nothing for {seconds} s, in stage {stage}; it still runs"
        ),
    );
    if !look.record.doing.is_empty() {
        failure.why.push(format!("it was last {}", look.record.doing));
    }
    if let Some(line) = last_line {
        failure.why.push(format!("the last line on its console: {line}"));
    }
    failure.hint(format!(
        "`gridgate install {node} --resume` goes on waiting; `gridgate kill {node}` ends it, then --resume goes on \
         from the last finished stage"
    ))
}

/// What the task's listeners have been told.
struct Shown<'a> {
    task: &'a Arc<Task>,
    node: String,
    open: Option<(Stage, task::Stage)>,
    ended: BTreeSet<(Stage, u64)>,
    said: String,
    last: (u64, u32),
}

impl<'a> Shown<'a> {
    fn new(task: &'a Arc<Task>, node: &str) -> Shown<'a> {
        let (open, ended, said) = (None, BTreeSet::new(), String::new());
        Shown { task, node: node.to_owned(), open, ended, said, last: (0, 0) }
    }

    fn record(&mut self, record: &InstallRecord) {
        for stage in &record.stages {
            let key = (stage.stage, stage.start_ms);
            if self.ended.contains(&key) {
                continue;
            }
            self.begin(stage.stage);
            match stage.millis {
                Some(millis) => {
                    self.ended.insert(key);
                    if let Some((_, open)) = self.open.take() {
                        open.finish_in(millis, figures(stage));
                    }
                }
                None => self.progress(stage),
            }
        }
    }

    fn begin(&mut self, stage: Stage) {
        if self.open.as_ref().is_some_and(|(open, _)| *open == stage) {
            return;
        }
        self.open = Some((stage, self.task.stage(&self.node, stage.word(), String::new())));
        self.said.clear();
        self.last = (0, 0);
    }

    fn progress(&mut self, stage: &StageRecord) {
        let Some((_, open)) = &self.open else { return };
        let now = (stage.bytes.map_or(0, |b| b.0), stage.items.map_or(0, |i| i.0));
        if now == self.last {
            return;
        }
        self.last = now;
        match (stage.bytes, stage.items) {
            (Some((done, total)), _) => open.progress(done, total, "bytes"),
            (None, Some((done, total))) => open.progress(done.into(), total.into(), "packages"),
            (None, None) => {}
        }
    }

    /// Says what is waited for, each time it is something else.
    fn waiting(&mut self, look: &Look, last_line: Option<String>) {
        let Some((_, open)) = &self.open else { return };
        let mut text = match (look.phase, look.begun, look.record.doing.is_empty()) {
            (Phase::Open, false, _) => "its installer's first word".to_owned(),
            (Phase::Open, true, false) => look.record.doing.clone(),
            (Phase::Open, true, true) => "its installer".to_owned(),
            _ => "its machine powers off".to_owned(),
        };
        if look.silent_ms > STALLED_MS {
            // Said anew every ten seconds.
            let seconds = look.silent_ms / 10_000 * 10;
            text = format!("nothing heard for {seconds} s; last: {text}");
        }
        if text != self.said {
            self.said.clone_from(&text);
            open.waiting(text, last_line);
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        match self.open.take() {
            Some((_, open)) => open.fail(failure),
            None => failure,
        }
    }
}

fn figures(stage: &StageRecord) -> String {
    let bytes = stage.bytes.map(|(done, _)| format!("{} MiB", done >> 20));
    let items = stage.items.map(|(done, _)| format!("{done} items"));
    bytes.into_iter().chain(items).collect::<Vec<_>>().join(", ")
}
