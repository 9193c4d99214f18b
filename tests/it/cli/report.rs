//! `qcheck report`: one page, of everything in it nothing is markup.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::programs::run::{qcheck, qemu_create, qemu_ok, run};
use crate::support::servers::real::has;
use crate::support::skip::skip;

const HOSTILE: &str = "<script>alert('1')</script>&\"";

/// All tags of a page, each with its attributes, without the content of style and script.
fn tags(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("a tag has an end") + at;
        let tag = &rest[at + 1..end];
        found.push(tag);
        rest = &rest[end + 1..];
        for name in ["style", "script"] {
            if tag == name {
                rest = &rest[rest.find(&format!("</{name}>")).expect("it ends")..];
            }
        }
    }
    found
}

/// Each element is closed in its place.
fn assert_nested(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(page) {
        let name = tag.split_whitespace().next().unwrap();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "of {tag}");
        } else if !matches!(name, "!DOCTYPE" | "meta" | "br") && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Nothing is loaded from elsewhere, and nothing of an image is a tag.
fn assert_self_contained(page: &str) {
    assert_nested(page);
    let scripts = tags(page).iter().filter(|tag| tag.starts_with("script")).count();
    assert_eq!(scripts, 1, "the page's own");
    for tag in tags(page) {
        assert!(!tag.contains("src=") && !tag.contains(" on"), "{tag}");
        assert!(!tag.contains("href=") || tag.contains("href=\"#"), "{tag}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
}

/// Headings without gaps, tables with heads, pictures with words.
fn assert_accessible(page: &str) {
    assert!(page.contains("<html lang=\"en\">") && page.contains("<main id=\"main\">"));
    let mut level = 0;
    for tag in tags(page) {
        let heading = tag.strip_prefix('h').and_then(|rest| rest.get(..1)?.parse::<u32>().ok());
        if let Some(now) = heading {
            assert!(now <= level + 1, "a heading of level {now} after {level}");
            level = now;
        }
        let is_picture = tag.starts_with("svg ");
        assert!(!is_picture || tag.contains("aria-label=\"") || tag.contains("aria-hidden"));
        assert!(tag != "th", "a head has a scope");
    }
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id is there once");
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.binary_search(&link).is_ok(), "#{link} exists");
    }
}

/// A chain of images whose names are HTML wherever there can be one.
fn hostile() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "<b>base", "8M"]);
    qemu_create(folder, &["-f", "qcow2", "-b", "<b>base", "-F", "qcow2", "<i>top"]);
    qemu_ok(folder, "qemu-io", &["-c", "write 0 1M", "<i>top"]);
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", HOSTILE, "<i>top"]);
    qemu_ok(folder, "qemu-img", &["bitmap", "--add", "<i>top", HOSTILE]);
    dir
}

#[test]
fn nothing_of_an_image_is_markup() {
    let dir = hostile();
    let page = qcheck(dir.path(), &["report", "<i>top", "<u>missing"]).success().out;
    assert_self_contained(&page);
    assert_accessible(&page);
    let shown = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;";
    assert_eq!(page.matches(shown).count(), 2, "a snapshot and a bitmap: {page}");
    for name in ["&lt;b&gt;base", "&lt;i&gt;top", "&lt;u&gt;missing"] {
        assert!(page.contains(name), "{name}");
    }
    let results = format!(
        "{{\"filename\": {0}, \"verdict\": {0}, \"checked-at\": {0}, \"findings\": [{{\"code\": {0}, \
         \"message\": {0}, \"meaning\": {0}, \"guest\": {{\"contents\": [{{\"text\": {0}}}]}}}}]}}",
        serde_json::to_string(HOSTILE).unwrap()
    );
    fs::write(dir.path().join("results"), results).unwrap();
    let page = qcheck(dir.path(), &["report", "--from", "results"]).success().out;
    assert_self_contained(&page);
    assert!(page.matches(shown).count() >= 5, "{page}");
}

