// SPDX-License-Identifier: GPL-2.0
/*
 * stress: every call that removes blocks of a file, against faults, writes, and strangers that hold pages, with a verifier.
 *
 * It goes in rounds. In a round the workers run (see workload.c) while one more process freezes and thaws the filesystem, tries to remount
 * it read-only, and drops caches. Between rounds all files are compared with the model, the filesystem is unmounted, checked, mounted,
 * and compared again. At the end everything is deleted, and every block must be free.
 *
 * All of this is done by children; this process only watches that they make progress (watch.c).
 *
 * The filesystem is filled up first but for a little, so that a freed block soon has a new owner.
 */
#include "stress.h"
#include <getopt.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

static void die(const char *what)
{
	printf("FAILED: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void mount_fs(void)
{
	beat(OTHER, "mount");
	if (mount(settings.device, settings.dir, settings.fstype, 0, settings.options))
		die("mount");
}

static void unmount_fs(void)
{
	beat(OTHER, "umount");
	/* Files of processes that have just ended may take a moment to close. */
	for (int i = 0; umount(settings.dir); i++) {
		if (errno != EBUSY || i == 200)
			die("umount");
		usleep(50000);
	}
}

static bool open_at(struct open_file *o, unsigned int slot)
{
	char name[256];

	sprintf(name, "%s/slot%u", settings.dir, slot);
	o->file = NULL;
	o->fd = open(name, O_RDWR);
	if (o->fd < 0) {
		if (errno != ENOENT)
			finding("open %s: %s", name, strerror(errno));
		return false;
	}
	o->file = model_find(o->fd);
	return true;
}

/* Nobody else is at work: each page of each file, read and mapped. */
static void compare_all(const char *how)
{
	uint64_t *buffer = aligned_alloc(PAGE, PAGE);
	struct file *kept[SLOTS];
	unsigned int count = 0;
	struct open_file o;
	char text[64];

	for (unsigned int slot = 0; slot < SLOTS; slot++) {
		beat(OTHER, how);
		if (!open_at(&o, slot))
			continue;
		if (o.file) {
			struct stat st;

			kept[count++] = o.file;
			fstat(o.fd, &st);
			unsigned long pages = (st.st_size + PAGE - 1) / PAGE;
			char *map = mmap(NULL, ALL_PAGES * PAGE, PROT_READ, MAP_SHARED, o.fd, 0);

			for (unsigned long p = 0; p < ALL_PAGES; p++) {
				struct view view;

				view_take(o.file, p, 1, &view);
				memset(buffer, 0, PAGE);
				if (pread(o.fd, buffer, PAGE, p * PAGE) < 0)
					finding("%s: read: %s", how, strerror(errno));
				sprintf(text, "%s, read", how);
				check_page(o.file, p, &view, buffer, text);
				sprintf(text, "%s, mapped", how);
				if (p < pages)
					check_page(o.file, p, &view, (uint64_t *)(map + p * PAGE), text);
			}
			munmap(map, ALL_PAGES * PAGE);
		}
		close(o.fd);
	}
	model_forget_others(kept, count);
	free(buffer);
}

static void freeze(uint64_t turn)
{
	int root = open(settings.dir, O_RDONLY);

	beat(OTHER, "freeze");
	if (ioctl(root, FIFREEZE, 0)) {
		finding("freeze: %s", strerror(errno));
	} else {
		usleep(20000 + turn * 7919 % 100000);
		beat(OTHER, "thaw");
		if (ioctl(root, FITHAW, 0))
			finding("thaw: %s", strerror(errno));
	}
	close(root);
}

/* Refused as long as files are open for writing. */
static void remount_read_only(void)
{
	beat(OTHER, "remount read-only");
	if (mount(NULL, settings.dir, NULL, MS_REMOUNT | MS_RDONLY, settings.options)) {
		if (errno != EBUSY)
			finding("remount read-only: %s", strerror(errno));
		return;
	}
	usleep(10000);
	beat(OTHER, "remount read-write");
	if (mount(NULL, settings.dir, NULL, MS_REMOUNT, settings.options))
		finding("remount read-write: %s", strerror(errno));
}

static void disturb(uint64_t turn)
{
	switch (turn % 4) {
	case 0: /* all that write wait; faults too */
		freeze(turn);
		break;
	case 1:
		remount_read_only();
		break;
	case 2: /* inodes that nobody uses go */
		beat(OTHER, "drop_caches");
		put_string("/proc/sys/vm/drop_caches", "2");
		break;
	default:
		beat(OTHER, "sync");
		sync();
	}
}

static unsigned long free_blocks(void)
{
	struct statvfs s;

	if (statvfs(settings.dir, &s))
		die("statvfs");
	return s.f_bfree;
}

/* Leaves so much free that files fit now and then, and not always. */
static void fill_up(void)
{
	char name[256];
	struct statvfs s;
	int fd;

	sprintf(name, "%s/filler", settings.dir);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	statvfs(settings.dir, &s);
	if (s.f_bavail * s.f_bsize > settings.free_mib << 20 && fallocate(fd, 0, 0, s.f_bavail * s.f_bsize - (settings.free_mib << 20)))
		die("filling the filesystem");
	close(fd);
}

/* The operations that were not asked for count as not supported. */
static void choose_operations(void)
{
	char list[512], *name, *rest = list;

	if (!settings.only)
		return;
	for (unsigned int i = 0; i < operation_count; i++)
		atomic_store(&world->unsupported[i], 1);
	snprintf(list, sizeof(list), "%s", settings.only);
	while ((name = strsep(&rest, ","))) {
		unsigned int i = 0;

		while (i < operation_count && strcmp(operations[i].name, name))
			i++;
		if (i == operation_count) {
			fprintf(stderr, "stress: no operation is called '%s'\n", name);
			exit(2);
		}
		atomic_store(&world->unsupported[i], 0);
	}
}

/* ---- what children do ---- */

/* What the first files of a filesystem need for good (inode chunks, the root's tree) is not counted as lost at the end. */
static void begin(unsigned int actor, uint64_t round)
{
	char name[256];

	(void)round;
	mount_fs();
	for (int turn = 0; turn < 2; turn++)
		for (unsigned int i = 0; i < MAX_FILES; i++) {
			sprintf(name, "%s/first%u", settings.dir, i);
			beat(actor, turn ? "the first files' unlink" : "the first files' create");
			if (turn)
				unlink(name);
			else
				close(open(name, O_RDWR | O_CREAT, 0600));
		}
	unmount_fs();
	mount_fs();
	atomic_store(&world->free_at_first, free_blocks());
	beat(actor, "filling up");
	fill_up();
}

static void disturbances(unsigned int actor, uint64_t round)
{
	for (uint64_t turn = round * 3; !atomic_load(&world->stop); turn++) {
		disturb(turn);
		beat(actor, "a pause");
		usleep(200000);
	}
}

static void between_rounds(unsigned int actor, uint64_t round)
{
	char text[300];

	(void)round;
	compare_all("after a round");
	unmount_fs();
	beat(actor, "fsck");
	sprintf(text, "fsck.%s %s%s", settings.fstype, strcmp(settings.fstype, "ochre") ? "-fn " : "", settings.device);
	if (settings.fsck && system(text)) {
		finding("%s", text);
		return;
	}
	mount_fs();
	compare_all("after a remount");
}

static void finish(unsigned int actor, uint64_t round)
{
	unsigned long before = atomic_load(&world->free_at_first), after = 0;
	char text[300];

	(void)round;
	beat(actor, "deleting all files");
	sprintf(text, "rm -f %s/*", settings.dir);
	if (system(text))
		die("rm");
	unmount_fs();
	mount_fs();
	for (int i = 0; i < 100 && (after = free_blocks()) != before; i++)
		usleep(100000);
	unmount_fs();
	if (after != before)
		finding("%lu blocks are free at the end, %lu were at the beginning", after, before);
}

/* ---- and the process that watches ---- */

static bool alone(void (*run)(unsigned int actor, uint64_t round))
{
	watched(OTHER, run, 0);
	return watch(UINT64_MAX);
}

static bool run_round(uint64_t round, uint64_t until)
{
	atomic_store(&world->stop, 0);
	for (unsigned int i = 0; i < settings.workers; i++)
		watched(i, work, round);
	watched(OTHER, disturbances, round);
	return watch(until);
}

static void report(uint64_t rounds, uint64_t start)
{
	unsigned long done = 0, refused = 0;

	for (unsigned int i = 0; i < operation_count; i++) {
		unsigned long d = atomic_load(&world->done[i]), r = atomic_load(&world->refused[i]);

		if (d || r)
			printf("  %-16s %8lu done %8lu refused%s\n", operations[i].name, d, r,
			       atomic_load(&world->unsupported[i]) ? "  (not supported here)" : "");
		done += d;
		refused += r;
	}
	printf("stress: %.1f minutes, %lu rounds, %lu operations (and %lu refused), %u files, %lu million words looked at, %u findings\n",
	       (now_ms() - start) / 60000.0, (unsigned long)rounds, done, refused, atomic_load(&world->next_id) - 1,
	       atomic_load(&world->words) / 1000000, atomic_load(&world->findings));
	fflush(stdout);
}

static void options(int count, char **arguments)
{
	static const struct option known[] = {
		{ "seconds", 1, NULL, 's' }, { "round", 1, NULL, 'r' },	  { "workers", 1, NULL, 'w' },	{ "seed", 1, NULL, 'S' },
		{ "fstype", 1, NULL, 't' },  { "options", 1, NULL, 'o' }, { "slow", 1, NULL, 'd' },	{ "patience", 1, NULL, 'p' },
		{ "free-mib", 1, NULL, 'f' }, { "fsck", 0, NULL, 'c' },	  { "only", 1, NULL, 'n' },	{ NULL, 0, NULL, 0 },
	};
	int c;

	settings = (struct settings){ .seconds = 60, .round = 20, .workers = 6, .patience = 120, .fstype = "ochre", .options = "dax=always",
				      .free_mib = 24 };
	while ((c = getopt_long(count, arguments, "", known, NULL)) != -1) {
		switch (c) {
		case 's': settings.seconds = atoi(optarg); break;
		case 'r': settings.round = atoi(optarg); break;
		case 'w': settings.workers = atoi(optarg); break;
		case 'S': settings.seed = strtoull(optarg, NULL, 0); break;
		case 't': settings.fstype = optarg; break;
		case 'o': settings.options = optarg; break;
		case 'd': settings.slow = optarg; break;
		case 'p': settings.patience = atoi(optarg); break;
		case 'f': settings.free_mib = strtoul(optarg, NULL, 0); break;
		case 'c': settings.fsck = true; break;
		case 'n': settings.only = optarg; break;
		default: exit(2);
		}
	}
	if (optind + 2 != count || settings.workers > MAX_WORKERS || !settings.round) {
		fprintf(stderr, "usage: stress [--seconds=N --round=N --workers=N --seed=N --fstype= --options= --slow=DEVICE --patience=N "
				"--free-mib=N --fsck --only=OPERATION,...] DEVICE DIRECTORY\nDEVICE holds a new filesystem, which is not mounted.\n");
		exit(2);
	}
	settings.device = arguments[optind];
	settings.dir = arguments[optind + 1];
}

int main(int count, char **arguments)
{
	uint64_t start = now_ms(), round = 0, end;
	bool good;

	options(count, arguments);
	setvbuf(stdout, NULL, _IOLBF, 0);
	put_string("/proc/sys/vm/drop_caches", "4"); /* from here on without a line in the log each time */
	world_create();
	choose_operations();
	good = alone(begin);
	end = start + settings.seconds * 1000UL;
	while (good) {
		uint64_t until = now_ms() + settings.round * 1000UL;

		good = run_round(round++, until < end ? until : end) && alone(between_rounds);
		if (now_ms() >= end)
			break;
	}
	report(round, start);
	return good && alone(finish) ? 0 : 1;
}
