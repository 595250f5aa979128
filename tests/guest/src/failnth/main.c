// SPDX-License-Identifier: GPL-2.0
/*
 * failnth DEVICE MOUNTPOINT: every system call of a list, with each memory allocation that the kernel makes for it failing in turn
 * (/proc/thread-self/fail-nth, failslab and fail_page_alloc). A call that fails must say ENOMEM and have changed nothing that stat,
 * readdir and statfs show; then it must succeed. After each call of the list the filesystem is unmounted, checked and mounted again,
 * and has as much free space as before.
 *
 * What a call may leave behind when it succeeds nevertheless: an unlinked inode whose eviction wanted memory, which the next mount
 * finishes; and a chunk of inodes (4 blocks) that stays for the next one. Both are in the filesystem's documentation.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define HUGE_PAGE (2UL << 20)
#define CHUNK 4

static const char *device, *mountpoint;
static int nth = -1;
static char text[8192];

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
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

static int wrong;

/* What a call did wrong; the others are tried all the same. */
static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
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

/* For what must work, since nothing is taken away from it. */
#define MUST(what) must((long)(what), #what, __LINE__)

static long must(long result, const char *what, int line)
{
	if (result < 0)
		fail("line %d: %s: %s", line, what, strerror(errno));
	return result;
}

/* --- taking memory away ---------------------------------------------------------------------------------------------------------- */

static void put(const char *path, const char *value)
{
	int fd = MUST(open(path, O_WRONLY));

	MUST(write(fd, value, strlen(value)));
	close(fd);
}

