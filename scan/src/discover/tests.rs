#![expect(clippy::expect_used, reason = "a test stops where its files cannot be made")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Artifact, DiscoverError, discover};
use crate::check::Check;
use crate::limits::Limits;
use crate::scan::{Scan, ScanOptions, scan};

const EVIL: &[u8] = b"cos\nsystem\n(S'id'\ntR.";
/// A header of one tensor of one number, and the number.
const TENSORS: &[u8] =
    b"\x38\0\0\0\0\0\0\0{ \"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} \0\0\x80\x3f";

/// A folder in which things are put.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, content).expect("written");
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        symlink(target, path).expect("linked");
    }

    /// An adapter's folder: for discovery its names are enough.
    fn adapter(&self, name: &str) {
        self.put(&format!("{name}/adapter_config.json"), b"{}");
    }

    /// What is discovered under some names, as kind and relative path.
    fn found(&self, names: &[&str]) -> Vec<String> {
        self.artifacts(names).iter().map(|artifact| self.shown(artifact)).collect()
    }

    fn shown(&self, artifact: &Artifact) -> String {
        let kind = match artifact {
            Artifact::Adapter(_) => "adapter",
            Artifact::Model(_) => "model",
            Artifact::File(_) => "file",
            Artifact::Around(_) => "around",
        };
        let path = artifact.path().strip_prefix(self.0.path()).expect("below");
        format!("{kind} {}", path.display()).trim_end().to_owned()
    }

    fn artifacts(&self, names: &[&str]) -> Vec<Artifact> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        discover(&paths, &Limits::default()).expect("something")
    }

    /// The checks of every artifact, with the files that they are about.
    fn checks(&self, names: &[&str]) -> Vec<(Check, String)> {
        self.scans(names)
            .iter()
            .flat_map(|scan| scan.observations.iter())
            .map(|seen| (seen.check, seen.file.clone()))
            .collect()
    }

    fn scans(&self, names: &[&str]) -> Vec<Scan> {
        self.artifacts(names).iter().map(|artifact| scan(artifact, &ScanOptions::default())).collect()
    }
}

