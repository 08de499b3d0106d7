//! Amounts as Kubernetes writes them: `100m`, `1`, `1.5`, `512Mi`, `10Gi`, `1e3`.

const NANOS: u128 = 1_000_000_000;

/// The amount in billionths, rounded up; `None` if the text is no amount, is below zero, or is
/// larger than any that Kubernetes can hold.
///
/// ```
/// # use quorate::cluster::spec::quantity_nanos;
/// assert_eq!(quantity_nanos("100m"), Some(100_000_000));
/// assert_eq!(quantity_nanos("-1"), None);
/// ```
pub fn quantity_nanos(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.is_empty() || number == "." || fraction.contains('.') {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse::<u128>().ok()?;
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nanos = digits.checked_mul(nanos_of(suffix)?)?.div_ceil(parts);
    // Kubernetes holds amounts as whole numbers of 64 bits.
    (nanos <= u128::from(u64::MAX >> 1) * NANOS).then_some(nanos)
}

/// The amount in whole units, such as bytes, rounded up as Kubernetes does.
///
/// ```
/// # use quorate::cluster::spec::quantity_bytes;
/// assert_eq!(quantity_bytes("1.5Gi"), Some(1_610_612_736));
/// assert_eq!(quantity_bytes("10 GB"), None);
/// ```
pub fn quantity_bytes(text: &str) -> Option<u128> {
    quantity_nanos(text).map(|nanos| nanos.div_ceil(NANOS))
}

/// What one of this suffix is, in billionths.
fn nanos_of(suffix: &str) -> Option<u128> {
    let decimal = |power: u32| 10_u128.checked_pow(power);
    let binary = |power: u32| Some((1_u128 << (10 * power)) * NANOS);
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let power = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            decimal(u32::try_from(power.checked_add(9)?).ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("100m", 1),
            ("1500m", 2),
            ("512Mi", 512 << 20),
            ("10Gi", 10 << 30),
            ("1G", 1_000_000_000),
            ("0.5Ki", 512),
            (".5Ki", 512),
            ("5.", 5),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12e-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("7Ei", 7 << 60),
        ] {
            assert_eq!(quantity_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!(quantity_nanos("1u"), Some(1000));
        assert_eq!(quantity_nanos("0.1n"), Some(1));
    }

    #[test]
    fn what_is_no_amount_is_not_read() {
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1.2.3",
            "Gi",
            "1 Gi",
            "1GB",
            "1gi",
            "1e",
            "ten",
            "8Ei",
            "1e30",
            "1e-10",
            "1i",
            "0x10",
            "99999999999999999999999999999999999999999999",
        ] {
            assert_eq!(quantity_nanos(text), None, "{text}");
        }
    }
}
