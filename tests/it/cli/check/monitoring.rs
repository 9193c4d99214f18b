//! `check --output prometheus`, read by the programs that it is for.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::many::mixed;
use crate::support::programs::run::{qcheck, run};
use crate::support::servers::real::{free_port, has};
use crate::support::skip::skip;

/// Ends a program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a server answers, once it does.
fn scraped(port: u16) -> String {
    let begun = Instant::now();
    loop {
        let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match answer {
            Ok(text) if !text.is_empty() => return text,
            other => assert!(begun.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Metrics of images of all kinds, one with a name that has to be escaped.
fn metrics(folder: &Path) -> String {
    fs::copy(folder.join("leaky"), folder.join("a\"b\\c\nd")).unwrap();
    let images = ["clean", "leaky", "corrupt", "raw", "missing", "a\"b\\c\nd"];
    let form = ["check", "--output", "prometheus", "--output-file", "qcheck.prom"];
    let ran = qcheck(folder, &[&form[..], &images].concat());
    assert_eq!(ran.code, 1, "{}", ran.err);
    fs::read_to_string(folder.join("qcheck.prom")).unwrap()
}

#[test]
fn the_metrics_of_each_image_are_those_of_its_check() {
    let dir = mixed();
    let text = metrics(dir.path());
    for line in [
        "qcheck_image_verdict{image=\"clean\",verdict=\"clean\"} 1",
        "qcheck_image_verdict{image=\"missing\",verdict=\"no-verdict\"} 1",
        "qcheck_image_verdict{image=\"raw\",verdict=\"no-checker\"} 1",
        "qcheck_image_verdict{image=\"a\\\"b\\\\c\\nd\",verdict=\"leaks\"} 1",
        "qcheck_image_findings{image=\"leaky\",code=\"leak\"} 1",
        "qcheck_image_errors{image=\"corrupt\"} 2",
        "qcheck_image_errors{image=\"clean\"} 0",
        "qcheck_image_leaked_bytes{image=\"leaky\"} 65536",
        "qcheck_image_allocated_bytes{image=\"clean\"} 1048576",
        "qcheck_image_virtual_bytes{image=\"clean\"} 10485760",
        "qcheck_image_snapshots{image=\"clean\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("qcheck_image_errors{image=\"missing\"}"), "not known is not 0");
}

#[test]
fn promtool_finds_nothing_wrong_with_metrics_and_alerts() {
    if !has("promtool") {
        return skip("metrics", "there is no promtool: install prometheus");
    }
    let dir = mixed();
    let text = metrics(dir.path());
    let ran = assert_cmd::Command::new("promtool")
        .args(["check", "metrics"])
        .write_stdin(text.clone())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.is_empty(), "{said}\n{text}");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring/alerts.yml");
    let args = ["check", "rules", rules.to_str().unwrap()];
    let ran = run(dir.path(), "promtool", &args, Duration::from_secs(60));
    assert!(ran.code == 0 && ran.out.contains("SUCCESS"), "{ran:?}");
}

#[test]
fn node_exporter_serves_what_a_check_wrote() {
    if !has("prometheus-node-exporter") {
        return skip("metrics", "there is no prometheus-node-exporter");
    }
    let dir = mixed();
    let text = metrics(dir.path());
    let port = free_port();
    let child = Command::new("prometheus-node-exporter")
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg(format!("--collector.textfile.directory={}", dir.path().display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    let served = scraped(port);
    assert!(served.contains("node_textfile_scrape_error 0"), "{served}");
    let number = |line: &str| line.rsplit_once(' ').and_then(|(_, n)| n.parse::<f64>().ok());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        // The labels are sorted by name there, and numbers may be written otherwise.
        let name = line.split('{').next().unwrap().split(' ').next().unwrap();
        let alike = |found: &&str| found.starts_with(name) && number(found) == number(line);
        assert!(served.lines().any(|found| alike(&found)), "{line}\n{served}");
    }
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    let dir = mixed();
    let text = metrics(dir.path());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring");
    let dashboard = fs::read_to_string(docs.join("dashboard.json")).unwrap();
    let value: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    assert!(value["panels"].as_array().is_some_and(|panels| panels.len() > 5));
    let alerts = fs::read_to_string(docs.join("alerts.yml")).unwrap();
    let readme = fs::read_to_string(docs.join("README.md")).unwrap();
    for document in [&dashboard, &alerts, &readme] {
        for (at, _) in document.match_indices("qcheck_") {
            let rest = &document[at..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap();
            let exists = format!("# TYPE {} gauge\n", &rest[..end]);
            assert!(text.contains(&exists), "{}", &rest[..end]);
        }
    }
}
