//! The whole agent against an install server of its own.

pub(crate) mod authority;
pub(crate) mod machine;
pub(crate) mod profile;
mod server;

use std::sync::Arc;
use std::thread::JoinHandle;

use gridgate_protocol::agent_api::{AgentPhase, RunRequest, SEED_IDENTITY};
use gridgate_protocol::drift::DriftCommand;
use gridgate_protocol::node_profile::{Content, HealthTest, NodeProfile, UnitState};

use crate::AgentOptions;
use crate::agent::{self, AgentError};
use machine::{TestMachine, at, root};
use profile::{certificate, check, command, empty, file, text, unit};
use server::TestServer;

/// A node with its disk, and the agent's thread while the node is up.
struct Node {
    root: tempfile::TempDir,
    state: tempfile::TempDir,
}

struct Boot {
    machine: Arc<TestMachine>,
    agent: JoinHandle<Result<(), AgentError>>,
}

impl Node {
    fn new(server: &TestServer) -> Self {
        let state = tempfile::tempdir().unwrap();
        let identity = serde_json::to_vec(&server.identity()).unwrap();
        std::fs::write(state.path().join(SEED_IDENTITY), identity).unwrap();
        Self { root: root(), state }
    }

    fn boot(&self) -> Boot {
        let options =
            AgentOptions { state: self.state.path().into(), root: self.root.path().into() };
        let machine = Arc::new(TestMachine::default());
        let system = Arc::clone(&machine);
        let agent = std::thread::spawn(move || agent::run(&options, system));
        Boot { machine, agent }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(at(self.root.path(), path)).unwrap()
    }
}

impl Boot {
    fn power_off(self, server: &TestServer) {
        server.power_off();
        self.agent.join().unwrap().unwrap();
        let calls = self.machine.calls();
        assert_eq!(calls.last().map(String::as_str), Some("systemctl poweroff --no-wall"));
    }
}

fn site(node: &Node, port: u16) -> NodeProfile {
    let mut profile = empty();
    profile.files = vec![
        text("/etc/motd", "welcome\n"),
        file("/etc/munge.key", Content::Secret("munge-key".into())),
    ];
    profile.certificates.push(certificate());
    profile.units.push(unit("home.mount", UnitState::Running, &[]));
    let flag = at(node.root.path(), "/flag");
    profile.commands.push(command("flag", &format!("touch {}", flag.display()), &[]));
    profile.checks = vec![
        check("port", HealthTest::Listening(port)),
        check(
            "shell",
            HealthTest::Command {
                run: ["/bin/sh", "-c", "echo all is well"].map(str::to_owned).to_vec(),
                user: "root".into(),
                expect: Some("well".into()),
            },
        ),
    ];
    profile
}

