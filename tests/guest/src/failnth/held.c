// SPDX-License-Identifier: GPL-2.0
/*
 * System calls on pages that somebody holds (layout=defer), and page faults that report their failure.
 *
 * Where memory is missing to put a held page out of the way, the call waits for it to be let go instead. So a second thread lets go
 * of it when a call takes long. With a single failure that must not come: the wait ends by itself, and there is memory then.
 */
#define _GNU_SOURCE
#include "failnth.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Seconds until a page is let go of because a call waits for it. */
#define PATIENCE (mode == ONE ? 60 : 2)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2] = { -1, -1 };
/* Free blocks before the file came. */
static uint64_t before;

static void release(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = -1;
	}
	pthread_mutex_unlock(&lock);
}

static void *watch(void *unused)
{
	int waited = 0;

	for (;;) {
		usleep(100000);
		waited = calling && ends[0] >= 0 ? waited + 1 : 0;
		if (waited < PATIENCE * 10)
			continue;
		if (mode == ONE)
			complain("a call that lacked memory once waits until a page is let go");
		release();
	}
	return unused;
}

static void start_watch(void)
{
	static pthread_t thread;

	if (!thread && pthread_create(&thread, NULL, watch, NULL))
		fail("pthread_create");
}

static void map_at(size_t at, size_t len)
{
	room = mmap(NULL, 3 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map = (char *)(((uintptr_t)room + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	if (room == MAP_FAILED || mmap(map, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, held, at) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}

static void unmap(void)
{
	MUST(munmap(room, 3 * HUGE_PAGE));
	room = map = NULL;
}

/* A pipe holds page `page` of the file, and nobody has it mapped. */
static void pin(size_t page)
{
	struct iovec part;

	start_watch();
	map_at(page / 512 * HUGE_PAGE, HUGE_PAGE);
	part = (struct iovec){ map + page % 512 * PAGE, PAGE };
	*(volatile char *)part.iov_base = 'p';
	MUST(pipe(ends));
	if (MUST(vmsplice(ends[1], &part, 1, 0)) != PAGE)
		fail("vmsplice took a part");
	unmap();
}

static void pinned(void)
{
	hold(8 * PAGE);
	pin(3);
}

static void pinned_huge(void)
{
	hold(0);
	MUST(fallocate(held, 0, 0, 2 * HUGE_PAGE));
	pin(512 + 7);
}

/* Cut off behind page 2, so that what a pipe holds is pending there. */
static void pending(void)
{
	pinned();
	MUST(ftruncate(held, 2 * PAGE));
}

static void pinned_unlinked(void)
{
	pinned();
	MUST(unlink("held"));
}

static void unpin(void)
{
	release();
	let_go();
}

static int do_punch(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 2 * PAGE, 3 * PAGE); }
static int do_punch_huge(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, HUGE_PAGE, HUGE_PAGE); }
static int do_truncate(void) { return ftruncate(held, PAGE + 5); }
static int do_collapse(void) { return fallocate(held, FALLOC_FL_COLLAPSE_RANGE, 2 * PAGE, 3 * PAGE); }
static int do_insert(void) { return fallocate(held, FALLOC_FL_INSERT_RANGE, 5 * PAGE, 3 * PAGE); }
static int do_zero(void) { return fallocate(held, FALLOC_FL_ZERO_RANGE, 2 * PAGE, 3 * PAGE); }
static int do_grow(void) { return ftruncate(held, 20 * PAGE); }
static int do_append(void) { return pwrite(held, text, PAGE, 6 * PAGE) == PAGE ? 0 : -1; }
static int do_promise(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE, 0, 20 * PAGE); }
static int do_unlink(void) { return unlink("held"); }

/* The last close cannot fail. */
static int do_close(void)
{
	close(held);
	held = -1;
	return 0;
}

/* --- faults that say so when they fail ---------------------------------------------------------------------------------------- */

/* (One that fails late leaves a zeroed block to the file.) */

static void far(void)
{
	before = space();
	hold(0);
	MUST(fallocate(held, 0, 0, HUGE_PAGE / 2));
	MUST(ftruncate(held, 1L << 40));
	map_at(1L << 39, 64 * PAGE);
}

static void far_huge(void)
{
	before = space();
	hold(0);
	MUST(fallocate(held, 0, 0, HUGE_PAGE / 2));
	MUST(ftruncate(held, 1L << 40));
	map_at(1L << 39, HUGE_PAGE);
}

static void private_copy(void)
{
	before = space();
	hold(8 * PAGE);
	room = mmap(NULL, 3 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, held, 0);
	map = room;
	if (map == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}

static void synchronous(void)
{
	before = space();
	hold(0);
	MUST(ftruncate(held, 64 * PAGE));
	room = mmap(NULL, 3 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, held, 0);
	map = room;
	if (map == MAP_FAILED)
		fail("mmap(MAP_SYNC): %s", strerror(errno));
}

static int do_write_fault(void) { return madvise(map, PAGE, MADV_POPULATE_WRITE); }
static int do_read_fault(void) { return madvise(map, PAGE, MADV_POPULATE_READ); }
static int do_upgrade(void)
{
	int result = madvise(map, PAGE, MADV_POPULATE_READ);

	return result ? result : madvise(map, PAGE, MADV_POPULATE_WRITE);
}
static int do_msync(void) { return msync(map, PAGE, MS_SYNC); }
static void touched(void)
{
	far();
	*map = 'x';
}

/* The file goes, and the inode with it, whatever a fault that failed has left behind. */
static void all_gone(void)
{
	let_go();
	wait_for_space("a fault failed, and the file was deleted", before);
}

const struct call held_calls[] = {
	{ "punch over a held page", pinned, do_punch, unpin, .loose = true },
	{ "punch over a held 2 MiB page", pinned_huge, do_punch_huge, unpin, .loose = true },
	{ "truncate over a held page", pinned, do_truncate, unpin, .loose = true },
	{ "collapse over a held page", pinned, do_collapse, unpin, .loose = true },
	{ "insert behind a held page", pinned, do_insert, unpin, .loose = true },
	{ "zero a held page", pinned, do_zero, unpin, .loose = true },
	{ "growth over a pending page", pending, do_grow, unpin, .loose = true },
	{ "write over a pending page", pending, do_append, unpin, .loose = true },
	{ "preallocation over a pending page", pending, do_promise, unpin, .loose = true },
	{ "unlink with a held page", pinned, do_unlink, unpin, .loose = true },
	{ "last close with a held page", pinned, do_close, unpin, .loose = true },
	{ "last close, unlinked, with a held page", pinned_unlinked, do_close, unpin, .loose = true },
	{ "populate, write, far out", far, do_write_fault, all_gone, .failed = all_gone, .loose = true },
	{ "populate, read, far out", far, do_read_fault, all_gone, .failed = all_gone },
	{ "populate, write, far out, 2 MiB", far_huge, do_write_fault, all_gone, .failed = all_gone, .loose = true },
	{ "populate, read, far out, 2 MiB", far_huge, do_read_fault, all_gone, .failed = all_gone },
	{ "populate, read and write", far, do_upgrade, all_gone, .failed = all_gone, .loose = true },
	{ "populate, a private copy", private_copy, do_write_fault, all_gone, .failed = all_gone },
	{ "populate, MAP_SYNC", synchronous, do_write_fault, all_gone, .failed = all_gone, .loose = true },
	{ "msync", touched, do_msync, let_go },
};

const size_t held_call_count = sizeof held_calls / sizeof *held_calls;
