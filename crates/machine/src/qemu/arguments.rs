//! QEMU's command line. Nothing that QEMU adds by itself is taken: every device is named.

use super::{INITRAMFS, KERNEL, QMP, Qemu, emulated, ticks};
use crate::spec::{Accelerator, MachineSpec, QemuMachine};
use crate::vmm::SEAT;

/// Most memory for translated code, MiB: a node's working set fits, and what QEMU takes
/// beside the guest's memory has a bound.
const CODE_BUFFER: u32 = 128;

/// One more than any byte.
const NO_CHARACTER: u16 = 256;

/// A disk's name in commands to QEMU.
pub(super) fn disk_id(number: usize) -> String {
    format!("disk{number}")
}

/// Commas in values are doubled: qemu(1).
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

pub(super) fn of(qemu: &Qemu, spec: &MachineSpec) -> Vec<String> {
    let mut line = Line { words: Vec::new(), bus: Bus::of(qemu.machine) };
    line.fixed();
    line.machine(qemu, spec);
    line.kernel(qemu, spec);
    line.disks(spec);
    line.network(spec);
    line.words
}

/// How virtio devices are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    Pci,
    /// Registers in memory.
    Mmio,
}

impl Bus {
    fn of(machine: QemuMachine) -> Self {
        match machine {
            QemuMachine::Q35 => Self::Pci,
            QemuMachine::Microvm => Self::Mmio,
        }
    }

    fn device(self, name: &str) -> String {
        match self {
            Self::Pci => format!("virtio-{name}-pci"),
            Self::Mmio => format!("virtio-{name}-device"),
        }
    }
}

struct Line {
    words: Vec<String>,
    bus: Bus,
}

impl Line {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.words.extend([format!("-{option}"), value.into()]);
    }

    fn fixed(&mut self) {
        self.words.extend(["-nodefaults", "-no-user-config"].map(String::from));
        self.add("display", "none");
        let denied = "obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        self.add("sandbox", format!("on,{denied}"));
        self.console();
        self.add("chardev", format!("socket,id=control,path={SEAT}/{QMP},server=on,wait=off"));
        self.add("mon", "chardev=control,mode=control");
    }

    /// One stream for two devices: the serial port, on which a kernel speaks from its first moment to its last, and virtio's console,
    /// which needs modules. What is typed goes to the one that was named last, as it is: no character escapes to QEMU.
    fn console(&mut self) {
        self.add("chardev", "stdio,id=console,signal=off,mux=on");
        self.add("echr", NO_CHARACTER.to_string());
        self.add("serial", "chardev:console");
        self.add("device", format!("{},max_ports=1", self.bus.device("serial")));
        self.add("device", "virtconsole,chardev=console");
    }

    fn machine(&mut self, qemu: &Qemu, spec: &MachineSpec) {
        match qemu.machine {
            QemuMachine::Q35 => {
                self.add("machine", "q35,vmport=off,smbus=off,sata=off,usb=off,graphics=off");
            }
            // Debian's kernel finds memory-mapped devices by ACPI alone.
            QemuMachine::Microvm => {
                self.add("machine", "microvm,acpi=on,pic=on,pit=on,rtc=on");
                // The other firmware puts the ACPI tables where QEMU then puts the initramfs.
                self.add("bios", "qboot.rom");
                // The keyboard, for Ctrl-Alt-Del.
                self.add("device", "i8042");
            }
        }
        match qemu.accelerator {
            Accelerator::Kvm => {
                self.add("accel", "kvm");
                self.add("cpu", "host");
            }
            Accelerator::Tcg => {
                self.add("accel", format!("tcg,thread=multi,tb-size={CODE_BUFFER}"));
                self.add("cpu", emulated::CPU);
            }
        }
        if let Some(clock) = spec.clock.and_then(|clock| jiff::Timestamp::from_second(clock).ok()) {
            self.add("rtc", format!("base={}", clock.strftime("%Y-%m-%dT%H:%M:%S")));
        }
        self.add("m", format!("{}K", spec.memory >> 10));
        self.add("smp", spec.cpus.to_string());
        self.add("device", self.bus.device("rng"));
        self.add("device", format!("{},deflate-on-oom=on", self.bus.device("balloon")));
    }

    fn kernel(&mut self, qemu: &Qemu, spec: &MachineSpec) {
        self.add("kernel", format!("/boot/{KERNEL}"));
        if qemu.initramfs.is_some() {
            self.add("initrd", format!("/boot/{INITRAMFS}"));
        }
        // The last is the guest's `/dev/console`, once it is there.
        let mut words = vec!["console=ttyS0".to_owned(), "console=hvc0".to_owned()];
        if qemu.accelerator == Accelerator::Tcg {
            words.extend(emulated::KERNEL.map(str::to_owned));
            // What the kernel would check this clock by is worse: a count of interrupts, late on a busy host.
            words.push("tsc=reliable".to_owned());
            if qemu.machine == QemuMachine::Microvm {
                // It has no other by which the kernel could measure it.
                words.extend(ticks::per_millisecond().map(|rate| format!("tsc_early_khz={rate}")));
            }
        }
        words.extend(spec.kernel_arguments.iter().cloned());
        self.add("append", words.join(" "));
    }

    /// The host's page cache is used, and what the guest flushes reaches the disk.
    fn disks(&mut self, spec: &MachineSpec) {
        for (number, disk) in spec.disks.iter().enumerate() {
            let id = disk_id(number);
            let write = if disk.read_only { "read-only=on" } else { "discard=unmap" };
            self.add(
                "blockdev",
                format!(
                    "driver=file,node-name=file{number},filename=/disks/{number},aio=threads,\
                     cache.direct=off,cache.no-flush=off,{write}"
                ),
            );
            self.add(
                "blockdev",
                format!("driver=raw,node-name=raw{number},file=file{number},{write}"),
            );
            let device = self.bus.device("blk");
            self.add("device", format!("{device},id={id},drive=raw{number},serial={id}"));
        }
    }

    fn network(&mut self, spec: &MachineSpec) {
        let Some(nic) = &spec.nic else { return };
        let tap = value(&nic.tap);
        self.add("netdev", format!("tap,id=net,ifname={tap},script=no,downscript=no"));
        let rom = if self.bus == Bus::Pci { ",romfile=" } else { "" };
        let device = self.bus.device("net");
        self.add("device", format!("{device},netdev=net,mac={}{rom}", value(&nic.mac)));
    }
}
