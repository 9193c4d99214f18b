//! `qcheck amend` of key slots beside qemu-img, and what a crash leaves of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use qcheck::crypt::luks::{Header, LuksOptions, NewHeader, SlotChange};
use qcheck::crypt::{CipherSpec, Hash, Secret};
use qcheck::error::{Error, Result};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::programs::run::{qcheck, qemu, qemu_ok};
use crate::support::skip::skip;
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const SECRETS: [&str; 6] = [
    "--object",
    "secret,id=a,data=aa",
    "--object",
    "secret,id=b,data=bb",
    "--object",
    "secret,id=c,data=cc",
];
/// The options of passphrases in slots besides the first, which has "a".
const MORE: [&str; 2] =
    ["state=active,new-secret=b,iter-time=1", "state=active,new-secret=b,iter-time=1,keyslot=5"];

const FORMATS: [&str; 2] = ["luks", "qcow2"];

/// Options in the form that the format has for them.
fn options(format: &str, text: &str) -> String {
    match format {
        "luks" => text.to_owned(),
        _ => {
            text.split(',').map(|option| format!("encrypt.{option}")).collect::<Vec<_>>().join(",")
        }
    }
}

/// An image with its secret.
fn opened(format: &str, name: &str, secret: &str) -> String {
    let option = if format == "luks" { "key-secret" } else { "encrypt.key-secret" };
    format!("driver={format},{option}={secret},file.filename={name}")
}

fn amend<'a>(option: &'a str, image: &'a str, force: bool) -> Vec<&'a str> {
    let force: &[&str] = if force { &["--force"] } else { &[] };
    [&["amend"], &SECRETS[..], force, &["-o", option, "--image-opts", image]].concat()
}

/// An image in which "a" opens slot 0 and "b" the slots 1 and 5, made by real qemu-img.
fn make(folder: &Path, format: &str) {
    let new = match format {
        "luks" => "key-secret=a,iter-time=1",
        _ => "encrypt.format=luks,encrypt.key-secret=a,encrypt.iter-time=1,cluster_size=4k",
    };
    let create = ["create", "-q", "-f", format, "-o", new, "image", "1M"];
    qemu_ok(folder, "qemu-img", &[&create[..], &SECRETS].concat());
    let image = opened(format, "image", "a");
    let write = ["--image-opts", "-c", "write -q -P 7 0 300k", &image];
    qemu_ok(folder, "qemu-io", &[&SECRETS[..], &write].concat());
    for more in MORE {
        qemu_ok(folder, "qemu-img", &amend(&options(format, more), &image, false));
    }
}

/// The bytes of such an image.
fn image(format: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), format);
    fs::read(dir.path().join("image")).unwrap()
}

/// What qemu-img prints of the slots; how many iterations take a time differs each time.
fn slots(folder: &Path, format: &str) -> Vec<serde_json::Value> {
    let text = qemu_ok(folder, "qemu-img", &["info", "--output=json", "-f", format, "image"]);
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    let data = &info["format-specific"]["data"];
    let luks = if format == "luks" { data } else { &data["encrypt"] };
    let mut slots = luks["slots"].as_array().unwrap().clone();
    for slot in &mut slots {
        slot["iters"].take();
    }
    slots
}

/// Whether a secret opens the image, for both programs.
fn opens(folder: &Path, format: &str, secret: &str) -> bool {
    let image = opened(format, "image", secret);
    let args = [&SECRETS[..], &["--image-opts", "-c", "read -q -P 7 0 300k", &image]].concat();
    let real = qemu(folder, "qemu-io", &args);
    let args = [&["convert"], &SECRETS[..], &["-O", "raw", "--image-opts", &image, "raw"]].concat();
    let own = qcheck(folder, &args);
    assert_eq!(real.code == 0, own.code == 0, "{secret}: {} {}", real.err, own.err);
    if own.code == 0 {
        assert!(fs::read(folder.join("raw")).unwrap()[..300 << 10] == [7; 300 << 10], "{secret}");
    }
    own.code == 0
}

