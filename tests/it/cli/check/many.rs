//! `qcheck check` with many images: a line each, a summary, the worst exit code.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::programs::run::{Ran, qcheck, qemu_create, qemu_ok};

/// A clean image, a leaky one, a corrupt one, a raw one, one that is not an image.
pub fn mixed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for name in ["clean", "leaky", "corrupt"] {
        qemu_create(dir.path(), &["-f", "qcow2", name, "10M"]);
        qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 1M", name]);
    }
    // Refcounts after the first refcount block's beginning: of clusters past the end, and of data.
    set_count(dir.path(), "leaky", 21, 1);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("leaky")).unwrap();
    file.set_len(22 << 16).unwrap();
    set_count(dir.path(), "corrupt", 6, 0);
    fs::write(dir.path().join("raw"), [7; 4096]).unwrap();
    fs::write(dir.path().join("broken"), b"QFI\xfb\0\0\0\x09").unwrap();
    dir
}

fn set_count(folder: &Path, name: &str, cluster: u64, count: u16) {
    let file = fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap();
    file.write_all_at(&count.to_be_bytes(), 0x20000 + 2 * cluster).unwrap();
}

fn with_input(folder: &Path, args: &[&str], input: &[u8]) -> Ran {
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    let mut child = Command::new(program)
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

const ALL: [&str; 6] = ["clean", "broken", "leaky", "missing", "corrupt", "raw"];

#[test]
fn each_image_has_its_line_and_a_bad_one_does_not_stop_the_rest() {
    let dir = mixed();
    let want = "clean: no errors\nbroken: no verdict\nleaky: 1 leaked cluster\nmissing: no \
                verdict\ncorrupt: 2 errors\nraw: no checker for raw\n6 images: 1 clean, 1 with leaks, 1 \
                with errors, 2 no-verdict, 1 no-checker\n";
    for jobs in ["1", "3", "0", "100"] {
        let ran = qcheck(dir.path(), &[&["check", "-j", jobs][..], &ALL].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, want), "-j {jobs}: {}", ran.err);
        for line in [
            "qcheck: Could not open 'missing': No such file or directory\n",
            "qcheck: 'leaky': found:\nLeaked cluster 21 refcount=1 reference=0\n",
            "qcheck: 'corrupt': found:\nERROR cluster 6 refcount=0 reference=1\n",
        ] {
            assert!(ran.err.contains(line), "-j {jobs}: {}", ran.err);
        }
    }
}

#[test]
fn the_exit_code_is_the_worst_in_the_documented_order() {
    let dir = mixed();
    for (images, code) in [
        (&["clean", "clean"][..], 0),
        (&["raw", "clean"], 63),
        (&["leaky", "raw", "clean"], 3),
        (&["raw", "corrupt", "leaky"], 2),
        (&["corrupt", "missing", "leaky"], 1),
    ] {
        let ran = qcheck(dir.path(), &[&["check"], images].concat());
        assert_eq!(ran.code, code, "{images:?}");
    }
    let ran = qcheck(dir.path(), &["check", "--deny", "dirty", "missing", "corrupt"]);
    assert_eq!(ran.code, 1, "nothing is denied that is not there");
    let ran = qcheck(dir.path(), &["check", "--max-virtual-size", "9M", "missing", "corrupt"]);
    assert_eq!(ran.code, 4);
}

