//! `gridgate doctor`: what this host has and lacks.

mod bench;
mod engines;
mod probe;

use clap::Args;
use gridgate_protocol::site_api::ErrorKind;
use gridgate_server::probing::Effort;
use serde::Serialize;

use crate::commands::up::environment;

use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, Style, screen};

/// What this host has and lacks, and the commands that mend it
///
/// Every VMM that is in the depot is tried: it boots a kernel. A result is kept, and counts until the host
/// changes; --fresh fetches what is missing and tries all anew.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate doctor          exit code 3 when something needed is missing
  gridgate doctor --fresh  fetch and try every VMM, whatever was found before
  gridgate doctor --bench  measure a small node's start on every VMM that works here
  gridgate doctor --json   for programs; see docs/cli.md")]
pub struct Doctor {
    /// Debian mirror to look at instead of the one found
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Fetch the VMMs that are missing, and try all anew
    #[arg(long)]
    fresh: bool,
    /// Measure a node's start and the VMM's own memory, on every VMM that works here
    #[arg(long)]
    bench: bool,
    /// With --bench: how many starts on each
    #[arg(long, default_value_t = 3, value_name = "N", requires = "bench")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Needed and not there.
    Missing,
    /// Not there, and not needed.
    Optional,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do, when something is to be done.
    pub mend: Option<String>,
    /// Of a VMM: what its probe came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<engines::Probe>,
}

impl Doctor {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let mut findings = probe::all(&settings.home, self.mirror.as_deref());
        findings.extend(engines::all(&engines::Asked {
            home: &settings.home,
            mirror: self.mirror.as_deref(),
            environment: environment(),
            effort: if self.fresh { Effort::Fresh } else { Effort::Usual },
            say: !settings.json && !settings.quiet,
        }));
        if self.bench {
            return bench::run(settings, self.rounds, self.mirror);
        }
        if settings.json {
            screen::json(&findings);
        } else {
            screen::text(&render(&findings, settings.style));
        }
        if findings.iter().any(|finding| finding.verdict == Verdict::Missing) {
            return Err(Failure::Shown(ErrorKind::Host));
        }
        Ok(Exit::OK)
    }
}

fn render(findings: &[Finding], style: Style) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for finding in findings {
        let (word, paint) = match finding.verdict {
            Verdict::Ok => ("ok", Paint::Good),
            Verdict::Missing => ("missing", Paint::Bad),
            Verdict::Optional => ("optional", Paint::Dim),
        };
        table.row([Cell::new(paint, word), finding.name.into(), finding.seen.as_str().into()]);
        if let Some(mend) = &finding.mend {
            table.row([Cell::default(), Cell::default(), format!("→ {mend}").into()]);
        }
    }
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
    let last = match missing {
        0 => "this host can carry a site".to_owned(),
        1 => "one thing is missing".to_owned(),
        many => format!("{many} things are missing"),
    };
    format!("{}\n{last}\n", table.render(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_cure() {
        let findings = [
            Finding {
                name: "root",
                verdict: Verdict::Ok,
                seen: "yes".into(),
                mend: None,
                probe: None,
            },
            Finding {
                name: "taps",
                verdict: Verdict::Missing,
                seen: "no /dev/net/tun".into(),
                mend: Some("modprobe tun".into()),
                probe: None,
            },
        ];
        assert_eq!(
            render(&findings, Style::new(false)),
            "ok       root  yes\nmissing  taps  no /dev/net/tun\n               → modprobe tun\n\none thing is missing\n"
        );
    }
}