#[test]
fn key_slots_are_changed_and_refused_as_by_qemu_img() {
    let made = BTreeMap::from(FORMATS.map(|format| (format, image(format))));
    for (text, force, open) in [
        ("state=active", false, "ab"),
        ("new-secret=b", false, "ab"),
        ("state=foo", false, "ab"),
        ("state=active,new-secret=b,old-secret=a", false, "ab"),
        ("state=active,new-secret=c,keyslot=8", false, "ab"),
        ("state=active,new-secret=c,keyslot=1", false, "ab"),
        ("state=active,new-secret=zz", false, "ab"),
        ("state=active,new-secret=c,iter-time=0", false, "abc"),
        ("state=active,new-secret=c,iter-time=1,keyslot=6", false, "abc"),
        ("state=active,new-secret=c,iter-time=1,keyslot=7", false, "abc"),
        ("state=active,new-secret=c,iter-time=1,keyslot=0", true, "bc"),
        ("state=inactive", false, "ab"),
        ("state=inactive,new-secret=b", false, "ab"),
        ("state=inactive,iter-time=1,keyslot=5", false, "ab"),
        ("state=inactive,old-secret=c", false, "ab"),
        ("state=inactive,old-secret=zz", false, "ab"),
        ("state=inactive,keyslot=3", false, "ab"),
        ("state=inactive,keyslot=3", true, "ab"),
        ("state=inactive,keyslot=9", false, "ab"),
        ("state=inactive,keyslot=5,old-secret=a", false, "ab"),
        ("state=inactive,keyslot=5,old-secret=b", false, "ab"),
        ("state=inactive,keyslot=0", false, "b"),
        ("state=inactive,old-secret=b", false, "a"),
        ("state=inactive,old-secret=a", false, "b"),
    ] {
        for format in FORMATS {
            let what = format!("{format} {text}");
            let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
            for folder in &folders {
                fs::write(folder.path().join("image"), &made[format]).unwrap();
            }
            let (option, image) = (options(format, text), opened(format, "image", "a"));
            let args = amend(&option, &image, force);
            let real = qemu(folders[0].path(), "qemu-img", &args);
            let ran = qcheck(folders[1].path(), &args);
            assert_eq!((ran.code, &ran.out), (real.code, &real.out), "{what}: {}", ran.err);
            let cause = real.err.trim_start_matches("qemu-img: ").trim_end();
            assert!(ran.err.contains(cause), "{what}: {} instead of {}", ran.err, real.err);
            let at = folders[1].path();
            if ran.code != 0 {
                assert!(fs::read(at.join("image")).unwrap() == made[format], "{what}");
                continue;
            }
            assert_eq!(slots(at, format), slots(folders[0].path(), format), "{what}");
            for secret in ["a", "b", "c"] {
                assert_eq!(opens(at, format, secret), open.contains(secret), "{what}: {secret}");
            }
        }
    }
}

#[test]
fn the_last_slot_is_erased_only_with_force() {
    let made = BTreeMap::from(FORMATS.map(|format| (format, image(format))));
    for (text, words) in [
        (
            "state=inactive,old-secret=a",
            "All the active keyslots match the (old) password that was",
        ),
        ("state=inactive,keyslot=0", "Attempt to erase the only active keyslot 0 which will erase"),
    ] {
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("image"), &made[format]).unwrap();
            let (image, option) = (opened(format, "image", "a"), options(format, text));
            let others = options(format, "state=inactive,old-secret=b");
            qcheck(dir.path(), &amend(&others, &image, false)).success();
            let before = fs::read(dir.path().join("image")).unwrap();
            let ran = qcheck(dir.path(), &amend(&option, &image, false));
            assert!(ran.code == 1 && ran.err.contains(words), "{format} {text}: {}", ran.err);
            assert!(fs::read(dir.path().join("image")).unwrap() == before, "{format} {text}");
            qcheck(dir.path(), &amend(&option, &image, true)).success();
            assert!(!opens(dir.path(), format, "a"), "{format} {text}");
        }
    }
}

