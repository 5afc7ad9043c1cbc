use proptest::prelude::*;

use super::*;
use crate::fault::Spot;
use crate::source::{Place, Source};

fn at<T>(value: T) -> Located<T> {
    let place = Place::new(&Source::new("test", ""), 0..0);
    Located { value, spot: Spot { place, field: String::new() } }
}

fn names() -> impl Strategy<Value = Vec<Located<String>>> {
    proptest::collection::vec("[a-d]", 0..4)
        .prop_map(|names| names.into_iter().map(at).collect::<Vec<_>>())
        .prop_map(|names| appended(&names, &[], &[]))
}

fn layers() -> impl Strategy<Value = Layer> {
    let parameters = proptest::collection::btree_map(
        "[a-c]",
        proptest::collection::btree_map(
            "[xy]",
            (0i64..9).prop_map(|n| at(Value::Integer(n))),
            0..3,
        ),
        0..3,
    );
    (
        proptest::option::of(1u64..9),
        proptest::option::of(1u32..9),
        names(),
        names(),
        names(),
        parameters,
    )
        .prop_map(|(memory, cpus, packages, components, without, parameters)| Layer {
            memory: memory.map(at),
            cpus: cpus.map(at),
            packages,
            components,
            without,
            parameters,
            ..Layer::default()
        })
}

proptest! {
    #[test]
    fn order_of_putting_together_does_not_matter(a in layers(), b in layers(), c in layers()) {
        prop_assert_eq!(a.under(&b).under(&c), a.under(&b.under(&c)));
    }

    #[test]
    fn an_empty_layer_changes_nothing(a in layers()) {
        prop_assert_eq!(&Layer::default().under(&a), &a);
        prop_assert_eq!(&a.under(&Layer::default()), &a);
    }

    #[test]
    fn the_upper_value_wins(a in layers(), b in layers()) {
        let both = a.under(&b);
        prop_assert_eq!(both.memory, b.memory.or(a.memory));
        for name in &b.components {
            prop_assert!(both.components.contains(name));
        }
        for name in &b.without {
            prop_assert!(!both.components.contains(name) || b.components.contains(name));
        }
    }
}
