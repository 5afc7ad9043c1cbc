//! The network card: seen by the guest, and limited by the host while the guest runs.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gridgate_machine::{Machine, MachineError, MachineSpec, Nic, Rate, VmmSpec, throttle};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::archive::run;
use crate::guest::READY;
use crate::lab::{Backend, Lab, PATIENCE, Screen, pid, shim_pid, start};
use crate::xen::BRIDGE;

const MAC: &str = "02:00:00:00:00:2a";
const HOST: &str = "192.0.2.1";

/// A machine with a card on a bridge, and its network's namespace, in which the host has an address.
fn networked<B: Backend>(lab: &mut Lab) -> (MachineSpec, PathBuf) {
    let namespace = lab.network("tap0");
    let name = namespace.file_name().unwrap().to_str().unwrap();
    let ip = |words: &str| run(Command::new("ip").args(["-n", name]).args(words.split(' ')));
    ip(&format!("link add {BRIDGE} type bridge"));
    ip(&format!("address add {HOST}/24 dev {BRIDGE}"));
    ip(&format!("link set {BRIDGE} up"));
    let mut spec = lab.spec::<B>("a");
    let tap = match spec.vmm {
        VmmSpec::Xen { .. } => "card",
        VmmSpec::Uml { .. } | VmmSpec::Qemu { .. } => "tap0",
    };
    ip(&format!("link set tap0 master {BRIDGE}"));
    let (tap, mac) = (tap.to_owned(), MAC.to_owned());
    spec.nic = Some(Nic { namespace: namespace.clone(), tap, mac, filter: None });
    (spec, namespace)
}

/// Starts it; its guest has brought the card up, and an answer through it.
fn up(spec: &MachineSpec) -> (Machine, Screen) {
    let machine = start(spec).unwrap();
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    // Its name is the kernel's affair; the address is the profile's.
    screen.type_line(&format!(
        "for c in /sys/class/net/*; do grep -q {MAC} $c/address && card=${{c##*/}}; done"
    ));
    screen.type_line("echo card: $(cat /sys/class/net/$card/address)");
    screen.expect(&format!("card: {MAC}"));
    screen.type_line(
        "busybox ip link set $card up; busybox ip address add 192.0.2.2/24 dev $card; echo u$((1))p",
    );
    screen.expect("u1p");
    ping(&mut screen);
    (machine, screen)
}

fn ping(screen: &mut Screen) {
    screen.type_line(&format!("busybox ping -c 1 {HOST} && echo pi$((1))ng"));
    screen.expect("pi1ng");
}

pub fn sees_its_network_card<B: Backend>() {
    let mut lab = Lab::new();
    let (spec, namespace) = networked::<B>(&mut lab);
    let (machine, _) = up(&spec);
    let net = |path: String| std::fs::metadata(path).unwrap().ino();
    let inside = net(format!("/proc/{}/ns/net", pid(&machine)));
    assert_eq!(inside, net(namespace.display().to_string()));
    machine.stop(PATIENCE).unwrap();
}

const fn bytes(bytes_per_second: u64) -> Rate {
    Rate { bytes_per_second: Some(bytes_per_second), operations_per_second: None }
}

/// At which the exchange below takes some seconds.
const SLOW: u64 = 256 << 10;
/// At which it would take longer than a test waits for anything.
const AS_GOOD_AS_OFF: Rate = bytes(8 << 10);
/// Sent and received at once.
const LOAD: usize = 1 << 20;
/// What passes at once at a limit: a second's worth and this.
const BURST: u64 = 64 << 10;

pub fn limits_its_network_card<B: Backend>() {
    let mut lab = Lab::new();
    let (spec, namespace) = networked::<B>(&mut lab);
    let (machine, mut screen) = up(&spec);
    exchange(&namespace, &mut screen);

    machine.limit_network(bytes(SLOW)).unwrap();
    let [sent, received] = exchange(&namespace, &mut screen);
    let least = Duration::from_secs(LOAD as u64 - SLOW - BURST) / SLOW as u32;
    assert!(sent >= least && received >= least, "{sent:?}, {received:?}: {least:?} are needed");

    let error = machine.limit_network(bytes(0)).unwrap_err();
    let MachineError::Shim { why, .. } = &error else { panic!("{error}") };
    assert_eq!(why, "a limit of 0 bytes in a second would cut the card off");
    machine.limit_network(AS_GOOD_AS_OFF).unwrap();
    machine.limit_network(Rate::default()).unwrap();
    exchange(&namespace, &mut screen);

    let passed = flood(&namespace, &machine, &mut screen);
    assert!(passed.0 > 0 && passed.0 <= passed.1, "{passed:?}");
    machine.limit_network(AS_GOOD_AS_OFF).unwrap();
    machine.kill().unwrap();
    assert!(!throttle::lift(spec.nic.as_ref().unwrap()).unwrap(), "a limit outlived its machine");
}

