//! Commands against those of real qemu-img.

mod compare;
mod create;
mod dd;
mod info;
mod layout;
mod map;
mod measure;
mod resize;
mod snapshot;
