//! What is opened, what is refused, and what the first change does to the header.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qcheck::error::Error;
use qcheck::image::{BackingPolicy, Damage, Image, Opened};
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::tools::{
    Disk, assert_clean, at, check_code, open_write, options, qemu, read_all,
};

struct Case {
    disk: Disk,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn case(create: &[&str]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    qemu("qemu-img", &[&["create", "-q", "-f", "qcow2"], create, &[name, "1M"]].concat());
    qemu("qemu-io", &["-f", "qcow2", "-c", "write -q -P 1 0 128k", name]);
    let mut disk = Disk::default();
    disk.load(&path);
    Case { disk, path, _folder: folder }
}

impl Case {
    fn file(&self) -> Arc<MemoryStorage> {
        self.disk.files[&self.path].clone()
    }

    fn patch(&self, offset: u64, bytes: &[u8]) {
        self.file().write_at(offset, bytes).unwrap();
    }

    fn byte(&self, offset: usize) -> u8 {
        self.file().to_vec()[offset]
    }

    fn write(&self) -> qcheck::error::Result<Opened> {
        Image::open_write(self.file(), &options(&self.path), &self.disk)
    }

    fn read(&self) -> qcheck::error::Result<Image> {
        Image::open_read(self.file(), &options(&self.path), &self.disk)
    }
}

#[test]
fn an_unknown_incompatible_feature_is_refused_by_name() {
    let case = case(&[]);
    case.patch(72, &[0x80]);
    for error in [case.read().unwrap_err(), case.write().unwrap_err()] {
        assert!(
            error.to_string().contains("Unknown incompatible feature: 8000000000000000"),
            "{error}"
        );
    }
}

#[test]
fn a_corrupt_image_is_read_but_not_written_and_a_dirty_one_is_to_be_repaired_first() {
    let case = case(&[]);
    case.patch(79, &[2]);
    assert!(matches!(case.write(), Err(Error::Refused(_))));
    assert_eq!(read_all(&case.read().unwrap())[0], 1);
    case.patch(79, &[1]);
    assert!(matches!(case.write().unwrap(), Opened::NeedsRepair));
    assert_eq!(read_all(&case.read().unwrap())[0], 1);
    assert_eq!(case.byte(79), 1);
}

#[test]
fn unknown_autoclear_bits_go_with_the_first_change_and_not_before() {
    let case = case(&[]);
    case.patch(88, &[0xC0]);
    let before = case.file().to_vec();
    open_write(&case.disk, &case.path, &options(&case.path)).close().unwrap();
    assert!(case.file().to_vec() == before, "opening and closing changed the image");
    let image = open_write(&case.disk, &case.path, &options(&case.path));
    image.write(at(5), &[9]).unwrap();
    image.close().unwrap();
    assert_eq!(case.byte(88), 0);
}

#[test]
fn bitmaps_that_record_writes_are_in_use_from_the_first_guest_write_until_the_image_is_closed() {
    let mut case = case(&[]);
    let name = case.path.to_str().unwrap();
    qemu("qemu-img", &["bitmap", "--add", name, "recording"]);
    qemu("qemu-img", &["bitmap", "--add", "--disable", name, "resting"]);
    case.disk.load(&case.path);
    let flags = |name: &str| {
        case.disk.store_all();
        assert_clean(&case.path);
        let path = case.path.to_str().unwrap();
        let info = qemu("qemu-img", &["info", "--output=json", path]);
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array().unwrap().clone();
        bitmaps.iter().find(|bitmap| bitmap["name"] == name).unwrap()["flags"].to_string()
    };
    let image = open_write(&case.disk, &case.path, &options(&case.path));
    assert_eq!(flags("recording"), r#"["auto"]"#);
    image.write(at(5), &[9]).unwrap();
    image.flush().unwrap();
    assert_eq!(flags("recording"), r#"["in-use","auto"]"#);
    assert_eq!(flags("resting"), "[]");
    image.close().unwrap();
    assert_eq!(flags("recording"), r#"["auto"]"#);
}

#[test]
fn lazy_refcounts_set_the_dirty_bit_until_the_image_is_closed() {
    let case = case(&["-o", "lazy_refcounts=on"]);
    let image = open_write(&case.disk, &case.path, &options(&case.path));
    assert_eq!(case.byte(79), 0);
    image.write(at(500_000), &[9]).unwrap();
    image.flush().unwrap();
    assert_eq!(case.byte(79), 1);
    image.close().unwrap();
    assert_eq!(case.byte(79), 0);
    case.disk.store_all();
    assert_clean(&case.path);
}

#[test]
fn a_write_that_would_hit_metadata_marks_the_image_corrupt_and_stops() {
    let case = case(&[]);
    let bytes = case.file().to_vec();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap());
    let l2 = u64::from_be_bytes(bytes[l1 as usize..][..8].try_into().unwrap()) & !(1 << 63);
    // Guest cluster 0 is mapped to the refcount table.
    case.patch(l2, &(1 << 63 | 0x10000u64).to_be_bytes());
    let image = open_write(&case.disk, &case.path, &options(&case.path));
    let error = image.write(at(0), &[9]).unwrap_err();
    let damage = Damage::of(&error).expect("an error about damage");
    assert!(damage.reason.contains("the refcount table"), "{}", damage.reason);
    assert_eq!(damage.offset.get(), 0x10000);
    assert!(image.write(at(100_000), &[9]).is_err());
    assert!(image.close().is_err());
    let after = case.file().to_vec();
    assert_eq!(after[79], 2);
    assert!(after[0x10000..0x20000] == bytes[0x10000..0x20000], "the refcount table was hit");
}

#[test]
fn a_damaged_entry_is_an_error_with_its_offset_and_not_an_empty_cluster() {
    let case = case(&[]);
    let bytes = case.file().to_vec();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap());
    let l2 = u64::from_be_bytes(bytes[l1 as usize..][..8].try_into().unwrap()) & !(1 << 63);
    case.patch(l2 + 8, &(1 << 63 | 0x50200u64).to_be_bytes());
    let image = case.read().unwrap();
    assert_eq!(image.map(at(0), 1 << 20).unwrap().length, 65536);
    let error = image.read(at(65536), &mut [0; 10]).unwrap_err();
    assert_eq!(Damage::of(&error).unwrap().offset.get(), l2 + 8);
    assert!(image.map(at(65536), 1).is_err());
    image.read(at(0), &mut [0; 10]).unwrap();
}

fn overlay(folder: &Path, name: &str, base: &str, format: Option<&str>) -> PathBuf {
    let path = folder.join(name);
    let (text, args) = (path.to_str().unwrap(), ["create", "-q", "-u", "-f", "qcow2", "-b", base]);
    let format = format.map_or(vec![], |format| vec!["-F", format]);
    qemu("qemu-img", &[&args[..], &format, &[text, "1M"]].concat());
    path
}

#[test]
fn a_chain_that_comes_back_or_names_no_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::default();
    let first = overlay(folder.path(), "first", "second", Some("qcow2"));
    let second = overlay(folder.path(), "second", "first", Some("qcow2"));
    disk.load(&first);
    disk.load(&second);
    let open = |path: &Path, policy: BackingPolicy| {
        let options = options(path).backing(policy);
        Image::open_read(disk.files[path].clone(), &options, &disk)
    };
    let error = open(&first, BackingPolicy::AsNamed).unwrap_err();
    assert!(error.to_string().contains("comes back"), "{error}");
    let left = open(&first, BackingPolicy::Leave).unwrap();
    assert!(left.read(at(0), &mut [0]).is_err());

    let mut bytes = disk.files[&first].to_vec();
    // The extension with the backing format becomes one of unknown type.
    let place = bytes.windows(4).position(|w| w == 0xE279_2ACAu32.to_be_bytes()).unwrap();
    bytes[place] = 0x12;
    let nameless = Arc::new(MemoryStorage::new(bytes));
    let error = Image::open_read(nameless.clone(), &options(&first), &disk).unwrap_err();
    assert!(error.to_string().contains("format"), "{error}");
    let raw = options(&first).backing(BackingPolicy::AsNamedOr("raw".into()));
    let image = Image::open_read(nameless, &raw, &disk).unwrap();
    let mut magic = [0; 4];
    image.read(at(0), &mut magic).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
}

#[test]
fn an_image_left_without_closing_is_clean_and_at_worst_leaks() {
    let case = case(&["-o", "cluster_size=4k"]);
    let image = open_write(&case.disk, &case.path, &options(&case.path));
    for n in 0..50u64 {
        image.write(at(n * 20_000), &[7; 9000]).unwrap();
        image.discard(at(n * 10_000), 9000).unwrap();
    }
    drop(image);
    case.disk.store_all();
    let (code, text) = check_code(&case.path);
    assert!(code == 0 || code == 3, "{text}");
}
