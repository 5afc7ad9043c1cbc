//! The install server as an installer sees it, over real HTTPS: tokens, orders, pieces, packages, seed, and what it
//! refuses. The machines are missing, nothing else.

mod client;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use client::{Client, begin};
use gridgate_protocol::install_api::{
    Held, ImageManifest, InstallOutcome, Order, Progress, Stage, StageReport,
};
use gridgate_server::rehearsal::{Play, Rehearsal};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

/// A server on its own threads, and the nodes' one-time tokens.
struct Lab {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    rehearsal: Option<Rehearsal>,
    tokens: Vec<(String, String)>,
}

impl Lab {
    fn new(play: impl FnOnce(&std::path::Path) -> Play) -> Lab {
        let folder = tempfile::tempdir().expect("a folder");
        // Another test of this process may have installed it.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let play = play(folder.path());
        let mut lab = Lab { folder, runtime, rehearsal: None, tokens: Vec::new() };
        lab.restart();
        lab.tokens = lab.rehearsal().ready(&play).expect("ready");
        lab
    }

    /// Another server over the same home: as after a kill of the daemon.
    fn restart(&mut self) {
        self.rehearsal = None;
        let home = self.folder.path().join("home");
        let open = self.runtime.block_on(async { Rehearsal::open(&home, 2) });
        self.rehearsal = Some(open.expect("a server"));
    }

    fn rehearsal(&self) -> &Rehearsal {
        self.rehearsal.as_ref().expect("a server")
    }

    fn client(&self, node: &str) -> Client {
        let (_, token) = self.tokens.iter().find(|(name, _)| name == node).expect("the node");
        self.with(token)
    }

    fn with(&self, token: &str) -> Client {
        Client::new(self.rehearsal().address, &self.rehearsal().ca, token)
    }
}

/// An image of 24 MiB with data at both ends.
fn image(folder: &std::path::Path) -> Play {
    let path = folder.join("image.ext4");
    let file = fs::File::create(&path).expect("an image");
    file.set_len(24 * MIB as u64).expect("a size");
    let bytes: Vec<u8> = (0..9 * MIB).map(|n| (n * 31 % 251) as u8).collect();
    file.write_all_at(&bytes, 0).expect("data");
    file.write_all_at(b"the end", 24 * MIB as u64 - 4096).expect("data");
    Play::Image(path)
}

fn packages(folder: &std::path::Path) -> Play {
    let deb = |name: &str, length: usize| -> PathBuf {
        let path = folder.join(format!("{name}.deb"));
        let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 255) as u8).collect();
        fs::write(&path, bytes).expect("a package");
        path
    };
    Play::Packages(vec![deb("one", 1000), deb("two", 3 * MIB + 17)])
}

fn stage(stage: Stage, start_ms: u64, end_ms: Option<u64>) -> StageReport {
    StageReport { stage, start_ms, end_ms, bytes: Some((5, 10)), items: Some((1, 3)) }
}

fn progress(stages: Vec<StageReport>, pieces: u32) -> Progress {
    Progress { stages, doing: "writing pieces".to_owned(), pieces, failure: None }
}

