//! Changing one setting in the text of a site profile; comments and form of the rest stay.

use toml_edit::{DocumentMut, Item, TableLike, value};

/// Why a profile cannot be changed for one node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML.
    #[error("the profile cannot be read: {0}")]
    Syntax(String),
    /// The node is one of several that share an entry.
    #[error(
        "{node} is one of those that [nodes.{entry}] stands for (count); they have their VMM together"
    )]
    Counted {
        /// The node.
        node: String,
        /// The entry.
        entry: String,
    },
    /// There is no such entry.
    #[error("the profile has no [nodes.{0}]")]
    NoNode(String),
}

/// Names the VMM, and QEMU's accelerator, of one node in a profile's text.
///
/// # Errors
/// When the text has no entry for this node alone.
pub fn set_vmm(
    text: &str,
    node: &str,
    vmm: &str,
    accelerator: Option<&str>,
) -> Result<String, EditError> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|e: toml_edit::TomlError| EditError::Syntax(e.message().to_owned()))?;
    let nodes = document.get_mut("nodes").and_then(Item::as_table_like_mut);
    let nodes = nodes.ok_or_else(|| EditError::NoNode(node.to_owned()))?;
    let Some(entry) = nodes.get_mut(node).and_then(Item::as_table_like_mut) else {
        return Err(absent(nodes, node));
    };
    if entry.contains_key("count") {
        return Err(EditError::Counted { node: format!("{node}1"), entry: node.to_owned() });
    }
    set(entry, "vmm", vmm);
    match accelerator {
        Some(accelerator) => set(entry, "accelerator", accelerator),
        None => {
            entry.remove("accelerator");
        }
    }
    Ok(document.to_string())
}

/// Sets a key; what stands around an old value, such as a comment, stays.
fn set(entry: &mut dyn TableLike, key: &str, word: &str) {
    match entry.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = word.into();
            *old.decor_mut() = decor;
        }
        None => {
            entry.insert(key, value(word));
        }
    }
}

/// The entry that a counted node comes from, if there is one.
fn absent(nodes: &dyn TableLike, node: &str) -> EditError {
    let counted = nodes.iter().find(|(name, item)| {
        let number = node.strip_prefix(name).and_then(|rest| rest.parse::<i64>().ok());
        let count = item.get("count").and_then(Item::as_integer);
        number.zip(count).is_some_and(|(number, count)| (1..=count).contains(&number))
    });
    match counted {
        Some((entry, _)) => EditError::Counted { node: node.to_owned(), entry: entry.to_owned() },
        None => EditError::NoNode(node.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[site]
name = \"s\"       # a short name

[nodes.ce]
role = \"ce\"
vmm = \"uml\"      # as the neighbours

[nodes.wn]
role = \"wn\"
count = 2
";

    #[test]
    fn one_value_changes_and_the_rest_stays() {
        let text = set_vmm(TEXT, "ce", "qemu", Some("tcg")).unwrap();
        let wanted = TEXT.replace(
            "vmm = \"uml\"      # as the neighbours",
            "vmm = \"qemu\"      # as the neighbours\naccelerator = \"tcg\"",
        );
        assert_eq!(text, wanted);
        assert_eq!(set_vmm(&text, "ce", "uml", None).unwrap(), TEXT);
    }

    #[test]
    fn a_node_without_an_entry_of_its_own_is_refused() {
        let counted = EditError::Counted { node: "wn2".into(), entry: "wn".into() };
        assert_eq!(set_vmm(TEXT, "wn2", "qemu", None), Err(counted));
        assert_eq!(set_vmm(TEXT, "wn3", "qemu", None), Err(EditError::NoNode("wn3".into())));
        assert!(matches!(set_vmm("[", "ce", "qemu", None), Err(EditError::Syntax(_))));
    }
}
