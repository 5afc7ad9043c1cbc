//! Directories with owner, group and mode. Their content is not the agent's, and
//! a directory that a later profile drops stays: someone's data may be in it.

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::Directory;
use rustix::fs::FileType;

use super::{ApplyError, Effect, Kind, Session};
use crate::place::{Parents, PlaceError};

/// Directories.
pub(super) struct Directories;

impl Kind for Directories {
    fn doing(&self) -> &'static str {
        "Making directories"
    }

    fn apply(&self, session: &mut Session<'_>) {
        for directory in &session.profile.directories {
            session.resource("directory", &directory.path, &directory.component, |session| {
                ensure(session, directory)
            });
        }
    }
}

fn ensure(session: &mut Session<'_>, directory: &Directory) -> Result<Effect, ApplyError> {
    let access = session.access(&directory.owner, &directory.group, directory.mode)?;
    let place = session.tools.tree.place(&directory.path, Parents::Make)?;
    match place.kind()? {
        None => {
            session.note(Difference::new("presence", "missing", "directory"));
            place.make_directory(access)?;
        }
        Some(FileType::Directory) if place.has_access(access)? => return Ok(Effect::Unchanged),
        Some(FileType::Directory) => {
            session.note_access(&place, access)?;
            place.set_access(access)?;
        }
        Some(_) => {
            let path = directory.path.clone();
            return Err(PlaceError::WrongKind { path, wanted: "directory" }.into());
        }
    }
    Ok(Effect::Changed)
}
