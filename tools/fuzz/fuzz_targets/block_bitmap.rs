// SPDX-License-Identifier: GPL-2.0

//! See `ochre_mutate::targets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ochre_mutate::targets::block_bitmap(data));
