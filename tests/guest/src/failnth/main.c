// SPDX-License-Identifier: GPL-2.0
/*
 * failnth DEVICE MOUNTPOINT: every system call of a list, with each memory allocation that the kernel makes for it failing in turn
 * (/proc/thread-self/fail-nth, failslab and fail_page_alloc), and again with that and all that come after it failing. A call that fails
 * must say ENOMEM and have changed nothing that stat, readdir and statfs show; then it must succeed. After each call of the list the filesystem is unmounted, checked and mounted again,
 * and has as much free space as before.
 *
 * What a call may leave behind when it succeeds nevertheless: an unlinked inode whose eviction wanted memory, which the next mount
 * finishes; and a chunk of inodes (4 blocks) that stays for the next one. Both are in the filesystem's documentation.
 */
#define _GNU_SOURCE
#include "failnth.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- mounting -------------------------------------------------------------------------------------------------------------------- */

static void mount_it(void)
{
	MUST(mount(device, mountpoint, "ochre", 0, "dax=always"));
	MUST(chdir(mountpoint));
}

static void unmount_it(void)
{
	MUST(chdir("/"));
	MUST(umount(mountpoint));
}

static void check_it(const char *name)
{
	pid_t child = MUST(fork());
	int status;

	if (child == 0) {
		int log = open("/tmp/fsck.log", O_WRONLY | O_CREAT | O_TRUNC, 0644);

		dup2(log, 1);
		dup2(log, 2);
		execlp("fsck.ochre", "fsck.ochre", "-n", device, NULL);
		_exit(127);
	}
	MUST(waitpid(child, &status, 0));
	if (status) {
		(void)!system("cat /tmp/fsck.log");
		fail("%s: fsck.ochre gave %#x", name, status);
	}
}

/*
 * The free space comes back, at once or when what a failed eviction left has been finished; a few inode chunks may stay. More than
 * before is what an earlier call left: that all of it was somebody's, fsck says at the end.
 */
void wait_for_space(const char *name, uint64_t before)
{
	uint64_t now = 0;

	for (int tries = 0; tries < 600; tries++) {
		now = space();
		if (now + 4 * CHUNK >= before)
			return;
		usleep(100000);
	}
	complain("%s: %llu blocks free, were %llu", name, (unsigned long long)now, (unsigned long long)before);
}

/* The n that come next: all of the first, and of calls that allocate very often a share. */
static int next(int n)
{
	return mode == ONE ? n + 1 + n / 64 : n + 1 + n / 6;
}

static int total;

static void once(const struct call *call, int n, bool *came, int *failed)
{
	uint64_t was, had;
	int result, error;

	call->before();
	was = names();
	had = space();
	if (call->cold)
		forget();
	arm(n);
	result = call->run();
	error = errno;
	*came = disarm();
	if (result < 0) {
		uint64_t has = space();

		if (!*came || error != ENOMEM)
			complain("%s, allocation %d%s: %s", call->name, n, mode == ONE ? "" : " and all others", strerror(error));
		if (!call->loose && names() != was)
			complain("%s, allocation %d%s: failed, and something has changed", call->name, n, mode == ONE ? "" : " and all others");
		if (!call->loose && (had < has || had - has > CHUNK))
			complain("%s, allocation %d%s: failed, and %lld blocks are gone", call->name, n, mode == ONE ? "" : " and all others",
				 (long long)(had - has));
		++*failed;
		if (call->failed) {
			call->failed();
			return;
		}
		/* And now with memory. */
		MUST(call->run());
	}
	call->undo();
}

static void try(const struct call *call)
{
	uint64_t start = space();
	int failed[2] = { 0 }, allocations = 0;

	for (mode = ONE; mode <= (call->one_only ? ONE : ALL_FROM); mode++) {
		bool came = true;

		for (int n = 1; came; n = next(n)) {
			once(call, n, &came, &failed[mode]);
			if (mode == ONE)
				allocations = n - 1;
		}
	}
	mode = ONE;
	printf("%-38s %4d allocations, %3d + %3d failures\n", call->name, allocations, failed[0], failed[1]);
	fflush(stdout);
	total += failed[0] + failed[1];
	unmount_it();
	check_it(call->name);
	mount_it();
	wait_for_space(call->name, start);
}

static void try_mount(void)
{
	int failed[2] = { 0 }, allocations = 0;

	unmount_it();
	for (mode = ONE; mode <= ALL_FROM; mode++) {
		bool came = true;

		for (int n = 1; came; n = n + 1 + n / 8) {
			int result, error;

			arm(n);
			result = mount(device, mountpoint, "ochre", 0, "dax=always");
			error = errno;
			came = disarm();
			if (result < 0) {
				if (!came || error != ENOMEM)
					complain("mount, allocation %d%s: %s", n, mode == ONE ? "" : " and all others", strerror(error));
				failed[mode]++;
				check_it("a failed mount");
			} else {
				MUST(umount(mountpoint));
			}
			if (mode == ONE)
				allocations = n - 1;
		}
	}
	mode = ONE;
	printf("%-38s %4d allocations, %3d + %3d failures\n", "mount", allocations, failed[0], failed[1]);
	total += failed[0] + failed[1];
	mount_it();
}

/* @only: words, of which the name must have one. */
static bool picked(const char *name, const char *only)
{
	char words[256], *word;

	if (!only)
		return true;
	snprintf(words, sizeof words, "%s", only);
	for (word = strtok(words, ","); word; word = strtok(NULL, ","))
		if (strstr(name, word))
			return true;
	return false;
}

static void try_all(const struct call *list, size_t count, const char *only)
{
	for (size_t i = 0; i < count; i++)
		if (picked(list[i].name, only))
			try(&list[i]);
}

/*
 * Memory of this program must not be missing: a page fault of its own would be tried again for ever. (Not mappings to come: faults on
 * files are what is tested.)
 */
static void stay_in_memory(void)
{
	volatile char stack[256 << 10];

	for (size_t i = 0; i < sizeof stack; i += PAGE)
		stack[i] = 0;
	MUST(mlockall(MCL_CURRENT));
}

int main(int count, char **arguments)
{
	const char *only = getenv("CALLS");
	char name[300];

	if (count != 3)
		fail("usage: failnth DEVICE MOUNTPOINT");
	device = arguments[1];
	mountpoint = arguments[2];
	memset(text, 'l', 4000);
	catch_signals();
	stay_in_memory();
	prepare_injection();
	mount_it();
	close(make("data", 5 * PAGE));
	MUST(mkdir("dir", 0755));
	MUST(mkdir("dir/sub", 0755));
	close(make("dir/sub/deep", PAGE));
	MUST(mkdir("names", 0755));
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "names/%0200d", i);
		close(make(name, 0));
	}
	MUST(symlink(text, "long"));
	/* Each group gets its chunk of inodes now. */
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof name, "warm%d", i);
		MUST(mkdir(name, 0755));
		MUST(rmdir(name));
	}
	memset(text, 't', sizeof text);
	memset(text, 'l', 4000);
	text[4000] = 0;
	try_all(calls, call_count, only);
	try_all(held_calls, held_call_count, only);
	if (picked("mount", only))
		try_mount();
	unmount_it();
	check_it("the end");
	printf("failnth: %zu calls, %d failed allocations\n", call_count + held_call_count + 1, total);
	return complaints() != 0;
}
