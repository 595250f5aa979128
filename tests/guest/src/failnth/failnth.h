/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of failnth have in common; main.c says what it is. */
#ifndef FAILNTH_H
#define FAILNTH_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE 4096
#define HUGE_PAGE (2UL << 20)
/* Blocks of a chunk of inodes. */
#define CHUNK 4

/* Which allocations fail. */
enum mode {
	/* The n-th. */
	ONE,
	/* That and all that come after it. */
	ALL_FROM,
};

/* The tables leave out what is as with most calls. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* A system call, with what comes before it and what undoes it once it has succeeded. */
struct call {
	const char *name;
	void (*before)(void);
	int (*run)(void);
	void (*undo)(void);
	/* After a failure: try again with memory, unless there is something else to do. */
	void (*failed)(void);
	/* Not where all allocations fail: the kernel would try a page fault again for ever. */
	bool one_only;
	/* Nothing of the filesystem is to be in memory. */
	bool cold;
	/* The call gives no account of what it has done when it fails in its middle, or a thread of the mount is at work beside it. */
	bool loose;
};

extern const struct call calls[], held_calls[];
extern const size_t call_count, held_call_count;

extern const char *device, *mountpoint;
/* Bytes to write. */
extern char text[8192];
/* The file that a call is about; its mapping; the address space that was reserved for that. */
extern int held;
extern char *map, *room;
/* The call's allocation may fail now. */
extern volatile bool calling;
extern enum mode mode;

/* For what must work, since nothing is taken away from it. */
#define MUST(what) must((long)(what), #what, __LINE__)

void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...);
/* What a call did wrong; the others are tried all the same. */
void __attribute__((format(printf, 1, 2))) complain(const char *format, ...);
long must(long result, const char *what, int line);
int complaints(void);

void put(const char *path, const char *value);
void prepare_injection(void);
void arm(int n);
/* Whether the allocation came that was to fail. */
bool disarm(void);

/* All that stat says of all names, as one number; free blocks. */
uint64_t names(void);
uint64_t space(void);
/* The free space comes back, at once or when what a failed eviction left has been finished; a few inode chunks may stay. */
void wait_for_space(const char *name, uint64_t before);

int make(const char *name, size_t size);
void hold(size_t size);
void let_go(void);
void pieces(void);
void nothing(void);
/* Nothing of the filesystem stays in memory that is not in use. */
void forget(void);
void catch_signals(void);

#endif
