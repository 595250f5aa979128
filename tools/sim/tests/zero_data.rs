// SPDX-License-Identifier: GPL-2.0

//! Zeroing at any alignment leaves the bytes beside it.

use ochre::engine::media::Media;
use ochre_sim::MemoryMedia;

#[test]
fn every_alignment_and_length() {
    for start in 0..9u64 {
        for len in 0..40u64 {
            let media = MemoryMedia::new(4096);
            media.store(0, &[0xff; 128]);
            media.zero_data(start, len).unwrap();
            for (i, byte) in media.bytes(0, 128).iter().enumerate() {
                let zero = (start..start + len).contains(&(i as u64));
                assert_eq!(*byte == 0, zero, "start {start}, length {len}, byte {i}");
            }
        }
    }
}