#[test]
fn a_node_boots_is_changed_runs_commands_and_boots_again() {
    let server = TestServer::start();
    let node = Node::new(&server);
    let mut profile = site(&node, server.port());
    server.publish(&profile);

    // First boot: applied before systemd goes on, healthy after.
    let boot = node.boot();
    let report = server.wait_report(|report| report.healthy() && report.health.len() == 2);
    assert_eq!(report.applied, Some(profile.version()));
    assert!(report.health.iter().all(|check| check.since_ms.is_some()), "{report:?}");
    assert!(report.resources.iter().any(|r| r.name == "/etc/munge.key"));
    assert_eq!(node.read("/etc/munge.key"), server::SECRET);
    let ready = boot.machine.notes().iter().position(|note| note.starts_with("READY=1"));
    assert!(ready.is_some_and(|at| at > 3), "{:?}", boot.machine.notes());
    let calls = boot.machine.calls();
    assert_eq!(calls.last().map(String::as_str), Some("systemctl start --no-block home.mount"));

    // A run as a user, with a profile read, and one as nobody known.
    server.run(RunRequest {
        id: 7,
        user: "root".into(),
        script: "echo $USER; exit 4".into(),
        limit_s: 30,
    });
    server.run(RunRequest { id: 8, user: "mallory".into(), script: "true".into(), limit_s: 30 });
    let done = server.wait_result(7);
    assert_eq!((done.exit_code, done.timed_out), (4, false));
    let unknown = server.wait_result(8);
    assert_eq!(unknown.exit_code, 127);
    assert!(unknown.stderr.contains("mallory"), "{unknown:?}");

    // Another version is fetched and applied.
    boot.machine.set_state("home.mount", "active");
    profile.files[0] = text("/etc/motd", "changed\n");
    server.publish(&profile);
    let version = profile.version();
    let report = server.wait_report(|r| r.applied.as_deref() == Some(&version));
    assert_eq!(report.resources.len(), 1, "{:?}", report.resources);
    assert_eq!(node.read("/etc/motd"), "changed\n");

    // Asked for, what someone changed by hand is put right.
    std::fs::write(at(node.root.path(), "/etc/munge.key"), "by hand").unwrap();
    server.reapply();
    server.wait_report(|r| r.resources.len() == 1 && r.resources[0].name == "/etc/munge.key");
    assert_eq!(node.read("/etc/munge.key"), server::SECRET);
    // Looked at, it is only said; put back on request, with what was changed.
    std::fs::write(at(node.root.path(), "/etc/motd"), "by hand\n").unwrap();
    let seen = server.look(1, DriftCommand::default());
    assert_eq!((seen.drifts.len(), seen.put_back.len()), (1, 0), "{seen:?}");
    assert_eq!(seen.version, Some(version.clone()));
    assert_eq!(node.read("/etc/motd"), "by hand\n");
    let done = server.look(2, DriftCommand { put_back: true, package_files: false });
    assert_eq!((done.drifts.len(), done.put_back.len()), (1, 1), "{done:?}");
    assert_eq!(node.read("/etc/motd"), "changed\n");
    assert_eq!(server.look(3, DriftCommand::default()).drifts, []);
    boot.power_off(&server);

    // Second boot: ready before anything is asked, and nothing to do.
    server.forget_reports();
    let boot = node.boot();
    boot.machine.wait_note("READY=1");
    assert_eq!(boot.machine.notes()[1], "READY=1\nSTATUS=Comparing with the install server");
    let report = server.wait_report(|report| report.healthy());
    assert_eq!((report.applied, report.resources.len()), (Some(version), 0));
    assert!(boot.machine.calls().is_empty());
    boot.power_off(&server);
}

#[test]
fn a_server_that_comes_late_or_ails_is_waited_for() {
    let server = TestServer::start();
    let node = Node::new(&server);
    let profile = site(&node, server.port());
    server.ail(503);
    let boot = node.boot();
    boot.machine.wait_note("STATUS=Waiting for the install server: /v1/node/profile");
    assert!(!boot.machine.notes().iter().any(|note| note.starts_with("READY")));
    server.publish(&profile);
    server.recover();
    server.wait_report(|report| report.phase == AgentPhase::Applied);
    assert!(server.reports().iter().all(|report| report.phase != AgentPhase::Failed));
    boot.power_off(&server);
}

#[test]
fn a_failed_first_application_still_lets_the_node_boot() {
    let server = TestServer::start();
    let node = Node::new(&server);
    let mut profile = empty();
    profile.files = vec![file("/etc/key", Content::Secret("not-ours".into())), text("/etc/a", "a")];
    server.publish(&profile);
    let boot = node.boot();
    let report = server.wait_report(|report| report.phase == AgentPhase::Failed);
    assert_eq!((report.applied, report.wanted), (None, Some(profile.version())));
    assert_eq!(node.read("/etc/a"), "a");
    boot.machine.wait_note("READY=1");
    boot.power_off(&server);
}

#[test]
fn a_server_of_another_ca_or_a_profile_of_another_schema_is_refused() {
    let server = TestServer::start();
    let node = Node::new(&server);
    let mut profile = empty();
    profile.schema = 99;
    server.publish(&profile);
    let boot = node.boot();
    let report = server.wait_report(|report| report.phase == AgentPhase::Failed);
    assert_eq!(report.resources[0].kind, "profile");
    boot.power_off(&server);

    let mut identity = server.identity();
    identity.ca = authority::Authority::new().pem();
    let client = crate::client::Client::new(&identity).unwrap();
    assert!(client.profile().unwrap_err().is_not_yet());
    identity.token = "wrong".into();
    identity.ca = server.identity().ca;
    let client = crate::client::Client::new(&identity).unwrap();
    let refused = client.profile().unwrap_err().to_string();
    assert!(refused.contains("answered 401: who are you"), "{refused}");
}

#[test]
fn without_an_identity_the_agent_says_so() {
    let state = tempfile::tempdir().unwrap();
    let options = AgentOptions { state: state.path().into(), root: state.path().into() };
    let error = agent::run(&options, Arc::new(TestMachine::default())).unwrap_err();
    assert!(error.to_string().contains("cannot read this node's identity"), "{error}");
}
