//! What a node may send: a classic BPF program for the ingress of its tap.
//!
//! It lets pass, and drops all else:
//! - from the node's Ethernet address, untagged, and
//! - IPv4 with the node's address as source, or
//! - ARP (Ethernet, IPv4) whose sender is the node's Ethernet and IP address.
//!
//! The kernel runs it in the classifier's direct-action mode: what it returns is the verdict.
//! A load beyond the frame's end would end it with 0, which means "pass": so the length
//! is checked before anything is loaded.

use std::net::Ipv4Addr;

use crate::plan::Mac;

const PASS: u32 = 0; // TC_ACT_OK
const DROP: u32 = 2; // TC_ACT_SHOT

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`: the tag is beside the frame, not in it.
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

const IPV4: u32 = 0x0800;
const ARP: u32 = 0x0806;

/// `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// One node's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The program as the kernel takes it.
    pub(crate) program: Vec<u8>,
    instructions: Vec<Instruction>,
}

impl Filter {
    /// The filter for the node with these addresses.
    pub(crate) fn new(mac: Mac, address: Ipv4Addr) -> Self {
        let mut program = Vec::new();
        let instructions = instructions(mac, address);
        for Instruction { code, if_true, if_false, value } in instructions.iter().copied() {
            program.extend_from_slice(&code.to_ne_bytes());
            program.extend_from_slice(&[if_true, if_false]);
            program.extend_from_slice(&value.to_ne_bytes());
        }
        Self { program, instructions }
    }

    /// As tc-bpf(8) takes it after `bytecode`: how many, then each as four numbers.
    pub(crate) fn text(&self) -> String {
        let one = |Instruction { code, if_true, if_false, value }: &Instruction| {
            format!(",{code} {if_true} {if_false} {value}")
        };
        let all: String = self.instructions.iter().map(one).collect();
        format!("{}{all}", self.instructions.len())
    }

    /// Number of instructions.
    pub(crate) fn length(&self) -> u16 {
        u16::try_from(self.program.len() / 8).unwrap_or(u16::MAX)
    }
}

fn instructions(mac: Mac, address: Ipv4Addr) -> Vec<Instruction> {
    let [a, b, c, d, e, f] = mac;
    let mac_start = u32::from_be_bytes([a, b, c, d]);
    let mac_end = u32::from(u16::from_be_bytes([e, f]));
    let address = u32::from(address);

    let mut arp = Vec::new();
    require(&mut arp, LOAD_LENGTH, 0, JUMP_AT_LEAST, 42);
    require(&mut arp, LOAD_WORD, 14, JUMP_EQUAL, 0x0001_0800); // Ethernet, IPv4
    require(&mut arp, LOAD_HALF, 18, JUMP_EQUAL, 0x0604); // lengths of their addresses
    require(&mut arp, LOAD_WORD, 22, JUMP_EQUAL, mac_start);
    require(&mut arp, LOAD_HALF, 26, JUMP_EQUAL, mac_end);
    require(&mut arp, LOAD_WORD, 28, JUMP_EQUAL, address);
    arp.push(plain(RETURN, PASS));

    let mut program = Vec::new();
    require(&mut program, LOAD_LENGTH, 0, JUMP_AT_LEAST, 34);
    require(&mut program, LOAD_BYTE, VLAN_TAG_PRESENT, JUMP_EQUAL, 0);
    require(&mut program, LOAD_WORD, 6, JUMP_EQUAL, mac_start);
    require(&mut program, LOAD_HALF, 10, JUMP_EQUAL, mac_end);
    program.push(plain(LOAD_HALF, 12));
    let over_arp = u8::try_from(arp.len()).unwrap_or(u8::MAX);
    program.push(Instruction { code: JUMP_EQUAL, if_true: 0, if_false: over_arp, value: ARP });
    program.extend(arp);
    require(&mut program, LOAD_HALF, 12, JUMP_EQUAL, IPV4);
    require(&mut program, LOAD_WORD, 26, JUMP_EQUAL, address);
    program.push(plain(RETURN, PASS));
    program.push(plain(RETURN, DROP));
    aim_at_the_end(&mut program);
    program
}

/// A jump whose other way leads to the last instruction, the drop.
const TO_THE_END: u8 = u8::MAX;

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn require(program: &mut Vec<Instruction>, load: u16, offset: u32, compare: u16, value: u32) {
    program.push(plain(load, offset));
    program.push(Instruction { code: compare, if_true: 0, if_false: TO_THE_END, value });
}

fn aim_at_the_end(program: &mut [Instruction]) {
    let last = program.len() - 1;
    for (position, instruction) in program.iter_mut().enumerate() {
        if instruction.if_false == TO_THE_END {
            instruction.if_false = u8::try_from(last - position - 1).unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_check_leads_to_the_drop() {
        let program = instructions([2, 0, 0, 0, 0, 1], Ipv4Addr::new(198, 51, 100, 10));
        assert_eq!(program.last(), Some(&plain(RETURN, DROP)));
        let jumps = program.iter().enumerate().filter(|(_, i)| i.code & 7 == 5);
        for (position, jump) in jumps.filter(|(_, jump)| jump.value != ARP) {
            assert_eq!(position + 1 + usize::from(jump.if_false), program.len() - 1);
        }
    }

    #[test]
    fn a_filter_is_told_to_tc_in_numbers() {
        let filter = Filter::new([2, 0, 0, 0, 0, 1], Ipv4Addr::new(198, 51, 100, 10));
        let text = filter.text();
        let (count, rest) = text.split_once(',').unwrap();
        assert_eq!(count, filter.length().to_string());
        assert_eq!(rest.split(',').count(), usize::from(filter.length()));
        assert!(text.ends_with(",6 0 0 0,6 0 0 2"), "{text}");
    }

    #[test]
    fn filters_differ_with_each_address() {
        let one = Filter::new([2, 0, 0, 0, 0, 1], Ipv4Addr::new(198, 51, 100, 10));
        assert_ne!(one, Filter::new([2, 0, 0, 0, 0, 2], Ipv4Addr::new(198, 51, 100, 10)));
        assert_ne!(one, Filter::new([2, 0, 0, 0, 0, 1], Ipv4Addr::new(198, 51, 100, 11)));
        assert_eq!(usize::from(one.length()) * 8, one.program.len());
    }
}
