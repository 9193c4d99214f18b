//! Conversions from and to pipes, interruptions, and damaged sources.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::convert::round::sample;
use crate::support::programs::run::{
    assert_clean, interruptible, qcheck, qemu_create, qemu_io, qemu_ok,
};

fn start(folder: &Path, args: &[&str]) -> Child {
    interruptible()
        .current_dir(folder)
        .arg("convert")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a conversion with a pipe on either side.
fn piped(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = start(folder, args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Pieces of odd lengths, as pipes bring them; nobody reading to the end is the program's affair.
    let writer = std::thread::spawn(move || {
        let _ = input.chunks(12_345).try_for_each(|piece| stdin.write_all(piece));
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn piped_ok(folder: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = piped(folder, args, input);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{args:?}: {text}");
    output.stdout
}

fn assert_same(folder: &Path, image: &str) {
    qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", image]);
}

const IMAGES: [&[&str]; 7] = [
    &[],
    &["-c"],
    &["-o", "cluster_size=512"],
    &["-o", "extended_l2=on"],
    &["-o", "compat=0.10"],
    &["-o", "refcount_bits=1,cluster_size=4k"],
    &["-o", "preallocation=metadata"],
];

#[test]
fn a_raw_disk_of_unknown_length_comes_through_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for length in [(3 << 20) + 512 * 5, 512, 0] {
        sample(&folder.join("disk.raw"), 11, length);
        let disk = fs::read(folder.join("disk.raw")).unwrap();
        for more in IMAGES {
            piped_ok(
                folder,
                &[&["-f", "raw", "-O", "qcow2"], more, &["-", "a.qcow2"]].concat(),
                &disk,
            );
            assert_clean(folder, "a.qcow2");
            assert_same(folder, "a.qcow2");
        }
        piped_ok(folder, &["-f", "raw", "-", "a.raw"], &disk);
        assert!(fs::read(folder.join("a.raw")).unwrap() == disk);
    }
}

#[test]
fn an_image_goes_through_a_pipe_and_is_one_once_stored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 12, (3 << 20) + 512);
    let disk = fs::read(folder.join("disk.raw")).unwrap();
    for more in IMAGES {
        let image =
            piped_ok(folder, &[more, &["-f", "raw", "-O", "qcow2", "disk.raw", "-"]].concat(), &[]);
        fs::write(folder.join("a.qcow2"), &image).unwrap();
        assert_clean(folder, "a.qcow2");
        assert_same(folder, "a.qcow2");
        // And from there through pipes on both sides.
        assert!(piped_ok(folder, &["-", "-"], &image) == disk, "{more:?}");
        let packed = piped_ok(folder, &["-c", "-O", "qcow2", "-", "-"], &image);
        fs::write(folder.join("b.qcow2"), &packed).unwrap();
        assert_clean(folder, "b.qcow2");
        assert_same(folder, "b.qcow2");
    }
    assert!(piped_ok(folder, &["a.qcow2", "-"], &[]) == disk);
}

#[test]
fn a_pipe_that_breaks_off_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 13, 8 << 20);
    for args in [["-O", "qcow2", "disk.raw", "-"], ["-O", "raw", "disk.raw", "-"]] {
        let mut child = start(folder, &args);
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}");
    }
}

#[test]
fn an_interruption_takes_the_new_target_away_and_leaves_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 14, 8 << 20);
    fs::write(folder.join("old.raw"), b"old").unwrap();
    for (format, target, signal) in
        [("qcow2", "a.qcow2", "INT"), ("raw", "a.raw", "TERM"), ("raw", "old.raw", "INT")]
    {
        // At this rate it takes minutes.
        let child = start(folder, &["-r", "100k", "-O", format, "disk.raw", target]);
        std::thread::sleep(Duration::from_millis(400));
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("interrupted") && text.lines().count() == 1, "{text}");
        let is_old = target == "old.raw";
        assert_eq!(folder.join(target).exists(), is_old);
        assert_eq!(text.contains("not complete"), is_old, "{text}");
    }
}

#[test]
fn a_target_that_is_refused_before_the_first_write_is_not_called_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 15, 1 << 20);
    qemu_create(folder, &["-f", "qcow2", "small.qcow2", "512k"]);
    fs::write(folder.join("small.raw"), [7; 512]).unwrap();
    fs::write(folder.join("old.qcow2"), "old").unwrap();
    for args in [
        &["-n", "-O", "qcow2", "disk.raw", "small.qcow2"][..],
        &["-n", "-O", "raw", "disk.raw", "small.raw"],
        &["-O", "qcow2", "-o", "compat=0.10", "--bitmaps", "small.qcow2", "old.qcow2"],
    ] {
        let target = folder.join(args.last().unwrap());
        let before = fs::read(&target).unwrap();
        let output = start(folder, args).wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.lines().count() == 1 && !text.contains("not complete"), "{text}");
        assert_eq!(fs::read(&target).unwrap(), before, "{args:?}");
    }
}

