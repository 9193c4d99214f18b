//! Files, devices and locks.

mod device;
mod failing;
mod files;
mod lock_table;
mod locks;
mod same_file;
