//! The CA as a site uses it. Where the `openssl` command is installed, it has the
//! last word on hash, subject and purpose.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use gridgate_protocol::node_profile::CertificateKind;
use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};

use super::{CaError, CertificateRequest, SiteCa};

/// One RSA key for all tests: making one takes a good part of a second.
static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());

fn csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "somebody else");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn host(name: &str) -> CertificateRequest {
    CertificateRequest {
        kind: CertificateKind::Host,
        subject: vec![("O".into(), "dublin.test".into()), ("CN".into(), name.into())],
        dns: vec![name.into()],
    }
}

fn person(name: &str) -> CertificateRequest {
    CertificateRequest {
        kind: CertificateKind::User,
        subject: vec![
            ("O".into(), "dublin.test".into()),
            ("OU".into(), "People".into()),
            ("CN".into(), name.into()),
        ],
        dns: Vec::new(),
    }
}

fn ca_in(dir: &Path) -> SiteCa {
    SiteCa::open_or_create(&dir.join("ca"), "dublin", "dublin.test").unwrap()
}

/// What `openssl` prints; none where it is not installed.
fn openssl(arguments: &[&str], input: &str) -> Option<String> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
}

/// Whether `openssl`, where installed, says so.
fn assert_openssl(arguments: &[&str], input: &str, said: &str) {
    if let Some(output) = openssl(arguments, input) {
        assert!(output.contains(said), "openssl {arguments:?} said:\n{output}\nnot:\n{said}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_ca_is_made_once_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let made = ca_in(dir.path());
    let opened = ca_in(dir.path());
    assert_eq!(made.certificate_pem(), opened.certificate_pem());
    assert_eq!(made.subject(), "/O=dublin.test/CN=dublin Test CA");
    assert_eq!(mode(&dir.path().join("ca")), 0o700);
    assert_eq!(mode(&dir.path().join("ca/ca.key")), 0o600);
    assert_eq!(mode(&dir.path().join("ca/ca.pem")), 0o644);

    let pem = made.certificate_pem();
    let text = ["x509", "-noout", "-text"];
    assert_openssl(&text, pem, "CA:TRUE");
    assert_openssl(&text, pem, "Certificate Sign, CRL Sign");
    assert_openssl(&text, pem, "X509v3 Subject Key Identifier");
    assert_openssl(&text, pem, "sha256WithRSAEncryption");
    assert_openssl(&["x509", "-noout", "-subject"], pem, "O = dublin.test, CN = dublin Test CA");
    let path = dir.path().join("ca/ca.pem");
    let path = path.to_str().unwrap();
    assert_openssl(&["verify", "-x509_strict", "-CAfile", path, path], "", ": OK");
}

#[test]
fn the_hash_is_openssls() {
    // The last ones exercise what the canonical form changes.
    for (site, domain) in [
        ("dublin", "dublin.test"),
        ("Ó Briain", "Baile Átha Cliath.test"),
        ("two  spaces   and MIXED Case", "EXAMPLE.test"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let ca = SiteCa::open_or_create(dir.path(), site, domain).unwrap();
        assert_eq!(ca.hash().len(), 8);
        assert_openssl(&["x509", "-noout", "-hash"], ca.certificate_pem(), ca.hash());
    }
    // A known answer, for hosts without the command (OpenSSL 3.0.19).
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ca_in(dir.path()).hash(), "0bac804d");
}

#[test]
fn subject_and_extensions_come_from_the_profile_only() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    let path = dir.path().join("ca/ca.pem");
    let path = path.to_str().unwrap();

    let pem = ca.sign(&csr(&KEY), &host("ce.dublin.test")).unwrap();
    let file = dir.path().join("host.pem");
    std::fs::write(&file, &pem).unwrap();
    let file = file.to_str().unwrap();
    for purpose in ["sslserver", "sslclient"] {
        let verify = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", path, file];
        assert_openssl(&verify, "", ": OK");
    }
    let named = ["verify", "-verify_hostname", "ce.dublin.test", "-CAfile", path, file];
    assert_openssl(&named, "", ": OK");
    assert_openssl(
        &["x509", "-noout", "-subject"],
        &pem,
        "subject=O = dublin.test, CN = ce.dublin.test",
    );
    let text = openssl(&["x509", "-noout", "-text"], &pem).unwrap_or_default();
    for alien in ["evil.example", "somebody else", "CA:TRUE"] {
        assert!(!text.contains(alien), "{alien} came from the request:\n{text}");
    }

    let pem = ca.sign(&csr(&KEY), &person("Alice Example")).unwrap();
    let subject = "subject=O = dublin.test, OU = People, CN = Alice Example";
    assert_openssl(&["x509", "-noout", "-subject"], &pem, subject);
    let text = ["x509", "-noout", "-text"];
    assert_openssl(&text, &pem, "Digital Signature, Key Encipherment");
    assert_openssl(&text, &pem, "X509v3 Authority Key Identifier");
    assert_openssl(&text, &pem, "CA:FALSE");
    assert_openssl(&["x509", "-noout", "-purpose"], &pem, "SSL client : Yes");
    assert_openssl(&["x509", "-noout", "-purpose"], &pem, "SSL server : No");
}

#[test]
fn names_beyond_ascii_are_utf8() {
    let dir = tempfile::tempdir().unwrap();
    let pem = ca_in(dir.path()).sign(&csr(&KEY), &person("Oisín Ó Briain")).unwrap();
    let subject = ["x509", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus"];
    assert_openssl(&subject, &pem, "CN=Oisín Ó Briain");
}

#[test]
fn every_certificate_is_recorded_with_a_serial_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    // What a killed writer may have left.
    std::fs::write(dir.path().join("ca/issued.jsonl"), r#"{"at":"20"#).unwrap();
    let pems = [0, 1].map(|_| ca.sign(&csr(&KEY), &person("Alice Example")).unwrap());
    let record = std::fs::read_to_string(dir.path().join("ca/issued.jsonl")).unwrap();
    let lines: Vec<&str> = record.lines().collect();
    assert_eq!(lines.len(), 3);
    let serials: Vec<String> = lines[1..]
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["serial"].as_str().unwrap().to_owned())
        .collect();
    assert_ne!(serials[0], serials[1]);
    assert!(serials.iter().all(|serial| serial.len() == 32));
    for (pem, serial) in pems.iter().zip(&serials) {
        assert_openssl(&["x509", "-noout", "-serial"], pem, &serial.to_uppercase());
    }
}

#[test]
fn requests_that_are_not_what_they_should_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    let wanted = host("ce.dublin.test");

    let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let error = ca.sign(&csr(&elliptic), &wanted).unwrap_err();
    assert!(matches!(error, CaError::WeakKey { .. }), "{error}");

    let args =
        ["req", "-new", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x", "-keyout", "/dev/null"];
    if let Some(small) = openssl(&args, "") {
        let start = small.find("-----BEGIN CERTIFICATE REQUEST").unwrap();
        let error = ca.sign(&small[start..], &wanted).unwrap_err();
        assert!(matches!(error, CaError::WeakKey { .. }), "{error}");
    }

    // Another's key in a request signed by oneself: one bit of the signature turned.
    let good = csr(&KEY);
    let (_, pem) = x509_parser::pem::parse_x509_pem(good.as_bytes()).unwrap();
    let mut der = pem.contents;
    *der.last_mut().unwrap() ^= 1;
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let forged =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    let error = ca.sign(&forged, &wanted).unwrap_err();
    assert!(matches!(error, CaError::BadSignature { .. }), "{error}");

    for text in ["", "hello", ca.certificate_pem(), &"A".repeat(100_000)] {
        let error = ca.sign(text, &wanted).unwrap_err();
        assert!(matches!(error, CaError::BadRequest { .. }), "{error}");
    }
    assert!(!dir.path().join("ca/issued.jsonl").exists(), "a refused request was recorded");
}

#[test]
fn subjects_that_could_be_taken_for_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    let long = "x".repeat(65);
    for name in ["", " Alice", "Alice\nBob", "Alice/CN=Bob", "Alice/x/O=y", &long] {
        let error = ca.sign(&csr(&KEY), &person(name)).unwrap_err();
        assert!(matches!(error, CaError::Subject { .. }), "{name}: {error}");
    }
    ca.sign(&csr(&KEY), &person("host/ce.dublin.test")).unwrap();

    let mut twice = person("Alice");
    twice.subject.push(("CN".into(), "Bob".into()));
    assert!(matches!(ca.sign(&csr(&KEY), &twice), Err(CaError::Subject { .. })));
    let mut unknown = person("Alice");
    unknown.subject[0].0 = "X".into();
    assert!(matches!(ca.sign(&csr(&KEY), &unknown), Err(CaError::Subject { .. })));
    let mut none = person("Alice");
    none.subject.clear();
    assert!(matches!(ca.sign(&csr(&KEY), &none), Err(CaError::NoSubject)));

    for name in ["", "-a.test", "a..b", "a b", "é.test", "*.test", &long] {
        let mut named = host("ce.dublin.test");
        named.dns = vec![name.to_owned()];
        let error = ca.sign(&csr(&KEY), &named).unwrap_err();
        assert!(matches!(error, CaError::DnsName { .. }), "{name}: {error}");
    }
}

