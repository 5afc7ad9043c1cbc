//! Comparing a node with its profile without changing it.
//!
//! There is no second logic for it: the same modules that apply a profile run with a tree whose changes are
//! left out ([`Tree::to_look_at`]) and with [`Intent::Look`], which keeps them from starting programs, asking
//! for certificates and fetching secrets. What they would change is what differs; they note how.

use std::time::Instant;

use gridgate_protocol::agent_api::ResourceReport;
use gridgate_protocol::drift::{
    ALL_DIFFS, Difference, Drift, DriftReport, LONGEST_DIFF, MOST_DRIFTS,
};
use gridgate_protocol::node_profile::NodeProfile;
use similar::TextDiff;

use super::{ApplyError, Effect, Intent, KINDS, Moment, Session, Tools};
use crate::place::{Access, Place, PlaceError};
use crate::state::Applied;

/// Larger files are compared, but their difference is not shown, bytes.
const LARGEST_SHOWN: usize = 512 * 1024;

/// What was noted of the resource that is looked at, and what was found before.
#[derive(Default)]
pub(super) struct Notes {
    differences: Vec<Difference>,
    diff: Option<String>,
    drifts: Vec<Drift>,
    diff_bytes: usize,
    left_out: u32,
}

/// Whether a content may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Public text or bytes.
    Openly,
    /// A secret or a key: only that it differs.
    Never,
}

/// Compares the node with `profile`, which is the one that was applied.
pub(crate) fn look(
    tools: &Tools<'_>,
    profile: &NodeProfile,
    version: &str,
    before: &Applied,
) -> DriftReport {
    let started = Instant::now();
    let tree = tools.tree.to_look_at();
    let tools = Tools { tree: &tree, intent: Intent::Look, ..*tools };
    let mut session = Session::new(&tools, profile, version, before, Moment::Running);
    for kind in KINDS {
        kind.apply(&mut session);
    }
    let Session { notes, unchanged, .. } = session;
    DriftReport {
        version: Some(version.to_owned()),
        drifts: notes.drifts,
        left_out: notes.left_out,
        unchanged,
        put_back: Vec::<ResourceReport>::new(),
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

impl Session<'_> {
    /// Whether nothing may be changed.
    pub(super) fn looking(&self) -> bool {
        self.tools.intent == Intent::Look
    }

    /// Notes a property of the present resource that differs.
    pub(super) fn note(&mut self, difference: Difference) {
        if self.looking() {
            self.notes.differences.push(difference);
        }
    }

    /// Notes how a file's content differs.
    pub(super) fn note_content(&mut self, present: Option<&[u8]>, wanted: &[u8], shown: Shown) {
        if !self.looking() {
            return;
        }
        let Some(present) = present else {
            self.note(Difference::new("presence", "missing or no file", "file"));
            return;
        };
        if shown == Shown::Never {
            self.note(Difference::hidden("content"));
            return;
        }
        let size = |bytes: &[u8]| format!("{} bytes", bytes.len());
        self.note(Difference::new("content", size(present), size(wanted)));
        self.notes.diff = unified(wanted, present);
    }

    /// Notes how owner, group and mode differ.
    pub(super) fn note_access(&mut self, place: &Place, wanted: Access) -> Result<(), PlaceError> {
        let Some(stat) = place.stat()?.filter(|_| self.looking()) else { return Ok(()) };
        let name = |known: Option<&str>, id: u32| known.map_or_else(|| id.to_string(), Into::into);
        let user = |uid| name(self.names.user_of(uid), uid);
        let group = |gid| name(self.names.group_of(gid), gid);
        let mode = |mode: u32| format!("{:04o}", mode & 0o7777);
        let mut found = Vec::new();
        if stat.st_uid != wanted.uid {
            found.push(Difference::new("owner", user(stat.st_uid), user(wanted.uid)));
        }
        if stat.st_gid != wanted.gid {
            found.push(Difference::new("group", group(stat.st_gid), group(wanted.gid)));
        }
        if mode(stat.st_mode) != mode(wanted.mode) {
            found.push(Difference::new("mode", mode(stat.st_mode), mode(wanted.mode)));
        }
        self.notes.differences.extend(found);
        Ok(())
    }

    /// Writes down what was noted of a resource that was looked at.
    pub(super) fn conclude(
        &mut self,
        kind: &str,
        name: &str,
        component: &str,
        result: Result<Effect, ApplyError>,
    ) {
        let mut differences = std::mem::take(&mut self.notes.differences);
        let diff = self.notes.diff.take();
        match result {
            Ok(Effect::Unchanged) => {
                self.unchanged += 1;
                return;
            }
            Ok(Effect::Changed) if differences.is_empty() => {
                differences.push(Difference::hidden("state"));
            }
            Ok(Effect::Changed) => {}
            Err(ApplyError::Place(PlaceError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                differences.push(Difference::new("presence", "missing", kind));
            }
            Err(error) => differences.push(Difference {
                what: "problem".to_owned(),
                found: Some(error.to_string()),
                wanted: None,
            }),
        }
        let notes = &mut self.notes;
        if notes.drifts.len() == MOST_DRIFTS {
            notes.left_out += 1;
            return;
        }
        let diff = diff.filter(|diff| notes.diff_bytes + diff.len() <= ALL_DIFFS);
        notes.diff_bytes += diff.as_ref().map_or(0, String::len);
        notes.drifts.push(Drift {
            kind: kind.to_owned(),
            name: name.to_owned(),
            component: component.to_owned(),
            differences,
            diff,
        });
    }
}

/// The unified difference of two texts; none when one of them is no text or too large.
fn unified(wanted: &[u8], found: &[u8]) -> Option<String> {
    if wanted.len().max(found.len()) > LARGEST_SHOWN || wanted.contains(&0) || found.contains(&0) {
        return None;
    }
    let (wanted, found) = (std::str::from_utf8(wanted).ok()?, std::str::from_utf8(found).ok()?);
    let diff = TextDiff::from_lines(wanted, found);
    let mut text = diff.unified_diff().context_radius(3).header("profile", "node").to_string();
    if text.len() > LONGEST_DIFF {
        let mut end = LONGEST_DIFF;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(text[..end].rfind('\n').map_or(end, |line| line + 1));
        text.push_str("(cut)\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_as_wanted_against_found_and_bytes_are_not() {
        let text = unified(b"a\nb\n", b"a\nc\n").unwrap();
        assert!(text.contains("-b\n+c\n"), "{text}");
        assert_eq!(unified(b"\0", b"a"), None);
        let long = unified(b"", "line\n".repeat(10_000).as_bytes()).unwrap();
        assert!(long.len() <= LONGEST_DIFF + 10 && long.ends_with("(cut)\n"));
    }
}