#[test]
fn a_damaged_image_has_its_findings_on_the_maps_and_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/damaged.qcow2");
    fs::copy(data, dir.path().join("damaged")).unwrap();
    let before = fs::read(dir.path().join("damaged")).unwrap();
    let ran = qcheck(dir.path(), &["report", "-o", "report.html", "damaged"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    assert_eq!(fs::read(dir.path().join("damaged")).unwrap(), before);
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert_self_contained(&page);
    assert_accessible(&page);
    for words in [
        "class=\"badge v-errors\">errors</span>",
        "ERROR cluster 6 refcount=0 reference=1",
        "What to do:",
        "Layout of the file",
        "class=\"me\"",
        "class=\"mk\"",
        "guest offset 0x",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn several_results_of_an_image_are_its_history_and_the_worst_image_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let line = |name: &str, verdict: &str, at: &str, errors: u64| {
        format!(
            "{{\"filename\": \"{name}\", \"verdict\": \"{verdict}\", \"checked-at\": \"{at}\", \
             \"corruptions\": {errors}, \"cluster-size\": 65536}}\n"
        )
    };
    let first = line("a", "clean", "2026-01-01T00:00:00Z", 0)
        + &line("b", "errors", "2026-01-01T00:00:00Z", 3);
    let second = line("a", "errors", "2026-01-03T00:00:00Z", 7)
        + &line("c", "clean", "2026-01-03T00:00:00Z", 0);
    fs::write(dir.path().join("first"), first).unwrap();
    fs::write(dir.path().join("second"), second).unwrap();
    // Whatever the order of the files, the latest result counts.
    for order in [["first", "second"], ["second", "first"]] {
        let args = ["report", "--from", order[0], "--from", order[1]];
        let page = qcheck(dir.path(), &args).success().out;
        assert_accessible(&page);
        let body = page.split("<tbody>").nth(1).unwrap();
        let names: Vec<&str> = body
            .split("<th scope=\"row\">")
            .skip(1)
            .map(|rest| rest.split("\">").nth(1).unwrap_or(rest).split('<').next().unwrap())
            .collect();
        assert_eq!(names, ["a", "b", "c"], "{order:?}");
        assert_eq!(page.matches("<h3>History</h3>").count(), 1);
        assert!(page.contains("2 of 3 images") && page.contains("errors: 2, clean: 1"), "{page}");
    }
    // What check --output json prints of one image, and arrays, are results too.
    qemu_create(dir.path(), &["-f", "qcow2", "image", "1M"]);
    for form in [&["--output", "json"][..], &["--output", "json", "-j", "1"]] {
        let out = qcheck(dir.path(), &[&["check"], form, &["image"]].concat()).success().out;
        fs::write(dir.path().join("third"), out).unwrap();
        let page = qcheck(dir.path(), &["report", "--from", "third"]).success().out;
        assert!(page.contains("v-clean\">clean</span>"), "{page}");
    }
}

#[test]
fn what_is_not_a_result_is_an_error_and_leaves_the_former_page() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("report.html"), "former").unwrap();
    for (content, word) in [
        ("", "no results"),
        ("{}", "file name"),
        ("[1]", "result 1"),
        ("{", "result 1"),
        // What `info` prints.
        (r#"{"filename":"a","format":"qcow2","virtual-size":1,"cluster-size":1}"#, "no verdict"),
    ] {
        fs::write(dir.path().join("results"), content).unwrap();
        let ran = qcheck(dir.path(), &["report", "--from", "results", "-o", "report.html"]);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{content}: {}", ran.err);
        assert!(ran.err.contains(word), "{content}: {}", ran.err);
        assert_eq!(fs::read_to_string(dir.path().join("report.html")).unwrap(), "former");
    }
}

#[test]
fn what_a_policy_denied_is_not_clean() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "raw", "base", "1M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-F", "raw", "-b", "base", "a", "1M"]);
    let ran = qcheck(dir.path(), &["check", "--policy", "untrusted", "--output", "json", "a"]);
    assert_eq!(ran.code, 4);
    fs::write(dir.path().join("results"), ran.out).unwrap();
    let page = qcheck(dir.path(), &["report", "--from", "results"]);
    assert!(page.code == 0 && page.out.contains("<title>denied"), "{}", page.out);
}