#[test]
fn a_kill_between_any_two_writes_leaves_a_usable_ca() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    let folder = dir.path().join("ca");
    let key = std::fs::read(folder.join("ca.key")).unwrap();

    // Killed between key and certificate: the key is taken up.
    std::fs::remove_file(folder.join("ca.pem")).unwrap();
    std::fs::write(folder.join(".ca.pem.new"), "-----BEGIN CERT").unwrap();
    let again = ca_in(dir.path());
    assert_eq!(std::fs::read(folder.join("ca.key")).unwrap(), key);
    assert_eq!(again.hash(), ca.hash());

    // Killed while the key was written.
    std::fs::remove_file(folder.join("ca.pem")).unwrap();
    std::fs::rename(folder.join("ca.key"), folder.join(".ca.key.new")).unwrap();
    std::fs::write(folder.join(".ca.key.new"), "half a k").unwrap();
    ca_in(dir.path()).sign(&csr(&KEY), &person("Alice")).unwrap();
}

#[test]
fn damage_is_told_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    drop(ca_in(dir.path()));
    let folder = dir.path().join("ca");
    let open = |site: &str| SiteCa::open_or_create(&folder, site, "dublin.test").unwrap_err();

    assert!(matches!(open("cork"), CaError::OtherSubject { .. }));

    let key = std::fs::read(folder.join("ca.key")).unwrap();
    std::fs::write(folder.join("ca.key"), KEY.serialize_pem()).unwrap();
    let error = open("dublin");
    assert!(error.to_string().contains("is not its key"), "{error}");
    std::fs::write(folder.join("ca.key"), "garbage").unwrap();
    assert!(matches!(open("dublin"), CaError::Damaged { .. }));
    std::fs::remove_file(folder.join("ca.key")).unwrap();
    assert!(matches!(open("dublin"), CaError::KeyMissing { .. }));

    std::fs::write(folder.join("ca.key"), key).unwrap();
    std::fs::write(folder.join("ca.pem"), [0xff, 0xfe]).unwrap();
    assert!(matches!(open("dublin"), CaError::Damaged { .. }));
}

