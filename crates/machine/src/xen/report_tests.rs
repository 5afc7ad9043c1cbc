//! The samples were printed by Xen 4.20 in the lab.

use std::time::Duration;

use super::{Shutdown, configurations, domains, host};

#[test]
fn the_list_of_domains() {
    let table = "\
Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label
Domain-0                                     0   448     1     r-----       8.2 00000000-0000-0000-0000-000000000000        -                -
g1                                           1    96     1     --p---       0.0 7733ca88-4543-433e-a5ba-59f4fe53fb4e        -                -
two words                                    2   128     2     ---s--      13.6 7733ca88-4543-433e-a5ba-59f4fe53fb4f        0                -
down                                         3   128     2     ---sc-       1.5 7733ca88-4543-433e-a5ba-59f4fe53fb50        3                -
(null)                                       4     0     1     --p--d       1.0 7733ca88-4543-433e-a5ba-59f4fe53fb51        -                -
nonsense
";
    let found = domains(table);
    assert_eq!(found.len(), 5);
    assert_eq!((found[1].name.as_str(), found[1].id, found[1].memory), ("g1", 1, 96));
    assert!(found[1].paused && found[1].ended.is_none());
    assert_eq!(found[2].name, "two words");
    assert_eq!(found[2].cpu_time, Duration::from_millis(13_600));
    assert_eq!(found[2].ended, Some(Shutdown::PowerOff));
    assert_eq!(found[3].ended, Some(Shutdown::Crash));
    assert!(found[4].dying && !found[3].dying);
    assert!(domains("").is_empty());
}

#[test]
fn the_host() {
    let text = "\
host                   : lab
nr_cpus                : 2
total_memory           : 1023
free_memory            : 530
xen_version            : 4.20.5-pre
virt_caps              : pv hvm hap gnttab-v1 gnttab-v2
xen_scheduler          : credit2
";
    let found = host(text).unwrap();
    assert_eq!((found.version.as_str(), found.scheduler.as_str()), ("4.20.5-pre", "credit2"));
    assert_eq!((found.free_memory, found.total_memory, found.hardware), (530, 1023, true));
    assert_eq!(found.processors, 2);
    assert_eq!(host("host : lab\n"), None);
}

#[test]
fn a_domains_configuration() {
    let json = r#"[{"domid": 4, "config": {
        "c_info": {"type": "pv", "name": "g1", "uuid": "90f8418f-5934-4b6b-a7bc-b6af11700d47", "run_hotplug_scripts": "True"},
        "b_info": {"max_vcpus": 1, "max_memkb": 163840, "target_memkb": 98304,
                   "vcpu_hard_affinity": [[1], [0, 2]],
                   "sched_params": {"sched": "credit2", "weight": 128, "cap": 50}, "type.pv": {}},
        "on_reboot": "restart"}}]"#;
    let found = configurations(json);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, found[0].name.as_str(), found[0].kind.as_str()), (4, "g1", "pv"));
    assert_eq!((found[0].target, found[0].weight, found[0].cap), (96, Some(128), Some(50)));
    assert_eq!((found[0].maximum, &found[0].pinned), (160, &vec![vec![1], vec![0, 2]]));
    assert!(configurations("not JSON").is_empty());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read(text in "[a-z0-9 :{}\\[\\]\"\n-]{0,300}") {
        let _ = (domains(&text), host(&text), configurations(&text));
    }
}
