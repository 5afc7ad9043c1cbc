use proptest::prelude::*;

use super::init_text;
use crate::{SiteFiles, parse_site};

fn parsed(name: &str) -> Result<crate::Site, crate::Faults> {
    let text = init_text(name);
    parse_site(&SiteFiles { name: "site.toml".into(), text, ..SiteFiles::default() })
}

#[test]
fn a_fresh_profile_is_a_site_of_four_nodes() {
    let site = parsed("dublin").unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let names: Vec<&str> = site.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["ce", "se", "ui", "wn1"]);
    assert!(site.nodes.iter().all(|node| node.memory == 200 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_is_clean_for_every_valid_name(name in "[a-z]([a-z0-9-]{0,30}[a-z0-9])?") {
        prop_assert!(parsed(&name).is_ok());
    }
}
