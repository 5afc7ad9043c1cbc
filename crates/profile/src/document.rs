//! Walking a TOML text with the place of every value kept.
//!
//! [`Table`] remembers which keys were asked for; [`Table::finish`] makes faults of
//! the others. Every accessor puts its fault into the sink and gives `None`, so that
//! reading goes on to the next value. This module knows no key of any format.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, FaultCode, FaultSink, Located, Spot};
use crate::source::{Place, Source};
use crate::suggestion;

/// Largest text that is read at all.
pub(crate) const LARGEST_TEXT: usize = 2 << 20;

/// Reads a text and hands its root table on; what is not TOML becomes faults.
/// Where the text has such faults, faults that only follow from them are dropped.
pub(crate) fn read(source: &Arc<Source>, sink: &FaultSink, use_root: impl FnOnce(&Table<'_>)) {
    let whole = |span| Spot { place: Place::new(source, span), field: String::new() };
    if source.text.len() > LARGEST_TEXT {
        let rule = "the file has at most 2 MiB";
        let size = format!("{} bytes", source.text.len());
        sink.push(whole(0..0).fault(FaultCode::Syntax, rule).found(size));
        return;
    }
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        sink.push(whole(span).fault(FaultCode::Syntax, error.message()));
    }
    let span = 0..0;
    let table = Table {
        sink,
        source,
        field: String::new(),
        span,
        table: root.get_ref(),
        known: RefCell::default(),
    };
    use_root(&table);
    if !errors.is_empty() {
        sink.drop_consequences(&source.name);
    }
}

/// A table being read.
pub(crate) struct Table<'a> {
    sink: &'a FaultSink,
    source: &'a Arc<Source>,
    field: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

/// A value being read.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    sink: &'a FaultSink,
    source: &'a Arc<Source>,
    field: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Table<'a> {
    /// Where the table begins.
    pub(crate) fn spot(&self) -> Spot {
        Spot { place: Place::new(self.source, self.span.clone()), field: self.field.clone() }
    }

    /// Where faults go.
    pub(crate) fn sink(&self) -> &'a FaultSink {
        self.sink
    }

    /// Puts a fault into the sink.
    pub(crate) fn push(&self, fault: Fault) {
        self.sink.push(fault);
    }

    /// The value of a key; the key is known from now on.
    pub(crate) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.known.borrow_mut().push(key);
        let value = self.table.get(key)?;
        Some(self.item(key, value))
    }

    /// The value of a key that must be there.
    pub(crate) fn required(&self, key: &'static str, suggestion: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.missing(key, suggestion);
        }
        item
    }

    /// Says that a key must be there and is not.
    pub(crate) fn missing(&self, key: &str, suggestion: &str) {
        let mut spot = self.spot();
        spot.field = join(&self.field, key);
        let fault = spot.fault(FaultCode::Missing, format!("`{key}` must be given"));
        self.sink.push(fault.found_nothing().suggest(suggestion));
    }

    /// A string under a key.
    pub(crate) fn string(&self, key: &'static str) -> Option<Located<String>> {
        self.get(key)?.string()
    }

    /// A boolean under a key.
    pub(crate) fn boolean(&self, key: &'static str) -> Option<Located<bool>> {
        self.get(key)?.boolean()
    }

    /// A list of strings under a key; empty when it is not there.
    pub(crate) fn strings(&self, key: &'static str) -> Vec<Located<String>> {
        self.get(key).map(|item| item.strings()).unwrap_or_default()
    }

    /// A table under a key.
    pub(crate) fn table(&self, key: &'static str) -> Option<Table<'a>> {
        self.get(key)?.table()
    }

    /// A list of tables under a key; empty when it is not there.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        self.get(key).map(|item| item.tables()).unwrap_or_default()
    }

    /// All entries in the text's order, for tables whose keys are names.
    pub(crate) fn entries(&self) -> Vec<(Located<String>, Item<'a>)> {
        let mut keys: Vec<_> = self.table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        keys.into_iter()
            .map(|(key, value)| {
                let name = key.get_ref().to_string();
                let item = self.item(&name, value);
                let place = Place::new(self.source, key.span());
                let spot = Spot { place, field: item.field.clone() };
                (Located { value: name, spot }, item)
            })
            .collect()
    }

    /// Makes a fault of every key nobody asked for.
    pub(crate) fn finish(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let place = Place::new(self.source, key.span());
            let spot = Spot { place, field: join(&self.field, &clip(name)) };
            let fault = spot.fault(FaultCode::UnknownKey, format!("{} no such key", self.place()));
            let hint = suggestion::did_you_mean_or_list(name, &known);
            self.sink.push(fault.found(name).suggest_some(hint));
        }
    }

    fn place(&self) -> String {
        if self.field.is_empty() {
            "the file has".to_owned()
        } else {
            format!("`{}` has", self.field)
        }
    }

    fn item(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let field = join(&self.field, &clip(key));
        Item { sink: self.sink, source: self.source, field, value }
    }
}

