//! A node's machine killed in each stage of its installation, and gone on with.

use crate::lab::{self, Lab};
use serde_json::Value;

/// The stages of method image, as a record names them.
pub const IMAGE: [&str; 7] =
    ["start", "partition", "file_systems", "fetch", "node_configuration", "boot", "services"];

/// The stages of method packages.
pub const PACKAGES: [&str; 9] = [
    "start",
    "partition",
    "file_systems",
    "fetch",
    "unpack",
    "configure",
    "node_configuration",
    "boot",
    "services",
];

/// An installation whose machine is killed.
pub struct Hunted<'a> {
    pub lab: &'a Lab,
    pub node: &'a str,
    pub stages: &'a [&'a str],
}

impl Hunted<'_> {
    /// Kills the machine in each stage once: in the first of `gridgate FIRST`, in every other of what goes on then; lets
    /// the last go on to the end. `between` is called after each kill, with the stage.
    pub fn to_the_end(&self, first: &[&str], between: impl Fn(&str)) -> Value {
        let resume = ["--json", "install", self.node, "--resume"];
        for (number, stage) in self.stages.iter().enumerate() {
            self.kill_in(stage, if number == 0 { first } else { &resume }, || ());
            between(stage);
        }
        let events = self.lab.events(&resume);
        let status = &lab::done(&events)["status"];
        assert_eq!(lab::node(status, self.node)["state"], "running");
        let record = super::last(self.lab, self.node);
        assert_eq!(record["outcome"], "done", "{record}");
        // From its own disk it is launched without an installer.
        assert_eq!(record["launches"], self.stages.len() - 1, "{record}");
        assert_eq!(super::ended(&record), self.stages);
        record
    }

    /// Kills the machine as soon as an event of `gridgate ARGUMENTS` says that the stage has begun, after `meanwhile`.
    /// A stage of a few milliseconds may be over by then: the message and the record name the one that it died in.
    /// Gives the events.
    pub fn kill_in(&self, stage: &str, arguments: &[&str], meanwhile: impl FnOnce()) -> Vec<Value> {
        let mut install = self.lab.spawn(arguments);
        install.read_until(|event| self.has_begun(event, stage));
        meanwhile();
        self.lab.kill_machine(self.node);
        let (events, status) = install.all();
        assert_eq!(status.code(), Some(4), "killed in {stage}: {events:?}");
        self.lab.wait_for_end(self.node);

        let failed = events.iter().find_map(|event| event.get("failed")).expect("a failure");
        let what = failed["what"].as_str().expect("what failed");
        let said = |known: &&&str| what.contains(&format!("stage {}", word(known)));
        let named = *self.stages.iter().find(said).unwrap_or_else(|| panic!("no stage in {what}"));
        println!("   killed in {stage}: {what}");
        let record = super::last(self.lab, self.node);
        let kept = record["outcome"]["failed"]["stage"].as_str().expect("the stage it died in");
        let place = |name: &str| self.stages.iter().position(|known| *known == name);
        assert!(place(stage) <= place(named) && place(named) <= place(kept), "{what}: {record}");
        assert!(failed["hint"].as_str().is_some_and(|hint| hint.contains("--resume")), "{failed}");
        events
    }

    fn has_begun(&self, event: &Value, stage: &str) -> bool {
        // Stage boot begins with the launch: its machine is there when it is waited for.
        let said = &event[if stage == "boot" { "waiting" } else { "started" }];
        said["subject"] == self.node && said["stage"] == word(stage)
    }
}

/// A stage's name in messages.
fn word(stage: &str) -> String {
    stage.replace('_', " ")
}
