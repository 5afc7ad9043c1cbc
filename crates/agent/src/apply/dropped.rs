//! What an earlier profile had and this one has not: services are stopped and
//! disabled, files and links that the agent itself made are removed. Users,
//! directories and what came with the image stay.

use std::time::Duration;

use gridgate_protocol::node_profile::UnitState;

use super::{ApplyError, Effect, Kind, Session, unit_files};
use crate::place::{Parents, PlaceError};
use crate::process::Call;
use crate::state::{Mark, Origin};

const STOP_LIMIT: Duration = Duration::from_secs(100);

/// Dropped resources.
pub(super) struct Dropped;

impl Kind for Dropped {
    fn doing(&self) -> &'static str {
        "Removing what the profile no longer has"
    }

    fn apply(&self, session: &mut Session<'_>) {
        // What is compared is the profile that was applied: nothing was dropped since.
        if session.looking() {
            return;
        }
        units(session);
        let profile = session.profile;
        for (path, mark) in &session.before.files {
            let wanted = profile.files.iter().any(|file| file.path == *path)
                || profile.certificates.iter().any(|certificate| {
                    let copies = certificate.copies.iter();
                    copies
                        .flat_map(|copy| [&copy.certificate_path, &copy.key_path])
                        .chain([&certificate.certificate_path, &certificate.key_path])
                        .any(|other| other == path)
                });
            let is_link = profile.links.iter().any(|link| link.path == *path);
            if !wanted {
                session.resource("file", path, "", |session| {
                    session.state.files.remove(path);
                    if is_link { Ok(Effect::Unchanged) } else { remove(session, path, mark) }
                });
            }
        }
        for (path, mark) in &session.before.links {
            let is_file = profile.files.iter().any(|file| file.path == *path);
            if !profile.links.iter().any(|link| link.path == *path) {
                session.resource("link", path, "", |session| {
                    session.state.links.remove(path);
                    if is_file { Ok(Effect::Unchanged) } else { remove(session, path, mark) }
                });
            }
        }
        let wanted = |name: &str| profile.certificates.iter().any(|c| c.name == name);
        session.state.certificates.retain(|name, _| wanted(name));
    }
}

fn remove(session: &mut Session<'_>, path: &str, mark: &Mark) -> Result<Effect, ApplyError> {
    if mark.origin == Origin::Image {
        tracing::info!(path, "came with the image, so it stays");
        return Ok(Effect::Unchanged);
    }
    match session.tools.tree.place(path, Parents::MustExist) {
        Ok(place) => place.remove()?,
        Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    session.changed.insert(path.to_owned());
    Ok(Effect::Changed)
}

/// Stops all dropped units with one call, then takes their links away.
fn units(session: &mut Session<'_>) {
    let profile = session.profile;
    let gone: Vec<(String, UnitState)> = session
        .before
        .units
        .iter()
        .filter(|(name, _)| !profile.units.iter().any(|unit| unit.name == **name))
        .map(|(name, state)| (name.clone(), *state))
        .collect();
    let running: Vec<&str> = gone
        .iter()
        .filter(|(_, state)| matches!(state, UnitState::Running | UnitState::Enabled))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut refused = String::new();
    if !running.is_empty() {
        let mut command = vec!["systemctl", "stop"];
        command.extend(&running);
        match session.tools.system.run(&Call::new(&command, STOP_LIMIT)) {
            Ok(done) if done.ok() => {}
            Ok(done) => refused = String::from_utf8_lossy(&done.stderr).into_owned(),
            Err(error) => refused = running.join(" ") + ": " + &error.to_string(),
        }
    }
    for (name, state) in &gone {
        session.resource("unit", name, "", |session| {
            let tree = session.tools.tree;
            let effect = match state {
                UnitState::Running | UnitState::Enabled => unit_files::disable(tree, name)?,
                UnitState::Masked => unit_files::unmask(tree, name)?,
                UnitState::Stopped => Effect::Unchanged,
            };
            session.state.units.remove(name);
            session.state.restarted.remove(name);
            if effect == Effect::Changed {
                session.changed.insert(format!("/etc/systemd/system/{name}"));
            }
            match unit_files::refusal(&refused, name) {
                Some(reason) => Err(ApplyError::Unit { unit: name.clone(), reason }),
                None => Ok(Effect::Changed),
            }
        });
    }
}
