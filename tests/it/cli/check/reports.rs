//! `--output junit` and `--output sarif`: what other programs read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::images::builder::Builder;
use crate::support::images::bytes::{
    be64, extension, header, l1_entry_at, l2_entry_at, poke, set_header,
};
use crate::support::programs::run::{qcheck, qemu_create, qemu_ok};
use crate::support::skip::skip;

/// Images of every verdict, with names that have to be escaped.
const IMAGES: [&str; 6] = ["clean", "a <b> & \"c\"", "leaky", "missing", "raw", "named"];

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for name in ["clean", IMAGES[1], "leaky"] {
        qemu_create(dir.path(), &["-f", "qcow2", name, "10M"]);
        qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 1M", name]);
    }
    let count = |name: &str, cluster: u64, count: u16| {
        let file = fs::OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
        file.write_all_at(&count.to_be_bytes(), 0x20000 + 2 * cluster).unwrap();
        file.set_len(23 << 16).unwrap();
    };
    count(IMAGES[1], 6, 0);
    count("leaky", 21, 1);
    count("leaky", 22, 1);
    fs::write(dir.path().join("raw"), [7; 4096]).unwrap();
    let named = Builder::new(1 << 20).backing("/etc/pass\u{1}wd", Some("raw"));
    fs::write(dir.path().join("named"), named.build().bytes).unwrap();
    dir
}

fn report(folder: &Path, form: &str) -> String {
    let args = ["check", "--output", form, "-j", "3", "--deny", "backing"];
    let ran = qcheck(folder, &[&args[..], &IMAGES].concat());
    assert_eq!(ran.code, 4, "{}", ran.err);
    ran.out
}

/// A Python that has the packages that read JUnit files: the first one, or the system's.
fn python_for_junit() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let imported = Command::new(python).args(["-c", "import junitparser, lxml"]).output();
        imported.is_ok_and(|done| done.status.success())
    })
}

#[test]
fn a_junit_file_is_valid_by_the_published_schema_and_read_by_others() {
    let dir = folder();
    fs::write(dir.path().join("report.xml"), report(dir.path(), "junit")).unwrap();
    let Some(python) = python_for_junit() else {
        return skip("JUnit in Python", "python3 with junitparser and lxml is not installed");
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let output = Command::new(python)
        .arg(data.join("read_junit.py"))
        .arg(data.join("junit-10.xsd"))
        .arg(dir.path().join("report.xml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "6 3 1 1\n\
         qcheck check | clean | passed\n\
         qcheck check | a <b> & \"c\" | Failure errors: 2 errors\n\
         qcheck check | leaky | Failure leaks: 2 leaked clusters\n\
         qcheck check | missing | Error no-verdict: no verdict\n\
         qcheck check | raw | Skipped no-checker: no checker for raw\n\
         qcheck check | named | Failure denied: denied: backing, no errors\n"
    );
}

#[test]
fn a_junit_failure_lists_what_was_found() {
    let dir = folder();
    let text = report(dir.path(), "junit");
    for line in [
        "<testcase name=\"a &lt;b&gt; &amp; &quot;c&quot;\" classname=\"qcheck check\"",
        "leak: Leaked cluster 21 refcount=1 reference=0 (and 1 more cluster after it)",
        "refcount-too-low: ERROR cluster 6 refcount=0 reference=1",
        "Could not open 'missing': No such file or directory",
        "denied: backing: it has the backing file '/etc/pass\\u{1}wd'",
    ] {
        let quotes = text.replace("&apos;", "'");
        assert!(quotes.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains('\u{1}'), "XML has no control characters");
    let args = ["check", "--output", "junit", "--max-findings", "1", IMAGES[1]];
    let ran = qcheck(dir.path(), &args);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("... and 1 more"), "{}", ran.out);
}

#[test]
fn sarif_has_a_result_for_each_finding_and_a_notification_where_there_is_no_verdict() {
    let dir = folder();
    let log: Value = serde_json::from_str(&report(dir.path(), "sarif")).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let of = |result: &Value| {
        let place = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&result["ruleId"]), text(&result["level"]), text(place))
    };
    let want = [
        ("refcount-too-low", "error", "a%20%3Cb%3E%20%26%20%22c%22"),
        ("copied-data", "error", "a%20%3Cb%3E%20%26%20%22c%22"),
        ("leak", "warning", "leaky"),
        ("policy/backing", "error", "named"),
    ]
    .map(|(rule, level, place)| (rule.to_owned(), level.to_owned(), place.to_owned()));
    assert_eq!(results.iter().map(of).collect::<Vec<_>>(), want);
    let region = &results[2]["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region, &serde_json::json!({ "byteOffset": 21 << 16, "byteLength": 2 << 16 }));

    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]), "{result}");
    }
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let told = invocation["toolExecutionNotifications"].as_array().unwrap();
    let levels: Vec<&Value> = told.iter().map(|note| &note["level"]).collect();
    assert_eq!(levels, ["error", "note"], "missing, raw");
}