static void prepare_injection(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc" };
	char path[128];

	for (int i = 0; i < 2; i++) {
		/* Allocations that may sleep too, of every size, without a word in the log, and only where fail-nth says so. */
		static const char *const settings[][2] = {
			{ "ignore-gfp-wait", "N" }, { "verbose", "0" }, { "probability", "0" }, { "times", "-1" },
		};

		for (int s = 0; s < 4; s++) {
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
}

static void arm(int n)
{
	char value[16];
	int len = snprintf(value, sizeof value, "%d", n);

	MUST(pwrite(nth, value, len, 0));
}

/* Whether the allocation came that was to fail. */
static bool disarm(void)
{
	char value[16] = "";
	int saved = errno;

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

static uint64_t names(void)
{
	int dir = MUST(open(".", O_RDONLY | O_DIRECTORY));
	uint64_t sum = look(dir);

	close(dir);
	return sum;
}

static uint64_t space(void)
{
	struct statvfs v;

	MUST(statvfs(".", &v));
	return v.f_bfree;
}

/* --- the calls ------------------------------------------------------------------------------------------------------------------- */

static int held = -1;
static char *map, *room;
static sigjmp_buf back;

static int make(const char *name, size_t size)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
	char block[PAGE];

	memset(block, 'x', sizeof block);
	for (size_t at = 0; at < size; at += PAGE)
		MUST(pwrite(fd, block, PAGE, at));
	return fd;
}

static void hold(size_t size) { held = make("held", size); }
static void let_go(void)
{
	if (room)
		munmap(room, 3 * HUGE_PAGE);
	else if (map)
		munmap(map, 64 * PAGE);
	map = room = NULL;
	if (held >= 0)
		close(held);
	held = -1;
	unlink("held");
}

static void nothing(void) {}
static void forget(void) { sync(); put("/proc/sys/vm/drop_caches", "2"); }

static int do_open(void)
{
	int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0644);

	return fd < 0 ? fd : close(fd);
}
static void undo_new(void) { MUST(unlink("new")); }
static int do_mkdir(void) { return mkdir("new", 0755); }
static int do_mkdir_deep(void) { return mkdir("dir/sub/new", 0755); }
static void undo_mkdir(void) { MUST(rmdir("new")); }
static void undo_mkdir_deep(void) { MUST(rmdir("dir/sub/new")); }
static int do_mknod(void) { return mknod("new", S_IFIFO | 0644, 0); }
static int do_symlink(void) { return symlink("somewhere", "new"); }
static int do_symlink_long(void) { return symlink(text, "new"); }
static int do_link(void) { return link("data", "new"); }
static void file(void) { close(make("new", 3 * PAGE)); }
static int do_unlink(void) { return unlink("new"); }
static void directory(void) { MUST(mkdir("new", 0755)); }
static int do_rmdir(void) { return rmdir("new"); }
static int do_rename(void) { return rename("new", "renamed"); }
static void undo_rename(void) { MUST(unlink("renamed")); }
static int do_rename_away(void) { return rename("new", "dir/renamed"); }
static void undo_rename_away(void) { MUST(unlink("dir/renamed")); }
static void two(void) { file(); close(make("over", PAGE)); }
static int do_rename_over(void) { return rename("new", "over"); }
static void undo_over(void) { MUST(unlink("over")); }
static void undo_two(void) { MUST(unlink("over")); MUST(unlink("new")); }
static int do_exchange(void) { return syscall(SYS_renameat2, AT_FDCWD, "new", AT_FDCWD, "over", 2 /* EXCHANGE */); }
static int do_rename_dir(void) { return rename("new", "dir/renamed"); }
static void undo_rename_dir(void) { MUST(rmdir("dir/renamed")); }
static int do_stat(void)
{
	struct stat s;

	return stat("data", &s);
}
static int do_open_cold(void)
{
	int fd = open("dir/sub/deep", O_RDWR);

	return fd < 0 ? fd : close(fd);
}
static int do_readdir(void)
{
	char buffer[4096];
	int fd = open("names", O_RDONLY | O_DIRECTORY), result;

	if (fd < 0)
		return fd;
	while ((result = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
		;
	close(fd);
	return result;
}
static int do_readlink(void)
{
	char buffer[PAGE];

	return readlink("long", buffer, sizeof buffer) == 4000 ? 0 : -1;
}
static int do_statfs(void)
{
	struct statvfs v;

	return statvfs(".", &v);
}
static void held_file(void) { hold(8 * PAGE); }
static int do_append(void) { return pwrite(held, text, PAGE, 8 * PAGE) == PAGE ? 0 : -1; }
static int do_write_hole(void) { return pwrite(held, text, PAGE, 100 * PAGE) == PAGE ? 0 : -1; }
static int do_overwrite(void) { return pwrite(held, text, PAGE, 4 * PAGE) == PAGE ? 0 : -1; }
static int do_pread(void) { return pread(held, text + PAGE, PAGE, PAGE) == PAGE ? 0 : -1; }
static void pieces(void)
{
	hold(0);
	for (int i = 0; i < 300; i++)
		MUST(pwrite(held, text, PAGE, (off_t)i * 3 * PAGE));
}
static int do_fallocate(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE, 0, 100 * PAGE); }
static int do_punch(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 2 * PAGE, 3 * PAGE); }
static int do_truncate(void) { return ftruncate(held, 5000); }
static int do_truncate_up(void) { return ftruncate(held, 200 * PAGE); }
static int do_chmod(void) { return fchmod(held, 0600); }
static int do_utimes(void) { return futimens(held, NULL); }
static int do_fsync(void) { return fsync(held); }
static void promised(void)
{
	hold(0);
	MUST(fallocate(held, 0, 0, 64 * PAGE));
}
static int do_convert(void) { return pwrite(held, text, PAGE, 30 * PAGE) == PAGE ? 0 : -1; }
static void mapped(void)
{
	hold(0);
	MUST(ftruncate(held, 64 * PAGE));
	map = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, held, 0);
	if (map == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}
/* At an address where 2 MiB pages of the file are mapped whole. */
static void mapped_huge(void)
{
	hold(0);
	MUST(ftruncate(held, HUGE_PAGE));
	room = mmap(NULL, 3 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map = (char *)(((uintptr_t)room + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
	if (room == MAP_FAILED || mmap(map, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, held, 0) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}
static int touch(bool write)
{
	if (sigsetjmp(back, 1)) {
		errno = ENOMEM;
		return -1;
	}
	if (write)
		*(volatile char *)(map + 5 * PAGE) = 'w';
	else
		(void)*(volatile char *)(map + 6 * PAGE);
	return 0;
}
static int do_fault(void) { return touch(true); }
static int do_fault_read(void) { return touch(false); }
static int do_mmap(void)
{
	void *at = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, held, 0);

	return at == MAP_FAILED ? -1 : munmap(at, 8 * PAGE);
}
static int do_tmpfile(void)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0644);

	return fd < 0 ? fd : close(fd);
}
static void unnamed(void) { held = MUST(open(".", O_RDWR | O_TMPFILE, 0644)); }
static int do_linkat(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", held);
	return linkat(AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW);
}
static void undo_linkat(void) { undo_new(); let_go(); }
/* The last close evicts the inode, and can tell nobody. */
static void unlinked(void)
{
	pieces();
	MUST(unlink("held"));
}
static int do_close(void)
{
	close(held);
	held = -1;
	return 0;
}
static int do_freeze(void)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY), result;

	if (dir < 0)
		return dir;
	result = ioctl(dir, FIFREEZE, 0);
	if (result == 0) {
		int done = disarm();

		MUST(ioctl(dir, FITHAW, 0));
		/* What is left of the count does not matter: it came or it did not. */
		if (!done)
			arm(1 << 30);
	}
	close(dir);
	return result;
}
static int do_remount(void)
{
	int result = mount(NULL, mountpoint, NULL, MS_REMOUNT | MS_RDONLY, NULL);

	if (result == 0) {
		bool done = disarm();

		MUST(mount(NULL, mountpoint, NULL, MS_REMOUNT, NULL));
		if (!done)
			arm(1 << 30);
	}
	return result;
}