#[test]
fn all_slots_in_use_leave_none_for_another_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "luks");
    let image = opened("luks", "image", "a");
    let add = amend("state=active,new-secret=c,iter-time=1", &image, false);
    for _ in 0..5 {
        qcheck(dir.path(), &add).success();
    }
    let (ran, real) = (qcheck(dir.path(), &add), qemu(dir.path(), "qemu-img", &add));
    assert!(ran.code == 1 && real.code == 1);
    for err in [ran.err, real.err] {
        assert!(err.contains("Can't add a keyslot - all keyslots are in use"), "{err}");
    }
    let over = amend("state=active,new-secret=c,iter-time=1,keyslot=0", &image, true);
    qcheck(dir.path(), &over).success();
    assert!(!opens(dir.path(), "luks", "a") && opens(dir.path(), "luks", "c"));
}

#[test]
fn other_changes_of_an_image_come_with_those_of_its_slots() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "qcow2");
    let image = opened("qcow2", "image", "a");
    let option = "encrypt.state=inactive,encrypt.old-secret=b,size=2M,refcount_bits=8,compat=v3";
    qcheck(dir.path(), &amend(option, &image, false)).success();
    qcheck(dir.path(), &["check", "-q", "image"]).success();
    let check = ["check", "-q", "--image-opts", &image];
    qemu_ok(dir.path(), "qemu-img", &[&check[..2], &SECRETS, &check[2..]].concat());
    assert!(opens(dir.path(), "qcow2", "a") && !opens(dir.path(), "qcow2", "b"));
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "image"]);
    assert!(info.contains("refcount bits: 8") && info.contains("2 MiB"), "{info}");
}

#[test]
fn images_without_luks_and_without_their_secret_are_refused_as_by_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "qcow2");
    fs::rename(dir.path().join("image"), dir.path().join("encrypted")).unwrap();
    make(dir.path(), "luks");
    let new = ["create", "-q", "-f", "qcow2"];
    qemu_ok(dir.path(), "qemu-img", &[&new[..], &["plain", "1M"]].concat());
    let aes = ["-o", "encrypt.format=aes,encrypt.key-secret=a", "old", "1M"];
    qemu_ok(dir.path(), "qemu-img", &[&new[..], &SECRETS, &aes].concat());
    let add = "encrypt.state=active,encrypt.new-secret=b";
    let (old, wrong) = (opened("qcow2", "old", "a"), opened("qcow2", "encrypted", "c"));
    let image = opened("luks", "image", "a");
    for args in [
        &["-o", add, "plain"][..],
        &["-o", add, "encrypted"],
        &["-o", add, "--image-opts", &old],
        &["-o", add, "--image-opts", &wrong],
        &["-o", "encrypt.format=luks", "plain"],
        &["-o", "state=active,new-secret=b", "-f", "luks", "image"],
        &["-o", "size=3M", "--image-opts", &image],
        &["-o", "cipher-alg=aes-128", "--image-opts", &image],
        &["-o", "state=active,new-secret=b", "-f", "raw", "image"],
    ] {
        let args = [&["amend"], &SECRETS[..], args].concat();
        let (ran, real) = (qcheck(dir.path(), &args), qemu(dir.path(), "qemu-img", &args));
        let cause = real.err.lines().next().unwrap_or_default().rsplit("': ").next().unwrap();
        let cause = cause.trim_start_matches("qemu-img: ");
        assert!(ran.code == 1 && real.code == 1, "{args:?}");
        assert!(ran.err.contains(cause), "{args:?}: {} instead of {}", ran.err, real.err);
    }
}

