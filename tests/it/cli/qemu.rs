//! Called by the name qemu-img, through a link: scripts must not see a difference.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_ok};

/// A folder with a link to qcheck in it that has qemu-img's name, and an image.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    symlink(assert_cmd::cargo::cargo_bin!("qcheck"), dir.path().join("qemu-img")).unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "10M"]);
    qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 1M", "a"]);
    dir
}

fn linked(folder: &Path, args: &[&str]) -> Ran {
    let program = folder.join("qemu-img");
    Command::new(program).current_dir(folder).args(args).output().expect("it starts").into()
}

#[test]
fn the_version_is_printed_as_scripts_look_for_it() {
    let dir = folder();
    let theirs = qemu(dir.path(), "qemu-img", &["--version"]).out;
    let version = theirs.split([' ', '(']).nth(2).unwrap();
    for args in [["--version"], ["-V"]] {
        let ran = linked(dir.path(), &args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let numbers = ran.out.strip_prefix("qemu-img version ").unwrap();
        assert_eq!(numbers.split(' ').next().unwrap(), "10.0.2");
        assert_eq!(numbers.split('.').next(), version.split('.').next(), "the machine's own");
        assert!(numbers.contains("qcheck"), "{numbers}");
        assert!(qcheck(dir.path(), &args).out.starts_with("qcheck 0."));
    }
}

#[test]
fn commands_answer_as_qemu_img_does() {
    let dir = folder();
    for args in [
        &["check", "a"][..],
        &["check", "--output=json", "a"],
        &["info", "a"],
        &["info", "--output", "json", "a"],
        &["create", "-f", "qcow2", "b", "1M"],
        &["resize", "b", "+1M"],
        &["snapshot", "-l", "a"],
    ] {
        assert_eq!(linked(dir.path(), args), qemu(dir.path(), "qemu-img", args), "{args:?}");
    }
    assert!(linked(dir.path(), &["check", "--help"]).out.contains("Usage: qemu-img check"));
}

#[test]
fn on_a_terminal_it_shows_percents_where_asked_and_draws_nothing() {
    let dir = folder();
    let on_a_terminal = |program: &str, option: &str| {
        let mut script = Command::new("script");
        let line = format!("{program} convert {option} -r 1M -O raw a copy");
        script.current_dir(dir.path()).env("TERM", "xterm").env("LC_ALL", "C").args([
            "-qec",
            &line,
            "/dev/null",
        ]);
        let output = script.stdin(Stdio::null()).output().expect("script starts");
        assert!(output.status.success(), "{line}");
        String::from_utf8(output.stdout).unwrap()
    };
    // A program that runs it on a terminal of its own searches for the same line.
    let end = "\r    (100.00/100%)\r\r\n";
    let ours = on_a_terminal("./qemu-img", "-p");
    assert!(on_a_terminal("qemu-img", "-p").ends_with(end));
    assert!(ours.ends_with(end) && !ours.contains('\x1b'), "{ours:?}");
    assert_eq!(on_a_terminal("qemu-img", ""), "");
    assert_eq!(on_a_terminal("./qemu-img", ""), "");
}

#[test]
fn errors_begin_with_its_name() {
    let dir = folder();
    for args in [&["check", "nowhere"][..], &["check"], &["check", "--nonsense", "a"], &[]] {
        let (ours, theirs) = (linked(dir.path(), args), qemu(dir.path(), "qemu-img", args));
        assert_eq!((ours.code, ours.out.as_str()), (theirs.code, ""), "{args:?}");
        assert!(ours.err.starts_with("qemu-img: "), "{args:?}: {}", ours.err);
        assert!(!ours.err.contains("qcheck"), "{args:?}: {}", ours.err);
    }
}

#[test]
fn what_only_qemu_img_has_is_refused_by_name() {
    let dir = folder();
    for (args, word) in [
        (&["bench", "a"][..], "command"),
        (&["--trace", "x", "check", "a"], "option"),
        (&["-T", "x", "check", "a"], "option"),
        (&["check", "--trace", "x"], "option"),
        (&["check", "--trace=x", "a"], "option"),
        (&["convert", "--trace", "x", "b"], "option"),
    ] {
        for (ran, name) in
            [(linked(dir.path(), args), "qemu-img"), (qcheck(dir.path(), args), "qcheck")]
        {
            let given = args.iter().find(|arg| arg.starts_with("--")).unwrap_or(&args[0]);
            let given = given.split('=').next().unwrap();
            let article = if word == "option" { "an" } else { "a" };
            let want = format!(
                "{name}: NOTICE: '{given}' is {article} {word} of qemu-img that qcheck does not \
                 have\n"
            );
            assert!(ran.err.starts_with(&want), "{args:?}: {}", ran.err);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        }
    }
    let short = qcheck(dir.path(), &["check", "--tra", "x", "a"]);
    assert!(short.err.contains("NOTICE: '--trace' is an option"), "{}", short.err);
    for args in [&["nonsense"][..], &["help", "check", "check"]] {
        let ran = linked(dir.path(), args);
        assert!(ran.code == 1 && !ran.err.contains("NOTICE"), "{}", ran.err);
    }
    let twice = qcheck(dir.path(), &["help", "check", "check"]);
    assert!(twice.err.starts_with("qcheck: unexpected argument 'check' found\n"), "{}", twice.err);
}

#[test]
fn examples_are_of_the_program_that_was_asked() {
    let dir = folder();
    let commands = ["check", "convert", "create", "dump", "info", "resize", "snapshot", "undo"];
    for (command, number) in commands.into_iter().zip(0..) {
        let args = if number % 2 == 0 { ["help", command] } else { [command, "--help"] };
        let own = qcheck(dir.path(), &args).out;
        let examples = |text: &str, name: &str| {
            text.lines().filter(|line| line.starts_with(&format!("  {name} {command}"))).count()
        };
        assert!(examples(&own, "qcheck") > 0, "{own}");
        let linked = linked(dir.path(), &args).out;
        assert_eq!(examples(&linked, "qemu-img"), examples(&own, "qcheck"), "{linked}");
        assert_eq!(examples(&linked, "qcheck"), 0, "{linked}");
    }
}

/// The long options of a command of qemu-img: it names all that begin with a letter, or asks for the
/// value of the only one, or takes it.
fn long_options(folder: &Path, command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for letter in 'a'..='z' {
        let err = qemu(folder, "qemu-img", &[command, &format!("--{letter}")]).err;
        let first = err.lines().next().unwrap_or("");
        let named = first.split('\'').filter(|word| word.len() > 3 && word.starts_with("--"));
        found.extend(named.map(|word| word.trim_start_matches('-').to_owned()));
    }
    found
}

#[test]
fn every_long_option_of_qemu_img_is_taken_or_refused_by_name() {
    let dir = folder();
    let commands =
        ["amend", "check", "commit", "convert", "create", "info", "rebase", "resize", "snapshot"];
    for command in commands {
        let options = long_options(dir.path(), command);
        assert!(options.len() >= 2, "{command}: {options:?}");
        for option in options {
            let ran = qcheck(dir.path(), &[command, &format!("--{option}")]);
            let first = ran.err.lines().next().unwrap_or("");
            let unknown = first.contains("unexpected argument") && first.contains(&option);
            assert!(!unknown, "{command} --{option}: {first}");
        }
    }
}

#[test]
fn what_may_have_been_meant_is_suggested() {
    let dir = folder();
    for (args, word) in [
        (&["chekc", "a"][..], "check"),
        (&["help", "chekc"], "check"),
        (&["check", "--polisy", "untrusted", "a"], "--policy"),
        (&["check", "--output", "jsno", "a"], "json"),
        (&["check", "--deny", "back", "a"], "backing"),
        (&["check", "-T", "writebak", "a"], "writeback"),
        (&["create", "-f", "qcow2", "-o", "cluster_siz=4k", "b", "1M"], "cluster_size"),
        (&["create", "-q", "-f", "qcow2", "-o", "compat=v22", "b", "1M"], "v2"),
        (&["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=of", "b", "1M"], "off"),
        (&["convert", "-O", "qcow2", "-o", "compression_tpye=zstd", "a", "b"], "compression_type"),
        (&["convert", "-O", "qcow2", "-o", "compression_type=zst", "a", "b"], "zstd"),
        (&["resize", "--preallocation", "metdata", "a", "20M"], "metadata"),
    ] {
        let ran = qcheck(dir.path(), args);
        let end = format!("; did you mean '{word}'?");
        assert!(ran.err.lines().next().unwrap().ends_with(&end), "{args:?}: {}", ran.err);
    }
}

#[test]
fn an_invalid_number_is_answered_with_what_is_valid() {
    let dir = folder();
    for args in [
        &["check", "--max-ratio", "1.5", "a"][..],
        &["check", "--max-findings", "many", "a"],
        &["check", "-j", "1k", "a"],
    ] {
        let ran = qcheck(dir.path(), args);
        assert!(ran.code == 1 && ran.err.contains("whole number"), "{args:?}: {}", ran.err);
    }
    let ran = qcheck(dir.path(), &["convert", "-m", "1.5", "a", "b"]);
    assert!(ran.err.contains("valid are 1 to 16"), "{}", ran.err);
}

#[test]
fn unknown_features_are_named_as_by_qemu_img() {
    let dir = folder();
    let good = std::fs::read(dir.path().join("a")).unwrap();
    for bits in [1u64 << 63, 0b11 << 40, 1 << 5 | 1 << 62] {
        let mut bytes = good.clone();
        bytes[72..80].copy_from_slice(&bits.to_be_bytes());
        std::fs::write(dir.path().join("bad"), bytes).unwrap();
        let words = |ran: Ran| {
            let at = ran.err.find("Unsupported qcow2 feature(s): ").unwrap_or(0);
            (ran.code, ran.err[at..].trim_end().to_owned())
        };
        let theirs = words(qemu(dir.path(), "qemu-img", &["info", "bad"]));
        assert_eq!(words(qcheck(dir.path(), &["info", "bad"])), theirs, "{bits:#x}");
    }
}
