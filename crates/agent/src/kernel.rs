//! What the kernel says about the node: boot id, time since boot, memory,
//! listening ports, mounts. Reads /proc, changes nothing.

use std::collections::BTreeSet;
use std::fs;

/// Memory of the node, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Total minus available.
    pub used: u64,
    /// What the kernel sees.
    pub total: u64,
}

/// Milliseconds since the node booted, in steps of ten. Read from the file
/// because rustix's `clock_gettime` panics where the vDSO has no `getcpu`, as in
/// User-Mode Linux.
pub(crate) fn uptime_ms() -> u64 {
    parse_uptime(&fs::read_to_string("/proc/uptime").unwrap_or_default()).unwrap_or(0)
}

/// `seconds.hundredths idle`.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10)
}

/// The id of this boot.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Memory now.
pub(crate) fn memory() -> Memory {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> Memory {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    let total = value("MemTotal");
    Memory { used: total.saturating_sub(value("MemAvailable")), total }
}

/// TCP ports on which something listens, IPv4 and IPv6.
pub(crate) fn listening_ports() -> BTreeSet<u16> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| parse_listening(&text))
        .collect()
}

/// Lines of /proc/net/tcp (proc_net_tcp.rst): `sl local rem st …`, state 0A listens.
fn parse_listening(text: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != "0A" {
            return None;
        }
        u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
    };
    text.lines().skip(1).filter_map(port).collect()
}

/// Mount points with the type of what is mounted there, lowest first.
pub(crate) fn mounts() -> Vec<(String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse_mount).collect()
}

/// A line of mountinfo, proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<(String, String)> {
    let (front, back) = line.split_once(" - ")?;
    let point = front.split(' ').nth(4)?;
    Some((unescape(point), back.split(' ').next()?.to_owned()))
}

/// Undoes the kernel's `\ooo` for blanks and the like.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections() {
        let text = "  sl  local_address rem_address   st tx\n\
            0: 00000000:0847 00000000:0000 0A 0:0\n 1: 0100007F:1F90 0100007F:8000 01 0:0\n";
        assert_eq!(parse_listening(text), [2119]);
        let text6 = "h\n 0: 00000000000000000000000000000000:0016 0:0000 0A x\n";
        assert_eq!(parse_listening(text6), [22]);
    }

    #[test]
    fn uptime_is_read_in_milliseconds() {
        assert_eq!(parse_uptime("12.34 56.78\n"), Some(12_340));
        assert_eq!(parse_uptime(""), None);
        assert!(uptime_ms() > 0);
    }

    #[test]
    fn mount_points_are_unescaped() {
        let line = "30 1 0:40 / /srv/a\\040b rw,relatime shared:1 - nfs4 ce:/x rw";
        assert_eq!(parse_mount(line), Some(("/srv/a b".into(), "nfs4".into())));
    }

    #[test]
    fn used_memory_is_what_is_not_available() {
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n";
        assert_eq!(parse_memory(text), Memory { used: 600 * 1024, total: 1000 * 1024 });
    }
}
