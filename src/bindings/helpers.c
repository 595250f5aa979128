// SPDX-License-Identifier: GPL-2.0
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/version.h>
#include "helpers.h"

#ifdef OCHRE_TEST
#include <linux/module.h>
MODULE_INFO(test, "Y"); /* the kernel is tainted by it */
#endif

void ochre_memcpy_flushcache(void *to, const void *from, size_t n)
{
	memcpy_flushcache(to, from, n);
}

/* ---- names and mounts ---- */

struct kmem_cache *ochre_inode_cache_create(const char *name, unsigned int size, unsigned int align,
					    void (*init)(void *))
{
	return kmem_cache_create(name, size, align, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, init);
}

void *ochre_cache_alloc(struct kmem_cache *cache)
{
	return kmem_cache_alloc(cache, GFP_KERNEL);
}

struct inode *ochre_alloc_inode(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

bool ochre_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

s64 ochre_inode_atime(struct inode *inode)
{
	struct timespec64 time = inode_get_atime(inode);

	return timespec64_to_ns(&time);
}

s64 ochre_inode_mtime(struct inode *inode)
{
	struct timespec64 time = inode_get_mtime(inode);

	return timespec64_to_ns(&time);
}

s64 ochre_inode_ctime(struct inode *inode)
{
	struct timespec64 time = inode_get_ctime(inode);

	return timespec64_to_ns(&time);
}

void ochre_inode_set_times(struct inode *inode, s64 atime, s64 mtime, s64 ctime)
{
	inode_set_atime_to_ts(inode, ns_to_timespec64(atime));
	inode_set_mtime_to_ts(inode, ns_to_timespec64(mtime));
	inode_set_ctime_to_ts(inode, ns_to_timespec64(ctime));
}

s64 ochre_inode_set_ctime_current(struct inode *inode)
{
	struct timespec64 time = inode_set_ctime_current(inode);

	return timespec64_to_ns(&time);
}

void ochre_inode_set_mctime(struct inode *inode, s64 time)
{
	struct timespec64 ts = ns_to_timespec64(time);

	inode_set_mtime_to_ts(inode, ts);
	inode_set_ctime_to_ts(inode, ts);
}

void ochre_fileattr_fill(struct file_kattr *fa, u32 flags)
{
	fileattr_fill_flags(fa, flags);
}

/* All ones, a set that nobody has, for what flags cannot say. */
u32 ochre_fileattr_flags(const struct file_kattr *fa)
{
	return fileattr_has_fsx(fa) ? ~0U : fa->flags;
}

void ochre_inode_set_ctime(struct inode *inode, s64 time)
{
	inode_set_ctime_to_ts(inode, ns_to_timespec64(time));
}

void ochre_inode_set_uid_gid(struct inode *inode, uid_t uid, gid_t gid)
{
	i_uid_write(inode, uid);
	i_gid_write(inode, gid);
}

uid_t ochre_inode_uid(struct inode *inode)
{
	return i_uid_read(inode);
}

gid_t ochre_inode_gid(struct inode *inode)
{
	return i_gid_read(inode);
}

/* Both readers matter: who mounts with mount(2) has the kernel log only, who mounts with fsopen(2) asks the context. */
void ochre_mount_message(struct fs_context *fc, char level, const char *device, const void *arguments)
{
	if (level == 'e')
		pr_err("ochre: %s: %pA\n", device, arguments);
	else
		pr_warn("ochre: %s: %pA\n", device, arguments);
	if (fc && fc->log.log)
		logfc(fc->log.log, "ochre", level, "%pA", arguments);
}

void ochre_super_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
}

void ochre_super_fsid(struct kstatfs *statfs, const u8 *uuid)
{
	statfs->f_fsid = uuid_to_fsid((u8 *)uuid);
}

void ochre_sb_start_intwrite(struct super_block *sb)
{
	sb_start_intwrite(sb);
}

bool ochre_sb_start_intwrite_trylock(struct super_block *sb)
{
	return sb_start_intwrite_trylock(sb);
}

void ochre_sb_end_intwrite(struct super_block *sb)
{
	sb_end_intwrite(sb);
}

bool ochre_dir_emit(struct dir_context *ctx, const char *name, int length, u64 ino, unsigned int type)
{
	return dir_emit(ctx, name, length, ino, type);
}