struct call {
	const char *name;
	void (*before)(void);
	int (*run)(void);
	/* Once it has succeeded. */
	void (*undo)(void);
};

static const struct call calls[] = {
	{ "open(O_CREAT)", nothing, do_open, undo_new },
	{ "open, nothing cached", forget, do_open_cold, nothing },
	{ "open(O_TMPFILE)", nothing, do_tmpfile, nothing },
	{ "linkat of a tmpfile", unnamed, do_linkat, undo_linkat },
	{ "mkdir", nothing, do_mkdir, undo_mkdir },
	{ "mkdir below", nothing, do_mkdir_deep, undo_mkdir_deep },
	{ "mknod", nothing, do_mknod, undo_new },
	{ "symlink", nothing, do_symlink, undo_new },
	{ "symlink, long", nothing, do_symlink_long, undo_new },
	{ "link", nothing, do_link, undo_new },
	{ "unlink", file, do_unlink, nothing },
	{ "rmdir", directory, do_rmdir, nothing },
	{ "rename", file, do_rename, undo_rename },
	{ "rename elsewhere", file, do_rename_away, undo_rename_away },
	{ "rename over", two, do_rename_over, undo_over },
	{ "rename(EXCHANGE)", two, do_exchange, undo_two },
	{ "rename of a directory", directory, do_rename_dir, undo_rename_dir },
	{ "stat, nothing cached", forget, do_stat, nothing },
	{ "getdents", forget, do_readdir, nothing },
	{ "readlink", forget, do_readlink, nothing },
	{ "statfs", nothing, do_statfs, nothing },
	{ "append", held_file, do_append, let_go },
	{ "write into a hole", held_file, do_write_hole, let_go },
	{ "write in place", held_file, do_overwrite, let_go },
	{ "write into promised blocks", promised, do_convert, let_go },
	{ "pread", held_file, do_pread, let_go },
	{ "fallocate", pieces, do_fallocate, let_go },
	{ "fallocate(PUNCH_HOLE)", held_file, do_punch, let_go },
	{ "ftruncate", pieces, do_truncate, let_go },
	{ "ftruncate, up", held_file, do_truncate_up, let_go },
	{ "fchmod", held_file, do_chmod, let_go },
	{ "futimens", held_file, do_utimes, let_go },
	{ "fsync", held_file, do_fsync, let_go },
	{ "mmap", held_file, do_mmap, let_go },
	{ "write fault", mapped, do_fault, let_go },
	{ "read fault", mapped, do_fault_read, let_go },
	{ "write fault, 2 MiB", mapped_huge, do_fault, let_go },
	{ "read fault, 2 MiB", mapped_huge, do_fault_read, let_go },
	{ "last close of an unlinked file", unlinked, do_close, nothing },
	{ "freeze", nothing, do_freeze, nothing },
	{ "remount", nothing, do_remount, nothing },
};

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

