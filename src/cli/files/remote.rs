//! How servers are used: by options of the whole program.

use std::sync::OnceLock;
use std::time::Duration;

use qcheck::image::FileOpener;
use qcheck::remote::Settings;

/// The longest time that can be given, in seconds: one day.
const MAX_SECONDS: u64 = 86_400;

/// The options.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Remote {
    /// How long a server has for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, display_order = 1001,
          value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    timeout: u64,

    /// Open remote files too where an image names them as its backing file or data file
    #[arg(long, global = true, display_order = 1002)]
    allow_remote_names: bool,
}

/// What was given, for every command: set once, before one runs.
static GIVEN: OnceLock<Remote> = OnceLock::new();

impl Remote {
    /// From now on servers are used so.
    pub fn apply(self) {
        // The options are parsed once.
        let _ = GIVEN.set(self);
    }
}

/// How a server is used that the user names.
pub fn settings() -> Settings {
    let given = GIVEN.get().map(|given| Duration::from_secs(given.timeout));
    given.map_or_else(Settings::default, Settings::with_timeout)
}

/// How remote files are used that images name, where they may be opened.
pub fn names() -> Option<Settings> {
    GIVEN.get().filter(|given| given.allow_remote_names).map(|_| settings())
}

/// How files are opened that images name: as by qemu-img.
pub fn opener() -> FileOpener {
    FileOpener { remote: names(), live: true, ..FileOpener::default() }
}
