// SPDX-License-Identifier: GPL-2.0

//! Images as text: only what is not zero, in rows of 32 bytes, as `hexdump` would show it.
//!
//! A line is `address: bytes`; `*` stands for the same row again until the next address. Text, so
//! that a change of the format shows in a diff.

use std::fmt::Write as _;

use ochre::engine::media::Media;
use ochre_sim::MemoryMedia;

const ROW: usize = 32;

/// The text of a medium; `skip` says which addresses to leave out.
pub fn dump(media: &MemoryMedia, skip: impl Fn(u64) -> bool) -> String {
    let mut text = format!("size {:x}\n", media.size());
    let mut last: Option<(u64, Vec<u8>)> = None;
    let mut starred = false;
    for block in 0..media.size() / 4096 {
        let bytes = media.bytes(block * 4096, 4096);
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        for (index, row) in bytes.chunks_exact(ROW).enumerate() {
            let address = block * 4096 + (index * ROW) as u64;
            if row.iter().all(|&byte| byte == 0) || skip(address) {
                continue;
            }
            let again =
                matches!(&last, Some((at, old)) if *at + ROW as u64 == address && old == row);
            if again {
                if !starred {
                    text.push_str("*\n");
                    starred = true;
                }
            } else {
                if starred {
                    // Where the repetition ends.
                    let end = last.as_ref().map_or(0, |(at, _)| *at + ROW as u64);
                    let _ = writeln!(text, "{end:x}");
                }
                starred = false;
                let _ = write!(text, "{address:x}: ");
                for byte in row {
                    let _ = write!(text, "{byte:02x}");
                }
                text.push('\n');
            }
            last = Some((address, row.to_vec()));
        }
    }
    if let (true, Some((at, _))) = (starred, &last) {
        let _ = writeln!(text, "{:x}", at + ROW as u64);
    }
    text
}

/// The medium of a text that [`dump`] made; lines that start with `#` are comments.
///
/// # Panics
///
/// If the text is none.
pub fn load(text: &str) -> MemoryMedia {
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let hex = |digits: &str| u64::from_str_radix(digits, 16).expect("a hexadecimal number");
    let size = lines
        .next()
        .and_then(|line| line.strip_prefix("size "))
        .expect("the size");
    let media = MemoryMedia::new(hex(size));
    let (mut next, mut row) = (0, Vec::new());
    for line in lines {
        if line == "*" {
            continue;
        }
        let Some((address, bytes)) = line.split_once(": ") else {
            while next < hex(line) {
                media.damage(next, &row);
                next += ROW as u64;
            }
            continue;
        };
        row = (0..ROW)
            .map(|at| u8::from_str_radix(&bytes[at * 2..at * 2 + 2], 16).expect("two digits"))
            .collect();
        media.damage(hex(address), &row);
        next = hex(address) + ROW as u64;
    }
    media
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let media = MemoryMedia::new(1 << 20);
        media.damage(100, &[7; 10]);
        media.damage(4096, &[9; 4096 + 32]);
        media.damage(8192 + 64, &[9; 32]);
        media.damage((1 << 20) - 64, &[1; 64]);
        let text = dump(&media, |_| false);
        let again = load(&text);
        assert_eq!(media.bytes(0, 1 << 20), again.bytes(0, 1 << 20), "{text}");
        assert!(text.lines().count() < 12, "{text}");
    }
}