/// Fetches and checks every piece, and puts the image together.
fn fetch(client: &Client) -> Vec<u8> {
    let manifest: ImageManifest =
        serde_json::from_slice(&client.get("/v1/install/image").body).expect("a manifest");
    let mut whole = vec![0; usize::try_from(manifest.size).expect("a size")];
    for (number, piece) in manifest.pieces.iter().enumerate() {
        let answer = client.get(&format!("/v1/install/image/pieces/{number}"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body.len(), piece.stored as usize);
        assert_eq!(hex::encode(Sha256::digest(&answer.body)), piece.sha256);
        let plain = zstd::bulk::decompress(&answer.body, 4 * MIB).expect("zstd");
        let start = usize::try_from(piece.offset).expect("an offset");
        whole[start..start + plain.len()].copy_from_slice(&plain);
    }
    whole
}

#[test]
fn an_image_arrives_whole_over_a_restart_of_the_server_and_damage_is_mended() {
    let mut lab = Lab::new(image);
    let (client, order) = lab.client("n1").begin("a");
    assert_eq!((order.number, order.resume), (1, None));
    assert_eq!(order.profile.profile.node, "n1");
    let done = |s, a, b| stage(s, a, Some(b));
    let mut stages = vec![done(Stage::Start, 0, 400), done(Stage::Partition, 400, 410)];
    stages.push(stage(Stage::Fetch, 410, None));
    assert_eq!(client.post("/v1/install/progress", &progress(stages.clone(), 1)).status, 204);
    let (address, session) = (lab.rehearsal().address, order.session.clone());

    lab.restart();
    assert_ne!(lab.rehearsal().address, address);
    let client = lab.with(&session);
    let damaged =
        lab.rehearsal().depot.join("images/00000000000000000000000000000001/pieces/00001.zst");
    fs::write(&damaged, b"damage").expect("damage");
    let source = fs::read(lab.folder.path().join("image.ext4")).expect("the image");
    assert!(fetch(&client) == source);
    assert!(fs::metadata(&damaged).expect("a piece").len() > 6, "it was cut again");

    stages.pop();
    stages.push(done(Stage::Fetch, 410, 2410));
    assert_eq!(client.post("/v1/install/done", &progress(stages, 3)).status, 204);
    let record = lab.rehearsal().record("n1").expect("a record");
    let fetch = record.stages.iter().find(|s| s.stage == Stage::Fetch).expect("a stage");
    assert_eq!((fetch.millis, fetch.bytes), (Some(2000), Some((5, 10))));
    assert_eq!(record.outcome, InstallOutcome::UnderWay, "it has yet to boot");
}

#[test]
fn a_token_is_good_for_its_own_node_and_one_machine() {
    let lab = Lab::new(image);
    for stranger in ["", "00", &"0".repeat(64)] {
        assert_eq!(lab.with(stranger).post("/v1/install/begin", &begin("a")).status, 401);
        assert_eq!(lab.with(stranger).get("/v1/install/image").status, 401);
        assert_eq!(lab.with(stranger).get("/v1/install/seed").status, 401);
    }
    let one_time = lab.client("n1");
    assert_eq!(one_time.get("/v1/install/seed").status, 401, "a one-time token only begins");
    let (session, _) = one_time.begin("a");
    let second = one_time.post("/v1/install/begin", &begin("b"));
    assert_eq!(second.status, 409);
    let held: Held = serde_json::from_slice(&second.body).expect("who");
    assert!(held.error.contains("n1") && held.error.contains("boot a"), "{}", held.error);
    // An installer is no agent: secrets and certificates are not for it.
    for path in ["/v1/node/profile", "/v1/node/secrets/munge-key", "/v1/node/packages"] {
        assert_eq!(session.get(path).status, 401, "{path}");
    }
    assert_eq!(session.get("/v1/install/packages/00").status, 404);
    assert_eq!(session.get("/v1/install/image/pieces/99").status, 404);
    assert_eq!(session.get("/v1/install/image/pieces/x").status, 400);
    // The next launch has another token, and what the old one began is over.
    let token = lab.rehearsal().relaunch("n1").expect("a token");
    assert_eq!(session.post("/v1/install/progress", &progress(Vec::new(), 0)).status, 410);
    assert_eq!(one_time.post("/v1/install/begin", &begin("c")).status, 401);
    let (_, order) = lab.with(&token).begin("c");
    assert_eq!(order.profile.profile.node, "n1");
}

#[test]
fn each_node_gets_its_own_seed() {
    let lab = Lab::new(image);
    let identity = |node: &str| {
        let (client, order) = lab.client(node).begin("a");
        let seed = client.get("/v1/install/seed").body;
        assert_eq!(seed.len() % 10240, 0);
        let mut archive = tar::Archive::new(seed.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().expect("a tar archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            if path == "identity.json" {
                assert_eq!(entry.header().mode().expect("a mode"), 0o600);
                let text: serde_json::Value =
                    serde_json::from_reader(&mut entry).expect("an identity");
                assert_eq!(text["node"], node);
                assert_ne!(text["token"], order.session.as_str());
                found.push(text["token"].as_str().expect("a token").to_owned());
            }
        }
        assert_eq!(found.len(), 1);
        found.remove(0)
    };
    let tokens = [identity("n1"), identity("n2")];
    assert_ne!(tokens[0], tokens[1]);
    // With what the seed holds, the node is known as an agent.
    assert_ne!(lab.with(&tokens[0]).get("/v1/node/profile").status, 200, "not published yet");
}

#[test]
fn packages_come_in_parts_and_damaged_ones_not_at_all() {
    let lab = Lab::new(packages);
    let (client, order): (Client, Order) = lab.client("n1").begin("a");
    assert_eq!(client.get("/v1/install/image").status, 404, "it is not installed from an image");
    let two = &order.packages[1];
    let path = format!("/v1/install/packages/{}", two.sha256);
    let whole = client.get(&path);
    assert_eq!(whole.body.len() as u64, two.size);
    assert_eq!(hex::encode(Sha256::digest(&whole.body)), two.sha256);
    let part = client.get_with(&path, Some("bytes=1000000-1999999"));
    assert_eq!(part.status, 206);
    assert!(part.body == whole.body[1_000_000..2_000_000]);
    let range = part.headers["content-range"].to_str().expect("text");
    assert_eq!(range, format!("bytes 1000000-1999999/{}", two.size));
    assert!(client.get_with(&path, Some("bytes=3000000-")).body == whole.body[3_000_000..]);
    assert_eq!(client.get_with(&path, Some("bytes=9999999-")).status, 416);
    let file =
        lab.rehearsal().depot.join(format!("packages/{}/{}.deb", &two.sha256[..2], two.sha256));
    fs::write(file, b"damage").expect("damage");
    let refused = client.get(&path);
    assert_eq!(refused.status, 500);
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(text.contains(&two.sha256) && text.contains("--resume"), "{text}");
}
