//! `gridgate doctor --bench`: how soon a node speaks on each VMM, and what host memory the VMM takes for itself.
//!
//! A site of its own with one small node is made, moved from VMM to VMM, and destroyed. On User-Mode Linux it runs with
//! both ways of keeping its processes apart.

use std::collections::BTreeMap;

use gridgate_protocol::site_api::{
    Access, ConvertRequest, DownRequest, NodeStatus, SiteSource, UpRequest,
};
use gridgate_server::probing;
use gridgate_server::verdicts::Engine;
use serde::Serialize;

use crate::commands::target::node_path;
use crate::commands::up::environment;
use crate::daemon::client::Client;
use crate::daemon::follow::{Ended, Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::{bytes, millis};
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, Style, screen};

/// The site; nobody else's.
const SITE: &str = "gridgate-bench";
const NODE: &str = "node";
const PROFILE: &str = "\
[site]
name = \"gridgate-bench\"
domain = \"bench.test\"
[network]
prefix = \"192.0.2.0/24\"
[nodes.node]
role = \"base\"
memory = \"256 MiB\"
";

/// Figures of one VMM; of each the smallest and the median of the rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    vmm: String,
    rounds: usize,
    /// From launch to the agent's first word, milliseconds.
    first_word_ms: [u64; 2],
    /// From launch to all health checks, milliseconds.
    healthy_ms: [u64; 2],
    /// The guest's memory that was touched, bytes of host memory (PSS).
    guest_memory: [u64; 2],
    /// What the VMM takes beside it, bytes (PSS).
    vmm_memory: [u64; 2],
    /// Its shim, bytes (RSS).
    shim_memory: [u64; 2],
}

/// Measures every VMM that works here.
pub fn run(settings: &Settings, rounds: u32, mirror: Option<String>) -> Outcome {
    let json = settings.json;
    let mut quiet = settings.clone();
    (quiet.json, quiet.quiet) = (false, true);
    let rows = with_daemon(&quiet, async |client: &Client| {
        if client.sites().await?.iter().any(|site| site.site == SITE) {
            return Err(Failure::input(format!("a site {SITE} is there already"))
                .hint(format!("gridgate destroy --site {SITE} --yes removes it")));
        }
        let bench = Bench { settings: &quiet, client, mirror, say: !settings.quiet && !json };
        let rows = bench.all(rounds).await;
        let destroy = format!("/v1/sites/{SITE}/destroy");
        let cleared = bench.ask(&destroy, &DownRequest::default()).await;
        // The first failure is the one that matters.
        let rows = rows?;
        cleared.map(|_| rows)
    })?;
    if json {
        screen::json(&rows);
    } else {
        screen::text(&render(&rows, settings.style));
    }
    Ok(crate::failure::Exit::OK)
}

struct Bench<'a> {
    settings: &'a Settings,
    client: &'a Client,
    mirror: Option<String>,
    say: bool,
}

