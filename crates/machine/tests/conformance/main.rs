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

/// Instantiates every promise for one backend.
macro_rules! conformance {
    ($name:ident, $backend:ty, $($group:ident: [$($promise:ident),* $(,)?]),* $(,)?) => {
        mod $name {
            $($(
                #[test]
                fn $promise() {
                    crate::promises::$group::$promise::<$backend>();
                }
            )*)*
        }
    };
}

/// The list of promises, once for all backends.
macro_rules! backend {
    ($name:ident, $backend:ty) => {
        conformance!(
            $name,
            $backend,
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

/// Instantiates what a hypervisor's guests keep, for the lab only.
macro_rules! in_the_xen_lab {
    ($name:ident, $backend:ty, $($group:ident: [$($promise:ident),* $(,)?]),* $(,)?) => {
        mod $name {
            $($(
                #[test]
                #[ignore = "needs Xen: cargo xtask xen-lab test"]
                fn $promise() {
                    crate::promises::$group::$promise::<$backend>();
                }
            )*)*
        }
    };
}

in_the_xen_lab!(
    xen_pv,
    crate::xen::Pv,
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

in_the_xen_lab!(
    xen_pvh,
    crate::xen::Pvh,
    life: [stops_gracefully, a_guest_may_reboot_itself],
    failure: [a_panic_is_told_with_its_words],
    domain: [joins_the_sites_bridge_under_its_name, boots_the_kernel_on_its_disk],
);

backend!(qemu_tcg, crate::qemu::Microvm);

// The PC: what depends on its buses, its firmware, its keyboard and its clock.
conformance!(
    qemu_tcg_q35,
    crate::qemu::Q35,
    life: [launches_and_boots, stops_gracefully, a_guest_may_reboot_itself, a_probe_boots_a_kernel],
    failure: [a_panic_is_told_with_its_words],
    console: [speaks_and_listens],
    isolation: [keeps_its_limits, stays_small],
    network: [sees_its_network_card],
);
