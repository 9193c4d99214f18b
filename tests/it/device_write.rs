//! Images made and changed on block devices, which have the room that they have.

use crate::device::Device;
use crate::support::run::{qcheck, qemu, qemu_ok};

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
fn a_device_without_room_is_told_of_and_keeps_its_image() {
    let Some(device) = empty(2) else { return };
    let name = device.name();
    let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, "1M"];
    assert_eq!(qcheck(device.folder(), &create).code, 0);
    io(&device, "write -q -P 1 0 1M");
    for args in [
        &["resize", "-f", "qcow2", "--preallocation=metadata", name, "4M"][..],
        &["resize", "-f", "qcow2", "--preallocation=full", name, "4M"],
        &["resize", "-f", "qcow2", name, "2T"],
    ] {
        let ran = qcheck(device.folder(), args);
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.err.contains("no room"), "{}", ran.err);
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
