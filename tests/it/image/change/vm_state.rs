//! What is past a disk's end does not become part of the disk when it grows: VM state of a snapshot that was gone back
//! to, and whatever else another program left there.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use qcheck::edit::resize::{Preallocation, ResizeOptions, resize};
use qcheck::storage::MemoryStorage;

use crate::image::change::states::{Case, Change};
use crate::image::change::switch::every_crash_is_clean;
use crate::image::tools::{assert_clean, assert_same, convert, qemu};
use crate::support::storages::crash::WriteLog;

const VM_STATE: u8 = 0xd3;

fn io(path: &Path, commands: &[&str]) {
    let name = path.to_str().unwrap();
    let mut args = vec!["-f", "qcow2"];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    let output = qemu("qemu-io", &[&args[..], &[name]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("failed"), "{text}");
}

/// A disk of 256 KiB whose active L1 table has VM state, as after `snapshot -a` of a snapshot with VM state.
fn with_vm_state(create: &str) -> Case {
    Case::new(|path| {
        let name = path.to_str().unwrap();
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, "256k"]);
        let vm_state = format!("write -q -b -P {VM_STATE} 0 32k");
        io(path, &["write -q -P 65 0 64k", "write -q -P 66 200k 8k", &vm_state]);
        qemu("qemu-img", &["snapshot", "-c", "s", name]);
        qemu("qemu-img", &["snapshot", "-a", "s", name]);
    })
}

/// A disk of 100 KiB with data past its end, under the same L2 table.
fn with_data_past_the_end(create: &str) -> Case {
    Case::new(|path| {
        let name = path.to_str().unwrap();
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, name, "256k"]);
        io(path, &["write -q -P 65 0 64k", "write -q -c -P 66 112k 16k", "write -q -P 67 200k 8k"]);
        let mut bytes = fs::read(path).unwrap();
        bytes[24..32].copy_from_slice(&(100_u64 << 10).to_be_bytes());
        fs::write(path, bytes).unwrap();
    })
}

fn grown(size: u64, preallocation: Preallocation) -> Box<Change> {
    Box::new(move |image| {
        resize(image, size, ResizeOptions::default().shrink(false).preallocation(preallocation))
    })
}

const KINDS: [&str; 4] = [
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4k,lazy_refcounts=on",
];

const WAYS: [Preallocation; 4] =
    [Preallocation::Off, Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];

#[test]
fn a_disk_that_grows_has_zeroes_where_something_was_past_its_end() {
    let make: [fn(&str) -> Case; 2] = [with_vm_state, with_data_past_the_end];
    for (kind, make) in KINDS.iter().flat_map(|kind| make.map(|make| (kind, make))) {
        for how in WAYS {
            // Within the last L2 table, one L2 table further, and far past it.
            for size in [260 << 10, 600 << 10, 8 << 20] {
                let case = make(kind);
                let mut want = case.read(case.bytes(), None);
                want.resize(size as usize, 0);
                let memory = Arc::new(MemoryStorage::new(case.bytes()));
                case.change(memory.clone(), &*grown(size, how)).unwrap();
                fs::write(&case.path, memory.to_vec()).unwrap();
                let what = format!("{kind}, {how:?}, {size}");
                assert_same(&convert(&case.path), &want, &what);
                assert_clean(&case.path);
            }
        }
    }
}

#[test]
fn the_snapshot_keeps_its_vm_state_when_the_disk_grows_over_that_of_the_active_disk() {
    for kind in KINDS {
        let case = with_vm_state(kind);
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        case.change(memory.clone(), &*grown(8 << 20, Preallocation::Metadata)).unwrap();
        fs::write(&case.path, memory.to_vec()).unwrap();
        qemu("qemu-img", &["snapshot", "-a", "s", case.path.to_str().unwrap()]);
        io(&case.path, &[&format!("read -q -b -P {VM_STATE} 0 32k"), "read -q -P 65 0 64k"]);
        assert_clean(&case.path);
    }
}

#[test]
fn no_crash_shows_what_was_past_the_end() {
    for kind in KINDS {
        for case in [with_vm_state(kind), with_data_past_the_end(kind)] {
            for how in [Preallocation::Off, Preallocation::Metadata] {
                let change = grown(700 << 10, how);
                let log = Arc::new(WriteLog::new(case.bytes()));
                case.change(log.clone(), &*change).unwrap();
                every_crash_is_clean(&format!("{kind}, {how:?}"), &case, &*change, &log);
            }
        }
    }
}