/* The free space comes back, at once or when what a failed eviction left has been finished; a few inode chunks may stay. */
static void wait_for_space(const char *name, uint64_t before)
{
	uint64_t now = 0;

	for (int tries = 0; tries < 600; tries++) {
		now = space();
		if (now <= before && before - now <= 4 * CHUNK)
			return;
		usleep(100000);
	}
	complain("%s: %llu blocks free, were %llu", name, (unsigned long long)now, (unsigned long long)before);
}

/* The n that come next: all of the first, and of calls that allocate very often a share. */
static int next(int n)
{
	return n + 1 + n / 64;
}

static int total;

static void try(const struct call *call)
{
	uint64_t start = space();
	int n, failed = 0;

	for (n = 1;; n = next(n)) {
		uint64_t was, had;
		int result, error;
		bool came;

		call->before();
		was = names();
		had = space();
		if (call->before == forget)
			forget();
		arm(n);
		result = call->run();
		error = errno;
		came = disarm();
		if (result < 0) {
			uint64_t has = space();

			if (!came || error != ENOMEM)
				complain("%s, allocation %d: %s", call->name, n, strerror(error));
			if (names() != was)
				complain("%s, allocation %d: failed, and something has changed", call->name, n);
			if (had < has || had - has > CHUNK)
				complain("%s, allocation %d: failed, and %lld blocks are gone", call->name, n, (long long)(had - has));
			failed++;
			/* And now with memory. */
			MUST(call->run());
		}
		call->undo();
		if (!came)
			break;
	}
	printf("%-34s %4d allocations, %3d failures\n", call->name, n - 1, failed);
	fflush(stdout);
	total += failed;
	unmount_it();
	check_it(call->name);
	mount_it();
	wait_for_space(call->name, start);
}

static void try_mount(void)
{
	int n, failed = 0;

	unmount_it();
	for (n = 1;; n = n + 1 + n / 8) {
		int result, error;
		bool came;

		arm(n);
		result = mount(device, mountpoint, "ochre", 0, "dax=always");
		error = errno;
		came = disarm();
		if (result < 0) {
			if (!came || error != ENOMEM)
				complain("mount, allocation %d: %s", n, strerror(error));
			failed++;
			check_it("a failed mount");
		} else {
			MUST(umount(mountpoint));
		}
		if (!came)
			break;
	}
	printf("%-34s %4d allocations, %3d failures\n", "mount", n - 1, failed);
	total += failed;
	mount_it();
}

static void on_bus(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

int main(int count, char **arguments)
{
	const char *only = getenv("ONLY");
	char name[300];

	if (count != 3)
		fail("usage: failnth DEVICE MOUNTPOINT");
	device = arguments[1];
	mountpoint = arguments[2];
	memset(text, 'l', 4000);
	signal(SIGBUS, on_bus);
	signal(SIGSEGV, on_bus);
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
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (!only || strstr(calls[i].name, only))
			try(&calls[i]);
	if (!only || strstr("mount", only))
		try_mount();
	unmount_it();
	check_it("the end");
	printf("failnth: %zu calls, %d failed allocations\n", sizeof calls / sizeof *calls + 1, total);
	return wrong != 0;
}
