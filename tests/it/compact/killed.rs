//! A process that is killed at any time: the next run goes on from there.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use qcheck::check::{CheckOptions, check};
use qcheck::progress::Silent;
use qcheck::storage::MemoryStorage;

use crate::compact::images::{Recipe, all_of};
use crate::image::tools::assert_clean;
use crate::support::rng::Rng;
use crate::support::sample::{is_full, seed};

/// How often a process is killed.
fn kills() -> u64 {
    let given = env::var("QCHECK_CASES").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(if is_full() { 60 } else { 12 })
}

#[test]
fn after_a_kill_at_any_time_the_next_run_goes_on_from_there() {
    let create = "cluster_size=4k";
    let recipe = Recipe { create, kilobytes: 8192, snapshots: 2, seed: seed() + 7, commands: 120 };
    let case = recipe.case();
    let want = all_of(&case, &case.bytes());
    let path = case.path.to_str().unwrap();
    let start = |way: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qcheck"));
        command.args(["compact", "-q"]).args(way).arg(path).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let ways = [&[][..], &["--zeroes"], &["--compress"], &["--defragment"]];
    let mut rng = Rng::new(seed());
    let (mut killed, mut ended, mut takes) = (0, 0, [Duration::from_millis(400); 4]);
    while killed < kills() {
        let way = ended % ways.len();
        let began = Instant::now();
        let mut process = start(ways[way]);
        let most = u64::try_from(takes[way].as_micros()).unwrap();
        sleep(Duration::from_micros(rng.below(most)));
        process.kill().unwrap();
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let bytes = fs::read(path).unwrap();
        let options = CheckOptions::default().threads(1);
        let report = check(&MemoryStorage::new(bytes.clone()), &options, &Silent).unwrap();
        let found = (report.tally.corruptions, report.tally.check_errors);
        assert_eq!(found, (0, 0), "{:?}: {:?}", ways[way], report.findings);
        assert!(all_of(&case, &bytes) == want, "{:?}: other contents", ways[way]);
        if output.status.code().is_none() {
            killed += 1;
            continue;
        }
        assert!(output.status.success(), "{:?}: {text}", ways[way]);
        takes[way] = began.elapsed().min(takes[way]);
        assert_clean(&case.path);
        assert!(report.tally.is_clean(), "{:?}: {:?}", ways[way], report.findings);
        // From the same image, in another way.
        ended += 1;
        fs::write(path, case.bytes()).unwrap();
    }
    for way in ways {
        fs::write(path, case.bytes()).unwrap();
        let mut process = start(way);
        sleep(takes[0] / 2);
        process.kill().unwrap();
        process.wait().unwrap();
        let output = start(way).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_clean(&case.path);
        assert!(all_of(&case, &fs::read(path).unwrap()) == want, "{way:?}: other contents");
    }
}
