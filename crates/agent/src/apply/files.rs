//! Files with their whole content. A secret is fetched when the file is missing,
//! is not what it was, or the profile is another; it is never written anywhere
//! but into its file and never logged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gridgate_protocol::node_profile::{Content, File};

use super::look::Shown;
use super::{ApplyError, Effect, Kind, Session, fingerprint};
use crate::place::{Access, Parents, Place};
use crate::state::{Mark, Origin};

/// Largest file that is compared; a larger one is simply replaced.
const COMPARE_LIMIT: u64 = 64 * 1024 * 1024;

/// Files.
pub(super) struct Files;

impl Kind for Files {
    fn doing(&self) -> &'static str {
        "Writing files"
    }

    fn apply(&self, session: &mut Session<'_>) {
        for file in &session.profile.files {
            session.resource("file", &file.path, &file.component, |session| ensure(session, file));
        }
    }
}

fn ensure(session: &mut Session<'_>, file: &File) -> Result<Effect, ApplyError> {
    let access = session.access(&file.owner, &file.group, file.mode)?;
    let place = session.tools.tree.place(&file.path, Parents::Make)?;
    let present = place.read(COMPARE_LIMIT)?;
    let wanted = match &file.content {
        Content::Text(text) => text.as_bytes().to_vec(),
        Content::Base64(text) => STANDARD.decode(text)?,
        Content::Secret(_) if session.looking() => {
            return look_at_secret(session, file, &place, present.as_deref(), access);
        }
        Content::Secret(name) => secret(session, file, name, present.as_deref())?,
    };
    session.put(&file.path, &place, present.as_deref(), &wanted, access, Shown::Openly)
}

/// A secret is compared with the memory of what was written, so it need not be fetched.
fn look_at_secret(
    session: &mut Session<'_>,
    file: &File,
    place: &Place,
    present: Option<&[u8]>,
    access: Access,
) -> Result<Effect, ApplyError> {
    let known = session.before.files.get(&file.path).map(|mark| mark.fingerprint.clone());
    let same = present.is_some_and(|present| known == Some(fingerprint(&[present])));
    let mut effect = Effect::Unchanged;
    if !same {
        session.note_content(present, b"", Shown::Never);
        effect = Effect::Changed;
    }
    if present.is_some() && !place.has_access(access)? {
        session.note_access(place, access)?;
        effect = Effect::Changed;
    }
    session.fingerprints.insert(file.path.clone(), known.unwrap_or_default());
    Ok(effect)
}

fn secret(
    session: &Session<'_>,
    file: &File,
    name: &str,
    present: Option<&[u8]>,
) -> Result<Vec<u8>, ApplyError> {
    let known = session.before.files.get(&file.path);
    if let (Some(present), Some(known), false) = (present, known, session.version_moved())
        && known.fingerprint == fingerprint(&[present])
    {
        return Ok(present.to_vec());
    }
    session.tools.source.secret(name)
}

impl Session<'_> {
    /// Puts content into a file when it is not there yet, and remembers it.
    pub(super) fn put(
        &mut self,
        path: &str,
        place: &Place,
        present: Option<&[u8]>,
        wanted: &[u8],
        access: Access,
        shown: Shown,
    ) -> Result<Effect, ApplyError> {
        let origin = match self.before.files.get(path) {
            Some(mark) => mark.origin,
            None if place.kind()?.is_none() => Origin::Agent,
            None => Origin::Image,
        };
        let effect = if present != Some(wanted) {
            self.note_content(present, wanted, shown);
            if present.is_some() {
                self.note_access(place, access)?;
            }
            place.write(wanted, access)?;
            Effect::Changed
        } else if !place.has_access(access)? {
            self.note_access(place, access)?;
            place.set_access(access)?;
            Effect::Changed
        } else {
            Effect::Unchanged
        };
        if effect == Effect::Changed {
            self.changed.insert(path.to_owned());
        }
        let fingerprint = fingerprint(&[wanted]);
        self.fingerprints.insert(path.to_owned(), fingerprint.clone());
        self.state.files.insert(path.to_owned(), Mark { fingerprint, origin });
        Ok(effect)
    }
}
