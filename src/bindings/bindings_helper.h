/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads: headers whose items src/vfs and src/media need and kernel::bindings lacks. */
#include <linux/dax.h>
#include <linux/exportfs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/iomap.h>
#include <linux/statfs.h>
#include "helpers.h"

/* ---- data path: constants that bindgen cannot evaluate as macros ---- */
#include <linux/falloc.h>
const u32 OCHRE_FOP_FLAGS = (__force u32)(FOP_MMAP_SYNC | FOP_BUFFER_RASYNC | FOP_BUFFER_WASYNC);
const unsigned int OCHRE_VM_FAULT_ERROR = VM_FAULT_ERROR;
const u32 OCHRE_FALLOC_FL_KEEP_SIZE = FALLOC_FL_KEEP_SIZE;
const u32 OCHRE_FALLOC_FL_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE;
const u32 OCHRE_FALLOC_FL_COLLAPSE_RANGE = FALLOC_FL_COLLAPSE_RANGE;
const u32 OCHRE_FALLOC_FL_INSERT_RANGE = FALLOC_FL_INSERT_RANGE;
const u32 OCHRE_FALLOC_FL_ZERO_RANGE = FALLOC_FL_ZERO_RANGE;
const u32 OCHRE_FALLOC_FL_UNSHARE_RANGE = FALLOC_FL_UNSHARE_RANGE;
const unsigned int OCHRE_PMD_ORDER = PMD_ORDER;