#[test]
fn names_come_from_a_list_or_from_standard_input() {
    let dir = mixed();
    fs::write(dir.path().join("list"), "clean\n\nleaky\n").unwrap();
    let want = "raw: no checker for raw\nclean: no errors\nleaky: 1 leaked cluster\n3 images: 1 \
                clean, 1 with leaks, 1 no-checker\n";
    let ran = qcheck(dir.path(), &["check", "--files-from", "list", "raw"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, want));
    let args = ["check", "--files-from", "-"];
    let ran = with_input(dir.path(), &args, b"clean\0");
    let one = "clean: no errors\n1 image: 1 clean\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, one), "a list of one is a list");
    let ran = with_input(dir.path(), &args, b"");
    assert_eq!((ran.code, ran.out.as_str()), (1, "0 images\n"), "nothing was checked");
    assert_eq!(ran.err, "qcheck: the list names no image, so nothing was checked\n");
    let ran = qcheck(dir.path(), &["check", "--files-from", "nowhere"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("'nowhere'"), "{}", ran.err);
}

#[test]
fn one_image_is_reported_in_the_form_of_qemu_img() {
    let dir = mixed();
    let plain = qcheck(dir.path(), &["check", "corrupt"]);
    assert!(plain.out.contains("\n2 errors were found on the image.\n"), "{}", plain.out);
    assert_eq!(qcheck(dir.path(), &["check", "--deny", "dirty", "corrupt"]), plain);
}

#[test]
fn with_a_number_of_jobs_one_image_has_the_form_of_several() {
    let dir = mixed();
    let several = qcheck(dir.path(), &["check", "-j", "4", "corrupt", "clean"]);
    let one = qcheck(dir.path(), &["check", "-j", "4", "corrupt"]);
    assert_eq!(one.code, several.code);
    assert_eq!(one.out.lines().next(), several.out.lines().next());
    for form in [&["-j", "1"][..], &["-j", "0"], &["-j", "8"]] {
        let args = [&["check", "--output", "json"], form, &["clean"]].concat();
        let ran = qcheck(dir.path(), &args);
        let value: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(value.as_array().map(Vec::len), Some(1), "{form:?}");
    }
    let ran = qcheck(dir.path(), &["check", "-j", "4", "-r", "all", "corrupt"]);
    assert_eq!(ran.code, 0, "a repair of one image: {}", ran.err);
}

#[test]
fn json_is_an_array_with_qemu_imgs_keys_and_a_verdict() {
    let dir = mixed();
    let args = [&["check", "--output", "json", "-j", "2"][..], &ALL].concat();
    let ran = qcheck(dir.path(), &args);
    let array: Value = serde_json::from_str(&ran.out).unwrap();
    let array = array.as_array().unwrap();
    let of = |key: &str| array.iter().map(|image| image[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("filename"), ALL);
    let words = ["clean", "no-verdict", "leaks", "no-verdict", "errors", "no-checker"];
    assert_eq!(of("verdict"), words);
    assert_eq!(of("exit-code"), [0, 1, 3, 1, 2, 63]);
    assert_eq!((&array[2]["leaks"], &array[2]["findings"][0]["code"]), (&1.into(), &"leak".into()));
    assert!(array[3]["error"].as_str().unwrap().contains("No such file"));

    let args = [&["check", "--output", "ndjson"][..], &ALL].concat();
    let ran = qcheck(dir.path(), &args);
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&lines, array, "the same objects, one a line");
    let ran = qcheck(dir.path(), &["check", "--output", "ndjson", "clean"]);
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn quiet_leaves_only_what_was_found() {
    let dir = mixed();
    for form in ["human", "json", "ndjson"] {
        let ran = qcheck(dir.path(), &["check", "-q", "--output", form, "clean", "leaky"]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""));
        assert!(ran.err.contains("Leaked cluster 21"), "{}", ran.err);
    }
}

#[test]
fn a_chain_is_checked_once_whichever_image_names_it() {
    let dir = mixed();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let overlay = |name: &str, base: &str, format: &str| {
        qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", base, "-F", format, name, "10M"]);
    };
    overlay("mid", "leaky", "qcow2");
    overlay("sub/one", "../mid", "qcow2");
    overlay("two", "mid", "qcow2");
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "sub/one", "two", "leaky"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            3,
            "sub/one: no errors\nsub/../mid: no errors\nsub/../leaky: 1 leaked cluster\ntwo: no \
             errors\n4 images: 3 clean, 1 with leaks\n"
        )
    );
    overlay("on-raw", "raw", "raw");
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "on-raw"]);
    assert_eq!(ran.code, 0, "nobody asked for a check of the raw file");
    let lines = "on-raw: no errors\nraw: no checker for raw\n2 images: 1 clean, 1 no-checker\n";
    assert_eq!(ran.out, lines);
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "on-raw", "raw"]);
    assert_eq!((ran.code, ran.out.as_str()), (63, lines));
    overlay("alone", "nowhere", "qcow2");
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "alone"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("alone: no errors\nnowhere: no verdict\n"), "{}", ran.out);
    assert_eq!(qcheck(dir.path(), &["check", "alone"]).code, 0, "nothing else is opened");
}

#[test]
fn an_image_that_a_chain_reads_otherwise_is_checked_as_itself_too() {
    let dir = mixed();
    let overlay = ["-u", "-f", "qcow2", "-b", "corrupt", "-F", "raw", "overlay", "10M"];
    qemu_create(dir.path(), &overlay);
    for images in [["overlay", "corrupt"], ["corrupt", "overlay"]] {
        let ran = qcheck(dir.path(), &[&["check", "--backing-chain"][..], &images].concat());
        assert_eq!(ran.code, 2, "{images:?}: {}", ran.out);
        assert!(ran.out.contains("corrupt: 2 errors\n"), "{}", ran.out);
    }
    // There is no verdict on a file in a format that has no checker here, wherever it comes from.
    qemu_create(dir.path(), &["-q", "-f", "vmdk", "vmdk", "10M"]);
    qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", "vmdk", "-F", "vmdk", "above", "10M"]);
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "above"]);
    assert!(ran.code == 63 && ran.out.contains("vmdk: no checker for vmdk\n"), "{ran:?}");
    // The same file in another folder has another file below it.
    fs::create_dir(dir.path().join("sub")).unwrap();
    qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", "clean", "-F", "qcow2", "top", "10M"]);
    std::os::unix::fs::symlink("../top", dir.path().join("sub/top")).unwrap();
    for images in [["top", "sub/top"], ["sub/top", "top"]] {
        let ran = qcheck(dir.path(), &[&["check", "--backing-chain"][..], &images].concat());
        assert_eq!(ran.code, 1, "{images:?}: {}", ran.out);
        assert!(ran.out.contains("sub/clean: no verdict\n"), "{}", ran.out);
    }
}

