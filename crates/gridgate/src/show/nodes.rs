//! A site's nodes as a table, with what is wrong below it.

use gridgate_protocol::agent_api::{Outcome, ResourceReport};
use gridgate_protocol::drift::PutBack;
use gridgate_protocol::site_api::{NodeState, NodeStatus, SiteStatus};

use super::figures::{bytes, millis, printable};
use super::table::{Align, Cell, Table};
use super::{Paint, Style};

/// Digits of a profile version that are shown; enough to tell versions apart at a glance.
const VERSION_DIGITS: usize = 8;

/// The word for a state and what it means.
pub fn state(state: NodeState) -> (&'static str, Paint) {
    match state {
        NodeState::Absent => ("absent", Paint::Dim),
        NodeState::Stopped => ("stopped", Paint::Dim),
        NodeState::Booting => ("booting", Paint::Busy),
        NodeState::Starting => ("starting", Paint::Busy),
        NodeState::Running => ("running", Paint::Good),
        NodeState::Degraded => ("degraded", Paint::Warn),
        NodeState::Stopping => ("stopping", Paint::Busy),
        NodeState::Failed => ("failed", Paint::Bad),
    }
}

/// The node table.
pub fn table(nodes: &[NodeStatus], style: Style) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("ROLE", Align::Left),
        ("ADDRESS", Align::Left),
        ("VMM", Align::Left),
        ("STATE", Align::Left),
        ("READY", Align::Right),
        ("MEMORY", Align::Right),
        ("PROFILE", Align::Left),
    ]);
    for node in nodes {
        let (word, paint) = state(node.state);
        table.row([
            Cell::new(Paint::Strong, &node.name),
            node.role.as_str().into(),
            node.address.to_string().into(),
            node.vmm.as_str().into(),
            Cell::new(paint, word),
            node.ready_ms.map(millis).unwrap_or_default().into(),
            memory(node).into(),
            profile(node),
        ]);
    }
    table.render(style)
}

/// What people want to know of nodes that are not as they should be; empty when all is well.
pub fn remarks(nodes: &[NodeStatus], style: Style) -> String {
    nodes.iter().map(|node| remark(node, style)).collect()
}

/// The whole of `gridgate status`: heading, table, remarks, ports.
pub fn site(status: &SiteStatus, style: Style) -> String {
    let mut text = format!(
        "{} ({}) from {}\n",
        style.paint(Paint::Strong, &status.site),
        status.domain,
        status.profile.display()
    );
    if let Some(task) = &status.task {
        text.push_str(&format!("{}\n", style.paint(Paint::Busy, &format!("under way: {task}"))));
    }
    text.push('\n');
    text.push_str(&table(&status.nodes, style));
    text.push_str(&remarks(&status.nodes, style));
    let ports: Vec<_> =
        status.nodes.iter().filter(|node| !node.published_ports.is_empty()).collect();
    if !ports.is_empty() {
        text.push_str("\nPublished ports\n");
        for node in ports {
            for port in &node.published_ports {
                text.push_str(&format!("  {}: {port}\n", node.name));
            }
        }
    }
    text
}

/// Guest memory in use and given, in MiB.
fn memory(node: &NodeStatus) -> String {
    let given = node.memory >> 20;
    match node.memory_used {
        Some(used) => format!("{} of {given} MiB", used >> 20),
        None => format!("{given} MiB"),
    }
}

/// The applied profile, or what is applied and what is wanted.
fn profile(node: &NodeStatus) -> Cell {
    let short = |version: &str| version.chars().take(VERSION_DIGITS).collect::<String>();
    match (&node.applied, &node.published) {
        (Some(applied), Some(published)) if applied != published => {
            Cell::new(Paint::Busy, format!("{} → {}", short(applied), short(published)))
        }
        (None, Some(published)) => Cell::new(Paint::Busy, format!("→ {}", short(published))),
        (Some(applied), _) => Cell::new(Paint::Dim, short(applied)),
        (None, None) => Cell::default(),
    }
}

fn remark(node: &NodeStatus, style: Style) -> String {
    let mut lines = Vec::new();
    if !node.detail.is_empty() {
        lines.push(printable(&node.detail));
    }
    if node.state != NodeState::Running {
        let failing = node.health.iter().filter(|check| !check.ok);
        lines.extend(failing.map(|check| format!("{}: {}", check.name, printable(&check.detail))));
    }
    for failure in &node.failures {
        if let Outcome::Failed(why) = &failure.outcome {
            let ResourceReport { kind, name, component, .. } = failure;
            lines.push(format!("{kind} {name} ({component}): {}", printable(why)));
        }
    }
    lines.extend(put_back(&node.staying.put_back));
    lines.extend(earlier(node));
    let unsettled = matches!(
        node.state,
        NodeState::Booting | NodeState::Starting | NodeState::Degraded | NodeState::Failed
    );
    if let (true, Some(line)) = (unsettled, &node.last_line) {
        lines.push(style.paint(Paint::Dim, &format!("console: {}", printable(line))));
    }
    if lines.is_empty() {
        return String::new();
    }
    let (_, paint) = state(node.state);
    let mut text = format!("\n{}\n", style.paint(paint, &node.name));
    for line in lines {
        text.push_str(&format!("  {}\n", line.replace('\n', "\n    ")));
    }
    text
}

/// The way back from the last update, or that it was gone.
fn earlier(node: &NodeStatus) -> Vec<String> {
    let name = &node.name;
    let disk = node.staying.earlier.as_ref().map(|disk| {
        format!(
            "its disk from before the update of {} is kept ({}): `gridgate rollback {name}` goes back, with \
             `--discard` it is removed",
            disk.at.get(..16).unwrap_or(&disk.at).replace('T', " "),
            bytes(disk.used)
        )
    });
    let held = node
        .staying
        .held
        .as_ref()
        .map(|why| format!("held at its earlier packages: {}", printable(why)));
    disk.into_iter().chain(held).collect()
}

/// What the node's agent put back unasked.
fn put_back(put_back: &PutBack) -> Option<String> {
    let last = put_back.last.last()?;
    let times =
        if put_back.count == 1 { "once".into() } else { format!("{} times", put_back.count) };
    let failed = last.failed.as_ref().map(|why| format!(", which failed: {why}"));
    Some(printable(&format!(
        "put back unasked {times}, last {} {} ({}){}",
        last.kind,
        last.name,
        last.what,
        failed.unwrap_or_default()
    )))
}

/// One line about the host's share of a site: `4 machines, 512 MiB of host memory, 8.1 GiB on disk`.
pub fn host_use(nodes: &[NodeStatus]) -> String {
    let machines = nodes.iter().filter(|node| node.uptime_ms.is_some()).count();
    let memory: u64 = nodes.iter().filter_map(|node| node.host_memory).sum();
    let disk: u64 = nodes.iter().filter_map(|node| node.disk_used).sum();
    let plural = if machines == 1 { "" } else { "s" };
    format!("{machines} machine{plural}, {} of host memory, {} on disk", bytes(memory), bytes(disk))
}
