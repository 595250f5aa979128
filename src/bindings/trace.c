// SPDX-License-Identifier: GPL-2.0
/* The tracepoints, and functions that Rust can call to hit them. */
#define CREATE_TRACE_POINTS
#include "ochre_trace.h"
#include "helpers.h"

void ochre_trace_layout_break(struct inode *inode, u64 first, u64 end, int result)
{
	trace_layout_break(inode, first, end, result);
}

void ochre_trace_layout_wait(struct inode *inode, u64 first, u64 end, int result)
{
	trace_layout_wait(inode, first, end, result);
}

void ochre_trace_layout_defer(struct inode *inode, u64 first, u64 end, int result)
{
	trace_layout_defer(inode, first, end, result);
}

void ochre_trace_dax_fault(struct inode *inode, u64 page, unsigned int order, bool write, unsigned int result)
{
	trace_dax_fault(inode, page, order, write, result);
}
