//! Published ports as people write them: `127.0.0.1:2811 -> 2811`, `8080 -> 80`, `2119`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Publish;
use crate::document::Table;
use crate::fault::{FaultCode, FaultSink, Located};

const RULE: &str = "a published port is \"ADDRESS:PORT -> PORT\", \"PORT -> PORT\" or \"PORT\"";

/// Reads `publish` of a node's table.
pub(super) fn read(table: &Table<'_>) -> Vec<Located<Publish>> {
    let Some(items) = table.get("publish").and_then(|item| item.items()) else {
        return Vec::new();
    };
    let mut published = Vec::new();
    for item in items {
        if let Some(port) = item.as_integer() {
            item.wrong_type("a string", Some(format!("write \"{port}\"")));
            continue;
        }
        let Some(text) = item.string() else { continue };
        match parse(&text.value) {
            Some(publish) => published.push(text.with(publish)),
            None => {
                let hint = "write \"127.0.0.1:8080 -> 80\": host's address and port, node's port";
                item.bad(RULE, Some(hint.to_owned()));
            }
        }
    }
    published
}

/// Without an address, only the host itself can connect.
fn parse(text: &str) -> Option<Publish> {
    match text.split_once("->") {
        Some((listen, port)) => {
            Some(Publish { listen: listen_address(listen.trim())?, port: number(port.trim())? })
        }
        None => {
            let listen = listen_address(text.trim())?;
            Some(Publish { listen, port: listen.port() })
        }
    }
}

fn listen_address(text: &str) -> Option<SocketAddr> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = match number(text) {
        Some(port) => SocketAddr::new(local, port),
        None => text.parse().ok()?,
    };
    (address.port() != 0).then_some(address)
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// Makes a fault of every place on the host that is listened on twice.
pub(super) fn check_distinct<'a>(
    all: impl Iterator<Item = (&'a str, &'a Located<Publish>)>,
    sink: &FaultSink,
) {
    let mut taken: HashMap<u16, Vec<(&str, &Located<Publish>)>> = HashMap::new();
    for (node, publish) in all {
        let this = publish.value.listen;
        let overlaps = |other: &SocketAddr| {
            this.ip().is_unspecified() || other.ip().is_unspecified() || this.ip() == other.ip()
        };
        let same_port = taken.entry(this.port()).or_default();
        if let Some((first_node, first)) =
            same_port.iter().find(|(_, other)| overlaps(&other.value.listen))
        {
            let port = this.port();
            let rule = if node == *first_node {
                format!("{node} would listen twice on port {port} of the host")
            } else {
                format!("{node} and {first_node} would both listen on port {port} of the host")
            };
            let fault = publish.spot.fault(FaultCode::Conflict, rule);
            sink.push(fault.related(&first.spot, "the other stands at"));
            continue;
        }
        same_port.push((node, publish));
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn shown(text: &str) -> Option<String> {
        parse(text).map(|publish| format!("{} {}", publish.listen, publish.port))
    }

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(shown("127.0.0.1:2811 -> 2811").as_deref(), Some("127.0.0.1:2811 2811"));
        assert_eq!(shown("0.0.0.0:8080->80").as_deref(), Some("0.0.0.0:8080 80"));
        assert_eq!(shown("[::1]:8080 -> 80").as_deref(), Some("[::1]:8080 80"));
        assert_eq!(shown("8080 -> 80").as_deref(), Some("127.0.0.1:8080 80"));
        assert_eq!(shown("2119").as_deref(), Some("127.0.0.1:2119 2119"));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in
            ["", "->", "0", "65536", "x -> 80", "80 -> ", "80 -> 0", "80:80", "+80", "1 -> 2 -> 3"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
