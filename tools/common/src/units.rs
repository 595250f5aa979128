// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write and read them.

/// Parses `4096`, `512M`, `2G`, `1.5GiB`, `1T`; units are powers of 1024.
///
/// # Errors
///
/// A sentence that says what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other => return Err(format!("unknown unit '{other}'; use K, M, G or T")),
    };
    let wrong = || format!("'{text}' is not a size; write for instance 512M or 2G");
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut bytes = whole
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{text}' is too large"))?;
    if !fraction.is_empty() {
        let fraction = fraction.get(..fraction.len().min(9)).ok_or_else(wrong)?;
        let value: u64 = fraction.parse().map_err(|_| wrong())?;
        let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
        let part = (u128::from(value) << shift) / scale;
        bytes = bytes.saturating_add(u64::try_from(part).map_err(|_| wrong())?);
    }
    Ok(bytes)
}

/// Writes a size with the largest unit that keeps it above one, and at most one decimal.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if bytes >> shift != 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            return if tenth == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenth} {unit}")
            };
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size(" 2GiB "), Ok(2 << 30));
        for wrong in ["", "G", "-1", "1.x", "7q", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show_size(100), "100 bytes");
        assert_eq!(show_size(4096), "4 KiB");
        assert_eq!(show_size(3 << 29), "1.5 GiB");
        assert_eq!(show_size(1 << 40), "1 TiB");
    }
}
