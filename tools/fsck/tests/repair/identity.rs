// SPDX-License-Identifier: GPL-2.0

//! Which of two superblocks with right checksums is believed.

use super::*;

use ochre::engine::format::superblock::Superblock;
use ochre_mutate::base::{everything, PLENTY};
use ochre_mutate::damage::Mutator;
use ochre_mutate::image::Kind;
use std::mem::offset_of;

#[test]
fn a_foreign_identity_is_seen_though_no_header_says_so() {
    let base = everything();
    let before = contents(base.media(PLENTY)).expect("a sound image");
    let mutator = Mutator::new(&base.image, &[]);
    for with_headers in [true, false] {
        let media = base.media(PLENTY);
        for structure in base.image.structures.iter() {
            let at = match structure.kind {
                Kind::Superblock => offset_of!(Superblock, uuid),
                Kind::JournalHeader | Kind::GroupHeader if !with_headers => 0,
                _ => continue,
            };
            let mut bytes = media.bytes(structure.address, structure.len);
            bytes[at] ^= 1;
            mutator.seal(structure, &mut bytes);
            media.damage(structure.address, &bytes);
        }
        let what = format!("headers: {with_headers}");
        let repaired = repair_and_check(&media, &before, &BTreeSet::new(), &what);
        assert!(repaired.is_some(), "{what}");
    }
}