bool ochre_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

int ochre_finish_open_simple(struct file *file, int error)
{
	return finish_open_simple(file, error);
}

u32 ochre_new_encode_dev(dev_t dev)
{
	return new_encode_dev(dev);
}

dev_t ochre_new_decode_dev(u32 dev)
{
	return new_decode_dev(dev);
}

void ochre_init_rwsem(struct rw_semaphore *lock, const char *name, struct lock_class_key *key)
{
	__init_rwsem(lock, name, key);
}

void ochre_down_write_nested(struct rw_semaphore *lock, int subclass)
{
	down_write_nested(lock, subclass);
}

unsigned int ochre_current_cpu(void)
{
	return raw_smp_processor_id();
}

void ochre_cond_resched(void)
{
	cond_resched();
}

/* ---- data path ---- */

/*
 * Reads whole words one by one; false at the first that the memory cannot deliver. The exception table entry
 * turns the machine check of a poisoned line into a jump, where the CPU can recover from one.
 */
bool ochre_read_words(u64 *to, const u64 *from, size_t words)
{
	size_t i;

	for (i = 0; i < words; i++) {
		u64 word;

		asm_goto_output("1:\tmovq %[from], %[word]\n"
				_ASM_EXTABLE_TYPE(1b, %l[poison], EX_TYPE_DEFAULT_MCE_SAFE)
				: [word] "=r" (word) : [from] "m" (from[i]) : : poison);
		to[i] = word;
	}
	return true;
poison:
	return false;
}

static void fence_this_cpu(void *unused)
{
	asm volatile("sfence" ::: "memory");
}

void ochre_fence_all_cpus(void)
{
	on_each_cpu(fence_this_cpu, NULL, 1);
}

/* Whether copy_mc_to_kernel() is more than memcpy() here: see arch/x86/lib/copy_mc.c. */
bool ochre_reads_need_care(void)
{
	return boot_cpu_has(X86_FEATURE_ERMS);
}

/* The reasons of fs_dax_get_by_bdev() for NULL, which it does not tell apart. */
enum ochre_dax_refusal ochre_bdev_dax_refusal(struct block_device *bdev)
{
	if (!blk_queue_dax(bdev->bd_disk->queue))
		return OCHRE_DAX_NONE;
	if ((get_start_sect(bdev) | bdev_nr_sectors(bdev)) % PAGE_SECTORS)
		return OCHRE_DAX_UNALIGNED;
	return OCHRE_DAX_FINE;
}

void ochre_bdev_name(struct block_device *bdev, char *name, size_t size)
{
	snprintf(name, size, "%pg", bdev);
}

u64 ochre_bdev_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

bool ochre_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

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

/* For eviction, which nothing may interrupt: until the page is idle or the time is up. Not counted as load. */
void ochre_sleep_page_busy(struct page *page, unsigned int milliseconds)
{
	___wait_var_event(page, ___wait_cond_timeout(dax_page_is_idle(page)), TASK_IDLE, 0,
			  msecs_to_jiffies(milliseconds), __ret = schedule_timeout(__ret));
}

/* 0: idle; -ETIME: still busy; -EINTR: a fatal signal. Woken by the put of the page's last reference. */
int ochre_wait_page_idle(struct page *page, unsigned int milliseconds)
{
	long left = ___wait_var_event(page, ___wait_cond_timeout(dax_page_is_idle(page)), TASK_KILLABLE, 0,
				      msecs_to_jiffies(milliseconds), __ret = schedule_timeout(__ret));

	if (left < 0)
		return -EINTR;
	return left ? 0 : -ETIME;
}

int ochre_wait_var_killable(void *var, bool (*condition)(void *), void *context)
{
	return wait_var_event_killable(var, condition(context)) ? -EINTR : 0;
}

/* The store that makes the condition true comes before; the barrier keeps it before the look at the queue. */
void ochre_wake_var(void *var)
{
	smp_mb();
	wake_up_var(var);
}

bool ochre_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void ochre_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void ochre_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

int ochre_inode_trylock(struct inode *inode)
{
	return inode_trylock(inode);
}

void ochre_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

void ochre_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

int ochre_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

void ochre_invalidate_lock(struct address_space *mapping)
{
	filemap_invalidate_lock(mapping);
}

