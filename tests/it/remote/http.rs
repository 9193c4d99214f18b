//! Reading from a web server that counts, and from ones that misbehave.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::servers::fake_web::{FakeWeb, Fault, Manner};

/// An image of some megabytes with tables in several places.
fn image(folder: &Path) -> Vec<u8> {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "64M"]);
    for megabyte in 0..8 {
        qemu_io(folder, "disk", &format!("write -P {} {}M 300k", megabyte + 1, megabyte * 7));
    }
    fs::read(folder.join("disk")).unwrap()
}

#[test]
fn commands_read_of_a_web_server_what_they_read_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let server = FakeWeb::start(image(folder), Manner::default());
    let name = server.name("disk");
    for args in [
        &["check", "--data", "--digest=sha256", "--output=json"][..],
        &["map", "--output=json"],
        &["measure", "-O", "raw"],
        &["snapshot", "-l"],
        &["info", "--layout"],
    ] {
        let [near, far] = ["disk", &name].map(|image| qcheck(folder, &[args, &[image]].concat()));
        assert_eq!((near.code, far.code), (0, 0), "{args:?}: {}", far.err);
        assert_eq!(far.out.replace(&name, "disk"), near.out, "{args:?}");
    }
    for (n, args) in [
        &["convert", "-O", "raw", &name, "made0"][..],
        &["dd", "-O", "raw", &format!("if={name}"), "of=made1"],
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(qcheck(folder, args).code, 0, "{args:?}");
        qemu_ok(folder, "qemu-img", &["compare", "-f", "raw", &format!("made{n}"), "disk"]);
    }
    assert_eq!(qcheck(folder, &["compare", &name, "disk"]).code, 0);
    let info = qcheck(folder, &["info", &name]);
    assert!(info.out.contains("protocol type: http\n"), "{}", info.out);
    assert!(info.out.contains("disk size: unavailable\n"), "{}", info.out);
}

#[test]
fn no_byte_crosses_twice_and_info_needs_few_requests() {
    let dir = tempfile::tempdir().unwrap();
    let content = image(dir.path());
    let server = FakeWeb::start(content.clone(), Manner::default());
    assert_eq!(qcheck(dir.path(), &["check", &server.name("x")]).code, 0);
    assert_eq!(server.bytes_twice(), 0, "{:?}", server.seen());
    let server = FakeWeb::start(content, Manner::default());
    assert_eq!(qcheck(dir.path(), &["info", &server.name("x")]).code, 0);
    assert!(server.seen().len() <= 3, "{:?}", server.seen());
}

#[test]
fn a_read_in_a_row_is_requested_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    image(folder);
    qemu_ok(folder, "qemu-img", &["convert", "-c", "-O", "qcow2", "disk", "packed"]);
    let content = fs::read(folder.join("packed")).unwrap();
    let delay = Duration::from_millis(20);
    let server = FakeWeb::start(content, Manner { delay, ..Manner::default() });
    let begin = Instant::now();
    let ran = qcheck(folder, &["convert", "-O", "raw", &server.name("x"), "made"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Each compressed cluster for itself would be a hundred requests or more.
    assert!(begin.elapsed() < Duration::from_secs(20) && server.seen().len() < 60);
    qemu_ok(folder, "qemu-img", &["compare", "-f", "raw", "made", "disk"]);
}

#[test]
fn what_is_not_an_answer_is_one_error_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let content = image(dir.path());
    for (fault, words) in [
        (Fault::NoRanges, "does not send parts of a file"),
        (Fault::OtherPart, "another part than was requested"),
        (Fault::Shorter, "another length than its range"),
        (Fault::Longer, "another length than its range"),
        (Fault::EndlessHead, "an answer without an end"),
        (Fault::Cut, "closed the connection"),
        (Fault::Reset, "closed the connection"),
        (Fault::Hang, "did not answer within"),
        (Fault::Status(404, String::new()), "there is no such file"),
        (Fault::Status(401, String::new()), "it requires other credentials"),
        (Fault::Status(403, String::new()), "access is denied"),
        (Fault::Status(503, String::new()), "it is overloaded"),
        (Fault::Status(429, "Retry-After: 3600\r\n".into()), "too many requests"),
        (Fault::Status(302, String::new()), "a redirect to nowhere"),
        (Fault::Status(302, "Location: x\r\n".into()), "redirects more than 8 times"),
        (Fault::Status(302, "Location: file:///etc/passwd\r\n".into()), "is not supported"),
    ] {
        for after in [0, 1] {
            let server = FakeWeb::start(
                content.clone(),
                Manner { fault: fault.clone(), after, ..Manner::default() },
            );
            let begin = Instant::now();
            let ran = qcheck(dir.path(), &["--timeout=1", "check", "--data", &server.name("x")]);
            assert!(begin.elapsed() < Duration::from_secs(30), "{fault:?}");
            let lines = ran.err.lines().count();
            assert_eq!(
                (ran.code, lines),
                (1, 1),
                "{fault:?} after {after}: {}{}",
                ran.out,
                ran.err
            );
            assert!(ran.err.contains(words), "{fault:?} after {after}: {}", ran.err);
        }
    }
}

