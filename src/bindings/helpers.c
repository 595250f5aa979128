// SPDX-License-Identifier: GPL-2.0
#include <linux/sched/signal.h>
#include <linux/string.h>
#include "helpers.h"

#ifdef OCHRE_TEST
#include <linux/module.h>
MODULE_INFO(test, "Y"); /* the kernel is tainted by it */

/* Without a scope the allocation may come back into the filesystem, to locks that are held: under memory pressure only. */
void ochre_test_in_nofs_scope(void)
{
	WARN_ONCE(!(current->flags & PF_MEMALLOC_NOFS), "ochre: memory is asked for outside of a nofs scope\n");
}
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
#ifdef OCHRE_TEST
	ochre_test_in_nofs_scope();
#endif
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

bool ochre_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

static int being_created(struct inode *inode, u64 ino, void *found)
{
	if (inode->i_ino != ino || !(inode_state_read_once(inode) & I_CREATING))
		return 0;
	*(bool *)found = true;
	return -1;
}

/* iget_locked() gives NULL for such a one, as it does without memory. */
bool ochre_inode_being_created(struct super_block *sb, u64 ino)
{
	bool found = false;

	find_inode_nowait(sb, ino, being_created, &found);
	return found;
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

/* The task has met lost memory in a copy from user space; it is dealt with on the way back there. */
bool ochre_machine_check_pending(void)
{
#ifdef CONFIG_X86_MCE
	return current->mce_count;
#else
	return false;
#endif
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
 * An O_TMPFILE has none, and may get one. Under i_lock, since linkat() first counts the name, and then clears the mark
 * under it: never is neither to be seen of a file that has just got its name.
 */
bool ochre_inode_may_have_name(struct inode *inode)
{
	bool may;

	spin_lock(&inode->i_lock);
	may = inode->i_nlink > 0 || (inode_state_read(inode) & I_LINKABLE);
	spin_unlock(&inode->i_lock);
	return may;
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
