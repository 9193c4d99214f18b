//! What an embedder begins with: images by name, opened, locked, and checked or repaired as a
//! whole.
//!
//! * [`Checker`]: one check from a name to a [`Class`]: the policy, the check, the guest data and
//!   the digests where requested, and the guest data that the findings affect
//! * [`Repair`]: one repair, or its plan, with an undo file where requested

mod checked;
mod checker;
mod class;
mod deep;
mod repair;
mod undo_file;

pub use checked::{Checked, Unchecked, Verdict};
pub use checker::Checker;
pub use class::Class;
pub use repair::Repair;
