//! What makes a guest quick whose processor QEMU emulates. Each was measured in a node's boot: `docs/vmms.md`.

/// The processor: what is quick to emulate and of use. With AVX each switch between programs saves and restores
/// its registers, and vector code is emulated piece by piece; each access to an x2APIC, or to the deadline timer, leaves the translated code.
/// On the reference machine a node's boot took a fifth less CPU time than with `max`.
pub(super) const CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand,-svm,\
     -x2apic,-tsc-deadline";

/// Words to a kernel on it.
pub const KERNEL: [&str; 7] = [
    // Tests of timers that QEMU keeps right.
    "no_timer_check",
    "nowatchdog",
    // Waits for the other processors, of which there are few or none.
    "rcupdate.rcu_expedited=1",
    "random.trust_cpu=1",
    // It does not speculate: what guards against that guards nothing, and is emulated at each switch and call.
    "mitigations=off",
    // Each lock prefix in the kernel would be taken out where there is one processor.
    "noreplace-smp",
    SPARED,
];

/// Steps of the kernel's start.
///
/// - Tests that these make of themselves: `jent_mod_init`, `crypto_kdf108_init`.
/// - The certificates with which the kernel would examine its modules' signatures, half a dozen in each boot. One that is not
///   signed would be loaded all the same; a kernel that is to refuse it needs a processor of its own.
/// - The search of its tracer for functions that do not exist, and for the names of its events' values: both are of
///   use to who traces the kernel.
const SPARED: &str = "initcall_blacklist=jent_mod_init,crypto_kdf108_init,load_system_certificate_list,\
    ftrace_check_for_weak_functions,trace_eval_init";
