// SPDX-License-Identifier: GPL-2.0
/* Taking memory away from system calls (/proc/thread-self/fail-nth, make-it-fail), and looking at what the filesystem shows. */
#define _GNU_SOURCE
#include "failnth.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int nth = -1, all = -1;
static int wrong;
volatile bool calling;
enum mode mode;

void fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("FAILED: ");
	vprintf(format, list);
	printf("\n");
	va_end(list);
	fflush(stdout);
	_exit(1);
}

void complain(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("FAILED: ");
	vprintf(format, list);
	printf("\n");
	va_end(list);
	fflush(stdout);
	if (++wrong > 50)
		_exit(1);
}

long must(long result, const char *what, int line)
{
	if (result < 0)
		fail("line %d: %s: %s", line, what, strerror(errno));
	return result;
}

int complaints(void)
{
	return wrong;
}

/* --- taking memory away ---------------------------------------------------------------------------------------------------------- */

void put(const char *path, const char *value)
{
	int fd = MUST(open(path, O_WRONLY));

	MUST(write(fd, value, strlen(value)));
	close(fd);
}

void prepare_injection(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc" };
	char path[128];

	for (int i = 0; i < 2; i++) {
		/*
		 * Allocations that may sleep too, of every size, without a word in the log, and only where fail-nth says so; once
		 * that has counted down to 0, all of a task that has make-it-fail.
		 */
		static const char *const settings[][2] = {
			{ "ignore-gfp-wait", "N" }, { "verbose", "0" }, { "task-filter", "Y" }, { "probability", "100" }, { "times", "-1" },
		};

		for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
			snprintf(path, sizeof path, "/sys/kernel/debug/%s/%s", kinds[i], settings[s][0]);
			put(path, settings[s][1]);
		}
	}
	/* Copies from and to the program count too, where the kernel can let them fail: never here. */
	if (access("/sys/kernel/debug/fail_usercopy", F_OK) == 0) {
		put("/sys/kernel/debug/fail_usercopy/stacktrace-depth", "32");
		put("/sys/kernel/debug/fail_usercopy/require-start", "1");
		put("/sys/kernel/debug/fail_usercopy/require-end", "2");
	}
	put("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	put("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	nth = MUST(open("/proc/thread-self/fail-nth", O_RDWR));
	all = MUST(open("/proc/thread-self/make-it-fail", O_RDWR));
}

void arm(int n)
{
	char value[16];
	int len = snprintf(value, sizeof value, "%d", n);

	MUST(pwrite(nth, value, len, 0));
	if (mode == ALL_FROM)
		MUST(pwrite(all, "1", 1, 0));
	calling = true;
}

bool disarm(void)
{
	char value[16] = "";
	int saved = errno;

	calling = false;
	MUST(pwrite(all, "0", 1, 0));
	MUST(pread(nth, value, sizeof value - 1, 0));
	MUST(pwrite(nth, "0", 1, 0));
	errno = saved;
	return atoi(value) == 0;
}

/* --- what the filesystem shows ---------------------------------------------------------------------------------------------------- */

/* All names below the mount point with what stat says of them, times apart, as one number; nothing of it is in memory already. */
static uint64_t mix(uint64_t sum, const void *bytes, size_t len)
{
	const unsigned char *at = bytes;

	while (len--)
		sum = (sum ^ *at++) * 0x100000001b3ULL;
	return sum;
}

static uint64_t look(int dir)
{
	uint64_t sum = 0;
	int fd = MUST(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	DIR *stream = fdopendir(fd);
	struct dirent *entry;

	if (!stream)
		fail("fdopendir: %s", strerror(errno));
	while ((entry = readdir(stream))) {
		struct stat s;
		uint64_t one = 0xcbf29ce484222325ULL;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		MUST(fstatat(fd, entry->d_name, &s, AT_SYMLINK_NOFOLLOW));
		one = mix(one, entry->d_name, strlen(entry->d_name));
		one = mix(one, &s.st_ino, sizeof s.st_ino);
		one = mix(one, &s.st_mode, sizeof s.st_mode);
		one = mix(one, &s.st_nlink, sizeof s.st_nlink);
		one = mix(one, &s.st_uid, sizeof s.st_uid);
		one = mix(one, &s.st_size, sizeof s.st_size);
		one = mix(one, &s.st_blocks, sizeof s.st_blocks);
		if (S_ISDIR(s.st_mode)) {
			int sub = MUST(openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY));

			one = one * 31 + look(sub);
			close(sub);
		}
		/* The order of names says nothing. */
		sum += one;
	}
	closedir(stream);
	return sum;
}

uint64_t names(void)
{
	int dir = MUST(open(".", O_RDONLY | O_DIRECTORY));
	uint64_t sum = look(dir);

	close(dir);
	return sum;
}

uint64_t space(void)
{
	struct statvfs v;

	MUST(statvfs(".", &v));
	return v.f_bfree;
}

