//! `gridgate bench`: how long a site takes on this host, and what it costs.
//!
//! It does what a user would do, through the same calls, and reads the daemon's own times.

mod install;

use std::fs;
use std::path::PathBuf;

use clap::Args;
use gridgate_protocol::site_api::{CheckOutcome, DownRequest, SiteStatus, UpRequest};
use serde::Serialize;

use crate::commands::install::Method;
use crate::commands::profile::{read_source, site_files};
use crate::commands::up::environment;
use crate::daemon::client::{Client, Presence};
use crate::daemon::follow::{Ended, Task, follow};
use crate::daemon::{launch, with_daemon, with_runtime};
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::{bytes, millis};
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, Style, screen};

/// Measure a site on this host: start times, memory, grid operations, installations
///
/// Each round destroys the site's disks, brings it up, stops it, brings it up again, once more without a
/// change, and runs the site checks. With --install, each round has the nodes install themselves again, one after
/// the other, and gives the times of their stages. It refuses to touch a site that is there, unless told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate bench --rounds 5 site.toml
  gridgate bench --from-empty --scratch /var/tmp site.toml   with an empty depot first
  gridgate bench --install image --node ui site.toml         the stages of an installation")]
pub struct Bench {
    /// Site profile
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many rounds
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure also the first `up` with nothing there, in a home of its own that is removed afterwards
    #[arg(long, requires = "scratch")]
    from_empty: bool,
    /// Folder for that home
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Measure installations by these methods instead
    #[arg(
        long,
        value_enum,
        value_name = "METHOD",
        value_delimiter = ',',
        conflicts_with = "from_empty"
    )]
    install: Vec<Method>,
    /// Of these nodes only; all when not given
    #[arg(long, value_name = "NODE", value_delimiter = ',', requires = "install")]
    node: Vec<String>,
    /// Destroy the site's disks even when the site was there before
    #[arg(long)]
    yes: bool,
    /// Debian mirror, http://HOST/debian
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Milliseconds,
    Bytes,
}

/// Figures by name, in the order in which the names came up.
#[derive(Debug, Default)]
struct Figures(Vec<(String, Unit, Vec<u64>)>);

#[derive(Debug, Serialize)]
struct Figure<'a> {
    name: &'a str,
    unit: Unit,
    min: u64,
    median: u64,
    max: u64,
    values: &'a [u64],
}

impl Figures {
    fn add(&mut self, name: &str, unit: Unit, value: u64) {
        match self.0.iter_mut().find(|(known, _, _)| known == name) {
            Some((_, _, values)) => values.push(value),
            None => self.0.push((name.to_owned(), unit, vec![value])),
        }
    }

    fn summary(&self) -> Vec<Figure<'_>> {
        self.0.iter().map(|(name, unit, values)| Figure::of(name, *unit, values)).collect()
    }

    fn table(&self, style: Style) -> String {
        let mut table = Table::new(&[
            ("MEASURED", Align::Left),
            ("MIN", Align::Right),
            ("MEDIAN", Align::Right),
            ("MAX", Align::Right),
            ("N", Align::Right),
        ]);
        for figure in self.summary() {
            let show = |value| match figure.unit {
                Unit::Milliseconds => millis(value),
                Unit::Bytes => bytes(value),
            };
            table.row([
                figure.name.into(),
                show(figure.min).into(),
                Cell::new(Paint::Strong, show(figure.median)),
                show(figure.max).into(),
                figure.values.len().to_string().into(),
            ]);
        }
        table.render(style)
    }
}

impl<'a> Figure<'a> {
    /// Of at least one value.
    fn of(name: &'a str, unit: Unit, values: &'a [u64]) -> Figure<'a> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        Figure { name, unit, min, median: sorted[sorted.len() / 2], max, values }
    }
}

impl Bench {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let mut settings = settings.clone();
        let json = std::mem::replace(&mut settings.json, false);
        // The events of so many tasks are noise here; what is being done is said line by line.
        let quiet = std::mem::replace(&mut settings.quiet, true);
        let scratch = self.scratch.as_ref().filter(|_| self.from_empty);
        let scratch = scratch.map(|dir| dir.join("gridgate-bench"));
        if let Some(home) = &scratch {
            fs::create_dir(home).map_err(|e| {
                Failure::input(format!("{} cannot be made anew", home.display())).because(&e)
            })?;
            settings.home.clone_from(home);
        }
        let figures = with_daemon(&settings, async |client: &Client| {
            let run = Run::new(&self, &settings, client, quiet)?;
            let there = run.there(self.yes).await?;
            if self.install.is_empty() {
                run.all(self.rounds, there, scratch.is_some()).await
            } else {
                run.installations(self.rounds, &self.install, &self.node).await
            }
        });
        if let Some(home) = &scratch {
            remove_home(&settings)?;
            fs::remove_dir_all(home).map_err(|e| {
                Failure::host(format!("{} cannot be removed", home.display())).because(&e)
            })?;
        }
        let figures = figures?;
        if json {
            screen::json(&figures.summary());
        } else {
            screen::text(&figures.table(settings.style));
        }
        Ok(Exit::OK)
    }
}