impl<'a> Item<'a> {
    /// Where the value stands.
    pub(crate) fn spot(&self) -> Spot {
        Spot { place: Place::new(self.source, self.value.span()), field: self.field.clone() }
    }

    /// The value with its place.
    pub(crate) fn located<T>(&self, value: T) -> Located<T> {
        Located { value, spot: self.spot() }
    }

    /// Puts a fault about this value into the sink.
    pub(crate) fn bad(&self, rule: impl Into<String>, suggestion: Option<String>) {
        let fault = self.spot().fault(FaultCode::BadValue, rule);
        self.sink.push(fault.suggest_some(suggestion));
    }

    /// Says that another type was wanted.
    pub(crate) fn wrong_type(&self, wanted: &str, suggestion: Option<String>) {
        let is = self.value.get_ref().type_str();
        let rule = format!("this must be {wanted}, and is {} {is}", article(is));
        self.sink.push(self.spot().fault(FaultCode::WrongType, rule).suggest_some(suggestion));
    }

    /// The value as a string.
    pub(crate) fn string(&self) -> Option<Located<String>> {
        if let Some(text) = self.as_str() {
            return Some(self.located(text.to_owned()));
        }
        let simple = !matches!(self.value.get_ref(), DeValue::Array(_) | DeValue::Table(_));
        let text = self.source.text.get(self.value.span()).unwrap_or_default();
        self.wrong_type("a string", simple.then(|| format!("write \"{}\"", clip(text))));
        None
    }

    /// The value when it is a string; no fault when it is not.
    pub(crate) fn as_str(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// The value when it is an integer that fits; no fault when it is not.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        let integer = self.value.get_ref().as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The value as an integer within bounds.
    pub(crate) fn integer(&self, bounds: RangeInclusive<i64>) -> Option<Located<i64>> {
        if !self.value.get_ref().is_integer() {
            let unquoted = self.as_str().filter(|text| text.parse::<i64>().is_ok());
            self.wrong_type("an integer", unquoted.map(|text| format!("write {text}")));
            return None;
        }
        match self.as_integer().filter(|value| bounds.contains(value)) {
            Some(value) => Some(self.located(value)),
            None => {
                let rule = format!("this must be from {} to {}", bounds.start(), bounds.end());
                self.bad(rule, None);
                None
            }
        }
    }

    /// The value as a boolean.
    pub(crate) fn boolean(&self) -> Option<Located<bool>> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type("true or false", None);
        }
        Some(self.located(value?))
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Option<Vec<Item<'a>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            let text = self.as_str().map(|text| format!("write [\"{}\"]", clip(text)));
            self.wrong_type("a list", text);
            return None;
        };
        let element = |(index, value)| Item {
            sink: self.sink,
            source: self.source,
            field: format!("{}[{index}]", self.field),
            value,
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// The value as a list of strings.
    pub(crate) fn strings(&self) -> Vec<Located<String>> {
        self.items().unwrap_or_default().iter().filter_map(Item::string).collect()
    }

    /// Whether the value is a table; no fault when it is not.
    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// The value as a table.
    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.wrong_type("a table", None);
            return None;
        };
        Some(Table {
            sink: self.sink,
            source: self.source,
            field: self.field.clone(),
            span: self.value.span(),
            table,
            known: RefCell::default(),
        })
    }

    /// The value as a list of tables.
    pub(crate) fn tables(&self) -> Vec<Table<'a>> {
        if self.is_table() {
            let last = self.field.rsplit('.').next().unwrap_or_default().to_owned();
            self.wrong_type("a list of tables", Some(format!("write [[…{last}]]")));
            return Vec::new();
        }
        self.items().unwrap_or_default().iter().filter_map(Item::table).collect()
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<Located<T>> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(text.with(*value));
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let rule = format!("this must be one of: {}", known.join(", "));
        self.bad(rule, suggestion::did_you_mean(&text.value, known.iter().copied()));
        None
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let key = if !key.is_empty() && key.bytes().all(plain) {
        key.to_owned()
    } else {
        format!("\"{}\"", key.escape_debug())
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
