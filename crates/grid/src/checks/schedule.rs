//! Which checks may run now. See the diagram in [`super`].

use super::{Planned, SiteCheck};

/// How many checks run at once: the reference machine has two cores, and a check
/// mostly waits for a service.
pub const AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Passed,
    Failed,
    Skipped,
}

/// A check that will not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its id.
    pub id: &'static str,
    /// Its title.
    pub title: String,
    /// Id of the check it needs and that did not pass.
    pub because: &'static str,
}

/// The state of a run of checks.
#[derive(Clone, Debug)]
pub struct Schedule {
    entries: Vec<(SiteCheck, State)>,
}

impl Schedule {
    /// All checks of the plan, waiting. Those that do not apply are left out; a
    /// check that comes after one of them does not wait for it.
    pub fn new(planned: &[Planned]) -> Schedule {
        let check = |entry: &Planned| match entry {
            Planned::Check(check) => Some((check.clone(), State::Waiting)),
            Planned::NotApplicable { .. } => None,
        };
        Schedule { entries: planned.iter().filter_map(check).collect() }
    }

    /// Checks to start now, at most [`AT_ONCE`] running together. They count as
    /// running from here on: each must be given to [`Schedule::finished`].
    pub fn startable(&mut self) -> Vec<SiteCheck> {
        let running = self.entries.iter().filter(|(_, state)| *state == State::Running).count();
        let ready: Vec<usize> = (0..self.entries.len())
            .filter(|&index| self.entries[index].1 == State::Waiting && self.is_ready(index))
            .take(AT_ONCE.saturating_sub(running))
            .collect();
        ready
            .into_iter()
            .map(|index| {
                self.entries[index].1 = State::Running;
                self.entries[index].0.clone()
            })
            .collect()
    }

    /// Takes note of a check's end; the answer is the checks that will not be run
    /// because of it, directly or through others. An unknown or repeated id
    /// changes nothing.
    pub fn finished(&mut self, id: &str, passed: bool) -> Vec<Skipped> {
        let Some(entry) = self
            .entries
            .iter_mut()
            .find(|(check, state)| check.id == id && *state == State::Running)
        else {
            return Vec::new();
        };
        entry.1 = if passed { State::Passed } else { State::Failed };
        let mut skipped = Vec::new();
        while let Some((index, because)) = self.doomed() {
            self.entries[index].1 = State::Skipped;
            let check = &self.entries[index].0;
            skipped.push(Skipped { id: check.id, title: check.title.clone(), because });
        }
        skipped
    }

    /// Whether nothing waits or runs any more.
    pub fn is_done(&self) -> bool {
        !self.entries.iter().any(|(_, state)| matches!(state, State::Waiting | State::Running))
    }

    fn state(&self, id: &str) -> Option<State> {
        self.entries.iter().find(|(check, _)| check.id == id).map(|(_, state)| *state)
    }

    fn is_ready(&self, index: usize) -> bool {
        let passed = |id: &&str| matches!(self.state(id), None | Some(State::Passed));
        self.entries[index].0.after.iter().all(passed)
    }

    /// A waiting check that can never run, and the one it needs.
    fn doomed(&self) -> Option<(usize, &'static str)> {
        let lost = |id: &&str| matches!(self.state(id), Some(State::Failed | State::Skipped));
        self.entries.iter().enumerate().filter(|(_, (_, state))| *state == State::Waiting).find_map(
            |(index, (check, _))| {
                check.after.iter().copied().find(|id| lost(id)).map(|because| (index, because))
            },
        )
    }
}