#[test]
fn damage_ends_the_run_or_is_salvaged_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "plain.qcow2", "2M"]);
    qemu_io(folder, "plain.qcow2", "write -P 1 0 2M");
    qemu_ok(folder, "qemu-img", &["convert", "-c", "-O", "qcow2", "plain.qcow2", "packed.qcow2"]);
    // The descriptor of the fifth cluster loses its length, and the entry of the seventh its alignment.
    let damage = |name: &str, entry: u64, bits: u64| {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let l2 = number(number(40) as usize) & 0x00ff_ffff_ffff_fe00;
        let at = (l2 + entry * 8) as usize;
        let changed = number(at) ^ bits;
        bytes[at..at + 8].copy_from_slice(&changed.to_be_bytes());
        fs::write(folder.join(name), bytes).unwrap();
    };
    damage("packed.qcow2", 5, 0x123);
    damage("plain.qcow2", 7, 0x200);
    for (image, cluster) in [("packed.qcow2", 5usize), ("plain.qcow2", 7)] {
        for (format, target) in [("raw", "out.raw"), ("qcow2", "out.qcow2")] {
            let ran = qcheck(folder, &["convert", "-O", format, image, target]);
            assert_eq!(ran.code, 1);
            let guest = format!("{:#x}", cluster << 16);
            assert!(ran.err.contains(&guest), "{}", ran.err);
            assert!(!folder.join(target).exists());
        }
        let ran = qcheck(folder, &["convert", "--salvage", image, "out.raw"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let lost = format!("guest offset {:#x} to {:#x}", cluster << 16, (cluster + 1) << 16);
        assert!(ran.err.contains(&lost), "{}", ran.err);
        let mut expected = vec![1; 2 << 20];
        expected[cluster << 16..(cluster + 1) << 16].fill(0);
        assert!(fs::read(folder.join("out.raw")).unwrap() == expected);
        let ran = qcheck(folder, &["convert", "--salvage", "--output", "json", image, "out.raw"]);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(json["losses"][0]["offset"], cluster << 16);
        assert_eq!(json["losses"][0]["length"], 65536);
        fs::remove_file(folder.join("out.raw")).unwrap();
    }
}

/// Runs a shell command in which `$Q` is qcheck.
fn shell(folder: &Path, command: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args(["-c", command]);
    shell.env("Q", assert_cmd::cargo::cargo_bin!("qcheck")).output().unwrap()
}

#[test]
fn names_of_open_files_and_fifos_are_streams_like_a_dash() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    sample(&folder.join("disk.raw"), 9, 3 << 20);
    let disk = fs::read(folder.join("disk.raw")).unwrap();
    qemu_ok(folder, "qemu-img", &["convert", "-O", "qcow2", "disk.raw", "disk.qcow2"]);
    for command in [
        "cat disk.raw | $Q convert /dev/stdin out",
        "cat disk.qcow2 | $Q convert -f qcow2 /dev/fd/0 out",
        "$Q convert disk.qcow2 /dev/stdout | cat > out",
        "$Q convert disk.qcow2 /dev/fd/1 | cat > out",
        "$Q convert disk.qcow2 /proc/self/fd/1 | cat > out",
        "$Q convert disk.qcow2 /dev/stdout > out",
        "$Q convert /dev/stdin out < disk.qcow2",
        "$Q convert disk.qcow2 /dev/fd/3 3>&1 >&2 | cat > out",
        "cat disk.raw | $Q convert /dev/fd/5 /dev/stdout 5<&0 | cat > out",
        "mkfifo in; (cat disk.raw > in &); $Q convert in out",
        "$Q dd if=disk.qcow2 of=/dev/stdout | cat > out",
        "$Q dd if=disk.qcow2 of=- > out",
        "mkfifo dd; (cat dd > out; touch done) & $Q dd if=disk.qcow2 of=dd; wait",
        "mkfifo to; (cat to > out; touch done) & $Q convert disk.qcow2 to; wait",
    ] {
        let ran = shell(folder, command);
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && text.is_empty(), "{command}: {text}");
        assert!(fs::read(folder.join("out")).unwrap() == disk, "{command}");
        fs::remove_file(folder.join("out")).unwrap();
    }
    // A whole image, since its tables come before the data.
    for command in ["convert -O qcow2 disk.raw /dev/stdout", "dd -O qcow2 if=disk.raw of=-"] {
        let ran = shell(folder, &format!("$Q {command} | cat > out.qcow2"));
        assert!(ran.status.success(), "{command}");
        assert_same(folder, "out.qcow2");
    }
}

#[test]
fn info_and_check_read_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk.qcow2", "3M"]);
    for (command, word) in [
        ("cat disk.qcow2 | $Q info -", "virtual size: 3 MiB"),
        ("$Q info - < disk.qcow2", "virtual size: 3 MiB"),
        ("cat disk.qcow2 | $Q info --output json /dev/stdin", "\"virtual-size\": 3145728"),
        ("cat disk.qcow2 | $Q check -", "No errors were found on the image."),
        ("$Q check /dev/stdin < disk.qcow2", "No errors were found on the image."),
        ("cat disk.qcow2 | $Q snapshot -l - && echo ok", "ok"),
    ] {
        let ran = shell(folder, command);
        let text = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && text.contains(word), "{command}: {ran:?}");
    }
    for command in ["check -r all -", "resize - 4M", "snapshot -c x -"] {
        let ran = shell(folder, &format!("cat disk.qcow2 | $Q {command}"));
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(1) && text.contains("can only be read"), "{text}");
    }
}
