//! The reference names every shipped component and parameter.

mod support;

use gridgate_profile::{SiteFiles, init_text, parse_site};

const REFERENCE: &str = include_str!("../../../docs/components.md");

#[test]
fn the_reference_lists_the_shipped_components() {
    let files =
        SiteFiles { name: "site.toml".into(), text: init_text("x"), ..SiteFiles::default() };
    let site = parse_site(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let mut missing = Vec::new();
    for component in site.components() {
        let parameters: Vec<String> = component
            .parameters
            .iter()
            .map(|parameter| {
                let default = parameter.default.as_deref().unwrap_or("must be given");
                format!("`{}` ({}, {default})", parameter.name, parameter.kind)
            })
            .collect();
        let parameters =
            if parameters.is_empty() { "–".to_owned() } else { parameters.join(", ") };
        let row = format!("| {} | {} | {parameters} |", component.name, component.description);
        if !REFERENCE.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "docs/components.md lacks:\n{}", missing.join("\n"));
}