/// Destroys what the scratch home still has, and stops its daemon.
fn remove_home(settings: &Settings) -> Result<(), Failure> {
    with_runtime(async {
        let client = Client::new(&settings.socket());
        let Presence::Answers(info) = client.presence().await? else { return Ok(()) };
        for site in client.sites().await? {
            let path = format!("/v1/sites/{}/destroy", site.site);
            let events = client.events(&path, &DownRequest::default()).await?;
            follow(settings, &task("destroy"), events).await?;
        }
        launch::stop(&client, &info).await
    })
}

fn task(name: &str) -> Task {
    Task { name: name.to_owned(), again: "bench".to_owned() }
}

/// One measurement under way.
struct Run<'a> {
    settings: &'a Settings,
    client: &'a Client,
    site: String,
    nodes: Vec<String>,
    request: UpRequest,
    silent: bool,
}

impl<'a> Run<'a> {
    fn new(
        bench: &Bench,
        settings: &'a Settings,
        client: &'a Client,
        silent: bool,
    ) -> Result<Run<'a>, Failure> {
        let source = read_source(&bench.file)?;
        let site = gridgate_profile::parse_site(&site_files(&source)).map_err(|faults| {
            Failure::input(faults.to_string())
                .hint(format!("gridgate profile check {}", bench.file.display()))
        })?;
        let (mirror, environment) = (bench.mirror.clone(), environment());
        let request = UpRequest {
            source,
            mirror,
            environment,
            plan_only: false,
            check: false,
            patience_s: None,
        };
        let nodes = site.nodes.into_iter().map(|node| node.name).collect();
        Ok(Run { settings, client, site: site.name, nodes, request, silent })
    }

    /// Whether the site is there; it is a fault when it is and may not be destroyed.
    async fn there(&self, yes: bool) -> Result<bool, Failure> {
        let there = self.client.sites().await?.iter().any(|site| site.site == self.site);
        if there && !yes {
            return Err(Failure::input(format!(
                "site {} is there, and its disks would be destroyed",
                self.site
            ))
            .hint("--yes allows it; --from-empty --scratch DIR measures beside it"));
        }
        Ok(there)
    }

    async fn all(&self, rounds: u32, there: bool, from_empty: bool) -> Result<Figures, Failure> {
        let mut figures = Figures::default();
        if !there {
            let name = if from_empty { "first up, nothing there" } else { "first up in this run" };
            self.up(name, &mut figures).await?;
        }
        for round in 1..=rounds {
            self.say(&format!("round {round} of {rounds}"));
            self.ask("destroy").await?;
            self.up("up, disks gone", &mut figures).await?;
            let down = self.ask("down").await?;
            figures.add("down", Unit::Milliseconds, down.millis);
            self.up("up, disks there", &mut figures).await?;
            self.up("up, nothing to do", &mut figures).await?;
            self.checks(&mut figures).await?;
            costs(&self.client.site(&self.site).await?, &mut figures);
        }
        Ok(figures)
    }

    async fn up(&self, name: &str, figures: &mut Figures) -> Result<(), Failure> {
        self.say(name);
        let events = self.client.events("/v1/sites/up", &self.request).await?;
        let ended = follow(self.settings, &task("up"), events).await?;
        figures.add(name, Unit::Milliseconds, ended.millis);
        Ok(())
    }

    async fn ask(&self, verb: &str) -> Result<Ended, Failure> {
        self.say(verb);
        let path = format!("/v1/sites/{}/{verb}", self.site);
        let events = self.client.events(&path, &DownRequest::default()).await?;
        follow(self.settings, &task(verb), events).await
    }

    /// Times of the checks that passed: a failed one measures nothing.
    async fn checks(&self, figures: &mut Figures) -> Result<(), Failure> {
        for check in self.ask("check").await?.checks {
            if let CheckOutcome::Passed { .. } = check.outcome {
                figures.add(&format!("check: {}", check.title), Unit::Milliseconds, check.millis);
            } else if let CheckOutcome::Failed { what, .. } = check.outcome {
                screen::error(&format!("note: check {} failed: {what}\n", check.title));
            }
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        if !self.silent {
            screen::error(&format!("{what} …\n"));
        }
    }
}

/// What the running site costs the host.
fn costs(status: &SiteStatus, figures: &mut Figures) {
    let machines: u64 = status.nodes.iter().filter_map(|node| node.host_memory).sum();
    let shims: Vec<u64> = status.nodes.iter().filter_map(|node| node.shim_memory).collect();
    let total = machines + shims.iter().sum::<u64>();
    figures.add("host memory, whole site", Unit::Bytes, total);
    for shim in shims {
        figures.add("host memory, one shim", Unit::Bytes, shim);
    }
    for node in &status.nodes {
        if let Some(ready) = node.ready_ms {
            figures.add(&format!("{}: launch to healthy", node.name), Unit::Milliseconds, ready);
        }
        if let Some(used) = node.memory_used {
            figures.add(&format!("{}: memory in the guest", node.name), Unit::Bytes, used);
        }
    }
}
