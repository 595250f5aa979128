/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints: /sys/kernel/tracing/events/ochre. Rust's declare_trace! does not work out of tree, so they live in C. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ochre

#if !defined(_OCHRE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _OCHRE_TRACE_H

#include <linux/fs.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(ochre_pages,
	TP_PROTO(struct inode *inode, u64 first, u64 end, int result),
	TP_ARGS(inode, first, end, result),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, first)
		__field(u64, end)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->first = first;
		__entry->end = end;
		__entry->result = result;
	),
	TP_printk("dev %d:%d ino %llu pages %llu-%llu result %d", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, __entry->first, __entry->end, __entry->result)
);

/* Blocks of these pages are to go. Result: 1 somebody holds one of them, 0 nobody does. */
DEFINE_EVENT(ochre_pages, layout_break,
	TP_PROTO(struct inode *inode, u64 first, u64 end, int result),
	TP_ARGS(inode, first, end, result));

/* Somebody has slept for these pages. Result: 0, or -EINTR for a fatal signal. */
DEFINE_EVENT(ochre_pages, layout_wait,
	TP_PROTO(struct inode *inode, u64 first, u64 end, int result),
	TP_ARGS(inode, first, end, result));

/* These held pages are pending. Result: 0 left behind the end of the file, 1 moved there. */
DEFINE_EVENT(ochre_pages, layout_defer,
	TP_PROTO(struct inode *inode, u64 first, u64 end, int result),
	TP_ARGS(inode, first, end, result));

TRACE_EVENT(dax_fault,
	TP_PROTO(struct inode *inode, u64 page, unsigned int order, bool write, unsigned int result),
	TP_ARGS(inode, page, order, write, result),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, page)
		__field(unsigned int, order)
		__field(bool, write)
		__field(unsigned int, result)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->page = page;
		__entry->order = order;
		__entry->write = write;
		__entry->result = result;
	),
	TP_printk("dev %d:%d ino %llu page %llu order %u %s result %#x", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, __entry->page, __entry->order, __entry->write ? "write" : "read", __entry->result)
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE ochre_trace
#include <trace/define_trace.h>
