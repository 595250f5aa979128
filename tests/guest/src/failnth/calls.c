// SPDX-License-Identifier: GPL-2.0
/* System calls on files and names that nobody else has anything to do with. */
#define _GNU_SOURCE
#include "failnth.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the calls ------------------------------------------------------------------------------------------------------------------- */

const char *device, *mountpoint;
char text[8192];
int held = -1;
char *map, *room;
static sigjmp_buf back;

int make(const char *name, size_t size)
{
	int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
	char block[PAGE];

	memset(block, 'x', sizeof block);
	for (size_t at = 0; at < size; at += PAGE)
		MUST(pwrite(fd, block, PAGE, at));
	return fd;
}

void hold(size_t size) { held = make("held", size); }
void let_go(void)
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

void nothing(void) {}
void forget(void) { sync(); put("/proc/sys/vm/drop_caches", "2"); }

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
void pieces(void)
{
	hold(0);
	for (int i = 0; i < 300; i++)
		MUST(pwrite(held, text, PAGE, (off_t)i * 3 * PAGE));
}
static int do_fallocate(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE, 0, 100 * PAGE); }
static int do_punch(void) { return fallocate(held, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 2 * PAGE, 3 * PAGE); }
static int do_collapse(void) { return fallocate(held, FALLOC_FL_COLLAPSE_RANGE, 2 * PAGE, 3 * PAGE); }
static int do_insert(void) { return fallocate(held, FALLOC_FL_INSERT_RANGE, 2 * PAGE, 3 * PAGE); }
static int do_zero(void) { return fallocate(held, FALLOC_FL_ZERO_RANGE, 2 * PAGE - 100, 3 * PAGE + 200); }
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
static void on_bus(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}
void catch_signals(void)
{
	signal(SIGBUS, on_bus);
	signal(SIGSEGV, on_bus);
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

	if (at != MAP_FAILED) {
		bool came = disarm();

		MUST(munmap(at, 8 * PAGE));
		if (!came)
			arm(1 << 30);
	}
	return at == MAP_FAILED ? -1 : 0;
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

static void to_read(void) { MUST(mount(NULL, mountpoint, NULL, MS_REMOUNT | MS_RDONLY, NULL)); }
static int do_to_write(void) { return mount(NULL, mountpoint, NULL, MS_REMOUNT, NULL); }
static int do_layout(void) { return mount(NULL, mountpoint, NULL, MS_REMOUNT, "layout=wait"); }
static void layout_back(void) { MUST(mount(NULL, mountpoint, NULL, MS_REMOUNT, "layout=defer")); }
static int do_umount(void)
{
	int result, error;

	if (chdir("/"))
		return -1;
	result = umount(mountpoint);
	error = errno;
	if (result) {
		bool came = disarm();

		MUST(chdir(mountpoint));
		if (!came)
			arm(1 << 30);
	}
	errno = error;
	return result;
}
static void mount_again(void)
{
	MUST(mount(device, mountpoint, "ochre", 0, "dax=always"));
	MUST(chdir(mountpoint));
}
static int do_fiemap(void)
{
	static union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + 64 * sizeof(struct fiemap_extent)];
	} all;

	all.map = (struct fiemap){ .fm_length = ~0ULL, .fm_extent_count = 64 };
	return ioctl(held, FS_IOC_FIEMAP, &all.map);
}
static int do_seek(void) { return lseek(held, 0, SEEK_HOLE) == PAGE ? 0 : -1; }
static int do_syncfs(void) { return syncfs(held); }
static union {
	struct file_handle handle;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
} number;
static void by_number(void)
{
	int id;

	number.handle.handle_bytes = MAX_HANDLE_SZ;
	MUST(name_to_handle_at(AT_FDCWD, "dir/sub/deep", &number.handle, &id, 0));
}
static int do_open_number(void)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY), fd;

	if (dir < 0)
		return dir;
	fd = open_by_handle_at(dir, &number.handle, O_RDONLY);
	if (fd >= 0)
		close(fd);
	close(dir);
	return fd < 0 ? -1 : 0;
}

const struct call calls[] = {
	{ "open(O_CREAT)", nothing, do_open, undo_new },
	{ "open, nothing cached", nothing, do_open_cold, nothing, .cold = true },
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
	{ "stat, nothing cached", nothing, do_stat, nothing, .cold = true },
	{ "getdents", nothing, do_readdir, nothing, .cold = true },
	{ "readlink", nothing, do_readlink, nothing, .cold = true },
	{ "statfs", nothing, do_statfs, nothing },
	{ "append", held_file, do_append, let_go },
	{ "write into a hole", held_file, do_write_hole, let_go },
	{ "write in place", held_file, do_overwrite, let_go },
	{ "write into promised blocks", promised, do_convert, let_go },
	{ "pread", held_file, do_pread, let_go },
	{ "fallocate", pieces, do_fallocate, let_go },
	{ "fallocate(PUNCH_HOLE)", held_file, do_punch, let_go },
	{ "fallocate(COLLAPSE_RANGE)", held_file, do_collapse, let_go },
	{ "fallocate(INSERT_RANGE)", held_file, do_insert, let_go },
	{ "fallocate(ZERO_RANGE)", held_file, do_zero, let_go },
	{ "fallocate(ZERO_RANGE) of holes", pieces, do_zero, let_go, .loose = true },
	{ "ftruncate", pieces, do_truncate, let_go },
	{ "ftruncate, up", held_file, do_truncate_up, let_go },
	{ "fchmod", held_file, do_chmod, let_go },
	{ "futimens", held_file, do_utimes, let_go },
	{ "fsync", held_file, do_fsync, let_go },
	{ "mmap", held_file, do_mmap, let_go },
	{ "write fault", mapped, do_fault, let_go, .one_only = true },
	{ "read fault", mapped, do_fault_read, let_go, .one_only = true },
	{ "write fault, 2 MiB", mapped_huge, do_fault, let_go, .one_only = true },
	{ "read fault, 2 MiB", mapped_huge, do_fault_read, let_go, .one_only = true },
	{ "last close of an unlinked file", unlinked, do_close, nothing },
	{ "freeze", nothing, do_freeze, nothing },
	{ "remount", nothing, do_remount, nothing },
	{ "remount, to write", to_read, do_to_write, nothing },
	{ "remount with another layout", nothing, do_layout, layout_back },
	{ "umount", nothing, do_umount, mount_again },
	{ "FIEMAP", pieces, do_fiemap, let_go },
	{ "lseek(SEEK_HOLE)", pieces, do_seek, let_go },
	{ "syncfs", held_file, do_syncfs, let_go },
	{ "open_by_handle_at", by_number, do_open_number, nothing, .cold = true },
};

const size_t call_count = sizeof calls / sizeof *calls;