/// The regions of the results of one rule; all that there are have to be in the file.
fn regions(folder: &Path, image: &[u8], rule: &str) -> Vec<(u64, u64)> {
    fs::write(folder.join("image"), image).unwrap();
    let ran = qcheck(folder, &["check", "--data", "--output", "sarif", "image"]);
    let log: Value = serde_json::from_str(&ran.out).unwrap();
    let mut found = Vec::new();
    for result in log["runs"][0]["results"].as_array().unwrap() {
        let region = &result["locations"][0]["physicalLocation"]["region"];
        let number = |key: &str| region[key].as_u64();
        let Some((at, bytes)) = number("byteOffset").zip(number("byteLength")) else { continue };
        assert!(bytes > 0 && at + bytes <= image.len() as u64, "{result}");
        if result["ruleId"] == rule {
            found.push((at, bytes));
        }
    }
    found
}

#[test]
fn sarif_points_to_the_bytes_that_are_wrong_and_never_past_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let sound = Builder::new(1 << 20).data(0..8, 0x11).build().bytes;
    let with = |at: usize, value: u64| {
        let mut image = sound.clone();
        poke(&mut image, at, 8, value);
        image
    };
    let entry = l2_entry_at(&sound, 0x3000);
    let bits = be64(&sound, entry);
    let at = |entry: usize| vec![(entry as u64, 8)];
    for (rule, value) in [
        ("l2-reserved-bits", bits | 1 << 58),
        ("data-unaligned", bits | 0x200),
        ("preallocated-unaligned", 0x8000_0000_0000_0001 | (0x0023_4567_89ab_ce00)),
        ("copied-data", bits & !(1 << 63)),
        ("beyond-end", 1 << 63 | 1 << 50),
    ] {
        assert_eq!(regions(dir.path(), &with(entry, value), rule), at(entry), "{rule}");
    }
    let l1 = l1_entry_at(&sound, 0);
    let reserved = with(l1, be64(&sound, l1) | 1 << 58);
    assert_eq!(regions(dir.path(), &reserved, "l1-reserved-bits"), at(l1));
    let mut image = sound.clone();
    set_header(&mut image, "refcount_table_offset", header(&sound, "refcount_table_offset") + 512);
    assert_eq!(regions(dir.path(), &image, "header-field"), [(48, 8)]);

    let image = Builder::new(1 << 20).bitmap("dirty", 12, 0x10).build().bytes;
    let (data, _) = extension(&image, 0x2385_2875).unwrap();
    let directory = be64(&image, data + 16);
    assert_eq!(regions(dir.path(), &image, "bitmap-data"), [(directory, 32)]);

    // A refcount for the cluster after the last one.
    let mut image = sound.clone();
    crate::support::images::bytes::set_refcount(&mut image, sound.len() as u64 >> 12, 1);
    assert_eq!(regions(dir.path(), &image, "counted-beyond-end"), []);
}

#[test]
fn reports_of_no_image_at_all_are_whole_files() {
    let dir = folder();
    fs::write(dir.path().join("none"), "").unwrap();
    let run = |form: &str| {
        let ran = qcheck(dir.path(), &["check", "--output", form, "--files-from", "none"]);
        assert_eq!(ran.code, 1);
        ran.out
    };
    assert!(run("junit").contains("tests=\"0\""));
    let log: Value = serde_json::from_str(&run("sarif")).unwrap();
    assert_eq!(log["runs"][0]["results"], serde_json::json!([]));
    assert_eq!(run("json"), "[\n]\n");
    assert_eq!(run("ndjson"), "");
}

#[test]
fn characters_that_no_xml_may_have_are_left_out() {
    let dir = folder();
    let image = Builder::new(1 << 20).bitmap("\u{FFFE}\u{FFFF}", 16, 1).build().bytes;
    for name in ["bitmap", "name\u{FFFF}"] {
        fs::write(dir.path().join(name), &image).unwrap();
        let args = ["check", "--output", "junit", "--max-virtual-size", "1k", name];
        let ran = qcheck(dir.path(), &args);
        assert!(ran.code == 4 && !ran.out.contains(['\u{FFFE}', '\u{FFFF}']), "{}", ran.out);
    }
}

#[test]
fn digests_are_in_reports_and_printed_where_nothing_else_is() {
    let dir = folder();
    let of = |args: &[&str]| {
        let ran = qcheck(dir.path(), &[&["check", "--digest", "sha256"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let line = of(&["-q", "clean"]);
    assert!(line.starts_with("sha256: ") && line.len() == 73, "{line}");
    assert_eq!(of(&["-q", "clean", "raw"]).matches("sha256: ").count(), 2);
    let junit = of(&["--output", "junit", "clean"]);
    assert!(junit.contains(&format!("<system-out>{}</system-out>", line.trim())), "{junit}");
    let sarif: Value = serde_json::from_str(&of(&["--output", "sarif", "clean"])).unwrap();
    let notes = &sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notes[0]["message"]["text"], line.trim());
}

#[test]
fn a_name_with_a_line_break_is_one_name_in_a_junit_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    qemu_create(dir.path(), &["-f", "qcow2", "two\nlines", "1M"]);
    let ran = qcheck(dir.path(), &["check", "--output", "junit", "two\nlines"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("name=\"two\\x0alines\""), "{}", ran.out);
}
