// SPDX-License-Identifier: GPL-2.0

//! Sparse memory as a medium: every store is durable at once, and only pages that were stored to take memory.
//!
//! As `ochre_sim::MemoryMedia`, but laid out for images of 1 TiB: two levels of tables, found without hashing. Clones share
//! the memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;

const PAGE: u64 = 4096;
/// Pages of a table.
const TABLE: u64 = 512;

type Page = Box<[u8; PAGE as usize]>;
type Table = Vec<Option<Page>>;

/// The memory.
#[derive(Clone)]
pub struct Sparse {
    size: u64,
    tables: Arc<Mutex<Vec<Option<Table>>>>,
}

impl Sparse {
    /// `size` bytes of zeros.
    pub fn new(size: u64) -> Self {
        let tables = size.div_ceil(PAGE * TABLE);
        let mut empty = Vec::new();
        empty.resize_with(usize::try_from(tables).unwrap_or(0), || None);
        Self {
            size,
            tables: Arc::new(Mutex::new(empty)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Table>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy that shares nothing.
    pub fn snapshot(&self) -> Self {
        Self {
            size: self.size,
            tables: Arc::new(Mutex::new(self.lock().clone())),
        }
    }

    /// Pages that hold something.
    pub fn pages(&self) -> u64 {
        let tables = self.lock();
        let pages = tables.iter().flatten().flatten();
        pages.filter(|page| page.is_some()).count() as u64
    }

    /// Writes the memory to a sparse file of the same size.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn save(&self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.set_len(self.size)?;
        let tables = self.lock();
        let mut run: Vec<u8> = Vec::new();
        let mut end = 0;
        for (index, table) in tables.iter().enumerate() {
            for (at, page) in table.iter().flatten().enumerate() {
                let Some(page) = page else { continue };
                let address = (index as u64 * TABLE + at as u64) * PAGE;
                if address != end || run.len() >= 1 << 20 {
                    file.write_all_at(&run, end - run.len() as u64)?;
                    run.clear();
                }
                run.extend_from_slice(&page[..]);
                end = address + PAGE;
            }
        }
        file.write_all_at(&run, end - run.len() as u64)
    }

    /// Calls `f` for each page of a range: its place, if it has one, and the part of the range in it.
    fn parts(address: u64, len: u64, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
        let mut done = 0;
        while done < len {
            let at = address + done;
            let within = at % PAGE;
            let part = (PAGE - within).min(len - done);
            let page = at / PAGE;
            let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            f(
                index(page / TABLE),
                index(page % TABLE),
                index(within),
                index(done),
                index(part),
            );
            done += part;
        }
    }

    fn inside(&self, address: u64, len: u64) -> bool {
        address.checked_add(len).is_some_and(|end| end <= self.size)
    }
}

impl Media for Sparse {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        if !self.inside(address, buffer.len() as u64) {
            return Err(Error::Io);
        }
        let tables = self.lock();
        Self::parts(
            address,
            buffer.len() as u64,
            |table, page, within, done, part| {
                let to = &mut buffer[done..done + part];
                match tables[table]
                    .as_ref()
                    .and_then(|pages| pages[page].as_ref())
                {
                    Some(page) => to.copy_from_slice(&page[within..within + part]),
                    None => to.fill(0),
                }
            },
        );
        Ok(())
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        assert!(
            self.inside(address, bytes.len() as u64),
            "store outside the medium at {address:#x}"
        );
        let mut tables = self.lock();
        Self::parts(
            address,
            bytes.len() as u64,
            |table, page, within, done, part| {
                let pages = tables[table].get_or_insert_with(|| vec![None; TABLE as usize]);
                let page = pages[page].get_or_insert_with(|| Box::new([0; PAGE as usize]));
                page[within..within + part].copy_from_slice(&bytes[done..done + part]);
            },
        );
    }

    fn zero(&self, address: u64, len: u64) {
        assert!(
            self.inside(address, len),
            "store outside the medium at {address:#x}"
        );
        let mut tables = self.lock();
        Self::parts(address, len, |table, page, within, _, part| {
            let place = tables[table].as_mut().map(|pages| &mut pages[page]);
            match place {
                Some(place) if part as u64 == PAGE => *place = None,
                Some(Some(page)) => page[within..within + part].fill(0),
                _ => {}
            }
        });
    }

    fn phase(&self) -> u64 {
        0
    }
}
