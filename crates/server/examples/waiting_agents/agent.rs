//! The agents: two threads each, as a real one has for this.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use gridgate_protocol::agent_api::{AgentPhase, PublishedProfile, Report, Work};
use gridgate_protocol::drift::PutBack;

use crate::client::Client;

/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Runs all of them until the process is ended; each prints its number when it is woken.
pub fn all(address: SocketAddr, ca: &str, tokens: &[&str]) -> Result<(), Box<dyn Error>> {
    let ca = fs::read_to_string(ca)?;
    thread::scope(|scope| {
        for (number, token) in tokens.iter().enumerate() {
            let client = Client::new(address, &ca, token);
            scope.spawn(move || one(&client, number));
        }
    });
    Ok(())
}

fn one(client: &Client, number: usize) {
    let applied = Mutex::new(String::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                thread::sleep(HEARTBEAT);
                report(client, &applied.lock().expect("no agent ends"));
            }
        });
        loop {
            let version = applied.lock().expect("no agent ends").clone();
            let work = client.get(&format!("/v1/node/work?applied={version}&packages=")).body;
            let work: Work = serde_json::from_slice(&work).expect("work");
            if work.published == version {
                continue;
            }
            let news = client.get("/v1/node/profile").body;
            let news: PublishedProfile = serde_json::from_slice(&news).expect("a profile");
            let mut applied = applied.lock().expect("no agent ends");
            applied.clone_from(&news.version);
            writeln!(io::stdout(), "{number}").expect("somebody reads");
            report(client, &applied);
        }
    });
}

fn report(client: &Client, applied: &str) {
    let report = Report {
        boot_id: "rehearsal".into(),
        agent: "rehearsal".into(),
        uptime_ms: 0,
        phase: AgentPhase::Applied,
        wanted: Some(applied.into()),
        applied: Some(applied.into()),
        packages: None,
        resources: Vec::new(),
        unchanged: 0,
        health: Vec::new(),
        put_back: PutBack::default(),
        memory_used: 0,
        memory_total: 0,
    };
    assert_eq!(client.post("/v1/node/report", &report).status, 204);
}
