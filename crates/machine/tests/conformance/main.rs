//! What every VMM must do, proven with real guests: one test function per
//! promise, written once over a [`Backend`], instantiated for each backend below.
//! Needs root and, the first time, the host's package mirror.

mod archive;
mod guest;
mod initramfs;
mod lab;
mod promises;
mod qemu;
mod uml;
mod xen;

/// One promise of one backend, as a test.
macro_rules! promise {
    ([$($attribute:tt)*], $backend:ty, $group:ident, $promise:ident) => {
        #[test]
        $($attribute)*
        fn $promise() {
            crate::promises::$group::$promise::<$backend>();
        }
    };
}

/// Promises of one backend, with attributes.
macro_rules! promises {
    ($name:ident, $backend:ty, $attributes:tt, $($group:ident: [$($promise:ident),*]),*) => {
        mod $name {
            $($(promise!($attributes, $backend, $group, $promise);)*)*
        }
    };
}

/// Instantiates promises for one backend; with `ignore = "why"` they run only when they are asked for.
macro_rules! conformance {
    (
        $name:ident, $backend:ty, ignore = $why:literal,
        $($group:ident: [$($promise:ident),* $(,)?]),* $(,)?
    ) => {
        promises!($name, $backend, [#[ignore = $why]], $($group: [$($promise),*]),*);
    };
    ($name:ident, $backend:ty, $($group:ident: [$($promise:ident),* $(,)?]),* $(,)?) => {
        promises!($name, $backend, [], $($group: [$($promise),*]),*);
    };
}

/// The list of promises, once for all backends.
macro_rules! backend {
    ($name:ident, $backend:ty $(, ignore = $why:literal)?) => {
        conformance!(
            $name,
            $backend,
            $(ignore = $why,)?
            life: [
                launches_and_boots,
                stops_gracefully,
                stops_gracefully_when_asked_before_the_guest_is_up,
                a_guest_that_missed_the_button_is_asked_again,
                a_guest_that_listens_is_asked_once,
                a_guest_that_will_not_stop_is_killed_at_the_limit,
                an_interrupted_stop_kills_nothing,
                kills,
                restarts_on_the_same_disk,
                a_guest_may_reboot_itself,
                a_second_start_is_refused,
                two_run_at_once,
                a_probe_boots_a_kernel,
            ],
            failure: [
                a_panic_is_told_with_its_words,
                a_bad_kernel_is_told,
                a_missing_disk_is_told,
                a_disk_in_use_names_its_user,
                a_missing_network_is_told,
                outlives_its_starter,
                a_killed_shim_takes_the_guest_along_and_is_told,
            ],
            console: [
                speaks_and_listens,
                shows_history_first,
                a_second_writer_is_refused,
                stealing_works,
                many_may_watch,
                a_flood_neither_blocks_nor_grows,
                a_reader_that_does_not_read_blocks_nobody,
            ],
            isolation: [
                runs_as_its_user_without_capabilities,
                sees_only_its_jail,
                has_namespaces_of_its_own,
                keeps_its_limits,
                leaves_nothing_behind,
                stays_small,
            ],
            network: [
                sees_its_network_card,
                limits_its_network_card,
                starts_without_a_limit_on_its_network,
            ],
            live: [
                holds_its_guest_and_lets_it_go_on,
                changes_its_guests_memory,
                slows_a_disk_down,
                changes_its_share_of_the_cpu,
            ],
        );
    };
}

backend!(uml_seccomp, crate::uml::Seccomp);
backend!(uml_ptrace, crate::uml::Ptrace);

conformance!(
    xen_pv,
    crate::xen::Pv,
    ignore = "needs Xen: cargo xtask xen-lab test",
    life: [
        launches_and_boots,
        stops_gracefully,
        stops_gracefully_when_asked_before_the_guest_is_up,
        a_guest_that_will_not_stop_is_killed_at_the_limit,
        an_interrupted_stop_kills_nothing,
        kills,
        restarts_on_the_same_disk,
        a_guest_may_reboot_itself,
        a_second_start_is_refused,
        two_run_at_once,
    ],
    failure: [
        a_panic_is_told_with_its_words,
        a_bad_kernel_is_told,
        a_missing_disk_is_told,
        a_disk_in_use_names_its_user,
        a_missing_network_is_told,
        outlives_its_starter,
    ],
    console: [
        speaks_and_listens,
        shows_history_first,
        a_second_writer_is_refused,
        stealing_works,
        many_may_watch,
        a_flood_neither_blocks_nor_grows,
    ],
    isolation: [stays_small],
    network: [limits_its_network_card, starts_without_a_limit_on_its_network],
    domain: [
        leaves_no_domain_and_no_device,
        a_domain_that_outlives_its_shim_is_ended,
        a_domain_of_that_name_that_is_not_ours_is_left_alone,
        too_much_memory_is_told,
        a_missing_bridge_is_told,
        joins_the_sites_bridge_under_its_name,
        live_limits_and_pauses,
        boots_the_kernel_on_its_disk,
        a_disk_without_a_good_kernel_is_told,
        starts_with_its_tuning,
    ],
);

conformance!(
    xen_pvh,
    crate::xen::Pvh,
    ignore = "needs Xen: cargo xtask xen-lab test",
    life: [stops_gracefully, a_guest_may_reboot_itself],
    failure: [a_panic_is_told_with_its_words],
    domain: [joins_the_sites_bridge_under_its_name, boots_the_kernel_on_its_disk],
);

backend!(qemu_tcg, crate::qemu::Microvm);

backend!(kvm_microvm, crate::qemu::KvmMicrovm, ignore = "needs KVM: cargo xtask kvm-lab test");

/// The PC: what depends on its buses, its firmware, its keyboard and its clock.
macro_rules! pc {
    ($name:ident, $backend:ty $(, ignore = $why:literal)?) => {
        conformance!(
            $name,
            $backend,
            $(ignore = $why,)?
            life: [
                launches_and_boots,
                stops_gracefully,
                a_guest_may_reboot_itself,
                a_probe_boots_a_kernel,
            ],
            failure: [a_panic_is_told_with_its_words],
            console: [speaks_and_listens],
            isolation: [keeps_its_limits, stays_small],
            network: [sees_its_network_card],
        );
    };
}

pc!(qemu_tcg_q35, crate::qemu::Q35);
pc!(kvm_q35, crate::qemu::KvmQ35, ignore = "needs KVM: cargo xtask kvm-lab test");
