//! "Did you mean": the name somebody probably wanted to write.

/// Words people write for ours.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("ram", "memory"),
    ("mem", "memory"),
    ("ip", "address"),
    ("ip_address", "address"),
    ("cpu", "cpus"),
    ("cores", "cpus"),
    ("hypervisor", "vmm"),
    ("kvm", "qemu"),
    ("tcg", "qemu"),
    ("accel", "accelerator"),
    ("subnet", "prefix"),
    ("cidr", "prefix"),
    ("gecos", "full_name"),
    ("ports", "publish"),
    ("storage", "data"),
    ("timezone", "time_zone"),
    ("services", "units"),
    ("depends", "requires"),
    ("src", "template"),
    ("source", "template"),
];

/// The name among `known` closest to `written`, if one is close.
pub(crate) fn closest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let plain = plain(written);
    let other = OTHER_WORDS.iter().find(|(word, _)| *word == plain).map(|(_, ours)| *ours);
    known
        .into_iter()
        .filter_map(|name| {
            let distance = if other == Some(name) {
                0
            } else {
                strsim::damerau_levenshtein(&plain, &self::plain(name))
            };
            (distance <= (name.len().max(written.len()) / 3).max(1)).then_some((distance, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// [`closest`] as a sentence.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(written, known).map(|name| format!("did you mean `{name}`?"))
}

/// [`did_you_mean`], or the list of what there is when it is short.
pub(crate) fn did_you_mean_or_list(written: &str, known: &[&str]) -> Option<String> {
    did_you_mean(written, known.iter().copied()).or_else(|| {
        (!known.is_empty() && known.len() <= 40).then(|| format!("there are: {}", known.join(", ")))
    })
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_typing_errors_other_spellings_and_other_words() {
        let keys = ["memory", "address", "full_name", "cpus"];
        assert_eq!(closest("memroy", keys), Some("memory"));
        assert_eq!(closest("Full-Name", keys), Some("full_name"));
        assert_eq!(closest("ram", keys), Some("memory"));
        assert_eq!(closest("colour", keys), None);
        assert_eq!(closest(&"m".repeat(100_000), keys), None);
    }
}
