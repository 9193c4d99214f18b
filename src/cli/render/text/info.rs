//! What an image is, in qemu-img's words and columns.

use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use qcheck::info::SnapshotInfo;
use serde_json::Value;

use crate::cli::args::size::human_size;
use crate::cli::render::image::ImageInfo;
use crate::cli::render::json::described::image::{Luks, Specific};
use crate::cli::terminal::ui::Output;

/// Prints everything about one image.
pub fn print(out: &mut Output, image: &ImageInfo) -> io::Result<()> {
    let sized = |bytes: u64| format!("{} ({bytes} bytes)", human_size(bytes));
    out.line(&format!("image: {}", image.filename))?;
    out.line(&format!("file format: {}", image.format))?;
    out.line(&format!("virtual size: {}", sized(image.virtual_bytes)))?;
    let disk_size = image.disk_bytes.map_or_else(|| "unavailable".to_owned(), human_size);
    out.line(&format!("disk size: {disk_size}"))?;
    if image.is_encrypted() {
        out.line("encrypted: yes")?;
    }
    if let Some(header) = &image.luks {
        out.line("Format specific information:")?;
        tree(out, &serde_json::to_value(Luks::from(header))?, 1)?;
    }
    if let Some(info) = &image.qcow2 {
        out.line(&format!("cluster_size: {}", info.geometry.cluster_bytes()))?;
        if info.dirty {
            out.line("cleanly shut down: no")?;
        }
        if let Some(name) = &info.backing_name {
            let actual = image.full_backing_name().filter(|full| full != name);
            let actual = actual.map_or(String::new(), |full| format!(" (actual path: {full})"));
            out.line(&format!("backing file: {name}{actual}"))?;
        }
        if let Some(format) = &info.backing_format {
            out.line(&format!("backing file format: {format}"))?;
        }
        if !info.snapshots.is_empty() {
            out.line("Snapshot list:")?;
            snapshot_table(out, &info.snapshots)?;
        }
        out.line("Format specific information:")?;
        tree(out, &serde_json::to_value(Specific::from(info))?, 1)?;
    }
    out.line("Child node '/file':")?;
    out.line(&format!("    filename: {}", image.filename))?;
    out.line(&format!("    protocol type: {}", image.protocol))?;
    out.line(&format!("    file length: {}", sized(image.file_bytes)))?;
    out.line(&format!("    disk size: {disk_size}"))?;
    if let Some(bytes) = image.extent_size_hint {
        out.line("    Format specific information:")?;
        out.line(&format!("        extent size hint: {bytes}"))?;
    }
    Ok(())
}

/// Prints what JSON has, with spaces for hyphens in the keys.
fn tree(out: &mut Output, value: &Value, depth: usize) -> io::Result<()> {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, v)| (key.replace('-', " "), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, v)| (format!("[{n}]"), v)).collect(),
        _ => return Ok(()),
    };
    for (name, value) in entries {
        let indent = 4 * depth;
        match value {
            Value::Object(_) | Value::Array(_) => {
                out.line(&format!("{:indent$}{name}:", ""))?;
                tree(out, value, depth + 1)?;
            }
            Value::String(text) => out.line(&format!("{:indent$}{name}: {text}", ""))?,
            other => out.line(&format!("{:indent$}{name}: {other}", ""))?,
        }
    }
    Ok(())
}

/// Prints snapshots in columns.
pub fn snapshot_table(out: &mut Output, snapshots: &[SnapshotInfo]) -> io::Result<()> {
    let icount = |s: &SnapshotInfo| s.icount.map_or("--".to_owned(), |count| count.to_string());
    out.line(&row(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"]))?;
    for snapshot in snapshots {
        out.line(&row([
            &snapshot.id,
            &snapshot.name,
            &human_size(snapshot.vm_state_bytes),
            &date(snapshot.date_sec),
            &clock(snapshot.vm_clock_nsec),
            &icount(snapshot),
        ]))?;
    }
    Ok(())
}

/// Columns as wide as qemu-img's; the width is counted in bytes, as there.
fn row(cells: [&str; 6]) -> String {
    let left = |text: &str, width: usize| {
        let padding = width.saturating_sub(text.len());
        format!("{text}{:padding$}", "")
    };
    let [id, name, size, date, clock, icount] = cells;
    format!("{} {} {size:>8} {date:>19} {clock:>15} {icount:>10}", left(id, 7), left(name, 16))
}

/// Local time.
fn date(seconds: u32) -> String {
    let time = Timestamp::from_second(seconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn clock(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let seconds = milliseconds / 1000;
    format!(
        "{:04}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        milliseconds % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_qemu_imgs() {
        assert_eq!(
            row(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"]),
            "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT"
        );
        assert_eq!(row(["1", "twö", "0 B", "", "", "0"]).len(), 80);
    }

    #[test]
    fn the_clock_has_hours_without_days() {
        assert_eq!(clock(0), "0000:00:00.000");
        assert_eq!(clock(100 * 3_600_000_000_000 + 61_002_999_999), "0100:01:01.002");
    }
}