#[test]
fn hidden_folders_are_entered() {
    let place = Place::new();
    place.adapter("in/good");
    place.adapter("in/.evil");
    place.put("in/.cache/deep/.er/x.pkl", EVIL);
    place.adapter("in/good/.hidden/inner");
    let expected =
        ["adapter in/.evil", "file in/.cache/deep/.er/x.pkl", "adapter in/good", "adapter in/good/.hidden/inner"];
    let mut found = place.found(&["in"]);
    found.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn pickles_are_found_by_name_and_by_content() {
    let place = Place::new();
    place.adapter("in/good");
    for name in ["a.joblib", "b.dill", "c.mar", "d.PT", "e", "f.npy.bak", "notes.txt", "g.ckpt", ".h", "README.md"] {
        place.put(&format!("in/m/{name}"), EVIL);
    }
    place.put("in/m/deep", &[b"(lp0\n".as_slice(), &b"I1\naI2\na".repeat(1000), b"0cos\nsystem\n(S'id'\ntR."].concat());
    place.put("in/m/tensors.dat", TENSORS);
    place.put("in/m/model.gguf.part", b"GGUF\x03\0\0\0");
    let texts: [(&str, &[u8]); 5] = [
        ("src/main.py", b"import os\n"),
        ("doc/a.md", b"# Title\n(see below)\n"),
        ("data/x.csv", b"a,b\n1,2\n"),
        ("page.html", b"<html>"),
        ("empty", b""),
    ];
    for (name, content) in texts {
        place.put(&format!("in/{name}"), content);
    }
    let found = place.found(&["in"]);
    assert_eq!(found.len(), 14, "{found:#?}");
    assert!(found.iter().all(|line| line == "adapter in/good" || line.starts_with("file in/m/")), "{found:#?}");
    let denied = place.checks(&["in"]).iter().filter(|(check, _)| *check == Check::PickleImport).count();
    assert_eq!(denied, 11);
}

#[test]
fn a_file_stands_for_its_folder_and_all_adapters_in_it() {
    let place = Place::new();
    place.adapter("in");
    place.adapter("in/sub");
    place.adapter("in/a/.b/c");
    let all = ["adapter in", "adapter in/a/.b/c", "adapter in/sub"];
    for names in [
        vec!["in"],
        vec!["in/adapter_config.json"],
        vec!["in/sub/adapter_config.json", "in/adapter_config.json"],
        vec!["in/adapter_config.json", "in/adapter_config.json", "in/sub/adapter_config.json"],
    ] {
        assert_eq!(place.found(&names), all, "{names:?}");
    }
    assert_eq!(place.found(&["in/sub/adapter_config.json"]), ["adapter in/sub"]);
}

#[test]
fn links_that_lead_out_are_told_and_others_are_not() {
    let place = Place::new();
    place.adapter("elsewhere/evil");
    place.adapter("in/good");
    place.put("in/src/x.py", b"pass\n");
    place.link("in/inner", "good");
    place.link("in/again", ".");
    place.link("in/src/y.py", "x.py");
    assert_eq!(place.found(&["in"]), ["adapter in/good"]);
    for (name, target, check) in [
        ("evil", "../elsewhere/evil", Check::LinkOutside),
        ("deep/x.pkl", "/etc/hostname", Check::LinkOutside),
        ("dangling", "nowhere", Check::LinkOutside),
        ("round", "round", Check::LinkOutside),
        ("zero", "/dev/zero", Check::LinkOutside),
        ("etc.md", "/etc", Check::LinkOutside),
        ("README.md", "/etc/hostname", Check::NotEntered),
        ("lost.txt", "nowhere", Check::NotEntered),
        ("tool.py", "../elsewhere/tool.py", Check::NotEntered),
    ] {
        place.link(&format!("in/{name}"), target);
        assert!(place.checks(&["in"]).contains(&(check, name.to_owned())), "{name}");
        fs::remove_file(place.path(&format!("in/{name}"))).expect("removed");
    }
    // What else is scanned is inside.
    place.link("in/evil", "../elsewhere/evil");
    assert_eq!(place.found(&["in", "elsewhere"]), ["adapter elsewhere/evil", "adapter in/good"]);
}

#[test]
fn a_link_by_a_models_name_is_a_file_of_its_own() {
    let place = Place::new();
    place.adapter("in/good");
    place.put("in/notes", b"N.");
    place.link("in/x.pkl", "notes");
    place.put("in/w.pt", EVIL);
    place.link("in/best.pt", "w.pt");
    assert_eq!(place.found(&["in"]), ["adapter in/good", "file in/w.pt", "file in/x.pkl"]);
}

#[test]
fn git_is_skipped_where_it_is_git_and_named() {
    let place = Place::new();
    place.adapter("in/good");
    for name in ["HEAD", "objects/pack/x.pkl", "objects/evil/adapter_config.json", "refs/heads/main", "index"] {
        place.put(&format!("in/.git/{name}"), EVIL);
    }
    assert_eq!(place.found(&["in"]), ["around in", "adapter in/good"]);
    assert!(place.checks(&["in"]).contains(&(Check::GitFolder, ".git".to_owned())));
    // What Git does not keep there is looked at.
    place.adapter("in/.git/evil");
    place.put("in/.git/x.pkl", EVIL);
    let found = ["around in", "adapter in/.git/evil", "file in/.git/x.pkl", "adapter in/good"];
    assert_eq!(place.found(&["in"]), found);
    // A link into it is none of what is walked anyway.
    place.link("in/x", ".git/objects/evil");
    assert!(place.checks(&["in"]).contains(&(Check::LinkOutside, "x".to_owned())));
    fs::remove_file(place.path("in/x")).expect("removed");
    // Inside an adapter it is the adapter's to say; what only has the name is entered.
    fs::rename(place.path("in/.git"), place.path("in/good/.git")).expect("moved");
    assert_eq!(place.found(&["in"]), ["adapter in/good", "adapter in/good/.git/evil"]);
    let checks = place.checks(&["in"]);
    assert!(checks.contains(&(Check::GitFolder, ".git".to_owned())), "{checks:?}");
    assert!(checks.contains(&(Check::PickleImport, ".git/x.pkl".to_owned())), "{checks:?}");
    fs::remove_file(place.path("in/good/.git/HEAD")).expect("removed");
    let found = ["adapter in/good", "adapter in/good/.git/evil", "adapter in/good/.git/objects/evil"];
    assert_eq!(place.found(&["in"]), found);
    fs::remove_dir_all(place.path("in/good/.git")).expect("removed");
    place.adapter("out/evil");
    place.link("in/.git", "../out");
    assert!(place.checks(&["in"]).contains(&(Check::LinkOutside, ".git".to_owned())));
    // A checkout without a model is no adapter, and does not pass for one.
    place.put("repo/.git/HEAD", b"ref: refs/heads/main\n");
    place.put("repo/.git/objects/a", b"");
    place.put("repo/.git/refs/a", b"");
    let error = discover(&[place.path("repo")], &Limits::default()).expect_err("nothing");
    assert!(matches!(error, DiscoverError::Nothing { .. }), "{error}");
}

#[test]
fn special_files_and_depth_are_told() {
    let place = Place::new();
    place.adapter("in/good");
    place.put(&format!("in/{}x.pkl", "d/".repeat(20)), EVIL);
    drop(std::os::unix::net::UnixListener::bind(place.path("in/socket")).expect("bound"));
    let checks = place.checks(&["in"]);
    assert!(checks.contains(&(Check::SpecialFile, "socket".to_owned())), "{checks:?}");
    assert!(checks.iter().any(|(check, file)| *check == Check::BeyondLimits && file.starts_with("d/d/")), "{checks:?}");
    let unread: Vec<bool> = place
        .scans(&["in"])
        .iter()
        .flat_map(|scan| scan.observations.iter().map(|seen| scan.is_unread(seen)).collect::<Vec<_>>())
        .collect();
    assert!(unread.iter().filter(|is_unread| **is_unread).count() >= 2, "{unread:?}");
}

#[test]
fn a_whole_model_is_a_folder() {
    let place = Place::new();
    place.adapter("in/good");
    place.put("in/m/model.safetensors", TENSORS);
    place.put("in/m/config.json", b"{}");
    place.put("in/m/tokenizer_config.json", br#"{"auto_map": {"AutoTokenizer": "x.Y"}}"#);
    place.put("in/m/modeling.py", b"import os");
    place.adapter("in/m/lora");
    assert_eq!(place.found(&["in"]), ["adapter in/good", "model in/m", "adapter in/m/lora"]);
    assert_eq!(place.found(&["in/m/model.safetensors"]), ["model in/m", "adapter in/m/lora"]);
    let checks: Vec<Check> = place.checks(&["in/m"]).into_iter().map(|(check, _)| check).collect();
    for check in [Check::WholeModel, Check::RemoteCode, Check::Script] {
        assert!(checks.contains(&check), "{check:?} in {checks:?}");
    }
    // A project with a config.json and a file that is only named like weights is no model.
    place.put("project/config.json", b"{}");
    place.put("project/firmware.bin", &[0; 3000]);
    assert_eq!(place.found(&["project"]), ["file project/firmware.bin"]);
}

#[test]
fn a_bin_that_is_no_pickle_is_called_what_it_is() {
    let place = Place::new();
    let honest: [(&str, &[u8]); 8] = [
        ("copyright.bin", b"copyright 2026, all\nrights reserved.\n"),
        ("firmware.bin", &[0; 3000]),
        ("note.bin", b"A note about the firmware\n"),
        ("text.pt", b"Bom dia.\nO texto.\n"),
        ("noise.pkl", &[0xfe; 5000]),
        ("table.ckpt", b"1,2,3\n4,5,6\n"),
        ("This.bin", b"This is text that begins with an opcode.\n"),
        ("x.mar", b"MAR1\0\0\0\x08"),
    ];
    for (name, content) in honest {
        place.put(name, content);
        assert_eq!(place.checks(&[name]), [(Check::UnknownFile, name.to_owned())], "{name}");
    }
    let junk = [b"\0junk".as_slice(), EVIL].concat();
    place.put("behind-junk.bin", &junk);
    assert_eq!(place.checks(&["behind-junk.bin"]), [(Check::UnknownFile, "behind-junk.bin".to_owned())]);
    let pickles: [(&str, &[u8]); 7] = [
        ("a.bin", EVIL),
        ("b.bin", b"(cos\nsystem\nS'id'\no."),
        ("c.pkl", b"cos\nsystem\n"),
        ("d.pkl", b"cos\nsystem\n\xff\xff"),
        ("e.pt", b"I1\n."),
        ("f.bin", b"\x80\x02]q\x00."),
        ("g.pkl", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc"),
    ];
    for (name, content) in pickles {
        place.put(name, content);
        assert!(place.checks(&[name]).contains(&(Check::Pickle, name.to_owned())), "{name}");
    }
    let streams: [&[u8]; 4] = [b"\x78\x9c\x01\x02", b"\x5d\0\0\x80\0", b"\x04\x22\x4d\x18rest", b"ZF0x1a"];
    for (index, content) in streams.into_iter().enumerate() {
        let name = format!("s{index}.joblib");
        place.put(&name, content);
        assert!(place.checks(&[&name]).contains(&(Check::Archive, name.clone())), "{name}");
    }
}

#[test]
fn what_was_not_read_is_in_the_digest() {
    let place = Place::new();
    place.adapter("in");
    let digest = || place.scans(&["in"])[0].sha256.clone();
    let mut digests = vec![digest()];
    let sparse = |bytes: u64| {
        let file = fs::File::create(place.path("in/optimizer.data")).expect("created");
        file.set_len(bytes).expect("a hole");
    };
    sparse(5 << 30);
    digests.push(digest());
    sparse(6 << 30);
    digests.push(digest());
    fs::remove_file(place.path("in/optimizer.data")).expect("removed");
    place.link("in/x", "/etc/hostname");
    digests.push(digest());
    fs::remove_file(place.path("in/x")).expect("removed");
    place.link("in/x", "/etc/hosts");
    digests.push(digest());
    fs::remove_file(place.path("in/x")).expect("removed");
    drop(std::os::unix::net::UnixListener::bind(place.path("in/x")).expect("bound"));
    digests.push(digest());
    fs::remove_file(place.path("in/x")).expect("removed");
    let again = digest();
    assert_eq!(again, digests[0]);
    let distinct: std::collections::BTreeSet<&String> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len(), "{digests:#?}");
    sparse(5 << 30);
    let scan = &place.scans(&["in"])[0];
    let left = scan.files.iter().find(|file| file.path == "optimizer.data").expect("a record");
    assert_eq!((left.bytes, left.sha256.as_str()), (5 << 30, ""));
    let seen = scan.observations.iter().find(|seen| seen.check == Check::BeyondLimits).expect("beyond limits");
    assert!(scan.is_unread(seen));
}

#[test]
fn the_path_of_an_artifact_is_looked_at() {
    let place = Place::new();
    let told = |name: &str| place.checks(&[name]).contains(&(Check::DeceptiveName, String::new()));
    for name in ["ev\u{1b}[2K\nil", "a\u{202e}b", "a\u{61c}b", "a\u{200b}"] {
        place.adapter(&format!("in/{name}"));
        assert!(told(&format!("in/{name}")), "{name:?}");
        place.adapter(&format!("{name}/in/plain"));
        assert!(told(&format!("{name}/in")), "above: {name:?}");
        place.put(&format!("{name}/in/lone/x.pkl"), EVIL);
        assert!(told(&format!("{name}/in/lone/x.pkl")), "above a file: {name:?}");
    }
    place.adapter("in/größe ❤️");
    assert!(!told("in/größe ❤️"));
}

#[test]
fn a_snapshot_of_the_cache_is_followed_into_its_own_blobs() {
    let place = Place::new();
    let digest = |bytes: &[u8]| lcr_documents::digest::sha256(bytes);
    let blob = |name: &str, content: &[u8]| {
        place.put(&format!("hub/models--a--b/blobs/{name}"), content);
        format!("../../blobs/{name}")
    };
    let snapshot = "hub/models--a--b/snapshots/0123456789abcdef0123456789abcdef01234567";
    let weights = digest(TENSORS);
    place.link(&format!("{snapshot}/adapter_model.safetensors"), blob(&weights, TENSORS));
    place.link(&format!("{snapshot}/adapter_config.json"), blob(&"0a".repeat(20), b"{}"));
    place.link(&format!("{snapshot}/sub/adapter_config.json"), "../../../blobs/".to_owned() + &"0a".repeat(20));
    let read = place.scans(&[snapshot])[0]
        .files
        .iter()
        .map(|file| (file.path.clone(), file.sha256.clone()))
        .collect::<Vec<_>>();
    let config = digest(b"{}");
    assert_eq!(
        read,
        [("adapter_config.json".to_owned(), config), ("adapter_model.safetensors".to_owned(), weights.clone())]
    );
    let of_links = |names: &[&str]| {
        let checks = place.checks(names);
        checks
            .into_iter()
            .filter(|(check, _)| matches!(check, Check::LinkOutside | Check::CacheMismatch))
            .collect::<Vec<_>>()
    };
    assert!(of_links(&[snapshot]).is_empty());
    // The whole cache: blobs are looked at where they are linked to.
    let adapters = [format!("adapter {snapshot}"), format!("adapter {snapshot}/sub")];
    assert_eq!(place.found(&["hub"]), adapters);
    // A blob that nothing links to is a file of its own.
    blob(&digest(EVIL), EVIL);
    assert_eq!(place.found(&["hub"]).len(), 3);
    // One whose content was changed.
    fs::write(place.path(&format!("hub/models--a--b/blobs/{weights}")), [TENSORS, b"\n"].concat()).expect("written");
    assert_eq!(of_links(&[snapshot]), [(Check::CacheMismatch, "adapter_model.safetensors".to_owned())]);
    // A whole model in the cache.
    let model = "hub/models--e--f/snapshots/main";
    place.put(&format!("hub/models--e--f/blobs/{weights}"), TENSORS);
    place.put(&format!("hub/models--e--f/blobs/{}", "0c".repeat(20)), b"{}");
    place.link(&format!("{model}/model.safetensors"), format!("../../blobs/{weights}"));
    place.link(&format!("{model}/config.json"), format!("../../blobs/{}", "0c".repeat(20)));
    assert!(place.found(&["hub"]).contains(&format!("model {model}")));
    assert_eq!(place.scans(&[model])[0].files.len(), 2);
    fs::remove_dir_all(place.path("hub/models--e--f")).expect("removed");
    // A snapshot of no model, whose texts are links as well.
    place.link("hub/datasets--a--c/snapshots/main/README.md", format!("../../blobs/{}", "0b".repeat(20)));
    place.put(&format!("hub/datasets--a--c/blobs/{}", "0b".repeat(20)), b"# Data\n");
    assert!(!place.found(&["hub"]).iter().any(|line| line.contains("around") || line.contains("datasets")));
    // Blobs of another repository, and what only looks like a blob.
    place.put("hub/models--c--d/blobs/x", b"");
    place.put(&format!("hub/models--c--d/blobs/{}", digest(b"{}")), b"{}");
    place.link(&format!("{snapshot}/other.json"), format!("../../../models--c--d/blobs/{}", digest(b"{}")));
    place.put("hub/models--a--b/blobs/evil", b"{}");
    place.link(&format!("{snapshot}/evil.json"), "../../blobs/evil");
    let outside: Vec<String> = of_links(&[snapshot])
        .into_iter()
        .filter(|(check, _)| *check == Check::LinkOutside)
        .map(|(_, file)| file)
        .collect();
    assert_eq!(outside, ["evil.json", "other.json"]);
}

#[test]
fn thousands_of_adapters_are_found_once_each() {
    let place = Place::new();
    for index in 0..2_000 {
        place.adapter(&format!("in/{}/a{index}", index % 7));
    }
    let files: Vec<String> = (0..2_000).map(|index| format!("in/{}/a{index}/adapter_config.json", index % 7)).collect();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(place.found(&["in"]).len(), 2_000);
    assert_eq!(place.found(&[names.as_slice(), &["in"], names.as_slice()].concat()).len(), 2_000);
}
