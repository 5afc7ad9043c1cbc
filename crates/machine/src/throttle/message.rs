//! What nftables is told: netlink messages, netlink(7), with the numbers of `linux/netfilter/nf_tables.h` and
//! `linux/netfilter/nfnetlink.h`. Pure.

use rustix::io::Errno;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10; // NFNL_MSG_BATCH_BEGIN
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = NFTABLES << 8;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
/// `NFPROTO_NETDEV`.
const NETDEV: u8 = 5;
const NESTED: u16 = 0x8000;
/// A verdict: `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// Of a message: length, kind, flags, number, port.
const HEADER: usize = 16;

/// A way through a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    chain: &'static str,
    /// `NF_NETDEV_INGRESS` or `NF_NETDEV_EGRESS`.
    hook: u32,
}

/// Both ways: what comes in from the guest, what goes out to it.
pub(super) const DIRECTIONS: [Direction; 2] =
    [Direction { chain: "sent", hook: 0 }, Direction { chain: "received", hook: 1 }];

/// A bucket with tokens: full at first, filled up at a rate; a frame for which there is no token is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    /// Holds a second's worth and the burst.
    Bytes { rate: u64, burst: u32 },
    /// Holds the burst.
    Frames { rate: u64, burst: u32 },
}

/// Messages that the kernel follows all or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    table: String,
    bytes: Vec<u8>,
    /// What each message wants, for complaints; its place is the message's number.
    steps: Vec<&'static str>,
}

impl Batch {
    pub(super) fn begin(table: &str) -> Self {
        let mut bytes = Vec::new();
        let payload = [0, 0, 0, NFTABLES.to_be_bytes()[1]];
        message(&mut bytes, BATCH_BEGIN, libc::NLM_F_REQUEST, u32::MAX, &payload);
        Self { table: table.to_owned(), bytes, steps: Vec::new() }
    }

    /// What is to be sent, and what each of its messages that is answered wants.
    pub(super) fn end(mut self) -> (Vec<u8>, Vec<&'static str>) {
        let payload = [0, 0, 0, NFTABLES.to_be_bytes()[1]];
        message(&mut self.bytes, BATCH_END, libc::NLM_F_REQUEST, u32::MAX, &payload);
        (self.bytes, self.steps)
    }

    /// An empty table, whether there was one or not: a new one is no fault when it is there.
    pub(super) fn replace_table(&mut self) {
        let name = text(TABLE_NAME, &self.table);
        self.add("make a table for", NEW_TABLE, libc::NLM_F_CREATE, &name);
        self.remove_table();
        self.add("make a table for", NEW_TABLE, libc::NLM_F_CREATE, &name);
    }

    /// Fails when there is none.
    pub(super) fn remove_table(&mut self) {
        let name = text(TABLE_NAME, &self.table);
        self.add("remove the table of", DELETE_TABLE, 0, &name);
    }

    /// A chain that sees one direction of an interface.
    pub(super) fn chain(&mut self, direction: Direction, interface: &str) {
        let hook = [
            number(HOOK_NUMBER, direction.hook),
            number(HOOK_PRIORITY, 0),
            text(HOOK_INTERFACE, interface),
        ];
        let chain = [
            text(CHAIN_TABLE, &self.table),
            text(CHAIN_NAME, direction.chain),
            nested(CHAIN_HOOK, &hook),
            text(CHAIN_TYPE, "filter"),
        ];
        let step = match direction.hook {
            0 => "look at what comes in through",
            _ => "look at what goes out through",
        };
        self.add(step, NEW_CHAIN, libc::NLM_F_CREATE, &chain.concat());
    }

    /// Drops what finds no token.
    pub(super) fn rule(&mut self, direction: Direction, bucket: &Bucket) {
        let (rate, burst, kind) = match *bucket {
            Bucket::Frames { rate, burst } => (rate, burst, 0), // NFT_LIMIT_PKTS
            Bucket::Bytes { rate, burst } => (rate, burst, 1),
        };
        let limit = [
            long(LIMIT_RATE, rate),
            long(LIMIT_UNIT, 1), // second
            number(LIMIT_BURST, burst),
            number(LIMIT_KIND, kind),
            number(LIMIT_FLAGS, 1), // NFT_LIMIT_F_INV: matches what is over it
        ];
        let verdict = nested(DATA_VERDICT, &[number(VERDICT_CODE, 0)]); // NF_DROP
        let drop = [number(IMMEDIATE_REGISTER, 0), nested(IMMEDIATE_DATA, &[verdict])];
        let expressions = [expression("limit", &limit), expression("immediate", &drop)];
        let rule = [
            text(RULE_TABLE, &self.table),
            text(RULE_CHAIN, direction.chain),
            nested(RULE_EXPRESSIONS, &expressions),
        ];
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.add("set a limit on", NEW_RULE, flags, &rule.concat());
    }

