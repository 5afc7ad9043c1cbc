//! Parameters of components: their types and limits, and values that keep to them.

use regex_lite::Regex;
use serde::Serialize;

use crate::document::{Item, Table};
use crate::fault::Located;
use crate::size;

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<String>),
}

/// A parameter's type with the limits that belong to it.
#[derive(Clone, Debug)]
enum Kind {
    Text(Words),
    Integer {
        minimum: i64,
        maximum: i64,
    },
    Boolean,
    /// In bytes.
    Size {
        minimum: u64,
        maximum: u64,
    },
    /// Number of elements, and what each may be.
    List {
        minimum: i64,
        maximum: i64,
        words: Words,
    },
}

/// What a string may be.
#[derive(Clone, Debug, Default)]
struct Words {
    /// As written, and anchored at both ends.
    pattern: Option<(String, Regex)>,
    choices: Vec<String>,
}

/// One parameter of a component.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    kind: Kind,
    /// Used where the site gives none; without it the site must give one.
    pub default: Option<Value>,
    pub description: String,
}

#[derive(Clone, Copy)]
enum KindName {
    Text,
    Integer,
    Boolean,
    Size,
    List,
}

const KINDS: &[(&str, KindName)] = &[
    ("string", KindName::Text),
    ("integer", KindName::Integer),
    ("boolean", KindName::Boolean),
    ("size", KindName::Size),
    ("list", KindName::List),
];

const LONGEST_LIST: i64 = 10_000;

impl Parameter {
    /// Reads `[parameters.NAME]`.
    pub(crate) fn declare(table: &Table<'_>) -> Option<Self> {
        let kind_name = table.required("type", "type = \"string\"").and_then(|t| t.choice(KINDS));
        let description = table.string("description").map(|text| text.value).unwrap_or_default();
        let default = table.get("default");
        let Some(kind_name) = kind_name else {
            for key in ["minimum", "maximum", "pattern", "choices"] {
                table.get(key);
            }
            table.finish();
            return None;
        };
        let kind = match kind_name.value {
            KindName::Text => Kind::Text(words(table)),
            KindName::Boolean => Kind::Boolean,
            KindName::Integer => {
                let (minimum, maximum) = bounds(table, i64::MIN, i64::MAX);
                Kind::Integer { minimum, maximum }
            }
            KindName::List => {
                let (minimum, maximum) = bounds(table, 0, LONGEST_LIST);
                Kind::List { minimum, maximum, words: words(table) }
            }
            KindName::Size => Kind::Size {
                minimum: table.get("minimum").and_then(|i| read_size(&i)).map_or(0, |s| s.value),
                maximum: table
                    .get("maximum")
                    .and_then(|i| read_size(&i))
                    .map_or(u64::MAX, |s| s.value),
            },
        };
        table.finish();
        let mut parameter = Self { kind, default: None, description };
        parameter.default = default.and_then(|item| parameter.read(&item)).map(|l| l.value);
        Some(parameter)
    }

    /// The type as component files write it.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Text(_) => "string",
            Kind::Integer { .. } => "integer",
            Kind::Boolean => "boolean",
            Kind::Size { .. } => "size",
            Kind::List { .. } => "list",
        }
    }

    /// Reads a value and checks it.
    pub(crate) fn read(&self, item: &Item<'_>) -> Option<Located<Value>> {
        match &self.kind {
            Kind::Boolean => item.boolean().map(|l| l.with(Value::Boolean(l.value))),
            Kind::Integer { minimum, maximum } => {
                item.integer(*minimum..=*maximum).map(|l| l.with(Value::Integer(l.value)))
            }
            Kind::Text(words) => {
                let text = item.string()?;
                words.check(item, &text.value).then(|| text.with(Value::Text(text.value.clone())))
            }
            Kind::Size { minimum, maximum } => {
                let bytes = read_size(item)?;
                if bytes.value < *minimum || bytes.value > *maximum {
                    let bounds = (size::show(*minimum), size::show(*maximum));
                    item.bad(format!("this must be from {} to {}", bounds.0, bounds.1), None);
                    return None;
                }
                // Sizes above i64 are refused by the bounds of `read_size`.
                Some(bytes.with(Value::Integer(i64::try_from(bytes.value).ok()?)))
            }
            Kind::List { minimum, maximum, words } => {
                let elements = item.items()?;
                let count = i64::try_from(elements.len()).unwrap_or(i64::MAX);
                if !(*minimum..=*maximum).contains(&count) {
                    item.bad(format!("this must have {minimum} to {maximum} elements"), None);
                    return None;
                }
                let texts: Vec<String> = elements
                    .iter()
                    .filter_map(|element| element.string().map(|text| (element, text.value)))
                    .filter(|(element, text)| words.check(element, text))
                    .map(|(_, text)| text)
                    .collect();
                (texts.len() == elements.len()).then(|| item.located(Value::List(texts)))
            }
        }
    }
}

impl Words {
    fn check(&self, item: &Item<'_>, text: &str) -> bool {
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == text) {
            let known: Vec<&str> = self.choices.iter().map(String::as_str).collect();
            let hint = crate::suggestion::did_you_mean(text, known.iter().copied());
            item.bad(format!("this must be one of: {}", known.join(", ")), hint);
            return false;
        }
        let pattern = self.pattern.as_ref().filter(|(_, pattern)| !pattern.is_match(text));
        if let Some((written, _)) = pattern {
            item.bad(format!("this must match the pattern {written}"), None);
            return false;
        }
        true
    }
}

/// Reads a size in bytes.
pub(crate) fn read_size(item: &Item<'_>) -> Option<Located<u64>> {
    if let Some(number) = item.as_integer() {
        item.wrong_type("a string with a unit", Some(format!("write \"{number} MiB\"")));
        return None;
    }
    let text = item.string()?;
    match size::parse(&text.value) {
        Ok(bytes) if i64::try_from(bytes).is_ok() => Some(text.with(bytes)),
        Ok(_) => {
            item.bad("this size is too large", None);
            None
        }
        Err(hint) => {
            item.bad(size::RULE, hint.map(|text| format!("write {text}")));
            None
        }
    }
}

fn bounds(table: &Table<'_>, lowest: i64, highest: i64) -> (i64, i64) {
    let read = |key, otherwise| {
        let item: Option<Item<'_>> = table.get(key);
        item.and_then(|item| item.integer(lowest..=highest)).map_or(otherwise, |l| l.value)
    };
    (read("minimum", lowest), read("maximum", highest))
}

fn words(table: &Table<'_>) -> Words {
    let choices = table.strings("choices").into_iter().map(|text| text.value).collect();
    let pattern = table.get("pattern").and_then(|item| {
        let text = item.string()?;
        match Regex::new(&format!("^(?:{})$", text.value)) {
            Ok(pattern) => Some((text.value, pattern)),
            Err(error) => {
                item.bad(format!("this must be a regular expression: {error}"), None);
                None
            }
        }
    });
    Words { pattern, choices }
}