#[test]
fn cryptsetup_opens_what_was_added_and_not_what_was_erased() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "luks");
    let image = opened("luks", "image", "a");
    qcheck(dir.path(), &amend("state=active,new-secret=c,iter-time=1", &image, false)).success();
    qcheck(dir.path(), &amend("state=inactive,old-secret=b", &image, false)).success();
    for (secret, opens) in [("aa", true), ("bb", false), ("cc", true)] {
        fs::write(dir.path().join("key"), secret).unwrap();
        let args = ["luksOpen", "-q", "--test-passphrase", "--key-file", "key", "image"];
        match Command::new("cryptsetup").args(args).current_dir(dir.path()).output() {
            Ok(ran) => assert_eq!(ran.status.success(), opens, "{secret}"),
            Err(error) => return skip("opening with cryptsetup", &error.to_string()),
        }
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn add(text: &str, slot: Option<usize>, force: bool) -> SlotChange {
    SlotChange::Add { secret: secret(text), slot, time: Duration::ZERO, force }
}

/// A header that "a" opens, and what is changed in it: the passphrases that open it before and
/// after, beside "a" itself.
fn cases() -> Vec<(Vec<u8>, SlotChange, [&'static str; 2])> {
    let cipher = CipherSpec::of_header("aes", "cbc-plain64", 16).unwrap();
    let luks = LuksOptions { cipher, hash: Hash::Sha1, time: Duration::ZERO };
    let new = NewHeader::new(&luks, &secret("a")).unwrap();
    let bytes = |changes: &[SlotChange]| {
        let memory = MemoryStorage::new(new.bytes().to_vec());
        memory.set_len(new.payload_offset() + 4096).unwrap();
        changes.iter().for_each(|change| run(&memory, change).unwrap());
        memory.to_vec()
    };
    let erase = |slot, text: Option<&str>, force| SlotChange::Erase {
        slot,
        secret: text.map(secret),
        force,
    };
    vec![
        (bytes(&[]), add("b", None, false), ["a", "ab"]),
        (bytes(&[]), add("b", Some(6), false), ["a", "ab"]),
        (bytes(&[]), add("b", Some(0), true), ["a", "b"]),
        (bytes(&[add("b", Some(6), false)]), erase(None, Some("b"), false), ["ab", "a"]),
        (bytes(&[add("b", Some(7), false)]), erase(Some(0), None, false), ["ab", "b"]),
        (bytes(&[]), erase(None, Some("a"), true), ["a", ""]),
    ]
}

fn run(storage: &dyn Storage, change: &SlotChange) -> Result<()> {
    let mut header = Header::load(storage, 0, u64::MAX)?;
    let key = header.unlock(storage, &secret("a"))?;
    let plan = header.plan(storage, change)?;
    header.apply(storage, &key, &plan)
}

/// The passphrases that open a header. One without slots in use is not loaded.
fn opening(bytes: Vec<u8>) -> String {
    let storage = MemoryStorage::new(bytes);
    let Ok(header) = Header::load(&storage, 0, u64::MAX) else { return String::new() };
    let opens = |text: &&str| match header.unlock(&storage, &secret(text)) {
        Ok(_) => true,
        Err(Error::WrongSecret) => false,
        Err(error) => panic!("{error}"),
    };
    ["a", "b"].into_iter().filter(opens).collect()
}

/// One of the passphrases that opened the header before, or that open it after, does.
fn assert_opens(bytes: Vec<u8>, [before, after]: [&str; 2], what: &str) {
    let open = opening(bytes);
    let known = [before, after, "ab"].contains(&open.as_str());
    assert!(known, "{what}: '{open}' instead of '{before}' or '{after}'");
}

#[test]
fn after_a_crash_the_old_passphrases_or_the_new_ones_open_the_image() {
    let mut count = 0;
    for (bytes, change, open) in cases() {
        let log = Arc::new(WriteLog::new(bytes));
        run(log.as_ref(), &change).unwrap();
        assert_eq!(opening(log.image()), open[1], "{change:?}");
        // Passes over an erased slot are all alike.
        let mut seen = 0;
        count += crash_images(&log, |crash| {
            seen += 1;
            if seen < 40 || seen % 16 == 0 {
                assert_opens(crash.bytes.clone(), open, &format!("{change:?}: {}", crash.story));
            }
        });
    }
    assert!(count > 100, "only {count} crash images");
}

#[test]
fn after_a_failure_the_old_passphrases_or_the_new_ones_open_the_image() {
    for (bytes, change, open) in cases() {
        for class in [Class::AnyWrite, Class::Sync, Class::Read] {
            for n in (0..8).chain([20, 50]) {
                let memory = Arc::new(MemoryStorage::new(bytes.clone()));
                let failing = FailAfter::new(memory.clone(), class, n);
                let outcome = run(&failing, &change);
                assert_eq!(outcome.is_err(), failing.fired(), "{change:?}: {class:?} {n}");
                assert_opens(memory.to_vec(), open, &format!("{change:?}: {class:?} {n}"));
            }
        }
    }
}
