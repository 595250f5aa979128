// SPDX-License-Identifier: GPL-2.0

//! The full check, as an assertion.

use ochre::engine::fsck;
use ochre::engine::media::Media;

/// The check finds nothing.
pub fn assert_sound<M: Media>(media: &M, unmounted: bool) {
    struct Collect(Vec<String>);
    impl fsck::Observer for Collect {
        fn issue(&mut self, issue: &fsck::Issue) {
            self.0.push(format!("{issue:?}"));
        }
    }
    let mut found = Collect(Vec::new());
    fsck::check(media, fsck::Options { unmounted }, &mut found).expect("check");
    assert!(found.0.is_empty(), "{:#?}", found.0);
}