pub fn starts_without_a_limit_on_its_network<B: Backend>() {
    let mut lab = Lab::new();
    let (spec, _) = networked::<B>(&mut lab);
    let nic = spec.nic.as_ref().unwrap();
    let machine = start(&spec).unwrap();
    machine.limit_network(AS_GOOD_AS_OFF).unwrap();
    // A shim that is killed leaves it behind.
    let shim = rustix::process::Pid::from_raw(shim_pid(&machine).cast_signed()).unwrap();
    let end = rustix::process::pidfd_open(shim, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    poll(&mut [PollFd::new(&end, PollFlags::IN)], None).unwrap();
    let machine = start(&spec).unwrap();
    assert!(!throttle::lift(nic).unwrap(), "a limit outlived its machine's shim");
    machine.limit_network(AS_GOOD_AS_OFF).unwrap();
    assert!(throttle::lift(nic).unwrap(), "no limit was set");
    machine.kill().unwrap();
}

/// Runs `work` on a thread inside a network namespace.
fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let namespace = File::open(namespace).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// The guest sends and receives a load; after how long each was there in full.
fn exchange(namespace: &Path, screen: &mut Screen) -> [Duration; 2] {
    let [to, from] = inside(namespace, || [0; 2].map(|_| TcpListener::bind((HOST, 0)).unwrap()));
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let send = format!("busybox dd if=/dev/zero bs=4096 count={} 2>/dev/null", LOAD / 4096);
    let receive = format!("busybox nc {HOST} {} </dev/null | busybox wc -c", port(&from));
    let begin = Instant::now();
    screen.type_line(&format!("{send} | busybox nc {HOST} {} & echo got $({receive})", port(&to)));
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            accept(&to).read_exact(&mut vec![0; LOAD]).unwrap();
            begin.elapsed()
        });
        scope.spawn(move || accept(&from).write_all(&vec![0; LOAD]).unwrap());
        screen.expect(&format!("got {LOAD}"));
        let received = begin.elapsed();
        [sent.join().unwrap(), received]
    })
}

/// One that fails instead of hanging.
fn accept(listener: &TcpListener) -> TcpStream {
    set_socket_timeout(listener, Timeout::Recv, Some(PATIENCE)).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Floods the guest at a limit on frames: how many it got, and how many it may have got at most.
fn flood(namespace: &Path, machine: &Machine, screen: &mut Screen) -> (u64, u64) {
    const FRAMES: u64 = 10;
    const FLOOD: u64 = 1000;
    // The reply to each ping, and what the kernels ask for each other's addresses.
    const OTHERS: u64 = 8;
    let mut received = |mark: &str| {
        // Frames arrive in order: what went before the reply is counted.
        ping(screen);
        screen.type_line(&format!(
            "echo {mark} $(cat /sys/class/net/$card/statistics/rx_packets) {mark}$((1))"
        ));
        screen.expect(&format!("{mark}1"));
        let words = screen.seen.rsplit(&format!("{mark} ")).next().unwrap();
        words.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = received("before");
    let begin = Instant::now();
    let frames = Rate { bytes_per_second: None, operations_per_second: Some(FRAMES) };
    machine.limit_network(frames).unwrap();
    let socket = inside(namespace, || UdpSocket::bind((HOST, 0)).unwrap());
    for _ in 0..FLOOD {
        socket.send_to(b"x", ("192.0.2.2", 9)).unwrap();
    }
    let passed = FRAMES + begin.elapsed().as_secs_f64().mul_add(FRAMES as f64, 1.0) as u64;
    machine.limit_network(Rate::default()).unwrap();
    (received("after") - before, passed.min(FLOOD - 1) + OTHERS)
}
