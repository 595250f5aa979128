/* SPDX-License-Identifier: GPL-2.0 */
/* Functions for what Rust cannot call: static inlines and macros of the kernel's headers. */
#ifndef _OCHRE_HELPERS_H
#define _OCHRE_HELPERS_H

#include <linux/fs.h>
#include <linux/sched/mm.h>

void ochre_memcpy_flushcache(void *to, const void *from, size_t n);

/* ---- names and mounts: src/vfs/{super_block,fs_context,inode,attributes,directory,dentry,export}.rs, src/platform/linux.rs ---- */
#include <linux/blkdev.h>
#include <linux/exportfs.h>
#include <linux/fileattr.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/rwsem.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>

/* Flags that the kernel's headers write as macros which bindgen cannot evaluate. */
enum ochre_flags {
	OCHRE_SB_RDONLY = SB_RDONLY,
	OCHRE_SB_ACTIVE = SB_ACTIVE,
	OCHRE_FMODE_32BITHASH = (__force unsigned int)FMODE_32BITHASH,
	OCHRE_NOWAIT = (__force unsigned int)IOCB_NOWAIT,
};

struct kmem_cache *ochre_inode_cache_create(const char *name, unsigned int size, unsigned int align,
					    void (*init)(void *));
void *ochre_cache_alloc(struct kmem_cache *cache);
struct inode *ochre_alloc_inode(struct super_block *sb, struct kmem_cache *cache);
bool ochre_inode_is_new(struct inode *inode);
bool ochre_inode_being_created(struct super_block *sb, u64 ino);
s64 ochre_inode_atime(struct inode *inode);
s64 ochre_inode_mtime(struct inode *inode);
void ochre_fileattr_fill(struct file_kattr *fa, u32 flags);
u32 ochre_fileattr_flags(const struct file_kattr *fa);
s64 ochre_inode_ctime(struct inode *inode);
void ochre_inode_set_times(struct inode *inode, s64 atime, s64 mtime, s64 ctime);
s64 ochre_inode_set_ctime_current(struct inode *inode);
void ochre_inode_set_mctime(struct inode *inode, s64 time);
void ochre_inode_set_ctime(struct inode *inode, s64 time);
void ochre_inode_set_uid_gid(struct inode *inode, uid_t uid, gid_t gid);
uid_t ochre_inode_uid(struct inode *inode);
gid_t ochre_inode_gid(struct inode *inode);
void ochre_mount_message(struct fs_context *fc, char level, const char *device, const void *arguments);
void ochre_super_set_uuid(struct super_block *sb, const u8 *uuid);
void ochre_super_fsid(struct kstatfs *statfs, const u8 *uuid);
void ochre_sb_start_intwrite(struct super_block *sb);
bool ochre_sb_start_intwrite_trylock(struct super_block *sb);
void ochre_sb_end_intwrite(struct super_block *sb);
bool ochre_dir_emit(struct dir_context *ctx, const char *name, int length, u64 ino, unsigned int type);
bool ochre_dir_emit_dots(struct file *file, struct dir_context *ctx);
int ochre_finish_open_simple(struct file *file, int error);
u32 ochre_new_encode_dev(dev_t dev);
dev_t ochre_new_decode_dev(u32 dev);
void ochre_init_rwsem(struct rw_semaphore *lock, const char *name, struct lock_class_key *key);
void ochre_down_write_nested(struct rw_semaphore *lock, int subclass);
unsigned int ochre_current_cpu(void);
void ochre_cond_resched(void);

/* ---- data path: src/media.rs, src/vfs/{dax_device,dax,iomap,file_data,mapping,rwsem,wait}.rs ---- */
#include <linux/blkdev.h>
#include <linux/dax.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pfn.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <linux/libnvdimm.h>
#include <linux/writeback.h>

bool ochre_read_words(u64 *to, const u64 *from, size_t words);
void ochre_fence_all_cpus(void);
bool ochre_reads_need_care(void);

enum ochre_dax_refusal { OCHRE_DAX_FINE, OCHRE_DAX_NONE, OCHRE_DAX_UNALIGNED };
enum ochre_dax_refusal ochre_bdev_dax_refusal(struct block_device *bdev);
void ochre_bdev_name(struct block_device *bdev, char *name, size_t size);
u64 ochre_bdev_bytes(struct block_device *bdev);
bool ochre_bdev_read_only(struct block_device *bdev);

/* A page of a file that somebody holds: the page, and which of the file's pages it is, or they are. */
struct ochre_held {
	struct page *page;
	pgoff_t first;
	unsigned long pages;
};

bool ochre_dax_referenced_page(struct address_space *mapping, pgoff_t first, pgoff_t last,
			       unsigned long base_pfn, unsigned long pfns, struct ochre_held *held);
