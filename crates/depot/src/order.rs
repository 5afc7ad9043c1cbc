//! In which order packages of a set are best installed, by what they say of each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::archive::control::{Paragraph, clauses};
use crate::lock::PinnedPackage;

/// Fields that name what must be configured before a package is.
const DEPENDS: [&str; 2] = ["Pre-Depends", "Depends"];

/// Packages with their control paragraphs.
pub(crate) struct Set<'a> {
    pins: &'a [PinnedPackage],
    controls: &'a [String],
    /// The packages with a name or a provided name, by number.
    named: HashMap<&'a str, BTreeSet<usize>>,
}

/// A step of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To unpack these of the order.
    Unpack(Range<usize>),
    /// To configure packages of these names, which the next ones need already when they are unpacked.
    Configure(Vec<String>),
}

impl<'a> Set<'a> {
    /// A set; `controls` in the order of `pins`.
    pub(crate) fn new(pins: &'a [PinnedPackage], controls: &'a [String]) -> Set<'a> {
        let mut named: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for (number, control) in controls.iter().enumerate() {
            named.entry(pins[number].name.as_str()).or_default().insert(number);
            let provides = Paragraph::new(control).get("Provides").unwrap_or_default();
            for name in clauses(provides).flatten() {
                named.entry(name).or_default().insert(number);
            }
        }
        Set { pins, controls, named }
    }

    /// Each package after what it depends on; where that goes in a ring, after as much of it as can be. Packages that
    /// do not depend on each other stand in the order of their names, so that equal sets give equal orders. With it
    /// the steps by which dpkg unpacks it.
    ///
    /// # Errors
    ///
    /// The name of a package that what it pre-depends on depends on again: nothing of that ring could be configured
    /// first. Debian 13 has none, with all alternatives counted.
    pub(crate) fn steps(&self) -> Result<(Vec<PinnedPackage>, Vec<Step>), String> {
        let order = self.order();
        let (mut unpacked, mut configured) = (BTreeSet::new(), BTreeSet::new());
        let (mut steps, mut from) = (Vec::new(), 0);
        for (place, &number) in order.iter().enumerate() {
            let needed = self.closed(self.needs(number, &["Pre-Depends"]));
            let missing: Vec<usize> = needed.difference(&configured).copied().collect();
            if !missing.is_empty() {
                if !needed.is_subset(&unpacked) {
                    return Err(self.pins[number].name.clone());
                }
                steps.push(Step::Unpack(from..place));
                let names = missing.iter().map(|number| self.pins[*number].name.clone());
                steps.push(Step::Configure(names.collect()));
                configured.extend(missing);
                from = place;
            }
            unpacked.insert(number);
        }
        steps.push(Step::Unpack(from..order.len()));
        let ordered = order.into_iter().map(|number| self.pins[number].clone());
        Ok((ordered.collect(), steps))
    }

    /// Of alternatives, those that are in the set.
    fn needs(&self, number: usize, fields: &[&str]) -> Vec<usize> {
        let paragraph = Paragraph::new(&self.controls[number]);
        let fields = fields.iter().filter_map(|field| paragraph.get(field));
        let names = fields.flat_map(clauses).flatten();
        names.filter_map(|name| self.named.get(name)).flatten().copied().collect()
    }

    /// These with all that they depend on.
    fn closed(&self, mut open: Vec<usize>) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        while let Some(number) = open.pop() {
            if all.insert(number) {
                open.extend(self.needs(number, &DEPENDS));
            }
        }
        all
    }

    fn order(&self) -> Vec<usize> {
        let needs = |number: usize| self.needs(number, &DEPENDS);
        let by_name: BTreeMap<&str, usize> =
            self.pins.iter().enumerate().map(|(number, pin)| (pin.name.as_str(), number)).collect();
        let mut seen = vec![false; self.pins.len()];
        let mut order = Vec::with_capacity(self.pins.len());
        for &start in by_name.values() {
            let mut path = Vec::new();
            if !std::mem::replace(&mut seen[start], true) {
                path.push((start, needs(start).into_iter()));
            }
            while let Some((number, open)) = path.last_mut() {
                match open.find(|next| !seen[*next]) {
                    Some(next) => {
                        seen[next] = true;
                        path.push((next, needs(next).into_iter()));
                    }
                    None => {
                        order.push(*number);
                        path.pop();
                    }
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256: hex::encode([name.len() as u8; 32]),
            size: 1,
            filename: format!("pool/{name}.deb"),
        }
    }

    fn set(packages: &[(&str, &str)]) -> (Vec<PinnedPackage>, Vec<String>) {
        packages.iter().map(|(name, control)| (pin(name), (*control).to_owned())).unzip()
    }

    fn names(pins: &[PinnedPackage]) -> Vec<&str> {
        pins.iter().map(|pin| pin.name.as_str()).collect()
    }

    #[test]
    fn each_comes_after_what_it_depends_on() {
        let (pins, controls) = set(&[
            ("a", "Depends: z, mail-agent\n"),
            ("b", "Depends: c\n"),
            ("c", "Depends: b | x\nPre-Depends: z (>= 1)\n"),
            ("y", "Provides: mail-agent\n"),
            ("z", "Package: z\n"),
        ]);
        let (order, _) = Set::new(&pins, &controls).steps().unwrap();
        assert_eq!(names(&order), ["z", "y", "a", "c", "b"]);
    }

    #[test]
    fn what_is_needed_for_unpacking_is_configured_before() {
        let (pins, controls) = set(&[
            ("a", "Depends: b\n"),
            ("b", "Pre-Depends: c\n"),
            ("c", "Depends: d\n"),
            ("d", "Package: d\n"),
            ("e", "Pre-Depends: d, there-already\n"),
        ]);
        let (order, steps) = Set::new(&pins, &controls).steps().unwrap();
        assert_eq!(names(&order), ["d", "c", "b", "a", "e"]);
        let configured = Step::Configure(vec!["c".to_owned(), "d".to_owned()]);
        assert_eq!(steps, [Step::Unpack(0..2), configured, Step::Unpack(2..5)]);

        let (pins, controls) = set(&[("a", "Pre-Depends: b\n"), ("b", "Depends: a\n")]);
        assert_eq!(Set::new(&pins, &controls).steps(), Err("a".to_owned()));
    }
}
