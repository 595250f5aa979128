// SPDX-License-Identifier: GPL-2.0

//! Every call of the filesystem, in each of its interesting cases.

use crate::scene::{lengthen, long_name, new, write, World, MANY, NONE};
use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Inode, NewInode, RenameArgs, SetAttributes, Times};
use ochre::engine::types::{FileBlock, FileKind, Timestamp, BLOCK_SIZE};

/// What a failing call may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing.
    Whole,
    /// Nothing but nodes of extent trees that were split for it.
    Shape,
    /// What it has done up to there: it is several transactions, or several calls as `write` makes them.
    Steps,
}

/// One case.
pub struct Call {
    pub name: &'static str,
    /// Brings the filesystem into the state that is to be kept.
    pub before: fn(&World),
    pub run: fn(&World) -> Result<()>,
    pub promise: Promise,
    /// It gives space back, or uses what was promised, or needs none: it works on a full filesystem too.
    pub always: bool,
}

const fn call(name: &'static str, run: fn(&World) -> Result<()>) -> Call {
    Call {
        name,
        before: |_| {},
        run,
        promise: Promise::Whole,
        always: false,
    }
}

impl Call {
    const fn always(mut self) -> Self {
        self.always = true;
        self
    }

    const fn after(mut self, before: fn(&World)) -> Self {
        self.before = before;
        self
    }

    const fn shape(mut self) -> Self {
        self.promise = Promise::Shape;
        self
    }

    const fn steps(mut self) -> Self {
        self.promise = Promise::Steps;
        self
    }
}

fn create(w: &World, dir: &str, kind: FileKind) -> Result<()> {
    w.fs.create(w.get(dir), b"new", &new(kind)).map(drop)
}

fn unlink(w: &World, name: &str) -> Result<()> {
    w.fs.unlink(w.get(""), name.as_bytes(), w.get(name), Timestamp(9))
}

fn rename(w: &World, from: [&str; 3], to: [&str; 2], over: Option<&str>, swap: bool) -> Result<()> {
    w.fs.rename(&RenameArgs {
        old_dir: w.get(from[0]),
        old_name: from[1].as_bytes(),
        inode: w.get(from[2]),
        new_dir: w.get(to[0]),
        new_name: to[1].as_bytes(),
        target: over.map(|path| w.get(path)),
        exchange: swap,
        time: Timestamp(9),
    })
}

fn block(n: u64) -> FileBlock {
    FileBlock(n)
}

fn size(inode: &Inode) -> u64 {
    inode.attributes().size
}

