//! Commands, each guarded so that applying twice runs it once. A command is due
//! when what triggers it is not what it was at its last success, so that one
//! interrupted or failed is due again.

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
    if let Some(path) = &command.creates
        && session.tools.tree.host_path(path).symlink_metadata().is_ok()
    {
        return Ok(Effect::Unchanged);
    }
    if session.looking() {
        return Ok(look(session, command));
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