#[test]
fn a_verdict_is_one_line_whatever_the_name() {
    let dir = mixed();
    fs::copy(dir.path().join("clean"), dir.path().join("a\nclean: no errors")).unwrap();
    let ran = qcheck(dir.path(), &["check", "./a\nclean: no errors", "corrupt"]);
    assert!(ran.out.starts_with("./a\\x0aclean: no errors: no errors\n"), "{}", ran.out);
}

#[test]
fn a_name_without_a_file_does_not_stop_the_rest() {
    let dir = mixed();
    let ran = qcheck(dir.path(), &["check", "clean", "ssh://host/export", "leaky"]);
    let lines = "clean: no errors\nssh://host/export: no verdict\nleaky: 1 leaked cluster\n";
    assert!(ran.code == 1 && ran.out.starts_with(lines), "{}", ran.out);
    assert!(
        ran.err.contains("'ssh://host/export': of remote files, those of nbd://"),
        "{}",
        ran.err
    );
    let ran = qcheck(dir.path(), &["check", "ssh://host/export"]);
    assert!(ran.code == 1 && ran.err.lines().count() == 1, "{}", ran.err);
}

#[test]
fn a_chain_without_an_end_and_names_without_a_file_have_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = |name: &str, base: &str| {
        qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", base, "-F", "qcow2", name, "1M"]);
    };
    overlay("a", "b");
    overlay("b", "a");
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "a", "b"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.err, "qcheck: 'a': the backing chain comes back to it\n");
    assert!(ran.out.starts_with("a: no errors\nb: no errors\na: no verdict\n"), "{}", ran.out);
    overlay("remote", "nbd://host/export");
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "remote"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("backing file of 'remote'"), "{}", ran.err);
    let builder = crate::support::images::builder::Builder::new(1 << 20).backing("a", None);
    fs::write(dir.path().join("unrecorded"), builder.build().bytes).unwrap();
    let ran = qcheck(dir.path(), &["check", "--backing-chain", "unrecorded"]);
    assert_eq!(ran.code, 1);
    let reported = ran.err.contains("does not record the format of 'a'");
    assert!(reported && ran.err.contains("'rebase -u'"), "{}", ran.err);
}

#[test]
fn what_works_on_one_image_only_is_refused_for_several() {
    let dir = mixed();
    let before = fs::read(dir.path().join("leaky")).unwrap();
    for args in [
        &["check", "-r", "all", "leaky", "corrupt"][..],
        &["check", "-r", "all", "--output", "ndjson", "leaky"],
        &["check", "-r", "all", "--policy", "untrusted", "leaky"],
        &["check", "--backing-chain", "--policy", "untrusted", "leaky"],
        &["check", "--backing-chain", "--deny", "dirty", "leaky"],
        &["check", "--jobs", "some", "leaky"],
    ] {
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}");
        assert!(ran.err.starts_with("qcheck: "), "{args:?}: {}", ran.err);
    }
    assert_eq!(fs::read(dir.path().join("leaky")).unwrap(), before);
}

#[test]
fn what_is_not_listed_is_counted_as_for_one_image() {
    let dir = mixed();
    // A run of four leaks, two single ones, and a count that is too low.
    for cluster in [21, 22, 23, 24, 26, 28] {
        set_count(dir.path(), "leaky", cluster, 1);
    }
    set_count(dir.path(), "leaky", 6, 0);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("leaky")).unwrap();
    file.set_len(29 << 16).unwrap();
    let rest = |args: &[&str]| {
        let ran = qcheck(dir.path(), &[&["check", "--max-findings"], args].concat());
        let lines = ran.err.lines().filter(|line| line.starts_with("...")).map(str::to_owned);
        lines.collect::<Vec<String>>()
    };
    for most in ["1", "2", "3", "5"] {
        let one = rest(&[most, "leaky"]);
        assert!(!one.is_empty());
        assert_eq!(rest(&[most, "leaky", "clean"]), one, "--max-findings {most}");
    }
}
