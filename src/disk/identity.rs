//! Which files a disk is read from: the same files, read as the same format, have the same bytes.

use super::read::Disk;
use crate::image::{Backing, Image};
use crate::storage::{FileId, ReadAt};

/// What one image of a chain is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    file: Option<FileId>,
    data_file: Option<FileId>,
    /// Host offset of the L1 table of a qcow2 image: snapshots have others.
    l1: Option<u64>,
}

impl Identity {
    /// Whether it is known. What is not known is the same as nothing else.
    pub(crate) const fn is_known(&self) -> bool {
        self.file.is_some()
    }
}

fn id(storage: &dyn ReadAt) -> Option<FileId> {
    FileId::of_open(storage.file()?).ok()
}

fn of_raw(storage: &dyn ReadAt) -> Identity {
    Identity { file: id(storage), data_file: None, l1: None }
}

fn of_image(image: &Image) -> Vec<Identity> {
    let l1 = image.l1_offset().ok().map(|at| at.get());
    let (file, data_file) = (id(image.storage()), id(image.data_source()));
    // Without its L1 table it is not known which disk of the image it is.
    let mut all = vec![Identity { file: file.filter(|_| l1.is_some()), data_file, l1 }];
    all.extend(image.backing().map(below).unwrap_or_default());
    all
}

/// What a backing file and those below it are read from.
pub(crate) fn below(backing: &Backing) -> Vec<Identity> {
    match backing {
        Backing::Raw(raw) => vec![of_raw(raw.storage())],
        Backing::Qcow2(image) => of_image(image),
        Backing::Closed => Vec::new(),
    }
}

/// What the images of a disk's chain are read from, from its own down.
pub(crate) fn of_disk(disk: &Disk) -> Vec<Identity> {
    match disk {
        Disk::Raw(raw) => vec![of_raw(raw.storage())],
        Disk::Qcow2(image) => of_image(image),
    }
}

/// How many images of each disk are above those that are the same in both chains; `None` without
/// such ones.
pub(crate) fn shared_from(first: &Disk, second: &Disk) -> Option<[usize; 2]> {
    let (first, second) = (of_disk(first), of_disk(second));
    let pairs = first.iter().rev().zip(second.iter().rev());
    let same = pairs.take_while(|(first, second)| first.is_known() && first == second).count();
    (same > 0).then(|| [first.len() - same, second.len() - same])
}
