//! Symbolic links.

use std::path::Path;

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::Link;

use super::{ApplyError, Effect, Kind, Session, fingerprint};
use crate::place::Parents;
use crate::state::{Mark, Origin};

/// Links.
pub(super) struct Links;

impl Kind for Links {
    fn doing(&self) -> &'static str {
        "Making links"
    }

    fn apply(&self, session: &mut Session<'_>) {
        for link in &session.profile.links {
            session.resource("link", &link.path, &link.component, |session| ensure(session, link));
        }
    }
}

fn ensure(session: &mut Session<'_>, link: &Link) -> Result<Effect, ApplyError> {
    let place = session.tools.tree.place(&link.path, Parents::Make)?;
    let kind = place.kind()?;
    let origin = match session.before.links.get(&link.path) {
        Some(mark) => mark.origin,
        None if kind.is_none() => Origin::Agent,
        None => Origin::Image,
    };
    let same = kind.is_some() && place.target()?.as_deref() == Some(Path::new(&link.target));
    if !same {
        let found = match place.target()? {
            Some(target) => target.display().to_string(),
            None if kind.is_some() => "no link".to_owned(),
            None => "missing".to_owned(),
        };
        session.note(Difference::new("target", found, link.target.clone()));
        place.link(&link.target)?;
        session.changed.insert(link.path.clone());
    }
    let fingerprint = fingerprint(&[link.target.as_bytes()]);
    session.fingerprints.insert(link.path.clone(), fingerprint.clone());
    session.state.links.insert(link.path.clone(), Mark { fingerprint, origin });
    Ok(if same { Effect::Unchanged } else { Effect::Changed })
}
