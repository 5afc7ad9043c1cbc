//! Faults for people.
use super::Faults;
pub(super) fn render(faults: &Faults, _colour: bool) -> String { faults.to_string() }