/// All of them.
pub const CALLS: &[Call] = &[
    // Looking.
    call("iget", |w| w.fs.iget(w.get("dir").ino()).map(drop)).always(),
    call("iget_handle", |w| {
        let file = w.get("written");
        w.fs.iget_handle(file.ino(), file.generation()).map(drop)
    })
    .always(),
    call("lookup", |w| {
        w.fs.lookup(w.get("split"), b"nobody")
            .map(drop)
            .or_else(|error| {
                if error == Error::NotFound {
                    Ok(())
                } else {
                    Err(error)
                }
            })
    })
    .always(),
    call("readdir", |w| {
        w.fs.readdir(w.get("split"), 0, &mut |_| true)
    })
    .always(),
    call("readlink", |w| {
        w.fs.readlink(w.get("long"), &mut ochre::platform::Vec::new())
    })
    .always(),
    call("map", |w| w.fs.map(w.get("leaf"), block(300), 9).map(drop)).always(),
    // Names.
    call("create", |w| create(w, "", FileKind::Regular)),
    call("create in an empty directory", |w| {
        create(w, "empty", FileKind::Regular)
    }),
    call("create that splits a leaf", |w| {
        let name = long_name(7777);
        w.fs.create(w.get("split"), name.as_bytes(), &new(FileKind::Regular))
            .map(drop)
    }),
    call("create that wants a chunk", |w| {
        create(w, "", FileKind::Regular)
    })
    .after(|w| {
        // Until no record is free.
        for n in 0.. {
            let fresh = w.fs.create(
                w.get("dir"),
                format!("{n}").as_bytes(),
                &new(FileKind::Fifo),
            );
            if fresh.expect("create").ino().slot() == 63 {
                break;
            }
        }
    }),
    call("mkdir", |w| create(w, "dir/sub", FileKind::Directory)),
    call("mkdir in the root", |w| create(w, "", FileKind::Directory)),
    call("mknod", |w| {
        let device = NewInode {
            rdev: 0x103,
            ..new(FileKind::CharDevice)
        };
        w.fs.create(w.get(""), b"device", &device).map(drop)
    }),
    call("symlink", |w| {
        let link = NewInode {
            symlink: Some(b"short"),
            ..new(FileKind::Symlink)
        };
        w.fs.create(w.get(""), b"symlink", &link).map(drop)
    }),
    call("symlink of two blocks", |w| {
        let link = NewInode {
            symlink: Some(&[b'x'; 4080]),
            ..new(FileKind::Symlink)
        };
        w.fs.create(w.get(""), b"symlink", &link).map(drop)
    }),
    call("tmpfile", |w| {
        w.fs.tmpfile(&new(FileKind::Regular)).map(drop)
    }),
    call("link", |w| {
        w.fs.link(w.get("dir"), b"link", w.get("two"), Timestamp(9))
    }),
    call("link of an unlinked file", |w| {
        w.fs.link(w.get("empty"), b"link", w.get("written"), Timestamp(9))
    })
    .after(|w| unlink(w, "written").expect("unlink")),
    call("unlink", |w| unlink(w, "written")).always(),
    call("unlink of one of two names", |w| unlink(w, "two")).always(),
    call("unlink of the last name", |w| {
        w.fs.unlink(w.get("dir/sub"), b"only", w.get("two"), Timestamp(9))
    })
    .after(|w| {
        w.fs.link(w.get("dir/sub"), b"only", w.get("two"), Timestamp(8))
            .expect("link")
    })
    .always(),
    call("rmdir", |w| {
        w.fs.rmdir(w.get(""), b"empty", w.get("empty"), Timestamp(9))
    })
    .always(),
    call("rename", |w| {
        rename(w, ["", "two", "two"], ["", "renamed"], None, false)
    }),
    call("rename elsewhere", |w| {
        rename(w, ["", "two", "two"], ["empty", "two"], None, false)
    }),
    call("rename into a full leaf", |w| {
        rename(
            w,
            ["", "two", "two"],
            ["split", &long_name(7777)],
            None,
            false,
        )
    }),
    call("rename over", |w| {
        rename(
            w,
            ["", "two", "two"],
            ["", "written"],
            Some("written"),
            false,
        )
    })
    .always(),
    call("rename over, elsewhere", |w| {
        rename(
            w,
            ["", "written", "written"],
            ["dir", "over"],
            Some("dir/over"),
            false,
        )
    })
    .always(),
    call("rename of a directory", |w| {
        rename(w, ["dir", "sub", "dir/sub"], ["", "moved"], None, false)
    }),
    call("rename of a directory over another", |w| {
        rename(
            w,
            ["", "empty", "empty"],
            ["dir", "olddir"],
            Some("dir/olddir"),
            false,
        )
    })
    .always(),
    call("exchange", |w| {
        rename(
            w,
            ["", "two", "two"],
            ["dir", "over"],
            Some("dir/over"),
            true,
        )
    })
    .always(),
    call("exchange of directories", |w| {
        rename(
            w,
            ["", "empty", "empty"],
            ["dir", "sub"],
            Some("dir/sub"),
            true,
        )
    })
    .always(),
    // Data.
    call("append", |w| write(&w.fs, w.get("written"), 64, 4)).steps(),
    call("write into a hole", |w| write(&w.fs, w.get("holes"), 5, 1)),
    call("write that makes a tree", |w| {
        write(&w.fs, w.get("seven"), 100, 1)
    }),
    call("write that splits a leaf", |w| {
        write(&w.fs, w.get("leaf"), 301, 1)
    }),
    call("write in place", |w| write(&w.fs, w.get("written"), 3, 5)).always(),
    call("write into promised blocks", |w| {
        write(&w.fs, w.get("promised"), 30, 2)
    })
    .always(),
    call("write into promised blocks in a full leaf", |w| {
        write(&w.fs, w.get("preleaf"), 2004, 1)
    })
    .always(),
    call("write through a window", |w| {
        write(&w.fs, w.get("window"), 32, 32)
    })
    .steps(),
    call("a window for a new file", |w| {
        write(&w.fs, w.get("two"), 512, 100)
    })
    .steps(),
    call("reserve and cancel", |w| {
        let reserved = w.fs.reserve_write(w.get("holes"), block(100), 40, 0)?;
        w.fs.cancel(reserved);
        Ok(())
    }),
    call("fault", |w| {
        w.fs.fault_allocate(w.get("holes"), block(3), 1).map(drop)
    }),
    call("fault in a full leaf", |w| {
        w.fs.fault_allocate(w.get("leaf"), block(301), 1).map(drop)
    }),
    call("fault in promised blocks", |w| {
        w.fs.fault_allocate(w.get("preleaf"), block(2004), 1)
            .map(drop)
    })
    .always(),
    call("fault of 2 MiB", |w| {
        match w.fs.fault_allocate(w.get("two"), block(1024), 512) {
            // Without a free slot: single pages then.
            Err(Error::Again) => Ok(()),
            other => other.map(drop),
        }
    }),
    call("fault of 2 MiB of promised blocks", |w| {
        w.fs.fault_allocate(w.get("aligned"), block(0), 512)
            .map(drop)
    })
    .always(),
    call("preallocate", |w| {
        w.fs.preallocate(w.get("two"), block(10), 5, None, &NONE)
    }),
    call("preallocate many holes", |w| {
        w.fs.preallocate(w.get("holes"), block(0), 40, Some(40 * BLOCK_SIZE), &NONE)
    }),
    call("preallocate over a full leaf", |w| {
        let end = size(w.get("leaf")) + BLOCK_SIZE;
        w.fs.preallocate(w.get("leaf"), block(290), 500, Some(end), &NONE)
    })
    .shape(),
    call("preallocate more than one transaction takes", |w| {
        w.fs.preallocate(w.get("many"), block(0), 400, None, &NONE)
    })
    .shape(),
    call("preallocate what is there", |w| {
        w.fs.preallocate(w.get("written"), block(3), 9, Some(99 * BLOCK_SIZE), &NONE)
    })
    .always(),
    // Away with data.
    call("truncate to nothing", |w| {
        w.fs.truncate(w.get("written"), 0, &NONE)
    })
    .always(),
    call("truncate within a block", |w| {
        w.fs.truncate(w.get("written"), 9000, &NONE)
    })
    .always(),
    call("truncate a leaf", |w| {
        w.fs.truncate(w.get("leaf"), 401 * BLOCK_SIZE + 5, &NONE)
    })
    .always(),
    call("truncate many extents", |w| {
        w.fs.truncate(w.get("many"), 5000, &NONE)
    })
    .after(lengthen)
    .always(),
    call("truncate, in two halves", |w| {
        w.fs.truncate_size(w.get("leaf"), 5000, &NONE)
    })
    .always(),
    call("the second half of a truncate", |w| {
        while w.fs.free_beyond(w.get("leaf"), block(2))? {}
        Ok(())
    })
    .after(|w| {
        w.fs.truncate_size(w.get("leaf"), 5000, &NONE)
            .expect("truncate")
    })
    .always(),
    call("truncate up", |w| {
        w.fs.truncate(w.get("two"), 100_000, &NONE)
    })
    .always(),
    call("punch", |w| {
        w.fs.punch(w.get("written"), block(1), block(9), &NONE)
    }),
    call("punch that makes a tree", |w| {
        w.fs.punch(w.get("seven"), block(1), block(2), &NONE)
    })
    .after(|w| {
        let seven = w.get("seven");
        w.fs.truncate(seven, 0, &NONE).expect("truncate");
        for n in 0..7 {
            write(&w.fs, seven, n * 10, 3).expect("write");
        }
    }),
    call("punch in a full leaf", |w| {
        w.fs.punch(w.get("preleaf"), block(2004), block(2005), &NONE)
    }),
    call("punch many extents", |w| {
        w.fs.punch(w.get("many"), block(3), block(2 * MANY - 1), &NONE)
    })
    .after(lengthen)
    .steps(),
    call("collapse", |w| {
        w.fs.collapse(w.get("written"), block(1), 3, None, &NONE)
            .map(drop)
    })
    .always(),
    call("collapse in a tree", |w| {
        w.fs.collapse(w.get("leaf"), block(21), 3, None, &NONE)
            .map(drop)
    }),
    call("collapse many extents", |w| {
        w.fs.collapse(w.get("many"), block(3), 2 * MANY - 9, None, &NONE)
            .map(drop)
    })
    .after(lengthen),
    call("collapse over held pages", |w| {
        w.fs.collapse(w.get("many"), block(30), 40, Some(block(1 << 43)), &NONE)
            .map(drop)
    }),
    call("insert", |w| {
        w.fs.insert(w.get("written"), block(2), 5, &NONE).map(drop)
    }),
    call("insert that makes a tree", |w| {
        w.fs.insert(w.get("seven"), block(1), 1, &NONE).map(drop)
    })
    .after(|w| {
        let seven = w.get("seven");
        w.fs.truncate(seven, 0, &NONE).expect("truncate");
        for n in 0..7 {
            write(&w.fs, seven, n * 10, 3).expect("write");
        }
    }),
    call("insert before many extents", |w| {
        w.fs.insert(w.get("many"), block(1), 1, &NONE).map(drop)
    })
    .after(lengthen),
    call("zero range", |w| {
        w.fs.zero_range(w.get("written"), block(1), block(9), Some(1 << 20), &NONE)
    })
    .always(),
    call("zero range in a tree", |w| {
        w.fs.zero_range(w.get("many"), block(1), block(400), None, &NONE)
    })
    .always(),
    call("zero bytes", |w| {
        w.fs.zero_range_bytes(w.get("written"), 5000, 9000)
    })
    .always(),
    call("zero the tail", |w| w.fs.zero_tail(w.get("written"), 5000)).always(),
    call("evict a file", |w| w.fs.evict(w.get("leaf")))
        .after(|w| unlink(w, "leaf").expect("unlink"))
        .steps()
        .always(),
    call("evict a file of many extents", |w| {
        w.fs.evict(w.get("many"))
    })
    .after(|w| {
        lengthen(w);
        unlink(w, "many").expect("unlink");
    })
    .steps()
    .always(),
    call("evict a symbolic link", |w| w.fs.evict(w.get("long")))
        .after(|w| unlink(w, "long").expect("unlink"))
        .always(),
    call("evict a directory", |w| w.fs.evict(w.get("empty")))
        .after(|w| {
            w.fs.rmdir(w.get(""), b"empty", w.get("empty"), Timestamp(8))
                .expect("rmdir")
        })
        .always(),
    call("evict a file with a window", |w| {
        w.fs.evict(w.get("window"))
    })
    .after(|w| write(&w.fs, w.get("window"), 32, 32).expect("write"))
    .always(),
    // The rest.
    call("set attributes", |w| {
        let set = SetAttributes {
            uid: Some(3),
            mode: Some(0o100_600),
            ..SetAttributes::default()
        };
        w.fs.set_attributes(w.get("two"), &set)
    })
    .always(),
    call("touch", |w| {
        let times = Times {
            atime: Some(Timestamp(77)),
            ..NONE
        };
        w.fs.touch(w.get("two"), &times, true)
    })
    .always(),
    call("freeze", |w| w.fs.freeze()).always(),
    call("sync", |w| w.fs.sync()).always(),
    call("remount", |w| {
        w.fs.remount(true)?;
        w.fs.remount(false)
    })
    .always(),
];
