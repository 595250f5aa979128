// SPDX-License-Identifier: GPL-2.0
/* What knows how fs/dax.c and the memory failure code keep pages, entries and marks. */
#include <linux/version.h>
#include "helpers.h"

/*
 * The first page of the range that has any reference. dax_layout_busy_page_range() leaves out those that come from
 * mappings, since it has unmapped them. But an munmap on another CPU clears a huge page table entry first, and drops
 * the mapping's count and reference after: in between nothing is left to unmap, and the page counts as idle.
 * Entries are fs/dax.c's: the page frame number above four flag bits, of which 1 means 2 MiB, and 2 and 3 that there
 * is no page.
 */
bool ochre_dax_referenced_page(struct address_space *mapping, pgoff_t first, pgoff_t last,
			       unsigned long base_pfn, unsigned long pfns, struct ochre_held *held)
{
	XA_STATE(xas, &mapping->i_pages, first);
	unsigned int scanned = 0;
	bool found = false;
	void *entry;

	xas_lock_irq(&xas);
	xas_for_each(&xas, entry, last) {
		unsigned long value = xa_is_value(entry) ? xa_to_value(entry) : BIT(2);
		unsigned long pfn = value >> 4;

		if (!(value & (BIT(2) | BIT(3))) && !WARN_ON_ONCE(pfn - base_pfn >= pfns)) {
			struct folio *folio = page_folio(pfn_to_page(pfn));

			if (folio_ref_count(folio)) {
				held->page = &folio->page;
				held->pages = value & BIT(1) ? HPAGE_PMD_NR : 1;
				held->first = xas.xa_index & ~(held->pages - 1);
				found = true;
				break;
			}
		}
		if (++scanned % XA_CHECK_SCHED)
			continue;
		xas_pause(&xas);
		xas_unlock_irq(&xas);
		cond_resched();
		xas_lock_irq(&xas);
	}
	xas_unlock_irq(&xas);
	return found;
}

/*
 * Moving the entry of a page that somebody holds to another index of the same file: src/vfs/mapping.rs says why, and
 * why in these steps. It relies on how fs/dax.c keeps entries and share counts, so it is for kernels whose fs/dax.c was
 * read: 7.2 and 7.3.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0) && LINUX_VERSION_CODE < KERNEL_VERSION(7, 4, 0)

#define ENTRY_LOCKED BIT(0)
#define ENTRY_PMD BIT(1)
#define ENTRY_NO_PAGE (BIT(2) | BIT(3))

/*
 * Locks the folio and gives it a second entry, at @to. The caller holds invalidate_lock for write and has unmapped the
 * page. -EAGAIN: the folio or the entry is locked, or not what the caller thinks; -EEXIST: @to is taken.
 */
int ochre_dax_move_begin(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page)
{
	struct folio *folio = page_folio(page);
	unsigned int order = folio_order(folio);
	XA_STATE_ORDER(xas, &mapping->i_pages, to, order);
	unsigned long value;
	void *entry;
	int error;

	if (!folio_trylock(folio))
		return -EAGAIN;
	do {
		error = -EAGAIN;
		xas_lock_irq(&xas);
		entry = xa_load(&mapping->i_pages, from);
		value = xa_is_value(entry) ? xa_to_value(entry) : ENTRY_NO_PAGE;
		if ((value & (ENTRY_LOCKED | ENTRY_NO_PAGE)) || page_folio(pfn_to_page(value >> 4)) != folio ||
		    order != (value & ENTRY_PMD ? PMD_ORDER : 0) || folio->mapping != mapping ||
		    folio->index != from || folio_mapped(folio))
			goto unlock;
		error = -EEXIST;
		if (xas_find_conflict(&xas))
			goto unlock;
		xas_store(&xas, entry);
		error = xas_error(&xas);
		if (!error)
			mapping->nrpages += 1UL << order;
unlock:
		xas_unlock_irq(&xas);
	} while (xas_nomem(&xas, GFP_NOFS));
	if (error)
		folio_unlock(folio);
	return error;
}

/* How often the folio counts as shared while its entry is removed; a test can have it wrong (src/testing.rs). */
#ifdef OCHRE_TEST
static int move_share = 2;

void ochre_test_share_while_moved(bool share)
{
	move_share = share ? 2 : 1;
}
#else
#define move_share 2
#endif

/* Takes the entry at @from away, and makes that at @to the folio's own. Cannot fail. */
void ochre_dax_move_commit(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page)
{
	struct folio *folio = page_folio(page);
	loff_t start = (loff_t)from << PAGE_SHIFT;
	void *entry;

	for (;;) {
		xa_lock_irq(&mapping->i_pages);
		entry = xa_load(&mapping->i_pages, from);
		if (!(xa_to_value(entry) & ENTRY_LOCKED))
			break;
		/* A write-back, or memory_failure(), which finds the entry by folio->mapping and unlocks it so. */
		xa_unlock_irq(&mapping->i_pages);
		schedule_timeout_uninterruptible(1);
	}
	/* From here to the end nobody finds the entry by the folio. */
	folio->mapping = NULL;
	folio->share = move_share;
	xa_unlock_irq(&mapping->i_pages);

	/* Wakes all who wait for the entry, as only fs/dax.c can; the folio, being shared, stays in one piece. */
	dax_delete_mapping_range(mapping, start, start + folio_size(folio) - 1);

	xa_lock_irq(&mapping->i_pages);
	WARN_ON_ONCE(folio->mapping || folio->share != 1);
	folio->index = to;
	folio->mapping = mapping;
	xa_unlock_irq(&mapping->i_pages);
	folio_unlock(folio);
}