int ochre_dax_move_begin(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page);
void ochre_dax_move_commit(struct address_space *mapping, pgoff_t from, pgoff_t to, struct page *page);
#ifdef OCHRE_TEST
void ochre_test_in_nofs_scope(void);
void ochre_test_share_while_moved(bool share);
#endif
void ochre_dax_move_cancel(struct address_space *mapping, pgoff_t to, struct page *page);
void ochre_sleep_page_busy(struct page *page, unsigned int milliseconds);
int ochre_wait_page_idle(struct page *page, unsigned int milliseconds);
int ochre_wait_var_killable(void *var, bool (*condition)(void *), void *context);
void ochre_wake_var(void *var);
bool ochre_fatal_signal_pending(void);
bool ochre_machine_check_pending(void);

void ochre_inode_lock(struct inode *inode);
void ochre_inode_unlock(struct inode *inode);
int ochre_inode_trylock(struct inode *inode);
void ochre_inode_lock_shared(struct inode *inode);
void ochre_inode_unlock_shared(struct inode *inode);
int ochre_inode_trylock_shared(struct inode *inode);
void ochre_invalidate_lock(struct address_space *mapping);
void ochre_invalidate_unlock(struct address_space *mapping);
void ochre_invalidate_lock_shared(struct address_space *mapping);
void ochre_invalidate_unlock_shared(struct address_space *mapping);
void ochre_start_pagefault(struct super_block *sb);
void ochre_end_pagefault(struct super_block *sb);
void ochre_i_size_write(struct inode *inode, loff_t size);
bool ochre_mapping_empty(struct address_space *mapping);
void ochre_pagefault_disable(void);
void ochre_pagefault_enable(void);
unsigned int ochre_nofs_enter(void);
void ochre_nofs_leave(unsigned int flags);
void ochre_release_fault_lock(struct vm_fault *vmf);
struct file *ochre_get_file(struct file *file);
int ochre_dax_mmap_prepare(struct vm_area_desc *desc, struct dax_device *dax_dev,
			   const struct vm_operations_struct *ops);
void ochre_file_accessed(struct file *file);
void ochre_file_allow_direct_and_nowait(struct file *file);
ssize_t ochre_generic_write_sync(struct kiocb *iocb, ssize_t count);

/* ---- work in the background: src/vfs/background.rs ---- */
#include <linux/kthread.h>

bool ochre_inode_generic_drop(struct inode *inode);
bool ochre_inode_may_have_name(struct inode *inode);
bool ochre_inode_keep(struct inode *inode);
void ochre_inode_set_dontcache(struct inode *inode);
struct task_struct *ochre_thread_start(int (*run)(void *), void *context, const char *name);
bool ochre_thread_should_stop(void);
void ochre_thread_sleep(struct page *page, bool (*wanted)(void *), void *context, unsigned int milliseconds);
void ochre_thread_wake(struct task_struct *thread);
void ochre_thread_stop(struct task_struct *thread);
void ochre_wait_var_idle(void *var, bool (*condition)(void *), void *context);

/* ---- memory failures: src/vfs/memory_failure.rs, src/vfs/dax_device.rs ---- */
#include <linux/badblocks.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

enum { OCHRE_MF_PRE_REMOVE = MF_MEM_PRE_REMOVE };

/* Bytes of a DAX device that are lost. */
struct ochre_failure {
	u64 offset;
	u64 len;
	int flags;
};

int ochre_failure_start(void *sb);
void ochre_failure_stop(void *sb);
int ochre_failure_tell(struct dax_device *dax_dev, const struct ochre_failure *failure,
		       int (*tell)(void *, const struct ochre_failure *));
bool ochre_page_belongs(unsigned long pfn, struct inode *inode, unsigned long *index);
struct inode *ochre_page_owner(unsigned long pfn, struct super_block *sb, unsigned long *index);
int ochre_kill_mappers(struct address_space *mapping, unsigned long index, unsigned long pfn, int flags);
void ochre_page_set_poisoned(unsigned long pfn);
unsigned long ochre_next_poisoned(unsigned long pfn, unsigned long end);
bool ochre_failures_seen(void);
bool ochre_bdev_next_bad(struct block_device *bdev, u64 from, u64 *start, u64 *len);

/* ---- src/bindings/trace.c: src/vfs/trace.rs ---- */
void ochre_trace_layout_break(struct inode *inode, u64 first, u64 end, int result);
void ochre_trace_layout_wait(struct inode *inode, u64 first, u64 end, int result);
void ochre_trace_layout_defer(struct inode *inode, u64 first, u64 end, int result);
void ochre_trace_dax_fault(struct inode *inode, u64 page, unsigned int order, bool write, unsigned int result);

#endif