void ochre_invalidate_unlock(struct address_space *mapping)
{
	filemap_invalidate_unlock(mapping);
}

void ochre_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void ochre_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

void ochre_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void ochre_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

void ochre_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

bool ochre_mapping_empty(struct address_space *mapping)
{
	return mapping_empty(mapping);
}

void ochre_pagefault_disable(void)
{
	pagefault_disable();
}

void ochre_pagefault_enable(void)
{
	pagefault_enable();
}

unsigned int ochre_nofs_enter(void)
{
	return memalloc_nofs_save();
}

void ochre_nofs_leave(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

void ochre_release_fault_lock(struct vm_fault *vmf)
{
	release_fault_lock(vmf);
}

struct file *ochre_get_file(struct file *file)
{
	return get_file(file);
}

int ochre_dax_mmap_prepare(struct vm_area_desc *desc, struct dax_device *dax_dev,
			   const struct vm_operations_struct *ops)
{
	if (!daxdev_mapping_supported(desc, file_inode(desc->file), dax_dev))
		return -EOPNOTSUPP;
	file_accessed(desc->file);
	desc->vm_ops = ops;
	vma_desc_set_flags(desc, VMA_HUGEPAGE_BIT);
	return 0;
}

void ochre_file_accessed(struct file *file)
{
	file_accessed(file);
}

/* O_DIRECT and RWF_NOWAIT mean something here: there is no page cache, and writes in place never wait. */
void ochre_file_allow_direct_and_nowait(struct file *file)
{
	file->f_mode |= FMODE_CAN_ODIRECT | FMODE_NOWAIT;
}

ssize_t ochre_generic_write_sync(struct kiocb *iocb, ssize_t count)
{
	return generic_write_sync(iocb, count);
}

/* ---- work in the background ---- */

bool ochre_inode_generic_drop(struct inode *inode)
{
	return inode_generic_drop(inode);
}

/*
 * For ->drop_inode, with i_lock held and the count at zero: the inode gets a reference again. iput_final() would evict
 * an inode of I_DONTCACHE in spite of it; true if that was set, for ochre_inode_set_dontcache().
 */
bool ochre_inode_keep(struct inode *inode)
{
	bool dontcache = inode_state_read(inode) & I_DONTCACHE;

	if (dontcache)
		inode_state_clear(inode, I_DONTCACHE);
	__iget(inode);
	return dontcache;
}

void ochre_inode_set_dontcache(struct inode *inode)
{
	spin_lock(&inode->i_lock);
	inode_state_set(inode, I_DONTCACHE);
	spin_unlock(&inode->i_lock);
}

struct task_struct *ochre_thread_start(int (*run)(void *), void *context, const char *name)
{
	return kthread_run(run, context, "ochre/%s", name);
}

bool ochre_thread_should_stop(void)
{
	return kthread_should_stop();
}

/*
 * Until the page (if there is one) is idle, there is something wanted, the thread is to stop, somebody calls
 * ochre_thread_wake(), or the time is up; 0 milliseconds: no limit.
 */
void ochre_thread_sleep(struct page *page, bool (*wanted)(void *), void *context, unsigned int milliseconds)
{
	struct wait_bit_queue_entry entry;
	wait_queue_head_t *queue = NULL;

	if (page) {
		queue = __var_waitqueue(page);
		init_wait_var_entry(&entry, page, 0);
		prepare_to_wait_event(queue, &entry.wq_entry, TASK_IDLE);
	} else {
		set_current_state(TASK_IDLE);
	}
	if (!kthread_should_stop() && !wanted(context) && !(page && dax_page_is_idle(page)))
		schedule_timeout(milliseconds ? msecs_to_jiffies(milliseconds) : MAX_SCHEDULE_TIMEOUT);
	if (page)
		finish_wait(queue, &entry.wq_entry);
	else
		__set_current_state(TASK_RUNNING);
}

void ochre_thread_wake(struct task_struct *thread)
{
	wake_up_process(thread);
}

void ochre_thread_stop(struct task_struct *thread)
{
	kthread_stop(thread);
}

void ochre_wait_var_idle(void *var, bool (*condition)(void *), void *context)
{
	___wait_var_event(var, condition(context), TASK_IDLE, 0, 0, schedule());
}

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
