//! What components there are, for people.

use serde::Serialize;

use super::{Component, Library, Value};

/// A component in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentSummary {
    /// Name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Components it brings along.
    pub requires: Vec<String>,
    /// Its parameters, by name.
    pub parameters: Vec<ParameterSummary>,
}

/// A parameter in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterSummary {
    /// Name.
    pub name: String,
    /// `string`, `integer`, `boolean`, `size` or `list`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Default as TOML; `None` where the site must give a value.
    pub default: Option<String>,
    /// What it is for.
    pub description: String,
}

/// All components of a library, by name.
pub(crate) fn summaries(library: &Library) -> Vec<ComponentSummary> {
    library.iter().map(summary).collect()
}

fn summary(component: &Component) -> ComponentSummary {
    let parameters = component.parameters.iter().map(|(name, parameter)| ParameterSummary {
        name: name.clone(),
        kind: parameter.kind_name(),
        default: parameter.default.as_ref().map(|value| show(value, parameter.kind_name())),
        description: parameter.description.clone(),
    });
    ComponentSummary {
        name: component.name.clone(),
        description: component.description.clone(),
        requires: component.requires.iter().map(|name| name.value.clone()).collect(),
        parameters: parameters.collect(),
    }
}

fn show(value: &Value, kind: &str) -> String {
    match value {
        Value::Integer(bytes) if kind == "size" => {
            format!("\"{}\"", crate::size::show(bytes.unsigned_abs()))
        }
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(list) => format!("{list:?}"),
    }
}