#[test]
fn a_size_that_no_disk_can_have_is_a_row_like_others() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "b", "1M"]);
    let file = fs::File::options().write(true).open(dir.path().join("a")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 8], 24).unwrap();
    let page = qcheck(dir.path(), &["report", "a", "b"]);
    assert!(page.code == 0 && page.out.contains("1 of 2 images"), "{}", page.err);
}

/// Results of a thousand images, of which a tenth has findings.
fn thousand(folder: &Path) {
    let findings = "[{\"code\": \"refcount-too-low\", \"severity\": \"corruption\", \"message\": \
                    \"ERROR cluster 6 refcount=0 reference=1\", \"meaning\": \"A meaning.\", \
                    \"remedy\": \"A remedy.\", \"guest\": {\"offset\": 65536, \"length\": 65536}}]";
    let mut lines = String::new();
    for number in 0..1000 {
        let (verdict, errors, findings) = match number % 10 {
            0 => ("errors", 1, findings),
            _ => ("clean", 0, "[]"),
        };
        lines.push_str(&format!(
            "{{\"filename\": \"/var/lib/libvirt/images/guest-{number:04}.qcow2\", \"verdict\": \
             \"{verdict}\", \"corruptions\": {errors}, \"findings\": {findings}, \"cluster-size\": \
             65536, \"allocated-clusters\": {}, \"virtual-size\": 10737418240}}\n",
            number * 37 % 1000
        ));
    }
    fs::write(folder.join("results.ndjson"), lines).unwrap();
    let args = ["report", "--from", "results.ndjson", "-o", "report.html"];
    qcheck(folder, &args).success();
}

#[test]
fn the_page_of_a_thousand_images_is_small() {
    let dir = tempfile::tempdir().unwrap();
    thousand(dir.path());
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.len() < 5 << 20, "{} bytes", page.len());
    assert_self_contained(&page);
    assert_accessible(&page);
    assert_eq!(page.matches("<tr><td data-v").count(), 1000);
    assert_eq!(page.matches("<section ").count(), 100, "those with findings");
}

#[test]
fn a_browser_shows_the_page_and_its_script_makes_it_sortable() {
    if !has("chromium") {
        return skip("the page in a browser", "there is no chromium");
    }
    let dir = tempfile::tempdir().unwrap();
    thousand(dir.path());
    let url = format!("file://{}/report.html", dir.path().display());
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let args = ["--headless", "--no-sandbox", "--disable-gpu", &profile, "--dump-dom", &url];
    let begun = Instant::now();
    let ran = run(dir.path(), "chromium", &args, Duration::from_secs(120));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out.matches("<button type=\"button\">").count(), 9, "{:?}", begun.elapsed());
    assert_eq!(ran.out.matches("<tr><td data-v").count(), 1000);
}

/// How bright a colour is, by the Web Content Accessibility Guidelines.
fn luminance(color: &str) -> f64 {
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_has_the_contrast_that_guidelines_require() {
    let css = include_str!("../../../src/cli/render/html/report.css");
    let (light, dark) = css.split_once("@media (prefers-color-scheme: dark)").unwrap();
    let of = |scheme: &str, name: &str| {
        let at = scheme.find(&format!("--{name}: #")).unwrap() + name.len() + 4;
        scheme[at..at + 7].to_owned()
    };
    for scheme in [light, dark] {
        for (text, ground) in [("fg", "bg"), ("soft", "bg"), ("link", "bg"), ("fg", "head")] {
            let ratio = contrast(&of(scheme, text), &of(scheme, ground));
            assert!(ratio >= 4.5, "{text} on {ground}: {ratio:.2}");
        }
        // Marks of errors stand out from data and from free space.
        for other in ["md", "mf", "bg"] {
            let ratio = contrast(&of(scheme, "me"), &of(scheme, other));
            assert!(ratio >= 1.5, "errors beside {other}: {ratio:.2}");
        }
    }
    let badges: Vec<&str> =
        css.split("background: #").skip(1).filter_map(|rest| rest.get(..6)).collect();
    assert_eq!(badges.len(), 6);
    for color in badges {
        let ratio = contrast(&format!("#{color}"), "#ffffff");
        assert!(ratio >= 4.5, "white on {color}: {ratio:.2}");
    }
}
