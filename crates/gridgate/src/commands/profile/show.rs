//! Node profiles for people: what a node must be, without the contents of its files.

use gridgate_profile::Compiled;
use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::node_profile::{Content, HealthTest, NodeProfile, UnitState};

use crate::show::figures::bytes;
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, Style};

/// The nodes of a profile that has no faults.
pub fn compiled_nodes(compiled: &Compiled, style: Style) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("ROLE", Align::Left),
        ("ADDRESS", Align::Left),
        ("MEMORY", Align::Right),
        ("DISK", Align::Right),
        ("COMPONENTS", Align::Right),
        ("FILES", Align::Right),
        ("UNITS", Align::Right),
        ("PACKAGES", Align::Right),
    ]);
    for node in &compiled.nodes {
        table.row([
            Cell::new(Paint::Strong, &node.name),
            node.role.as_str().into(),
            node.profile.address.to_string().into(),
            bytes(node.memory).into(),
            bytes(node.disk).into(),
            node.profile.components.len().to_string().into(),
            node.profile.files.len().to_string().into(),
            node.profile.units.len().to_string().into(),
            node.packages.len().to_string().into(),
        ]);
    }
    table.render(style)
}

/// One node's profile.
pub fn published(published: &PublishedProfile, style: Style) -> String {
    let profile = &published.profile;
    let mut text = format!(
        "{} ({}), role {}, {}, profile {}\n",
        style.paint(Paint::Strong, &profile.node),
        profile.fqdn(),
        profile.role,
        profile.address,
        published.version
    );
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("\n{}\n{body}", style.paint(Paint::Strong, title)));
        }
    };
    section("Components", words(&profile.components));
    section("Packages", words(&profile.packages));
    section("Users", users(profile, style));
    section("Files", files(profile, style));
    section("Certificates", certificates(profile, style));
    section("Commands", commands(profile, style));
    section("Units", units(profile, style));
    section("Health checks", checks(profile, style));
    text
}

/// Words in lines of at most 100 characters.
fn words(words: &[String]) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for word in words {
        if line.len() + word.len() > 97 {
            text.push_str(&format!(" {line}\n"));
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    if !line.is_empty() {
        text.push_str(&format!(" {line}\n"));
    }
    text
}

/// A table without heading, set in by two blanks.
fn rows<const N: usize>(rows: impl Iterator<Item = [String; N]>, style: Style) -> String {
    let mut table = Table::new(&[("", Align::Left); N]);
    for row in rows {
        table.row(row.map(Cell::from));
    }
    table.render(style).lines().map(|line| format!("  {line}\n")).collect()
}

fn users(profile: &NodeProfile, style: Style) -> String {
    rows(
        profile.users.iter().map(|user| {
            [
                user.name.clone(),
                user.uid.to_string(),
                user.full_name.clone(),
                user.component.clone(),
            ]
        }),
        style,
    )
}

fn files(profile: &NodeProfile, style: Style) -> String {
    let directories = profile.directories.iter().map(|directory| {
        let owner = format!("{}:{}", directory.owner, directory.group);
        let mode = format!("{:04o}", directory.mode);
        [format!("{}/", directory.path), mode, owner, String::new(), directory.component.clone()]
    });
    let files = profile.files.iter().map(|file| {
        let what = match &file.content {
            Content::Text(text) => bytes(text.len() as u64),
            Content::Base64(text) => bytes(text.len() as u64 / 4 * 3),
            Content::Secret(name) => format!("secret {name}"),
        };
        let owner = format!("{}:{}", file.owner, file.group);
        [file.path.clone(), format!("{:04o}", file.mode), owner, what, file.component.clone()]
    });
    let links = profile.links.iter().map(|link| {
        let what = format!("→ {}", link.target);
        [link.path.clone(), String::new(), String::new(), what, link.component.clone()]
    });
    let mut all: Vec<[String; 5]> = directories.chain(files).chain(links).collect();
    all.sort();
    rows(all.into_iter(), style)
}

fn certificates(profile: &NodeProfile, style: Style) -> String {
    rows(
        profile.certificates.iter().map(|certificate| {
            let parts = certificate.subject.iter().map(|(key, value)| format!("/{key}={value}"));
            let subject: String = parts.collect();
            [certificate.certificate_path.clone(), subject, certificate.component.clone()]
        }),
        style,
    )
}

fn commands(profile: &NodeProfile, style: Style) -> String {
    rows(
        profile.commands.iter().map(|command| {
            let run = command.run.join(" ").lines().next().unwrap_or_default().to_owned();
            [command.name.clone(), run.chars().take(60).collect(), command.component.clone()]
        }),
        style,
    )
}

fn units(profile: &NodeProfile, style: Style) -> String {
    rows(
        profile.units.iter().map(|unit| {
            let state = match unit.state {
                UnitState::Running => "running",
                UnitState::Enabled => "enabled",
                UnitState::Stopped => "stopped",
                UnitState::Masked => "masked",
            };
            [unit.name.clone(), state.to_owned(), unit.component.clone()]
        }),
        style,
    )
}

fn checks(profile: &NodeProfile, style: Style) -> String {
    rows(
        profile.checks.iter().map(|check| {
            let test = match &check.test {
                HealthTest::Unit(name) => format!("unit {name} is active"),
                HealthTest::Listening(port) => format!("something listens on port {port}"),
                HealthTest::Command { run, user, .. } => format!("{user}: {}", run.join(" ")),
                HealthTest::Mounted { path, filesystem } => {
                    format!("{path} is mounted ({filesystem})")
                }
            };
            [check.name.clone(), test, check.component.clone()]
        }),
        style,
    )
}