impl Bench<'_> {
    async fn all(&self, rounds: u32) -> Result<Vec<Row>, Failure> {
        self.say("make a site with one node");
        self.ask("/v1/sites/up", &self.up_request(PROFILE)).await?;
        let mut rows = Vec::new();
        for engine in probing::usable(&self.settings.home) {
            self.say(&format!("{engine}: move the node there"));
            let path = node_path(SITE, NODE, "convert");
            self.ask(&path, &self.convert_request(engine)).await?;
            rows.push(self.row(&engine.to_string(), rounds).await?);
            if engine == Engine::Uml {
                let traced = format!("{PROFILE}security = \"ptrace\"\n");
                self.ask("/v1/sites/up", &self.up_request(&traced)).await?;
                rows.push(self.row("uml (ptrace)", rounds).await?);
                self.ask("/v1/sites/up", &self.up_request(PROFILE)).await?;
            }
        }
        Ok(rows)
    }

    /// Starts the node again and again as it is.
    async fn row(&self, vmm: &str, rounds: u32) -> Result<Row, Failure> {
        let mut samples = Vec::new();
        for round in 1..=rounds {
            self.say(&format!("{vmm}: round {round} of {rounds}"));
            self.ask(&node_path(SITE, NODE, "restart"), &DownRequest::default()).await?;
            samples.push(self.sample().await?);
        }
        Ok(Row::of(vmm, &samples))
    }

    async fn ask(&self, path: &str, body: &impl Serialize) -> Result<Ended, Failure> {
        let task = Task { name: "doctor --bench".to_owned(), again: "doctor --bench".to_owned() };
        follow(self.settings, &task, self.client.events(path, body).await?).await
    }

    async fn sample(&self) -> Result<Sample, Failure> {
        let access: Access = self.client.get(&node_path(SITE, NODE, "access")).await?;
        let unmeasured = |e: &dyn std::error::Error| {
            Failure::host("the node cannot be measured").why(e.to_string())
        };
        let machine = gridgate_machine::find(&access.run_dir).map_err(|e| unmeasured(&e))?;
        let machine = machine.ok_or_else(|| Failure::host("the node has no machine"))?;
        let split = machine.memory_split().map_err(|e| unmeasured(&e))?;
        let site = self.client.site(SITE).await?;
        let node = site.nodes.into_iter().next();
        let node = node.ok_or_else(|| Failure::internal("the site has no node"))?;
        Ok(Sample { node, guest: split.guest, vmm: split.vmm })
    }

    fn up_request(&self, profile: &str) -> UpRequest {
        UpRequest {
            source: SiteSource {
                path: "/gridgate-bench/site.toml".into(),
                text: profile.to_owned(),
                components: BTreeMap::new(),
            },
            mirror: self.mirror.clone(),
            environment: environment(),
            plan_only: false,
            check: false,
            patience_s: None,
        }
    }

    fn convert_request(&self, engine: Engine) -> ConvertRequest {
        let (vmm, accelerator) = engine.names();
        ConvertRequest {
            vmm,
            accelerator,
            write: false,
            limit_s: None,
            mirror: self.mirror.clone(),
            environment: environment(),
        }
    }

    fn say(&self, what: &str) {
        if self.say {
            screen::error(&format!("{what} …\n"));
        }
    }
}

struct Sample {
    node: NodeStatus,
    guest: u64,
    vmm: u64,
}

impl Row {
    /// Of at least one sample.
    fn of(vmm: &str, samples: &[Sample]) -> Row {
        let figure = |of: &dyn Fn(&Sample) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(of).collect();
            values.sort_unstable();
            [values[0], values[values.len() / 2]]
        };
        Row {
            vmm: vmm.to_owned(),
            rounds: samples.len(),
            first_word_ms: figure(&|sample| sample.node.first_word_ms.unwrap_or_default()),
            healthy_ms: figure(&|sample| sample.node.ready_ms.unwrap_or_default()),
            guest_memory: figure(&|sample| sample.guest),
            vmm_memory: figure(&|sample| sample.vmm),
            shim_memory: figure(&|sample| sample.node.shim_memory.unwrap_or_default()),
        }
    }
}

fn render(rows: &[Row], style: Style) -> String {
    let mut table = Table::new(&[
        ("VMM", Align::Left),
        ("FIRST WORD", Align::Right),
        ("MEDIAN", Align::Right),
        ("HEALTHY", Align::Right),
        ("GUEST", Align::Right),
        ("VMM'S OWN", Align::Right),
        ("SHIM", Align::Right),
        ("N", Align::Right),
    ]);
    for row in rows {
        table.row([
            Cell::new(Paint::Strong, &row.vmm),
            millis(row.first_word_ms[0]).into(),
            millis(row.first_word_ms[1]).into(),
            millis(row.healthy_ms[1]).into(),
            bytes(row.guest_memory[1]).into(),
            bytes(row.vmm_memory[1]).into(),
            bytes(row.shim_memory[1]).into(),
            row.rounds.to_string().into(),
        ]);
    }
    format!(
        "{}\nFirst word: from launch to the agent's first report, best and median; the others are medians.\n\
         Memory is the host's: what the guest has touched of its 256 MiB, what its VMM takes beside it, its shim.\n",
        table.render(style)
    )
}
