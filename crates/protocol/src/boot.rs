//! Words on the kernel's command line by which a machine's `/init` is told what kind of machine it is on.

/// systemd is to load no BPF programs of its own: for an emulated processor, on which the kernel's examination of them takes
/// a tenth of the boot.
pub const NO_BPF_ARGUMENT: &str = "gridgate.bpf=off";
