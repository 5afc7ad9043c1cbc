//! Commands, each guarded so that applying twice runs it once. A command is due
//! when what triggers it is not what it was at its last success, so that one
//! interrupted or failed is due again.

use std::fs::Metadata;
use std::time::Duration;

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::Command;

use super::{ApplyError, Effect, Kind, Session, fingerprint};
use crate::process::Call;

/// Long enough for anything that a boot can wait for.
const LIMIT: Duration = Duration::from_secs(900);

/// Commands.
pub(super) struct Commands;

impl Kind for Commands {
    fn doing(&self) -> &'static str {
        "Running commands"
    }

    fn apply(&self, session: &mut Session<'_>) {
        for command in &session.profile.commands {
            session.resource("command", &command.name, &command.component, |session| {
                ensure(session, command)
            });
        }
        let wanted = &session.profile.commands;
        session.state.commands.retain(|name, _| wanted.iter().any(|command| command.name == *name));
    }
}

fn ensure(session: &mut Session<'_>, command: &Command) -> Result<Effect, ApplyError> {
    let made = command.creates.as_ref().map(|path| session.tools.tree.host_path(path));
    let meta = made.as_ref().and_then(|path| path.symlink_metadata().ok());
    let succeeded = session.before.commands.contains_key(&command.name);
    let remnant = meta.as_ref().is_some_and(|meta| is_remnant(meta, succeeded));
    if meta.is_some() && !remnant {
        return Ok(Effect::Unchanged);
    }
    if session.looking() {
        return Ok(look(session, command));
    }
    if let Some(path) = made.filter(|_| remnant) {
        std::fs::remove_file(&path).map_err(|source| ApplyError::Io { path, source })?;
    }
    let trigger = trigger(session, command);
    let done = session.before.commands.get(&command.name) == Some(&trigger);
    // A path that must exist but does not makes the command due whatever was before.
    if done && !session.any_changed(&command.on_change) && command.creates.is_none() {
        return Ok(Effect::Unchanged);
    }
    session.state.commands.remove(&command.name);
    (session.tools.progress)(&format!("Running the command {}", command.name));
    let parts: Vec<&str> = command.run.iter().map(String::as_str).collect();
    let program = parts.first().copied().unwrap_or("an empty command").to_owned();
    let result = session.tools.system.run(&Call::new(&parts, LIMIT));
    let finished =
        result.map_err(|source| ApplyError::Start { program: program.clone(), source })?;
    if !finished.ok() {
        return Err(ApplyError::program(&program, &finished));
    }
    session.state.commands.insert(command.name.clone(), trigger);
    Ok(Effect::Changed)
}

/// Whether a path was left by a command whose success nobody remembers and whose content never reached the disk: the
/// power was cut, and a program that makes a key refuses to write over it.
fn is_remnant(meta: &Metadata, succeeded: bool) -> bool {
    !succeeded && meta.is_file() && meta.len() == 0
}

/// What shows that a command must run again is the path that it makes. That something which triggers it
/// differs is said of that thing itself.
fn look(session: &mut Session<'_>, command: &Command) -> Effect {
    match &command.creates {
        Some(path) => {
            session.note(Difference::new("presence", format!("{path} is missing"), path.clone()));
            Effect::Changed
        }
        None if session.before.commands.contains_key(&command.name) => Effect::Unchanged,
        None => {
            session.note(Difference::new("state", "has not succeeded", "done"));
            Effect::Changed
        }
    }
}

/// With nothing to watch a command runs once for each wording of it.
fn trigger(session: &Session<'_>, command: &Command) -> String {
    let mut parts: Vec<&[u8]> = command.run.iter().map(|part| part.as_bytes()).collect();
    let watched = session.fingerprint_of(&command.on_change);
    parts.push(watched.as_bytes());
    fingerprint(&parts)
}
