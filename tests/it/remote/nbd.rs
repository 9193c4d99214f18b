//! Reading exports of real NBD servers, against real qemu-img.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::support::programs::disks::{self, same};
use crate::support::programs::run::{qcheck, qemu, qemu_create, qemu_io, qemu_ok};
use crate::support::servers::real::{Server, free_port, has};
use crate::support::skip::skip;

/// Images of one file, whose names in them do not matter.
const IMAGES: [(&str, &str); 9] = [
    ("plain", "qcow2"),
    ("v2", "qcow2"),
    ("small", "qcow2"),
    ("big", "qcow2"),
    ("sub", "qcow2"),
    ("packed", "qcow2"),
    ("snapshots", "qcow2"),
    ("raw", "raw"),
    ("tail", "raw"),
];

/// What is read of an export is what qemu-img reads of it; the file `near` is the same image.
fn compare(folder: &Path, format: &str, name: &str) {
    for command in [
        &["info", "-f", format][..],
        &["info", "--output=json", "-f", format],
        &["map", "-f", format],
        &["map", "--output=json", "-f", format],
        &["measure", "-O", "qcow2", "-f", format],
        &["check", "-f", format],
    ] {
        same(folder, &[command, &[name]].concat());
    }
    same(folder, &["compare", "-f", format, "-F", format, name, "near"]);
    let ran = qcheck(folder, &["convert", "-f", format, "-O", "raw", name, "made"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{name}");
    qemu_ok(folder, "qemu-img", &["compare", "-f", "raw", "-F", format, "made", "near"]);
}

#[test]
fn every_command_that_reads_prints_of_an_export_what_qemu_img_prints() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    disks::make(folder);
    for (image, format) in IMAGES {
        fs::copy(folder.join(image), folder.join("near")).unwrap();
        let server = Server::qemu_nbd(&folder.join(image));
        compare(folder, format, &server.name(""));
    }
    fs::copy(folder.join("plain"), folder.join("near")).unwrap();
    let server = Server::storage_daemon(&folder.join("plain"));
    compare(folder, "qcow2", &server.name("disk"));
}

#[test]
fn what_only_qcheck_shows_is_the_same_of_an_export_and_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    disks::make(folder);
    fs::copy(folder.join("snapshots"), folder.join("near")).unwrap();
    let server = Server::qemu_nbd(&folder.join("snapshots"));
    let name = server.name("");
    for command in [
        &["check", "--data", "--digest=sha256", "--output=json"][..],
        &["info", "--layout"],
        &["snapshot", "-l"],
    ] {
        let [near, far] =
            ["near", &name].map(|image| qcheck(folder, &[command, &[image]].concat()));
        assert_eq!(near.code, 0, "{command:?}: {}", near.err);
        // The heading of the drawn map wraps where the name of the socket is long.
        let far_out = far.out.replace(&name, "near").replace("\n  a cell is", "; a cell is");
        assert_eq!(far_out, near.out, "{command:?}: {}", far.err);
    }
    let ran = qcheck(folder, &["dump", &name, "dumped"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    same(folder, &["check", "dumped"]);
}

#[test]
fn an_export_is_found_over_tcp_by_name_by_options_and_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk", "4M"]);
    qemu_io(folder, "disk", "write -P 7 1M 300k");
    let server = Server::storage_daemon(&folder.join("disk"));
    let socket = server.socket().display().to_string();
    let json = format!(
        r#"json:{{"driver":"qcow2","file":{{"driver":"nbd","export":"disk","server":{{"type":"unix","path":"{socket}"}}}}}}"#
    );
    let options = format!("driver=qcow2,file.driver=nbd,file.path={socket},file.export=disk");
    same(folder, &["check", &json]);
    same(folder, &["map", "--image-opts", "--output=json", &options]);
    let bare = format!("driver=nbd,server.type=unix,server.path={socket},export=disk");
    same(folder, &["map", "--image-opts", &bare]);
    // QEMU's older form, which scripts still have.
    let older = format!("nbd:unix:{socket}:exportname=disk");
    same(folder, &["check", &older]);
    same(folder, &["info", "-f", "qcow2", &older]);

    drop(server);
    let port = free_port();
    let _tcp = Server::qemu_nbd_on_port(&folder.join("disk"), port);
    same(folder, &["check", &format!("nbd://127.0.0.1:{port}/")]);
    same(folder, &["map", "--output=json", &format!("nbd://localhost:{port}")]);
    same(folder, &["map", "--output=json", &format!("nbd:localhost:{port}")]);
}

#[test]
fn requests_of_several_threads_are_in_flight_at_the_same_time() {
    if !has("nbdkit") {
        return skip("requests in flight", "nbdkit is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    // 64 tables of 512 MiB each, and the data of one compared.
    qemu_create(folder, &["-f", "qcow2", "-o", "preallocation=metadata", "disk", "32G"]);
    let file = format!("file={}", folder.join("disk").display());
    let server = Server::nbdkit(&["--filter=delay", "file", &file, "rdelay=20ms"]);
    let begin = Instant::now();
    let ran = qcheck(folder, &["check", &server.name("")]);
    let took = begin.elapsed();
    assert_eq!(ran.code, 0, "{}", ran.err);
    // One after the other, the 64 tables and the refcount blocks alone take longer.
    assert!(took.as_millis() < 64 * 20 + 2000, "{took:?}");
}

#[test]
fn errors_of_the_server_are_read_errors_with_their_place() {
    if !has("nbdkit") {
        return skip("errors of the server", "nbdkit is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk", "4M"]);
    let file = format!("file={}", folder.join("disk").display());
    let args = ["--filter=error", "file", &file, "error-pread=EIO", "error-pread-rate=100%"];
    let server = Server::nbdkit(&args);
    let ran = qcheck(folder, &["check", &server.name("")]);
    assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
    assert!(ran.err.contains("Input/output error"), "{}", ran.err);
    assert!(ran.err.contains("the NBD server could not read"), "{}", ran.err);
}

#[test]
fn what_cannot_be_connected_to_is_reported_as_by_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk", "4M"]);
    let server = Server::storage_daemon(&folder.join("disk"));
    for name in [
        "nbd+unix:///x?socket=absent".to_owned(),
        "nbd://127.0.0.1:1/x".to_owned(),
        server.name("other"),
    ] {
        let (ours, theirs) =
            (qcheck(folder, &["info", &name]), qemu(folder, "qemu-img", &["info", &name]));
        assert_eq!((ours.code, theirs.code), (1, 1), "{name}");
        let line = |err: &str| err.lines().next().unwrap().split_once(": ").unwrap().1.to_owned();
        let theirs = line(&theirs.err);
        assert!(line(&ours.err).starts_with(&theirs), "{}\n{theirs}", ours.err);
    }
    let read_only = Server::qemu_nbd_with(&folder.join("disk"), &["-r"]);
    let before = fs::read(folder.join("disk")).unwrap();
    let ran = qcheck(folder, &["snapshot", "-c", "new", &read_only.name("")]);
    assert!(ran.code == 1 && ran.err.contains("the export is read-only"), "{}", ran.err);
    assert!(fs::read(folder.join("disk")).unwrap() == before);
}
