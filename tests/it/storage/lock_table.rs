//! Each command takes the locks that the same command of qemu-img takes: whatever another program does with an image, it
//! meets qcheck as it would meet qemu-img.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::Mutex;

use nix::fcntl::{FcntlArg, fcntl};

use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_io, qemu_ok};

/// The bytes of QEMU's permissions, in use and not shared: consistent read, write, write unchanged, resize.
const BYTES: [u8; 8] = [100, 101, 102, 103, 200, 201, 202, 203];

/// The file that another program holds, and the command.
const CASES: [(&str, &str); 62] = [
    ("r.raw", "info r.raw"),
    ("q.qcow2", "info q.qcow2"),
    ("r.raw", "info --backing-chain tr.qcow2"),
    ("q.qcow2", "info --backing-chain tq.qcow2"),
    ("q.qcow2", "info tq.qcow2"),
    ("r.raw", "snapshot -l -f raw r.raw"),
    ("q.qcow2", "snapshot -l q.qcow2"),
    ("q.qcow2", "snapshot -c x q.qcow2"),
    ("q.qcow2", "snapshot -d one q.qcow2"),
    ("r.raw", "check -f raw r.raw"),
    ("q.qcow2", "check q.qcow2"),
    ("q.qcow2", "check -r all q.qcow2"),
    ("r.raw", "create -f qcow2 -b r.raw -F raw n.qcow2"),
    ("q.qcow2", "create -f qcow2 -b q.qcow2 -F qcow2 n.qcow2"),
    ("q.qcow2", "create -f qcow2 -o backing_file=q.qcow2,backing_fmt=qcow2 n.qcow2"),
    ("q.qcow2", "create -f qcow2 -b tq.qcow2 -F qcow2 n.qcow2"),
    ("q.qcow2", "create -f qcow2 q.qcow2 1M"),
    ("s.raw", "create -f qcow2 -o data_file=s.raw n.qcow2 1M"),
    ("r.raw", "convert -f raw r.raw n.raw"),
    ("q.qcow2", "convert q.qcow2 n.raw"),
    ("q.qcow2", "convert -U q.qcow2 n.raw"),
    ("q.qcow2", "convert tq.qcow2 n.raw"),
    ("r.raw", "convert tr.qcow2 n.raw"),
    ("d.raw", "convert e.qcow2 n.raw"),
    ("r.raw", "convert -f raw s.raw r.raw"),
    ("q.qcow2", "convert -f raw -O qcow2 s.raw q.qcow2"),
    ("r.raw", "convert -n -f raw -O raw s.raw r.raw"),
    ("q.qcow2", "convert -n -f raw -O qcow2 s.raw q.qcow2"),
    ("d.raw", "convert -n -f raw -O qcow2 s.raw e.qcow2"),
    ("r.raw", "convert -O qcow2 -B r.raw -F raw s.raw n.qcow2"),
    ("q.qcow2", "convert -O qcow2 -B q.qcow2 -F qcow2 s.raw n.qcow2"),
    ("r.raw", "resize -f raw r.raw 2M"),
    ("q.qcow2", "resize -f qcow2 q.qcow2 2M"),
    ("d.raw", "resize -f qcow2 e.qcow2 2M"),
    ("r.raw", "resize tr.qcow2 2M"),
    ("r.raw", "map -f raw r.raw"),
    ("r.raw", "map tr.qcow2"),
    ("q.qcow2", "map q.qcow2"),
    ("q.qcow2", "map tq.qcow2"),
    ("d.raw", "map e.qcow2"),
    ("d.raw", "map te.qcow2"),
    ("r.raw", "measure -O qcow2 -f raw r.raw"),
    ("r.raw", "measure -O qcow2 tr.qcow2"),
    ("q.qcow2", "measure -O qcow2 tq.qcow2"),
    ("d.raw", "measure -O qcow2 e.qcow2"),
    ("r.raw", "compare -f raw r.raw -F raw s.raw"),
    ("r.raw", "compare tr.qcow2 tr.qcow2"),
    ("q.qcow2", "compare q.qcow2 tq.qcow2"),
    ("d.raw", "compare e.qcow2 tr.qcow2"),
    ("r.raw", "dd -f raw if=r.raw of=n.raw"),
    ("r.raw", "dd if=tr.qcow2 of=n.raw"),
    ("q.qcow2", "dd if=tq.qcow2 of=n.raw"),
    ("d.raw", "dd if=e.qcow2 of=n.raw"),
    ("r.raw", "rebase -F raw -b r.raw tq.qcow2"),
    ("r.raw", "rebase -F raw -b s.raw tr.qcow2"),
    ("q.qcow2", "rebase -F raw -b s.raw tq.qcow2"),
    ("r.raw", "amend -o lazy_refcounts=on tr.qcow2"),
    ("q.qcow2", "amend -o lazy_refcounts=on tq.qcow2"),
    ("q.qcow2", "commit tq.qcow2"),
    ("d.raw", "convert -O qcow2 te.qcow2 n.qcow2"),
    ("r.raw", "convert -O qcow2 -B tr.qcow2 -F qcow2 s.raw n.qcow2"),
    ("r.raw", "convert -n -f raw -O qcow2 s.raw tr.qcow2"),
];

/// Images of every kind, in a folder.
fn images(folder: &Path) {
    for name in ["r.raw", "s.raw"] {
        File::create(folder.join(name)).unwrap().set_len(1 << 20).unwrap();
    }
    qemu_create(folder, &["-f", "qcow2", "q.qcow2", "1M"]);
    qemu_io(folder, "q.qcow2", "write -q -P 1 0 64k");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "q.qcow2"]);
    let external = "data_file=d.raw,data_file_raw=on";
    qemu_create(folder, &["-f", "qcow2", "-o", external, "e.qcow2", "1M"]);
    for (below, format, name) in [
        ("r.raw", "raw", "tr.qcow2"),
        ("q.qcow2", "qcow2", "tq.qcow2"),
        ("e.qcow2", "qcow2", "te.qcow2"),
    ] {
        qemu_create(folder, &["-f", "qcow2", "-b", below, "-F", format, name]);
    }
}

/// Runs a command in a copy of the folder in which another opening of the file holds a lock on the byte: whether it was
/// refused because of that.
fn is_refused(
    images: &Path,
    (held, command): (&str, &str),
    byte: u8,
    run: fn(&Path, &[&str]) -> Ran,
) -> bool {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(images).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let options = OpenOptions::new().read(true).write(true).open(copy.path().join(held));
    let file = options.unwrap();
    let request = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte.into(),
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&request)).unwrap();
    let args: Vec<&str> = command.split(' ').collect();
    let ran = run(copy.path(), &args);
    let failed = !matches!(ran.code, 0 | 63);
    assert_eq!(failed, ran.err.contains("lock"), "{command}: {ran:?}");
    if failed {
        let asked = ran.err.contains(&format!("Is another process using the image [{held}]?"));
        assert!(ran.err.contains("Failed to get ") && asked, "{command}: {ran:?}");
    }
    failed
}

#[test]
fn each_command_goes_together_with_the_same_programs_as_that_of_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    images(dir.path());
    let next = Mutex::new(CASES.iter());
    let work = || {
        while let Some(&case) = { next.lock().unwrap().next() } {
            for byte in BYTES {
                let theirs = is_refused(dir.path(), case, byte, |folder, args| {
                    qemu(folder, "qemu-img", args)
                });
                let ours = is_refused(dir.path(), case, byte, qcheck);
                assert_eq!(ours, theirs, "{case:?} with a lock on byte {byte}");
            }
        }
    };
    // Who is refused waits a little and tries again.
    std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
}
