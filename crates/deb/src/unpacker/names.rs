//! Users and groups of a root, by name.

use std::collections::HashMap;
use std::io;

use super::place::Root;

#[derive(Debug)]
pub(super) struct Names {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Names {
    /// Reads `passwd` and `group`; a root without them has no names.
    pub(super) fn read(root: &Root) -> io::Result<Self> {
        let of = |path: &str| Ok::<_, io::Error>(numbers(&root.read(path)?));
        Ok(Self { users: of("/etc/passwd")?, groups: of("/etc/group")? })
    }

    pub(super) fn user(&self, name: &[u8]) -> Option<u32> {
        self.users.get(name).copied()
    }

    pub(super) fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// The third field of each line, by the first.
fn numbers(text: &[u8]) -> HashMap<Vec<u8>, u32> {
    let one = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?.to_vec();
        let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
        Some((name, number))
    };
    text.split(|byte| *byte == b'\n').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_the_third_field() {
        let known = super::numbers(b"root:x:0:0::/root:/bin/sh\nmail:*:8:\nodd\n+::::\n");
        assert_eq!(known.get(b"root".as_slice()), Some(&0));
        assert_eq!(known.get(b"mail".as_slice()), Some(&8));
        assert_eq!(known.len(), 2);
    }
}
