//! Profiles for tests.

use std::net::Ipv4Addr;

use gridgate_protocol::node_profile::*;

pub(crate) fn empty() -> NodeProfile {
    NodeProfile {
        schema: SCHEMA,
        site: "dublin".into(),
        domain: "dublin.test".into(),
        node: "wn1".into(),
        role: "wn".into(),
        address: Ipv4Addr::LOCALHOST,
        prefix_length: 24,
        mac: "02:67:00:00:00:14".into(),
        server: Ipv4Addr::LOCALHOST,
        components: vec![],
        packages: vec![],
        groups: vec![],
        users: vec![],
        directories: vec![],
        files: vec![],
        links: vec![],
        certificates: vec![],
        commands: vec![],
        units: vec![],
        checks: vec![],
        reconcile: Reconcile::Off,
    }
}

pub(crate) fn file(path: &str, content: Content) -> File {
    File {
        path: path.into(),
        content,
        owner: "root".into(),
        group: "root".into(),
        mode: 0o640,
        component: "test".into(),
    }
}

pub(crate) fn text(path: &str, content: &str) -> File {
    file(path, Content::Text(content.into()))
}

pub(crate) fn unit(name: &str, state: UnitState, restart_on: &[&str]) -> Unit {
    Unit {
        name: name.into(),
        state,
        restart_on: restart_on.iter().map(|path| (*path).to_owned()).collect(),
        reload: false,
        component: "test".into(),
    }
}

pub(crate) fn command(name: &str, script: &str, on_change: &[&str]) -> Command {
    Command {
        name: name.into(),
        run: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        creates: None,
        on_change: on_change.iter().map(|path| (*path).to_owned()).collect(),
        component: "test".into(),
    }
}

pub(crate) fn certificate() -> Certificate {
    Certificate {
        name: "host".into(),
        kind: CertificateKind::Host,
        subject: vec![("O".into(), "dublin.test".into()), ("CN".into(), "wn1.dublin.test".into())],
        dns: vec!["wn1.dublin.test".into()],
        certificate_path: "/etc/grid-security/hostcert.pem".into(),
        key_path: "/etc/grid-security/hostkey.pem".into(),
        owner: "root".into(),
        group: "root".into(),
        copies: vec![CertificateCopy {
            certificate_path: "/etc/grid-security/xrd/cert.pem".into(),
            key_path: "/etc/grid-security/xrd/key.pem".into(),
            owner: "root".into(),
            group: "root".into(),
        }],
        component: "test".into(),
    }
}

pub(crate) fn check(name: &str, test: HealthTest) -> HealthCheck {
    HealthCheck { name: name.into(), test, component: "test".into() }
}