/* Undoes ochre_dax_move_begin(). */
void ochre_dax_move_cancel(struct address_space *mapping, pgoff_t to, struct page *page)
{
	struct folio *folio = page_folio(page);
	XA_STATE_ORDER(xas, &mapping->i_pages, to, folio_order(folio));

	/* Nobody waits for this entry: no fault, no dirty mark, and the folio's index is another. */
	xas_lock_irq(&xas);
	xas_store(&xas, NULL);
	mapping->nrpages -= folio_nr_pages(folio);
	xas_unlock_irq(&xas);
	folio_unlock(folio);
}
#else
int ochre_dax_move_begin(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page)
{
	return -EOPNOTSUPP;
}

void ochre_dax_move_commit(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page)
{
}

void ochre_dax_move_cancel(struct address_space *mapping, pgoff_t to, struct page *page)
{
}
#endif

/* ---- memory failures: src/vfs/memory_failure.rs ---- */

/* The super blocks that can be told of failures, by address; the lock is held while one is told. */
static DEFINE_MUTEX(failure_lock);
static DEFINE_XARRAY(failure_targets);

int ochre_failure_start(void *sb)
{
	return xa_err(xa_store(&failure_targets, (unsigned long)sb, sb, GFP_KERNEL));
}

void ochre_failure_stop(void *sb)
{
	mutex_lock(&failure_lock);
	xa_erase(&failure_targets, (unsigned long)sb);
	mutex_unlock(&failure_lock);
}

/* -EIO: the mount is not complete yet, or ends. */
int ochre_failure_tell(struct dax_device *dax_dev, const struct ochre_failure *failure,
		       int (*tell)(void *, const struct ochre_failure *))
{
	void *sb;
	int error;

	mutex_lock(&failure_lock);
	sb = dax_holder(dax_dev);
	if (sb && xa_load(&failure_targets, (unsigned long)sb))
		error = tell(sb, failure);
	else
		error = -EIO;
	mutex_unlock(&failure_lock);
	return error;
}

/* The index in its file of a page of this mapping. Both stay only while what holds them is locked out. */
static pgoff_t index_of(struct folio *folio, struct page *page)
{
	return folio->index + folio_page_idx(folio, page);
}

bool ochre_page_belongs(unsigned long pfn, struct inode *inode, unsigned long *index)
{
	struct page *page = pfn_to_page(pfn);
	struct folio *folio = page_folio(page);

	*index = index_of(folio, page);
	return READ_ONCE(folio->mapping) == inode->i_mapping;
}

/*
 * The inode of this super block that the page is mapped for, with a reference, or NULL. A folio that is being moved in
 * its file (ochre_dax_move_commit()) has no mapping, is locked, and has references: that it is done is waited for.
 */
struct inode *ochre_page_owner(unsigned long pfn, struct super_block *sb, unsigned long *index)
{
	struct page *page = pfn_to_page(pfn);
	struct folio *folio = page_folio(page);
	struct address_space *mapping;
	struct inode *inode = NULL;

	if (!READ_ONCE(folio->mapping) && folio_try_get(folio)) {
		folio_lock(folio);
		folio_unlock(folio);
		folio_put(folio);
		folio = page_folio(page);
	}
	/* Inodes are freed by RCU, and the mapping is a part of one. */
	rcu_read_lock();
	mapping = READ_ONCE(folio->mapping);
	if (mapping && mapping->host && mapping->host->i_sb == sb)
		inode = igrab(mapping->host);
	rcu_read_unlock();
	*index = index_of(folio, page);
	return inode;
}

/*
 * Signals those who map the page, and takes it out of all page tables. The caller holds invalidate_lock for write, and
 * has seen that the page is there. mf_dax_kill_procs() marks the first page of a 2 MiB page, whichever was meant.
 */
int ochre_kill_mappers(struct address_space *mapping, unsigned long index, unsigned long pfn, int flags)
{
	struct page *page = pfn_to_page(pfn), *head = &page_folio(page)->page;
	bool marked = PageHWPoison(head);
	int error = mf_dax_kill_procs(mapping, index, 1, flags);

	if (head != page && !marked)
		ClearPageHWPoison(head);
	unmap_mapping_range(mapping, (loff_t)index << PAGE_SHIFT, PAGE_SIZE, 0);
	return error;
}

void ochre_page_set_poisoned(unsigned long pfn)
{
	SetPageHWPoison(pfn_to_page(pfn));
}

unsigned long ochre_next_poisoned(unsigned long pfn, unsigned long end)
{
	for (; pfn < end; pfn++) {
		if (PageHWPoison(pfn_to_page(pfn)))
			break;
		if (pfn % 4096 == 0)
			cond_resched();
	}
	return pfn;
}

bool ochre_failures_seen(void)
{
	int nid;

	for_each_online_node(nid)
		if (NODE_DATA(nid)->mf_stats.total)
			return true;
	return false;
}

/* The first range of bad sectors that the device lists at or behind @from, in bytes of the block device. */
bool ochre_bdev_next_bad(struct block_device *bdev, u64 from, u64 *start, u64 *len)
{
	struct badblocks *bb = bdev->bd_disk->bb;
	sector_t first = get_start_sect(bdev), sector = first + (from >> SECTOR_SHIFT);
	sector_t end = first + bdev_nr_sectors(bdev), bad, sectors;

	if (!bb || !READ_ONCE(bb->count) || sector >= end ||
	    !badblocks_check(bb, sector, end - sector, &bad, &sectors))
		return false;
	sectors = min(bad + sectors, end);
	bad = max(bad, sector);
	if (bad >= sectors)
		return false;
	*start = (bad - first) << SECTOR_SHIFT;
	*len = (sectors - bad) << SECTOR_SHIFT;
	return true;
}
