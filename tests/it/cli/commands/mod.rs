//! Commands against those of real qemu-img.

mod amend;
mod bitmap;
mod commit;
mod compare;
mod create;
mod dd;
mod info;
mod layout;
mod map;
mod measure;
mod rebase;
mod resize;
mod snapshot;
