//! The order in which a node's components are applied: what a component requires
//! comes before it, else as listed.

use std::collections::BTreeSet;

use super::Library;
use crate::fault::{FaultCode, FaultSink};

/// The components wanted with all they require, each once, in the order in which
/// they are applied. Unknown names are left out; cycles are cut.
pub(crate) fn closure(library: &Library, wanted: &[String]) -> Vec<String> {
    let mut ordered = Vec::new();
    let mut entered = BTreeSet::new();
    for name in wanted {
        visit(library, name, &mut entered, &mut ordered);
    }
    ordered
}

fn visit<'a>(
    library: &'a Library,
    name: &'a str,
    entered: &mut BTreeSet<&'a str>,
    ordered: &mut Vec<String>,
) {
    let Some(component) = library.get(name) else { return };
    if !entered.insert(&component.name) {
        return;
    }
    for required in &component.requires {
        visit(library, &required.value, entered, ordered);
    }
    ordered.push(component.name.clone());
}

/// Makes a fault of every requirement that leads back to its own component.
pub(crate) fn check_cycles(library: &Library, sink: &FaultSink) {
    for component in library.iter() {
        for required in &component.requires {
            let Some(way) = way(library, &required.value, &component.name) else { continue };
            // One fault a cycle: at its alphabetically first component.
            if way.iter().any(|name| *name < component.name.as_str()) {
                continue;
            }
            let rule = format!(
                "components cannot require each other in a circle: {} → {}",
                component.name,
                way.join(" → ")
            );
            sink.push(required.spot.fault(FaultCode::Conflict, rule));
        }
    }
}

/// The shortest chain of requirements from one component to another, both ends included.
fn way<'a>(library: &'a Library, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut chains = std::collections::VecDeque::from([vec![from]]);
    while let Some(chain) = chains.pop_front() {
        let last = *chain.last()?;
        if last == to {
            return Some(chain);
        }
        for next in library.get(last).into_iter().flat_map(|component| &component.requires) {
            if seen.insert(&next.value) {
                let mut longer = chain.clone();
                longer.push(&next.value);
                chains.push_back(longer);
            }
        }
    }
    None
}
