//! How the result of a command is printed.

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people, and scripts that read qemu-img's lines
    Human,
    /// For programs
    Json,
}
