//! Sizes as qemu-img takes them.

use std::str::FromStr;

/// The smallest and the greatest cluster, in bytes.
const CLUSTER_BYTES: std::ops::RangeInclusive<u64> = 512..=2 << 20;

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeError {
    /// Not a number with an optional suffix.
    NotASize,
    /// Over 2^63 - 1 bytes.
    TooLarge,
}

impl std::fmt::Display for SizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotASize => "not a size; give bytes, or a number with one of k, M, G, T, P, E",
            Self::TooLarge => "larger than 8 EiB",
        })
    }
}

impl std::error::Error for SizeError {}

/// Parses a whole number.
pub fn parse_number<N: FromStr>(text: &str) -> Result<N, String> {
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().map_err(|_| match all_digits {
        true => "the number is too large".to_owned(),
        false => "give a whole number, of digits only".to_owned(),
    })
}

/// Parses a size in bytes: decimal or 0x hexadecimal, or a decimal number, perhaps with a
/// fraction, and a suffix b, k, M, G, T, P or E (powers of 1024, either case).
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let bytes = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => hexadecimal(hex)?,
        Some(_) => return Err(SizeError::NotASize),
        None => decimal(text)?,
    };
    if bytes > i64::MAX.unsigned_abs() { Err(SizeError::TooLarge) } else { Ok(bytes) }
}

fn hexadecimal(digits: &str) -> Result<u64, SizeError> {
    if digits.is_empty() {
        return Err(SizeError::NotASize);
    }
    u64::from_str_radix(digits, 16).map_err(|_| SizeError::TooLarge)
}

fn decimal(text: &str) -> Result<u64, SizeError> {
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, suffix)) if suffix.is_ascii_alphabetic() => (&text[..at], shift(suffix)?),
        _ => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return Err(SizeError::NotASize);
    }
    if shift == 0 && fraction.bytes().any(|b| b != b'0') {
        return Err(SizeError::NotASize);
    }
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<u64>().map_err(|_| SizeError::TooLarge)?,
    };
    let whole = whole.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
    Ok(whole.saturating_add(fraction_of(fraction, shift)))
}

/// Bytes of the fraction of a unit, rounded to the nearest.
#[expect(clippy::cast_possible_truncation, reason = "less than one unit, at most 2^60")]
fn fraction_of(digits: &str, shift: u32) -> u64 {
    let scale = 10u128.pow(18);
    let numerator = digits
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(18)
        .fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    (((numerator << shift) + scale / 2) / scale) as u64
}

fn shift(suffix: char) -> Result<u32, SizeError> {
    match suffix.to_ascii_lowercase() {
        'b' => Ok(0),
        'k' => Ok(10),
        'm' => Ok(20),
        'g' => Ok(30),
        't' => Ok(40),
        'p' => Ok(50),
        'e' => Ok(60),
        _ => Err(SizeError::NotASize),
    }
}

/// A cluster size as a power of two.
pub fn parse_cluster_size(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes.is_power_of_two() && CLUSTER_BYTES.contains(&bytes) {
        Ok(bytes.trailing_zeros())
    } else {
        Err("not a power of two from 512 to 2M".into())
    }
}

/// A size with three significant digits and a unit, as qemu-img prints it.
#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    // 1,000 of a unit are printed in the next one: at most three digits before the point.
    while unit + 1 < UNITS.len() && u128::from(bytes) >= 1000u128 << (10 * unit) {
        unit += 1;
    }
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    format!("{} {}B", three_digits(value), UNITS[unit])
}

/// C's `%.3g` for numbers from 0 up to 1,000.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 999.5 => return "1e+03".into(),
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_as_in_qemu_img() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_023_488, "1e+03 KiB"),
            (1_024_000, "0.977 MiB"),
            (1_048_064, "1 MiB"),
            (10_738_467_328, "10 GiB"),
            (999_999_488, "954 MiB"),
            (1_376_256, "1.31 MiB"),
            (1 << 40, "1 TiB"),
            (1 << 62, "4 EiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn suffixes_are_powers_of_1024_in_either_case() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("7b"), Ok(7));
        assert_eq!(parse_size("1k"), Ok(1024));
        assert_eq!(parse_size("10M"), Ok(10 << 20));
        assert_eq!(parse_size("3g"), Ok(3 << 30));
        assert_eq!(parse_size("1T"), Ok(1 << 40));
        assert_eq!(parse_size("1P"), Ok(1 << 50));
        assert_eq!(parse_size("7E"), Ok(7 << 60));
    }

    #[test]
    fn what_is_not_a_whole_number_is_refused_in_words() {
        assert_eq!(parse_number::<u64>("12"), Ok(12));
        for text in ["1.5", "", "x", "-1", "1k"] {
            assert!(parse_number::<u64>(text).unwrap_err().contains("whole number"), "{text}");
        }
        assert!(parse_number::<u64>("99999999999999999999").unwrap_err().contains("too large"));
    }

    #[test]
    fn fractions_need_a_unit() {
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size("0.1k"), Ok(102));
        assert_eq!(parse_size("0.1M"), Ok(104_858));
        assert_eq!(parse_size(".5k"), Ok(512));
        assert_eq!(parse_size("1.0"), Ok(1));
        assert_eq!(parse_size("1.5"), Err(SizeError::NotASize));
    }

    #[test]
    fn what_is_not_a_size_is_distinguished_from_what_is_too_large() {
        for text in ["", ".", "M", "1x", "-1", "1 M", "0x", "0x1M", "1.5.5M", "١"] {
            assert_eq!(parse_size(text), Err(SizeError::NotASize), "{text}");
        }
        assert_eq!(parse_size("0x10"), Ok(16));
        for text in ["8E", "9223372036854775808", "99999999999999999999", "16777216T"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge), "{text}");
        }
        assert_eq!(parse_size("9223372036854775807"), Ok(i64::MAX.unsigned_abs()));
    }

    #[test]
    fn a_cluster_size_is_a_power_of_two_within_the_limits() {
        assert_eq!(parse_cluster_size("64k"), Ok(16));
        assert_eq!(parse_cluster_size("512"), Ok(9));
        assert!(parse_cluster_size("3k").is_err());
        assert!(parse_cluster_size("4M").is_err());
    }
}
