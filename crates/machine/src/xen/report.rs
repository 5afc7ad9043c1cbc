//! What `xl` prints, read. Pure. `xl list -v` is a table, `xl info` lines of `key : value`,
//! `xl list -l` JSON of the configuration only: state and CPU time are in the table alone.

use std::time::Duration;

use serde_json::Value;

/// One line of `xl list -v`.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Name; `(null)` for one that is being taken down.
    pub name: String,
    /// Number, new at each start.
    pub id: u32,
    /// Memory, MiB.
    pub memory: u64,
    /// CPU time since its start.
    pub cpu_time: Duration,
    /// Its UUID, which a domain has from its first moment.
    pub uuid: String,
    /// How it ended; none while it has not.
    pub ended: Option<Shutdown>,
    /// It is being taken down.
    pub dying: bool,
    /// Paused by somebody.
    pub paused: bool,
}

/// Why a domain has shut down: `xen/include/public/sched.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// 0
    PowerOff,
    /// 1
    Reboot,
    /// 2
    Suspend,
    /// 3
    Crash,
    /// 4
    Watchdog,
    /// 5 and what may come.
    Other,
}

impl Shutdown {
    fn of(code: &str) -> Option<Self> {
        Some(match code.parse::<u32>().ok()? {
            0 => Self::PowerOff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            _ => Self::Other,
        })
    }
}

/// Reads `xl list -v`. Lines that are not understood are left out.
#[must_use]
pub fn domains(table: &str) -> Vec<Domain> {
    table.lines().skip(1).filter_map(domain).collect()
}

/// `Name ID Mem VCPUs State Time(s) UUID Reason-Code Security-Label NODE-affinity`; the name
/// may contain spaces, so it is what remains before the number.
fn domain(line: &str) -> Option<Domain> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let uuid = words.iter().position(|word| is_uuid(word))?;
    let (name, fields) = (words.get(..uuid.checked_sub(5)?)?, words.get(uuid - 5..)?);
    let [id, memory, _, state, time, uuid, reason, ..] = fields else { return None };
    Some(Domain {
        name: name.join(" "),
        id: id.parse().ok()?,
        memory: memory.parse().ok()?,
        cpu_time: Duration::try_from_secs_f64(time.parse().ok()?).ok()?,
        uuid: (*uuid).to_owned(),
        ended: state.contains('s').then(|| Shutdown::of(reason).unwrap_or(Shutdown::Other)),
        dying: state.contains('d'),
        paused: state.contains('p'),
    })
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// What `xl info` tells of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `4.20.4`
    pub version: String,
    /// Processors.
    pub processors: u32,
    /// Memory that no domain has, MiB.
    pub free_memory: u64,
    /// All memory, MiB.
    pub total_memory: u64,
    /// `credit2`
    pub scheduler: String,
    /// Whether it can run PVH guests.
    pub hardware: bool,
}

/// Reads `xl info`.
#[must_use]
pub fn host(text: &str) -> Option<Host> {
    let field = |key: &str| {
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.trim() == key).then(|| value.trim().to_owned())
        })
    };
    Some(Host {
        version: field("xen_version")?,
        processors: field("nr_cpus")?.parse().ok()?,
        free_memory: field("free_memory")?.parse().ok()?,
        total_memory: field("total_memory")?.parse().ok()?,
        scheduler: field("xen_scheduler")?,
        hardware: field("virt_caps")?.split_whitespace().any(|word| word == "hvm"),
    })
}

/// What `xl list -l` tells of a domain's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Number.
    pub id: u32,
    /// Name.
    pub name: String,
    /// `pv`, `pvh` or `hvm`.
    pub kind: String,
    /// Memory that it shall have, MiB.
    pub target: u64,
    /// Memory that it may be given while it runs, MiB.
    pub maximum: u64,
    /// The host's CPUs on which each of its own may run; none: on all.
    pub pinned: Vec<Vec<u64>>,
    /// Weight and cap (percent of one CPU; 0 is none) in the scheduler, where they are told.
    pub weight: Option<u64>,
    /// See `weight`.
    pub cap: Option<u64>,
}

/// Reads `xl list -l`: an array, also for one domain.
#[must_use]
pub fn configurations(json: &str) -> Vec<Configuration> {
    let all: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    all.iter().filter_map(configuration).collect()
}

fn configuration(domain: &Value) -> Option<Configuration> {
    let (common, build) = (&domain["config"]["c_info"], &domain["config"]["b_info"]);
    Some(Configuration {
        id: u32::try_from(domain["domid"].as_u64()?).ok()?,
        name: common["name"].as_str()?.to_owned(),
        kind: common["type"].as_str()?.to_owned(),
        target: build["target_memkb"].as_u64()? >> 10,
        maximum: build["max_memkb"].as_u64()? >> 10,
        pinned: serde_json::from_value(build["vcpu_hard_affinity"].clone()).unwrap_or_default(),
        weight: build["sched_params"]["weight"].as_u64(),
        cap: build["sched_params"]["cap"].as_u64(),
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
