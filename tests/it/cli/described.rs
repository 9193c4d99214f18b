//! Images that are named by JSON or by options, against real qemu-img.

use std::fs;
use std::path::Path;

use crate::support::programs::disks::same;
use crate::support::programs::run::{qcheck, qemu, qemu_create, qemu_io, qemu_ok};

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk", "4M"]);
    qemu_io(folder, "disk", "write -P 7 1M 300k");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "before", "disk"]);
    qemu_ok(folder, "qemu-img", &["convert", "-O", "raw", "disk", "disk.raw"]);
    fs::copy(folder.join("disk"), folder.join("a:b,c")).unwrap();
    dir
}

/// The same image by a name, and by whether that is options.
const NAMES: [(&str, bool); 10] = [
    (r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"disk"}}"#, false),
    (r#"json:{"driver":"qcow2","file.driver":"file","file.filename":"disk"}"#, false),
    (r#"json:{"file":{"filename":"disk"},"cache":{"direct":false},"discard":"unmap"}"#, false),
    (r#"json:{"driver":"qcow2","file.filename":"a:b,c","node-name":"n"}"#, false),
    (r#"json:{"driver":"raw","file":{"driver":"file","filename":"disk.raw"}}"#, false),
    ("json:{'driver':'qcow2','file':{'driver':'file','filename':'disk'}}", false),
    ("driver=qcow2,file.filename=disk", true),
    ("driver=qcow2,l2-cache-entry-size=4096,file.filename=disk", true),
    ("driver=qcow2,file.driver=file,file.filename=a:b,,c", true),
    ("file.filename=disk.raw,driver=raw", true),
];

#[test]
fn every_command_that_reads_an_image_takes_a_description() {
    let dir = folder();
    for (name, as_options) in NAMES {
        for command in [
            &["map", "--output=json"][..],
            &["measure", "-O", "qcow2"],
            &["compare", "--COPY"],
            &["snapshot", "-l"],
            &["check"],
        ] {
            if as_options && command[0] == "compare" {
                continue;
            }
            let options = if as_options { &["--image-opts"][..] } else { &[] };
            let mut args: Vec<&str> =
                [command, options].concat().into_iter().filter(|arg| *arg != "--COPY").collect();
            args.push(name);
            if command[0] == "compare" {
                args.push("disk");
            }
            same(dir.path(), &args);
        }
    }
    let options = "driver=qcow2,file.filename=disk";
    same(dir.path(), &["compare", "--image-opts", options, "file.filename=disk.raw,driver=raw"]);
}

#[test]
fn info_shows_the_file_that_is_described() {
    let dir = folder();
    for (name, as_options) in NAMES {
        let options = if as_options { &["--image-opts"][..] } else { &[] };
        let args = [&["info", "--output=json"], options, &[name]].concat();
        let ours = qcheck(dir.path(), &args);
        let theirs = qemu(dir.path(), "qemu-img", &args);
        assert_eq!((ours.code, theirs.code), (0, 0), "{name}: {}", ours.err);
        for key in ["filename", "format", "virtual-size"] {
            let line = |text: &str| {
                text.lines().rfind(|line| line.contains(&format!("\"{key}\""))).map(str::to_owned)
            };
            let trim = |line: Option<String>| line.map(|l| l.trim_end_matches(',').to_owned());
            assert_eq!(trim(line(&ours.out)), trim(line(&theirs.out)), "{name}");
        }
    }
}

#[test]
fn images_are_copied_and_changed_by_their_description() {
    let dir = folder();
    let folder = dir.path();
    let json = r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"disk"}}"#;
    let options = "driver=qcow2,file.filename=disk";
    let identical = |made: &str| {
        qemu_ok(folder, "qemu-img", &["compare", "-q", "-F", "qcow2", made, "disk"]);
    };
    for (n, args) in [
        &["convert", "-O", "raw", json][..],
        &["convert", "-O", "raw", "--image-opts", options],
        &["convert", "-O", "raw", "--source-image-opts", options],
    ]
    .into_iter()
    .enumerate()
    {
        let made = format!("made{n}");
        let ran = qcheck(folder, &[args, &[made.as_str()]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        identical(&made);
    }
    let ran = qcheck(folder, &["dd", "-O", "raw", &format!("if={json}"), "of=copy"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    identical("copy");
    qemu_create(folder, &["-f", "qcow2", "there", "4M"]);
    let target = "driver=qcow2,file.filename=there";
    let args = ["convert", "-n", "--target-image-opts", "-O", "qcow2", "disk.raw", target];
    assert_eq!(qcheck(folder, &args).code, 0);
    identical("there");
    assert_eq!(qcheck(folder, &["snapshot", "-c", "new", json]).code, 0);
    assert_eq!(qcheck(folder, &["snapshot", "--image-opts", "-d", "new", options]).code, 0);
    assert_eq!(qcheck(folder, &["resize", "--image-opts", options, "5M"]).code, 0);
    assert!(qemu_ok(folder, "qemu-img", &["info", "disk"]).contains("virtual size: 5 MiB"));
    for args in [&["snapshot", "-c", "x"][..], &["check", "-r", "all"]] {
        let read_only = r#"json:{"driver":"qcow2","file.filename":"disk","read-only":true}"#;
        let before = fs::read(folder.join("disk")).unwrap();
        let ran = qcheck(folder, &[args, &[read_only]].concat());
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.err.contains("read-only"), "{}", ran.err);
        assert!(fs::read(folder.join("disk")).unwrap() == before);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_nothing_is_made() {
    let dir = folder();
    let folder = dir.path();
    for (args, word) in [
        (&["info", r#"json:{"driver":"ssh","host":"h"}"#][..], "'ssh'"),
        (&["info", r#"json:{"driver":"qcow2","file":"node"}"#], "'node'"),
        (&["info", r#"json:{"driver":"qcow2"}"#], "file.filename"),
        (&["info", r#"json:{"driver":"qcow2","file.filename":"disk","foo":1}"#], "foo"),
        (&["info", "json:{"], "Could not parse the JSON options"),
        (&["info", "json:[1]"], "Invalid JSON object given"),
        (&["info", "--image-opts", "disk"], "'disk'"),
        (&["map", "--image-opts", "-f", "raw", "file.filename=disk"], "mutually exclusive"),
        (&["info", "-f", "qcow2", r#"json:{"driver":"file","filename":"disk"}"#], "\"file\""),
    ] {
        let theirs = qemu(folder, "qemu-img", args);
        let ours = qcheck(folder, args);
        assert!(theirs.code == 1 && ours.code == 1, "{args:?}: {}", ours.err);
        assert!(ours.err.contains(word), "{args:?}: {}", ours.err);
    }
    let made = r#"json:{"driver":"raw","file.filename":"new"}"#;
    assert_eq!(qcheck(folder, &["convert", "-O", "raw", "disk", made]).code, 1);
    let args = ["convert", "--target-image-opts", "-O", "raw", "disk", "file.filename=new"];
    assert!(qcheck(folder, &args).err.contains("--target-image-opts requires use of -n"));
    assert!(!folder.join("new").exists());
}

/// Makes an overlay with real qemu-img whose backing file is described, and reads it.
fn overlay(folder: &Path, backing: &str) {
    qemu_create(folder, &["-f", "qcow2", "-b", backing, "-F", "qcow2", "sub/over"]);
    let info = qcheck(folder, &["info", "--backing-chain", "--output=json", "sub/over"]);
    assert_eq!(info.code, 0, "{backing}: {}", info.err);
    let names = |text: &str| -> Vec<String> {
        let key = "backing-filename\"";
        text.lines().filter(|line| line.contains(key)).map(|l| l.trim().into()).collect()
    };
    let theirs =
        qemu_ok(folder, "qemu-img", &["info", "--backing-chain", "--output=json", "sub/over"]);
    let (mut ours, mut theirs) = (names(&info.out), names(&theirs));
    ours.iter_mut().chain(&mut theirs).for_each(|l| *l = l.trim_end_matches(',').to_owned());
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs, "{backing}");
    same(folder, &["map", "--output=json", "sub/over"]);
    assert_eq!(qcheck(folder, &["compare", "sub/over", "disk"]).code, 0);
    assert_eq!(qcheck(folder, &["convert", "-O", "raw", "sub/over", "sub/made"]).code, 0);
    qemu_ok(folder, "qemu-img", &["compare", "-q", "sub/made", "disk"]);
    assert_eq!(qcheck(folder, &["check", "--backing-chain", "sub/over"]).code, 0);
}

#[test]
fn a_backing_file_that_an_image_describes_is_read_from_the_current_folder() {
    let dir = folder();
    let folder = dir.path();
    fs::create_dir(folder.join("sub")).unwrap();
    for backing in [
        r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"disk"}}"#,
        r#"json:{"driver":"qcow2","file.filename":"a:b,c","read-only":true}"#,
        // The format that is recorded counts.
        r#"json:{"driver":"raw","file.filename":"disk"}"#,
    ] {
        overlay(folder, backing);
        let args = ["create", "-f", "qcow2", "-b", backing, "-F", "qcow2"];
        for (program, name) in [("ours", "sub/one"), ("theirs", "sub/two")] {
            let args = [&args[..], &[name]].concat();
            let tool = if program == "ours" {
                qcheck(folder, &args)
            } else {
                qemu(folder, "qemu-img", &args)
            };
            assert_eq!(tool.code, 0, "{backing}: {}", tool.err);
        }
        let [one, two] = ["sub/one", "sub/two"].map(|name| fs::read(folder.join(name)).unwrap());
        assert!(one[..512] == two[..512], "{backing}");
    }
    let foreign =
        r#"json:{"driver":"qcow2","file":{"driver":"ssh","host":"h","path":"/p","user":"u"}}"#;
    qemu_ok(folder, "qemu-img", &["rebase", "-u", "-b", foreign, "-F", "qcow2", "sub/over"]);
    let ran = qcheck(folder, &["map", "sub/over"]);
    assert!(ran.code == 1 && ran.err.contains("'ssh'"), "{}", ran.err);
}

/// Files for descriptions that hold in place of what is in an image: `top` over `disk`, `outer`
/// with an external data file, and another data file.
fn chain(folder: &Path) {
    qemu_create(folder, &["-f", "qcow2", "-b", "disk", "-F", "qcow2", "top"]);
    qemu_io(folder, "top", "write -P 3 2M 64k");
    qemu_create(folder, &["-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "outer", "4M"]);
    qemu_io(folder, "outer", "write -P 4 1M 300k");
    fs::copy(folder.join("disk.raw"), folder.join("data2")).unwrap();
}

#[test]
fn a_description_has_another_backing_file_data_file_or_part_of_a_file() {
    let dir = folder();
    let folder = dir.path();
    chain(folder);
    for name in [
        r#"json:{"driver":"qcow2","file.filename":"top","backing":null}"#,
        r#"json:{"file.filename":"top","backing":{"driver":"raw","file.filename":"disk.raw"}}"#,
        r#"json:{"driver":"qcow2","file.filename":"top","backing.file.filename":"a:b,c"}"#,
        "driver=qcow2,file.filename=top,backing.driver=raw,backing.file.filename=disk.raw",
        "driver=qcow2,file.filename=top,backing=",
        "file.filename=top,backing.driver=raw,backing.offset=1M,backing.file.filename=disk.raw",
        "driver=qcow2,file.filename=top,backing.driver=qcow2,backing.file.filename=disk,\
         backing.backing.driver=raw,backing.backing.size=64k,backing.backing.file.filename=disk.raw",
        "driver=raw,offset=1M,size=1M,file.filename=disk.raw",
        "driver=raw,offset=1024,file.filename=disk.raw,file.driver=file",
        "driver=raw,size=0,file.filename=disk.raw",
        "file.filename=disk.raw,offset=1M",
        "driver=qcow2,file.filename=outer,data-file.filename=data2",
        "driver=qcow2,file.filename=outer,data-file.driver=file,data-file.filename=data2",
    ] {
        let options = if name.starts_with("json:") { &[][..] } else { &["--image-opts"] };
        same(folder, &[&["map", "--output=json"], options, &[name]].concat());
        same(folder, &[&["measure", "-O", "qcow2"], options, &[name]].concat());
        let convert = |program: &str| {
            let args = [&["convert", "-O", "raw"], options, &[name, "made"]].concat();
            let ran =
                if program == "own" { qcheck(folder, &args) } else { qemu(folder, program, &args) };
            assert_eq!(ran.code, 0, "{name}: {}", ran.err);
            fs::read(folder.join("made")).unwrap()
        };
        assert!(convert("own") == convert("qemu-img"), "{name}");
    }
    same(
        folder,
        &[
            "compare",
            "--image-opts",
            "driver=raw,offset=1M,size=1M,file.filename=disk.raw",
            "driver=raw,offset=2M,size=1M,file.filename=disk.raw",
        ],
    );
}

#[test]
fn a_backing_file_that_an_image_describes_may_be_a_part_of_a_file_or_have_another_one() {
    let dir = folder();
    let folder = dir.path();
    chain(folder);
    for (backing, format) in [
        (
            r#"json:{"driver":"raw","offset":1048576,"size":65536,"file":{"driver":"file","filename":"disk.raw"}}"#,
            "raw",
        ),
        (r#"json:{"driver":"qcow2","file.filename":"top","backing":null}"#, "qcow2"),
        (
            r#"json:{"driver":"qcow2","file.filename":"top","backing.driver":"raw","backing.file.filename":"disk.raw"}"#,
            "qcow2",
        ),
        (
            r#"json:{"driver":"qcow2","file.filename":"outer","data-file":{"driver":"file","filename":"data2"}}"#,
            "qcow2",
        ),
    ] {
        qemu_create(folder, &["-f", "qcow2", "-b", backing, "-F", format, "over", "4M"]);
        same(folder, &["map", "--output=json", "over"]);
        let read = |program: &str| {
            let args = ["convert", "-O", "raw", "over", "made"];
            let ran =
                if program == "own" { qcheck(folder, &args) } else { qemu(folder, program, &args) };
            assert_eq!(ran.code, 0, "{backing}: {}", ran.err);
            fs::read(folder.join("made")).unwrap()
        };
        assert!(read("own") == read("qemu-img"), "{backing}");
    }
}

#[test]
fn parts_and_other_files_that_do_not_fit_are_refused_as_by_qemu_img() {
    let dir = folder();
    let folder = dir.path();
    chain(folder);
    for options in [
        "driver=raw,size=1000,file.filename=disk.raw",
        "driver=raw,offset=5M,file.filename=disk.raw",
        "driver=raw,offset=3M,size=2M,file.filename=disk.raw",
        "driver=raw,offset=x,file.filename=disk.raw",
        "driver=qcow2,file.filename=top,backing=foo",
        "driver=qcow2,file.filename=top,backing.filename=disk.raw",
        "driver=qcow2,file.filename=top,backing.file.filename=disk.raw",
        "driver=qcow2,file.filename=top,data-file.filename=data2",
        "driver=raw,file.filename=top,backing.filename=disk.raw",
        "driver=qcow2,offset=512,file.filename=top",
    ] {
        let args = ["map", "--image-opts", options];
        let (ours, theirs) = (qcheck(folder, &args), qemu(folder, "qemu-img", &args));
        assert_eq!((ours.code, theirs.code), (1, 1), "{options}: {}", ours.err);
        let words = theirs.err.lines().next().unwrap().rsplit("': ").next().unwrap();
        if options.starts_with("driver=raw") && !options.contains("backing") {
            assert!(ours.err.contains(words), "{options}: {} instead of {words}", ours.err);
        }
    }
    for (args, option) in [
        (
            &["resize", "--image-opts", "driver=raw,size=512,file.filename=disk.raw", "5M"][..],
            "size",
        ),
        (&["check", r#"json:{"driver":"qcow2","file.filename":"top","backing":null}"#], "backing"),
        (
            &["snapshot", "-l", "--image-opts", "file.filename=outer,data-file.filename=data2"],
            "data-file",
        ),
    ] {
        let ran = qcheck(folder, args);
        assert!(ran.code == 1 && ran.err.contains(option), "{args:?}: {}", ran.err);
    }
}

#[test]
fn what_writes_or_records_an_image_refuses_a_description_of_a_part_of_it() {
    let dir = folder();
    let folder = dir.path();
    chain(folder);
    let part = r#"json:{"driver":"raw","offset":1048576,"size":1048576,"file":{"driver":"file","filename":"disk.raw"}}"#;
    let other = r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"outer"},"data-file":{"driver":"file","filename":"data2"}}"#;
    qemu_create(folder, &["-f", "qcow2", "-b", part, "-F", "raw", "above"]);
    qemu_io(folder, "above", "write -P 9 0 64k");
    let files = ["above", "data", "data2", "disk", "disk.raw", "outer", "top"];
    let content = || files.map(|name| fs::read(folder.join(name)).unwrap());
    let before = content();
    for (args, word) in [
        (&["commit", "above"][..], "offset"),
        (&["rebase", "-b", part, "-F", "raw", "top"], "offset"),
        (&["convert", "-O", "qcow2", "-B", part, "-F", "raw", "disk.raw", "made"], "offset"),
        (&["create", "-f", "qcow2", "-b", part, "-F", "raw", "made"], "offset"),
        (&["create", "-f", "qcow2", "-b", other, "-F", "qcow2", "made"], "data-file"),
        (&["create", "-u", "-f", "qcow2", "-b", other, "-F", "qcow2", "data2", "1M"], "same file"),
    ] {
        let ran = qcheck(folder, args);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(word), "{args:?}: {}", ran.err);
        assert!(content() == before && !folder.join("made").exists(), "{args:?}");
    }
}