    fn add(&mut self, step: &'static str, kind: u16, flags: i32, attributes: &[u8]) {
        // `struct nfgenmsg`: family, version, resource.
        let payload = [&[NETDEV, 0, 0, 0], attributes].concat();
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
        let place = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        message(&mut self.bytes, kind, flags, place, &payload);
        self.steps.push(step);
    }
}

/// Which message an answer is about, and what became of it; none when it is no verdict.
pub(super) fn verdict(answer: &[u8]) -> Option<(usize, Result<(), Errno>)> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let place = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    let verdict = match error {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error.saturating_neg())),
    };
    (kind == ERROR).then_some((usize::try_from(place).ok()?, verdict))
}

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_INTERFACE: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LIMIT_RATE: u16 = 1;
const LIMIT_UNIT: u16 = 2;
const LIMIT_BURST: u16 = 3;
const LIMIT_KIND: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

fn message(bytes: &mut Vec<u8>, kind: u16, flags: i32, place: u32, payload: &[u8]) {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    // All flags are in the lower half.
    bytes.extend(u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    bytes.extend(place.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
}

/// One attribute, filled up to four bytes. None here comes near the longest, 64 KiB.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn long(kind: u16, value: u64) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(LIST_ELEMENT, &[text(EXPRESSION_NAME, name), nested(EXPRESSION_DATA, data)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds and numbers of a batch's messages, by their own lengths.
    fn heads(mut bytes: &[u8]) -> Vec<(u16, u32)> {
        let mut heads = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            assert_eq!(length % 4, 0, "the next message begins at a multiple of four");
            let kind = u16::from_ne_bytes(bytes[4..6].try_into().unwrap());
            heads.push((kind, u32::from_ne_bytes(bytes[8..12].try_into().unwrap())));
            bytes = &bytes[length..];
        }
        heads
    }

    #[test]
    fn a_batch_is_framed_and_its_messages_are_numbered_by_their_steps() {
        let mut batch = Batch::begin("t");
        batch.replace_table();
        batch.chain(DIRECTIONS[1], "tap-n1");
        batch.rule(DIRECTIONS[1], &Bucket::Bytes { rate: 1, burst: 2 });
        let (bytes, steps) = batch.end();
        let kinds = [NEW_TABLE, DELETE_TABLE, NEW_TABLE, NEW_CHAIN, NEW_RULE];
        let inner = kinds.into_iter().zip(0..);
        let all = [(BATCH_BEGIN, u32::MAX)].into_iter().chain(inner);
        assert_eq!(heads(&bytes), all.chain([(BATCH_END, u32::MAX)]).collect::<Vec<_>>());
        assert_eq!(steps.len(), kinds.len());
        assert_eq!(steps[3], "look at what goes out through");
    }

    #[test]
    fn attributes_are_filled_up_and_their_length_is_without_the_filling() {
        assert_eq!(
            text(1, "ab"),
            [7_u16.to_ne_bytes(), 1_u16.to_ne_bytes()]
                .concat()
                .into_iter()
                .chain(*b"ab\0\0")
                .collect::<Vec<_>>()
        );
        assert_eq!(number(2, 1)[4..], [0, 0, 0, 1]);
        assert_eq!(nested(3, &[number(1, 0), number(2, 0)]).len(), 20);
    }

    #[test]
    fn verdicts_are_told_from_other_messages() {
        let mut answer = Vec::new();
        message(&mut answer, ERROR, 0, 3, &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(verdict(&answer), Some((3, Err(Errno::NOENT))));
        let mut answer = Vec::new();
        message(&mut answer, ERROR, 0, 4, &[0; 4]);
        assert_eq!(verdict(&answer), Some((4, Ok(()))));
        answer[4] = 3;
        assert_eq!(verdict(&answer), None);
        assert_eq!(verdict(&answer[..10]), None);
    }
}
