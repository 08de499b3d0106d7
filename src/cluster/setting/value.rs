//! The values of settings in the one form they are compared in.

use super::SettingError;
use super::known::{Kind, find_setting};

/// The canonical form of a setting's value: booleans as `true` and `false`, numbers and
/// durations in their shortest form. Text is left as it is.
///
/// # Errors
///
/// A value that its setting cannot have, and a setting that etcd does not have.
pub fn canonical_value(name: &str, value: &str) -> Result<String, SettingError> {
    let Some(known) = find_setting(name) else { return Err(SettingError::unknown(name)) };
    let bad = |want| SettingError::bad(name, value, want);
    match known.kind {
        Kind::Bool => boolean(value).map(|flag| flag.to_string()).ok_or(bad("true or false")),
        Kind::Int => integer(value).ok_or(bad("a whole number")),
        Kind::Duration => {
            nanoseconds(value).map(duration).ok_or(bad("a duration such as 500ms, 5s or 1h30m"))
        }
        Kind::Text | Kind::List if value.contains('\0') => Err(bad("text without a NUL byte")),
        Kind::Text | Kind::List => Ok(value.to_owned()),
    }
}

/// As Go's strconv.ParseBool.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal without sign or leading zeros, except `-` for negative ones: Go reads `010` as eight.
fn integer(value: &str) -> Option<String> {
    let number: i64 = value.parse().ok()?;
    (number.to_string() == value).then(|| value.to_owned())
}

/// The nanoseconds of a duration, read as Go's time.ParseDuration does.
pub fn nanoseconds(value: &str) -> Option<i64> {
    let (negative, mut rest) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        total = total.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than this are below a nanosecond or beyond 292 years.
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let places = u32::try_from(fraction.len()).ok()?;
    Some(digits(whole)? * unit + digits(fraction)? * unit / 10_i128.pow(places))
}

const UNITS: [(&str, i128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    // Both signs for micro: U+00B5 and U+03BC.
    let unit = if matches!(unit, "\u{b5}s" | "\u{3bc}s") { "us" } else { unit };
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size)
}

/// The shortest way to write so many nanoseconds with one unit.
pub fn duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let nanoseconds = i128::from(nanoseconds);
    UNITS.iter().find(|(_, size)| nanoseconds % size == 0).map_or_else(
        || format!("{nanoseconds}ns"),
        |(unit, size)| format!("{}{unit}", nanoseconds / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them_and_written_with_one_unit() {
        let read = |text| nanoseconds(text).map(duration);
        for (text, canonical) in [
            ("5s", "5s"),
            ("60s", "1m"),
            ("1h30m", "90m"),
            ("1.5h", "90m"),
            (".5s", "500ms"),
            ("-2h", "-2h"),
            ("0", "0s"),
            ("1\u{b5}s", "1us"),
        ] {
            assert_eq!(read(text).as_deref(), Some(canonical), "{text}");
        }
        for text in ["", "5", "s", "5 s", "5d", "-", ".s", "1..5s", "9999999999999h"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_that_go_would_read_in_another_base_is_refused() {
        assert!(canonical_value("snapshot-count", "10000").is_ok());
        assert!(canonical_value("quota-backend-bytes", "-1").is_ok());
        for value in ["010", "0x10", "1_000", "+1", " 1", ""] {
            assert!(canonical_value("snapshot-count", value).is_err(), "{value:?}");
        }
    }
}
