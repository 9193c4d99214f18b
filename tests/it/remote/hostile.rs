//! Servers that do not keep to the protocol: one clear error, in time, and nothing is written.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::programs::run::{qcheck, qemu_create, qemu_io};
use crate::support::servers::fake_nbd::{
    ALL_FLAGS, FLUSH, FakeNbd, Fault, Manner, READ, STATUS, WRITE,
};

fn image() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "4M"]);
    qemu_io(folder, "disk", "write -P 7 1M 300k");
    fs::read(folder.join("disk")).unwrap()
}

#[test]
fn a_server_that_keeps_to_the_protocol_is_understood_in_each_manner() {
    let (image, dir) = (image(), tempfile::tempdir().unwrap());
    for (structured, has_go, block) in [
        (true, true, 1),
        (false, true, 1),
        (true, true, 4096),
        (false, false, 1),
        (true, true, 512),
    ] {
        let mut content = image.clone();
        content.resize(image.len().next_multiple_of(4096) + (1 << 20), 0);
        let manner = Manner { structured, has_go, block, ..Manner::default() };
        let server = FakeNbd::start(content, manner);
        for args in [&["check"][..], &["snapshot", "-c", "new"], &["check", "--data"]] {
            let ran = qcheck(dir.path(), &[args, &[&server.name()]].concat());
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{manner:?} {args:?}");
        }
        let block = if has_go { block } else { 1 };
        for (_, command, offset, length) in server.seen() {
            let is_whole = offset % u64::from(block) == 0 && length % block == 0;
            assert!(is_whole || command == FLUSH, "{manner:?}: {command} {offset} {length}");
        }
        let made = dir.path().join("made");
        fs::write(&made, server.content()).unwrap();
        let ran = qcheck(dir.path(), &["snapshot", "-l", "made"]);
        assert!(ran.out.contains("new"), "{}", ran.out);
    }
}

#[test]
fn without_a_flush_every_write_is_durable_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut content = image();
    content.resize(content.len() + (1 << 20), 0);
    for (flags, flushed, fua) in
        [(ALL_FLAGS, true, false), (ALL_FLAGS & !4, false, true), (1, false, false)]
    {
        let server = FakeNbd::start(content.clone(), Manner { flags, ..Manner::default() });
        let ran = qcheck(dir.path(), &["snapshot", "-c", "new", &server.name()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let seen = server.seen();
        assert_eq!(seen.iter().any(|&(_, command, ..)| command == FLUSH), flushed);
        let mut writes = seen.iter().filter(|&&(_, command, ..)| command == WRITE);
        assert!(writes.all(|&(flags, ..)| (flags & 1 != 0) == fua), "{seen:?}");
    }
}

#[test]
fn what_is_not_an_answer_is_one_error() {
    let (image, dir) = (image(), tempfile::tempdir().unwrap());
    for (fault, words) in [
        (Fault::Cookie, "answers a request that was not made"),
        (Fault::Magic, "a reply begins with 0xeeeeeeee"),
        (Fault::Cut, "closed the connection"),
        (Fault::Close, "closed the connection"),
        (Fault::Less, "less data than was requested"),
        (Fault::Twice, "the same data twice"),
        (Fault::Outside, "data outside of the request"),
        (Fault::Huge, "a chunk of 4294967295 bytes"),
        (Fault::Endless, "an answer without an end"),
        (Fault::Error(5), "Input/output error"),
        (Fault::Error(12345), "Invalid argument"),
        (Fault::Hang, "did not answer within 1 s"),
        (Fault::Drip, "did not answer within 1 s"),
    ] {
        for structured in [true, false] {
            let simple = [Fault::Cookie, Fault::Magic, Fault::Cut, Fault::Close, Fault::Hang];
            if !structured && !simple.contains(&fault) && !matches!(fault, Fault::Error(_)) {
                continue;
            }
            let manner = Manner { structured, fault, ..Manner::default() };
            let server = FakeNbd::start(image.clone(), manner);
            let begin = Instant::now();
            let ran = qcheck(dir.path(), &["--timeout=1", "check", &server.name()]);
            assert!(begin.elapsed() < Duration::from_secs(20), "{fault:?}");
            assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{fault:?}: {}", ran.err);
            assert!(ran.err.contains(words), "{fault:?}: {}", ran.err);
        }
    }
}

#[test]
fn a_check_whose_reads_fail_halfway_has_no_clean_verdict() {
    let (image, dir) = (image(), tempfile::tempdir().unwrap());
    for fault in [Fault::Close, Fault::Error(5), Fault::Less] {
        for after in 1..8 {
            let manner = Manner { fault, after, ..Manner::default() };
            let server = FakeNbd::start(image.clone(), manner);
            let ran = qcheck(dir.path(), &["check", &server.name()]);
            let failed = server.seen().iter().filter(|seen| seen.1 == READ).count() > after;
            assert_eq!(ran.code == 0, !failed, "{fault:?} after {after}: {}{}", ran.out, ran.err);
        }
    }
}

#[test]
fn a_server_that_hangs_in_the_handshake_is_given_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let name = format!("nbd+unix:///x?socket={}", socket.display());
    let begin = Instant::now();
    let ran = qcheck(dir.path(), &["info", "--timeout=1", &name]);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(ran.code == 1 && ran.err.contains("did not answer within 1 s"), "{}", ran.err);
    drop(listener);
}

#[test]
fn lengths_that_no_image_has_are_an_error() {
    let (image, dir) = (image(), tempfile::tempdir().unwrap());
    for (bytes, words) in [(u64::MAX, "an export of 18446744073709551615 bytes"), (10, "header")] {
        let server =
            FakeNbd::start(image.clone(), Manner { bytes: Some(bytes), ..Manner::default() });
        let ran = qcheck(dir.path(), &["check", "-f", "qcow2", &server.name()]);
        assert!(ran.code == 1 && ran.err.contains(words), "{bytes}: {}", ran.err);
    }
    // More than there is: what is read past the content is refused, and nothing is clean.
    let bytes = Some(image.len() as u64 + (1 << 40));
    let server = FakeNbd::start(image, Manner { bytes, ..Manner::default() });
    let ran =
        qcheck(dir.path(), &["compare", "-f", "raw", "-F", "raw", &server.name(), "/dev/null"]);
    assert!(ran.code > 0, "{}{}", ran.out, ran.err);
}

#[test]
fn a_block_status_that_is_refused_makes_everything_data() {
    let (image, dir) = (image(), tempfile::tempdir().unwrap());
    let manner = Manner { command: STATUS, fault: Fault::Error(22), ..Manner::default() };
    let server = FakeNbd::start(image.clone(), manner);
    fs::write(dir.path().join("near"), image).unwrap();
    let args = ["convert", "-f", "raw", "-O", "raw", &server.name(), "made"];
    let ran = qcheck(dir.path(), &args);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        fs::read(dir.path().join("made")).unwrap() == fs::read(dir.path().join("near")).unwrap()
    );
}