#[test]
fn where_nobody_listens_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let ran = qcheck(dir.path(), &["--timeout=100", "check", "http://127.0.0.1:1/x"]);
    assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
    assert!(ran.err.contains("Failed to connect to '127.0.0.1:1'"), "{}", ran.err);
    assert!(begin.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_failure_that_passes_does_not_end_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let content = image(dir.path());
    for fault in [
        Fault::Cut,
        Fault::Reset,
        Fault::Status(503, String::new()),
        Fault::Status(429, "Retry-After: 1\r\n".into()),
        Fault::Status(500, String::new()),
    ] {
        for after in [0, 2] {
            let manner = Manner { fault: fault.clone(), after, times: 2, ..Manner::default() };
            let server = FakeWeb::start(content.clone(), manner);
            let ran = qcheck(dir.path(), &["check", &server.name("x")]);
            assert_eq!(ran.code, 0, "{fault:?} after {after}: {}", ran.err);
        }
    }
}

#[test]
fn there_is_no_verdict_of_a_mixture_of_two_versions() {
    let dir = tempfile::tempdir().unwrap();
    let content = image(dir.path());
    for fault in [Fault::OtherTag, Fault::OtherLength, Fault::Status(412, String::new())] {
        let manner = Manner { fault: fault.clone(), after: 1, ..Manner::default() };
        let server = FakeWeb::start(content.clone(), manner);
        let ran = qcheck(dir.path(), &["check", "--data", &server.name("x")]);
        assert!(ran.code != 0, "{fault:?}: {}", ran.out);
        assert!(ran.err.contains("was changed on the server"), "{fault:?}: {}", ran.err);
        assert!(server.seen()[1..].iter().all(|seen| seen.fields.contains("if-match: \"a\"")));
    }
    let nameless = Manner { has_version: false, ..Manner::default() };
    let server = FakeWeb::start(content.clone(), nameless.clone());
    let ran = qcheck(dir.path(), &["check", &server.name("x")]);
    assert!(ran.code == 0 && ran.err.contains("may not be seen"), "{}", ran.err);
    // Without a name, the length and the first page are compared at the end.
    let requests = server.seen().len();
    for fault in [Fault::OtherContent, Fault::OtherLength] {
        let manner = Manner { fault: fault.clone(), after: requests - 1, ..nameless.clone() };
        let server = FakeWeb::start(content.clone(), manner);
        let ran = qcheck(dir.path(), &["check", &server.name("x")]);
        assert_eq!(ran.code, 1, "{fault:?}: {}", ran.out);
        assert!(ran.err.contains("was changed on the server"), "{fault:?}: {}", ran.err);
    }
}

#[test]
fn a_redirect_is_followed_without_credentials_to_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let content = image(dir.path());
    let (from, to) = [(); 2].map(|()| FakeWeb::start(content.clone(), Manner::default())).into();
    let with_user = |server: &FakeWeb, path: &str| {
        server.name(path).replacen("http://", "http://me:secret-word@", 1)
    };
    let away = with_user(&from, &format!("to/{}", to.name("x")));
    let ran = qcheck(dir.path(), &["check", &away]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(from.seen().iter().all(|seen| seen.fields.contains("authorization: basic")));
    assert!(!to.seen().iter().any(|seen| seen.fields.contains("authorization")));
    assert_eq!(from.seen().len(), 1, "the object is asked for where it is");
    let near = with_user(&to, "to//x");
    assert_eq!(qcheck(dir.path(), &["check", &near]).code, 0);
    assert!(to.seen().last().unwrap().fields.contains("authorization: basic"));
}

#[test]
fn no_credentials_are_printed() {
    let manner = || Manner { fault: Fault::Status(403, String::new()), ..Manner::default() };
    let server = FakeWeb::start(vec![0; 512], manner());
    let name = server.name("x?Signature=secret-word").replace("//", "//me:secret-word@");
    for args in [&["check"][..], &["info"], &["map"], &["check", "--output=json"]] {
        let ran = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("qcheck"))
            .args(args)
            .arg(&name)
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("secret-word") && said.contains("403"), "{args:?}: {said}");
    }
}

#[test]
fn what_a_web_server_has_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeWeb::start(image(dir.path()), Manner::default());
    for args in
        [&["check", "-r", "all"][..], &["snapshot", "-c", "x"], &["convert", "-O", "raw", "disk"]]
    {
        let ran = qcheck(dir.path(), &[args, &[&server.name("x")]].concat());
        assert!(ran.code == 1 && ran.err.contains("is only read"), "{args:?}: {}", ran.err);
    }
    assert!(server.seen().is_empty());
}