#[test]
fn makers_at_the_same_time_get_the_same_ca() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let made: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| ca_in(path).certificate_pem().to_owned())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_servers_identity_is_kept_while_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca_in(dir.path());
    let home = dir.path().join("server");
    let first = ca.server_identity(&home, "gridgate-server").unwrap();
    assert_eq!(ca.server_identity(&home, "gridgate-server").unwrap(), first);
    assert_eq!(mode(&home.join("server-identity.json")), 0o600);
    assert!(!format!("{first:?}").contains("PRIVATE KEY"));

    let path = dir.path().join("ca/ca.pem");
    let file = dir.path().join("server.pem");
    std::fs::write(&file, &first.certificate_pem).unwrap();
    let (path, file) = (path.to_str().unwrap(), file.to_str().unwrap());
    let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname"];
    let rest = ["gridgate-server", "-CAfile", path, file];
    assert_openssl(&[verify.as_slice(), &rest].concat(), "", ": OK");

    assert_ne!(ca.server_identity(&home, "other-name").unwrap(), first, "another name");
    let other = SiteCa::open_or_create(&dir.path().join("ca2"), "dublin", "dublin.test").unwrap();
    let kept = ca.server_identity(&home, "gridgate-server").unwrap();
    assert_ne!(other.server_identity(&home, "gridgate-server").unwrap(), kept, "another CA");
    std::fs::write(home.join("server-identity.json"), "{").unwrap();
    ca.server_identity(&home, "gridgate-server").unwrap();
    // In the CA's own folder too: the locks must not wait for each other.
    ca.server_identity(&dir.path().join("ca"), "gridgate-server").unwrap();
}
