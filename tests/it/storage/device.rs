//! Images made and changed on block devices, which cannot grow.

use crate::repair::device::Device;
use crate::support::programs::run::{qcheck, qemu, qemu_ok};

fn empty(megabytes: usize) -> Option<Device> {
    // What was there before is not zero.
    Device::new(&vec![0xee; megabytes << 20])
}

fn assert_clean(device: &Device) {
    qemu_ok(device.folder(), "qemu-img", &["check", "-q", "-f", "qcow2", device.name()]);
    let ran = qcheck(device.folder(), &["check", "-q", "-f", "qcow2", device.name()]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

fn io(device: &Device, command: &str) {
    let out = qemu_ok(device.folder(), "qemu-io", &["-f", "qcow2", "-c", command, device.name()]);
    assert!(!out.contains("failed"), "{command}: {out}");
}

#[test]
fn an_image_is_made_resized_and_snapshot_on_a_device() {
    let Some(device) = empty(8) else { return };
    let run = |args: &[&str]| {
        let ran = qcheck(device.folder(), args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert_clean(&device);
    };
    let name = device.name();
    run(&["create", "-q", "-f", "qcow2", name, "2M"]);
    io(&device, "read -q -P 0 0 2M");
    io(&device, "write -q -P 1 0 1M");
    run(&["resize", "-q", "-f", "qcow2", name, "1T"]);
    run(&["snapshot", "-f", "qcow2", "-c", "one", name]);
    io(&device, "write -q -P 2 0 1M");
    run(&["snapshot", "-f", "qcow2", "-a", "one", name]);
    run(&["resize", "-q", "-f", "qcow2", "--shrink", name, "1M"]);
    io(&device, "read -q -P 1 0 1M");
    run(&["snapshot", "-f", "qcow2", "-d", "one", name]);
    run(&["resize", "-q", "-f", "qcow2", "--preallocation=metadata", name, "3M"]);
    io(&device, "read -q -P 1 0 1M");
    io(&device, "read -q -P 0 1M 2M");
    let ours = qcheck(device.folder(), &["info", "-f", "qcow2", name]);
    assert_eq!(ours.out, qemu_ok(device.folder(), "qemu-img", &["info", "-f", "qcow2", name]));
}

#[test]
fn a_device_without_free_space_is_reported_and_keeps_its_image() {
    let Some(device) = empty(2) else { return };
    let name = device.name();
    let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, "1M"];
    assert_eq!(qcheck(device.folder(), &create).code, 0);
    io(&device, "write -q -P 1 0 1M");
    for args in [
        &["resize", "-f", "qcow2", "--preallocation=metadata", name, "4M"][..],
        &["resize", "-f", "qcow2", name, "2T"],
    ] {
        let ran = qcheck(device.folder(), args);
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.err.contains("No space left on device"), "{}", ran.err);
        let judged = qemu(device.folder(), "qemu-img", &["check", "-f", "qcow2", name]);
        assert_eq!(judged.code, 0, "{judged:?}");
        io(&device, "read -q -P 1 0 1M");
    }
}

#[test]
fn a_raw_device_has_the_size_that_it_has_and_too_small_a_one_takes_no_image() {
    let Some(device) = empty(1) else { return };
    let name = device.name();
    for args in [
        &["resize", "-f", "raw", name, "2M"][..],
        &["resize", "-f", "raw", "--shrink", name, "512k"],
        &["resize", "-f", "raw", name, "1M"],
        &["resize", "-f", "raw", name, "+0"],
        &["resize", "-f", "raw", "--preallocation=full", name, "1M"],
        &["info", "--output=json", "-f", "raw", name],
        &["create", "-f", "raw", name, "2M"],
        &["create", "-f", "qcow2", "-o", "preallocation=full", name, "2M"],
    ] {
        let (ours, theirs) =
            (qcheck(device.folder(), args), qemu(device.folder(), "qemu-img", args));
        let told = format!("{args:?}: {} {}", ours.err, theirs.err);
        assert_eq!((ours.code, ours.out), (theirs.code, theirs.out), "{told}");
    }
}

#[test]
fn a_new_raw_image_on_a_device_that_held_an_image_is_raw() {
    let Some(device) = empty(8) else { return };
    let name = device.name();
    let folder = device.folder();
    qemu_ok(folder, "qemu-img", &["create", "-q", "-f", "qcow2", "other.qcow2", "1M"]);
    for create in [&["create", "-q", "-f", "raw", name, "1M"][..], &["create", name, "0"]] {
        let other = folder.join("other.qcow2");
        let other = other.to_str().unwrap();
        let backing = ["create", "-q", "-f", "qcow2", "-b", other, "-F", "qcow2", name];
        for run in [qcheck, |folder: &_, args: &[&str]| qemu(folder, "qemu-img", args)] {
            qemu_ok(folder, "qemu-img", &backing);
            let before = device.bytes();
            assert_eq!(run(folder, create).code, 0, "{create:?}");
            assert!(qemu_ok(folder, "qemu-img", &["info", name]).contains("file format: raw"));
            // A device is not emptied: that is what -S 0 of convert and others are for.
            let after = device.bytes();
            assert!(after[..512] == [0; 512] && after[4096..] == before[4096..]);
        }
    }
    // As an external data file, too.
    qemu_ok(folder, "qemu-img", &["create", "-q", "-f", "qcow2", name, "1M"]);
    let data = format!("data_file={name}");
    let ran = qcheck(folder, &["create", "-q", "-f", "qcow2", "-o", &data, "new.qcow2", "1M"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(qemu_ok(folder, "qemu-img", &["info", name]).contains("file format: raw"));
}

#[test]
fn a_device_cannot_be_given_space_ahead_and_the_words_are_those_of_qemu_img() {
    let Some(device) = empty(8) else { return };
    let name = device.name();
    let folder = device.folder();
    std::fs::write(folder.join("disk.raw"), vec![1; 1 << 20]).unwrap();
    qemu_ok(folder, "qemu-img", &["create", "-q", "-f", "qcow2", name, "1M"]);
    for mode in ["falloc", "full", "metadata"] {
        let option = format!("preallocation={mode}");
        for args in [
            &["create", "-f", "raw", "-o", &option, name, "1M"][..],
            &["convert", "-f", "raw", "-O", "raw", "-o", &option, "disk.raw", name],
            &["create", "-f", "raw", "-o", "preallocation=metadata", "file.raw", "1M"],
        ] {
            let ran = qcheck(folder, args);
            assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
            assert!(ran.err.contains("Unsupported preallocation mode"), "{args:?}: {ran:?}");
            let judged = qemu(folder, "qemu-img", args);
            assert_eq!(judged.code, 1, "{args:?}: {judged:?}");
            assert!(judged.err.contains("Unsupported preallocation mode"), "{judged:?}");
        }
    }
    for mode in ["falloc", "full"] {
        let option = format!("preallocation={mode}");
        let resize = format!("--preallocation={mode}");
        for args in [
            &["create", "-f", "qcow2", "-o", &option, name, "1M"][..],
            // Too long for the device, which is not why it is refused.
            &["create", "-f", "qcow2", "-o", &option, name, "8M"],
            &["convert", "-f", "raw", "-O", "qcow2", "-o", &option, "disk.raw", name],
            &["resize", "-f", "qcow2", &resize, name, "2M"],
        ] {
            let before = device.bytes();
            let ran = qcheck(folder, args);
            assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
            assert!(ran.err.contains("Unsupported preallocation mode"), "{args:?}: {ran:?}");
            assert!(device.bytes() == before, "{args:?} has written");
            // qemu-img has overwritten the image by the time it refuses.
            let judged = qemu(folder, "qemu-img", args);
            assert_eq!(judged.code, 1, "{args:?}: {judged:?}");
            qemu_ok(folder, "qemu-img", &["create", "-q", "-f", "qcow2", name, "1M"]);
        }
    }
}
