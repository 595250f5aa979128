// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of a worker: reads and writes, mappings of all kinds, and every call that removes blocks.
 *
 * Files are reached by a few names, which all workers open, replace and delete; the worker learns from the handle which file it got.
 * A refusal that the rules allow (no space, read-only for a moment) is counted; any other errno is a finding.
 */
#include "stress.h"
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

uint64_t rnd(struct worker *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random * 0x2545f4914f6cdd1dULL >> 16) % below;
}

static bool chance(struct worker *w, unsigned int percent)
{
	return rnd(w, 100) < percent;
}

/* Counts how an operation ended, errno telling why it failed. `allowed` names what it may fail with, besides what any may. */
void outcome(struct worker *w, bool ok, const char *allowed)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {
		{ ENOSPC, "ENOSPC" }, { EROFS, "EROFS" }, { EINTR, "EINTR" }, { EFAULT, "EFAULT" }, { EAGAIN, "EAGAIN" }, { ENOENT, "ENOENT" },
		{ EEXIST, "EEXIST" }, { EINVAL, "EINVAL" }, { EOPNOTSUPP, "EOPNOTSUPP" }, { EIO, "EIO" }, { ENXIO, "ENXIO" }, { EBUSY, "EBUSY" },
		{ ENOMEM, "ENOMEM" },
	};

	int error = errno;

	if (ok) {
		atomic_fetch_add(&world->done[w->operation], 1);
		return;
	}
	atomic_fetch_add(&world->refused[w->operation], 1);
	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].error == error) {
			if (error != ENOSPC && error != EROFS && !strstr(allowed, names[i].name))
				finding("%s: %s", operations[w->operation].name, strerror(error));
			return;
		}
	finding("%s: %s", operations[w->operation].name, strerror(error));
}

/* ---- files ---- */

static void slot_name(char *to, uint64_t slot)
{
	sprintf(to, "%s/slot%lu", settings.dir, (unsigned long)slot);
}

static void close_file(struct open_file *o)
{
	if (!o->file)
		return;
	model_put(o->file, o->fd);
	close(o->fd);
	o->file = NULL;
}

static bool open_slot(struct open_file *o, uint64_t slot)
{
	char name[256];

	slot_name(name, slot);
	o->fd = open(name, O_RDWR);
	if (o->fd < 0) {
		if (errno != ENOENT && errno != EROFS)
			finding("open %s: %s", name, strerror(errno));
		return false;
	}
	o->file = model_find(o->fd);
	if (!o->file)
		close(o->fd);
	return o->file;
}

/* A new file takes a slot's name; what had it is deleted, or gets no name by that. */
static bool create_in(struct worker *w, struct open_file *o, uint64_t slot)
{
	char name[256], slot_path[256];
	struct open_file old = { .file = NULL };
	bool tmpfile = chance(w, 30);

	slot_name(slot_path, slot);
	sprintf(name, "%s/new%u", settings.dir, w->number);
	o->file = NULL;
	o->fd = tmpfile ? open(settings.dir, O_TMPFILE | O_RDWR, 0600) : open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (o->fd < 0) {
		outcome(w, false, "");
		return false;
	}
	o->file = model_register(o->fd, chance(w, 25));
	if (tmpfile && o->file) {
		char self[64];

		sprintf(self, "/proc/self/fd/%d", o->fd);
		if (linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
			outcome(w, false, "");
			close_file(o);
			return false;
		}
	}
	if (!o->file) {
		/* The table is full: wait until something was deleted and closed. */
		close(o->fd);
		if (!tmpfile)
			unlink(name);
		return false;
	}
	open_slot(&old, slot); /* to learn, on closing it, that it has lost its name */
	if (rename(name, slot_path)) {
		int error = errno;

		unlink(name);
		close_file(&old);
		errno = error;
		outcome(w, false, "");
		close_file(o);
		return false;
	}
	close_file(&old);
	return true;
}

/* Some file, open; NULL if there is none at the moment. */
struct open_file *pick_file(struct worker *w)
{
	struct open_file *o = &w->open[rnd(w, 4)];

	if (o->file && chance(w, 80))
		return o;
	close_file(o);
	uint64_t slot = rnd(w, SLOTS);
	if (open_slot(o, slot) || create_in(w, o, slot))
		return o;
	return NULL;
}

/* ---- ranges ---- */

static unsigned long pages_up_to(struct worker *w, unsigned long most)
{
	return chance(w, 50) ? 1 + rnd(w, most < 4 ? most : 4) : 1 + rnd(w, most);
}

/* Mostly within the first few pages, or the first 2 MiB, so that workers meet. */
unsigned long first_page(struct worker *w, unsigned long count)
{
	unsigned long room = chance(w, 50) ? HOT_PAGES : chance(w, 50) ? HUGE_PAGES : PAGES;

	return rnd(w, room - count + 1);
}

/* Bytes to remove: whole pages, any words, or what 2 MiB pages are. */
static void byte_range(struct worker *w, uint64_t *from, uint64_t *to)
{
	unsigned long count = pages_up_to(w, 64), first = first_page(w, count);

	*from = first * PAGE;
	*to = *from + count * PAGE;
	if (chance(w, 30)) {
		*from += rnd(w, WORDS) * 8;
		*to -= rnd(w, WORDS) * 8;
		if (*to <= *from)
			*to = *from + 8;
	} else if (chance(w, 15)) {
		*from = rnd(w, PAGES / HUGE_PAGES) * HUGE;
		*to = *from + HUGE;
	}
}

/* ---- read and write ---- */

static void op_read(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, MOVE_PAGES), first = first_page(w, count);
	struct view views[MOVE_PAGES];
	ssize_t got;

	if (!o)
		return;
	if (chance(w, 5))
		first = PAGES + rnd(w, SCRATCH_PAGES - count + 1);
	memset(w->buffer, 0, count * PAGE); /* what is behind the end counts as zeros */
	view_take(o->file, first, count, views);
	got = pread(o->fd, w->buffer, count * PAGE, first * PAGE);
	outcome(w, got >= 0, "");
	for (unsigned long i = 0; i < count && got >= 0; i++)
		check_page(o->file, first + i, &views[i], w->buffer + i * WORDS, "read");
}

/* pwrite2 with what it got; the claim ends. */
static void write_out(struct worker *w, struct open_file *o, struct claim *c, uint64_t from, uint64_t to, const char *buffer, int flags)
{
	struct iovec part[2] = { { (void *)buffer, to - from } };
	int parts = 1;
	ssize_t put;
	uint64_t end;

	if (to - from > PAGE && chance(w, 20)) {
		part[0].iov_len = 8 * (1 + rnd(w, (to - from) / 8 - 1));
		part[1] = (struct iovec){ (void *)(buffer + part[0].iov_len), to - from - part[0].iov_len };
		parts = 2;
	}
	put = pwritev2(o->fd, part, parts, from, flags);
	outcome(w, put > 0, flags & RWF_NOWAIT ? "EAGAIN EOPNOTSUPP" : "");
	end = from + (put > 0 ? put : 0);
	store_end(c, (from + PAGE - 1) / PAGE, end / PAGE);
}

static void op_write(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, MOVE_PAGES), first = first_page(w, count);
	uint64_t from = first * PAGE, to = from + count * PAGE;
	struct claim c;

	if (!o)
		return;
	store_begin(&c, w, o->file, first, count);
	fill(w->buffer, o->file, first, count, c.generation);
	if (chance(w, 30)) {
		from += rnd(w, WORDS) * 8;
		to -= rnd(w, WORDS) * 8;
		if (to <= from)
			to = from + 8;
	}
	write_out(w, o, &c, from, to, (char *)w->buffer + (from - first * PAGE), chance(w, 10) ? RWF_DSYNC : chance(w, 5) ? RWF_NOWAIT : 0);
}

/*
 * The buffer of the write is itself a mapping: of the same file, or of another one that another worker writes from this one. The words
 * that travel so are of no file, and stay within the scratch pages.
 */
static void op_write_crosswise(struct worker *w)
{
	struct open_file *to = pick_file(w), *from = pick_file(w);
	unsigned long count = pages_up_to(w, SCRATCH_PAGES / 2), first = PAGES + rnd(w, SCRATCH_PAGES - count + 1);
	unsigned long source = PAGES + rnd(w, SCRATCH_PAGES - count + 1);
	struct claim c;
	struct map m;

	if (!to || !from || !to->file || !from->file || to->file->shifting || from->file->shifting)
		return;
	if (chance(w, 40)) {
		/* Feed the cycle with words. */
		fill_scratch(w->buffer, count > MOVE_PAGES ? MOVE_PAGES : count, atomic_load(&to->file->clock));
		outcome(w, pwrite(to->fd, w->buffer, (count > MOVE_PAGES ? MOVE_PAGES : count) * PAGE, first * PAGE) > 0, "");
		return;
	}
	if (!map_open(w, &m, from->fd, source, count, MAP_SHARED, chance(w, 50)))
		return;
	store_begin(&c, w, to->file, first, count);
	ssize_t put = pwrite(to->fd, m.at, count * PAGE, first * PAGE);
	outcome(w, put > 0, "EFAULT"); /* behind the other's end */
	store_end(&c, 0, 0);
	map_close(&m);
}

static void op_sync(struct worker *w)
{
	struct open_file *o = pick_file(w);

	if (o)
		outcome(w, !(chance(w, 50) ? fsync(o->fd) : fdatasync(o->fd)), "");
}

/* ---- mappings ---- */

static sigjmp_buf on_sigbus;
static volatile sig_atomic_t guarding;

static void sigbus(int signal)
{
	if (guarding)
		siglongjmp(on_sigbus, signal);
	_exit(3);
}

/* False: the touch met a page that the file does not have. */
bool guarded(void (*touch)(void *context), void *context)
{
	if (sigsetjmp(on_sigbus, 1)) {
		guarding = 0;
		return false;
	}
	guarding = 1;
	touch(context);
	guarding = 0;
	return true;
}

bool map_open(struct worker *w, struct map *m, int fd, unsigned long first, unsigned long count, int flags, bool huge)
{
	int protection = PROT_READ | PROT_WRITE;
	char *at = NULL;

	*m = (struct map){ .length = count * PAGE };
	if (huge) {
		/* Address and offset agree in their lower 21 bits; the mapping reaches over all 2 MiB pages that the range touches. */
		m->room_length = m->length + 2 * HUGE;
		m->room = mmap(NULL, m->room_length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (m->room == MAP_FAILED)
			return false;
		at = (char *)(((uintptr_t)m->room + HUGE - 1) / HUGE * HUGE + first * PAGE % HUGE);
	}
	m->at = mmap(at, m->length, protection, flags | (at ? MAP_FIXED : 0), fd, first * PAGE);
	if (m->at == MAP_FAILED) {
		outcome(w, false, "EOPNOTSUPP ENOMEM");
		if (m->room)
			munmap(m->room, m->room_length);
		return false;
	}
	return true;
}

void map_close(struct map *m)
{
	if (m->room)
		munmap(m->room, m->room_length);
	else
		munmap(m->at, m->length);
}

struct touch {
	volatile uint64_t *at;
	uint64_t *to;
	unsigned long words;
	unsigned long done;
	uint64_t value;
};

static void load(void *context)
{
	struct touch *t = context;

	for (; t->done < t->words; t->done++)
		t->to[t->done] = t->at[t->done];
}

static void store(void *context)
{
	struct touch *t = context;

	for (; t->done < t->words; t->done++)
		t->at[t->done] = t->value;
}

/* Maps more than it looks at where 2 MiB pages are wanted. */
static bool map_around(struct worker *w, struct map *m, struct open_file *o, unsigned long *first, unsigned long count, int flags)
{
	if (chance(w, 50))
		return map_open(w, m, o->fd, *first, count, flags, false);
	unsigned long start = *first / HUGE_PAGES * HUGE_PAGES;
	unsigned long end = (*first + count + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES;

	if (!map_open(w, m, o->fd, start, end - start, flags, true))
		return false;
	m->at += (*first - start) * PAGE;
	return true;
}

static void look_at(struct worker *w, struct open_file *o, char *at, unsigned long first, unsigned long count, const char *how)
{
	struct view view;

	for (unsigned long i = 0; i < count; i++) {
		struct touch t = { .at = (uint64_t *)(at + i * PAGE), .to = w->buffer, .words = WORDS };

		memset(w->buffer, 0, PAGE);
		view_take(o->file, first + i, 1, &view);
		guarded(load, &t); /* where it ends early, zeros stand for the rest */
		check_page(o->file, first + i, &view, w->buffer, how);
	}
}

static void op_map_read(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, 16), first = first_page(w, count);
	bool private = chance(w, 30);
	/* (Populating a private mapping would copy its pages before we know what they may hold.) */
	int flags = private ? MAP_PRIVATE : MAP_SHARED | (chance(w, 10) ? MAP_POPULATE : 0);
	struct map m;

	if (!o || !map_around(w, &m, o, &first, count, flags))
		return;
	look_at(w, o, m.at, first, count, private ? "private mapping" : "mapping");
	if (chance(w, 30)) {
		sched_yield();
		look_at(w, o, m.at, first, count, private ? "private mapping, again" : "mapping, again");
	}
	outcome(w, true, "");
	map_close(&m);
}

static void store_pages(struct worker *w, struct open_file *o, char *at, unsigned long first, unsigned long count, bool parts)
{
	struct claim c;
	unsigned long whole, inside;

	store_begin(&c, w, o->file, first, count);
	inside = pages_inside(o->fd);
	for (whole = 0; whole < count; whole++) {
		struct touch t = { .at = (uint64_t *)(at + whole * PAGE), .words = WORDS, .value = word_of(o->file->id, first + whole, c.generation) };

		if (parts) {
			unsigned long skip = rnd(w, WORDS);

			t.at += skip;
			t.words = 1 + rnd(w, WORDS - skip);
		}
		if (!guarded(store, &t))
			break; /* behind the end, or no space */
	}
	store_end(&c, first, parts ? first : first + whole < inside ? first + whole : inside);
}

static void op_map_write(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, 16), first = first_page(w, count);
	int flags = chance(w, 30) ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
	bool look_first = chance(w, 30); /* a page that is mapped read-only first, or the zero page */
	struct map m;

	if (!o || !map_around(w, &m, o, &first, count, flags))
		return;
	if (look_first)
		look_at(w, o, m.at, first, count, "mapping, before a store");
	store_pages(w, o, m.at, first, count, chance(w, 30));
	if (chance(w, 20))
		outcome(w, !msync((char *)((uintptr_t)m.at), count * PAGE, MS_SYNC), "");
	else
		outcome(w, true, "");
	map_close(&m);
}

/* Pages copied on write keep their words, whatever happens to the file, unless it was cut off before them meanwhile. */
static void op_map_private(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, 8), first = first_page(w, count);
	uint64_t own = word_of(SCRATCH_ID, 1, w->number);
	struct view view;
	struct map m;

	if (!o || !map_around(w, &m, o, &first, count, MAP_PRIVATE))
		return;
	for (unsigned long i = 0; i < count; i++) {
		struct touch t = { .at = (uint64_t *)(m.at + i * PAGE), .words = WORDS, .value = own };

		guarded(store, &t);
	}
	usleep(rnd(w, 2000));
	for (unsigned long i = 0; i < count; i++) {
		struct touch t = { .at = (uint64_t *)(m.at + i * PAGE), .to = w->buffer, .words = WORDS };

		memset(w->buffer, 0, PAGE);
		view_take(o->file, first + i, 1, &view);
		guarded(load, &t);
		/* Either the copy, or (the copy was taken by a truncate) the file's page again. Within a page both may show. */
		for (unsigned long k = 0; k < WORDS; k++)
			if (w->buffer[k] == own)
				w->buffer[k] = 0, view.written = false;
		check_page(o->file, first + i, &view, w->buffer, "private copy");
	}
	outcome(w, true, "");
	map_close(&m);
}

/* A child has the parent's page tables' mappings, and faults on its own; both go on at once. */
static void op_fork(struct worker *w)
{
	struct open_file *o = pick_file(w);
	unsigned long count = pages_up_to(w, 8), first = first_page(w, count);
	struct map m;
	int status;
	pid_t pid;

	if (!o || !map_around(w, &m, o, &first, count, chance(w, 70) ? MAP_SHARED : MAP_PRIVATE))
		return;
	look_at(w, o, m.at, first, count, "mapping, before a fork");
	pid = fork();
	if (pid == 0) {
		look_at(w, o, m.at, first, count, "mapping, in a child");
		_exit(0);
	}
	look_at(w, o, m.at, first, count, "mapping, beside a child");
	if (pid > 0) {
		waitpid(pid, &status, 0);
		if (status)
			finding("a forked child ended with status %#x", status);
	}
	outcome(w, pid > 0, "EAGAIN ENOMEM");
	map_close(&m);
}

/* ---- what removes ---- */

static void op_truncate(struct worker *w)
{
	struct open_file *o = pick_file(w);
	uint64_t size, grown = ALL_PAGES * PAGE;
	struct claim c;
	bool ok;

	if (!o)
		return;
	if (chance(w, 40)) {
		/* Only larger, if it is not so long yet: removes nothing. */
		struct stat st;

		if (!fstat(o->fd, &st) && (uint64_t)st.st_size <= grown && atomic_load(&world->stop) == 0) {
			removal_begin(&c, w, o->file, grown, UINT64_MAX - PAGE);
			ok = !ftruncate(o->fd, grown);
			outcome(w, ok, "EINTR");
			removal_end(&c, ok, grown, UINT64_MAX - PAGE);
			return;
		}
	}
	size = first_page(w, 1) * PAGE;
	if (chance(w, 40))
		size += rnd(w, WORDS) * 8;
	else if (chance(w, 20))
		size = size / HUGE * HUGE;
	removal_begin(&c, w, o->file, size, UINT64_MAX - PAGE);
	if (chance(w, 15)) {
		char self[64];

		/* O_TRUNC: of this very file, whatever its name is now. */
		removal_end(&c, false, size, UINT64_MAX - PAGE);
		removal_begin(&c, w, o->file, 0, UINT64_MAX - PAGE);
		size = 0;
		sprintf(self, "/proc/self/fd/%d", o->fd);
		int fd = open(self, O_RDWR | O_TRUNC);
		ok = fd >= 0;
		outcome(w, ok, "EINTR");
		if (ok)
			close(fd);
	} else {
		ok = !ftruncate(o->fd, size);
		outcome(w, ok, "EINTR");
	}
	removal_end(&c, ok, size, UINT64_MAX - PAGE);
	/* So that holes and stores beyond the old end are there again soon. */
	if (ok && chance(w, 70)) {
		removal_begin(&c, w, o->file, grown, UINT64_MAX - PAGE);
		ok = !ftruncate(o->fd, grown);
		removal_end(&c, ok, grown, UINT64_MAX - PAGE);
	}
}

static void remove_range(struct worker *w, int mode)
{
	struct open_file *o = pick_file(w);
	uint64_t from, to;
	struct claim c;
	bool ok;

	if (!o)
		return;
	byte_range(w, &from, &to);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		if (!o->file->shifting)
			return;
		from = from / PAGE * PAGE;
		to = (to + PAGE - 1) / PAGE * PAGE;
	}
	removal_begin(&c, w, o->file, from, to);
	ok = !fallocate(o->fd, mode, from, to - from);
	if (!ok && errno == EOPNOTSUPP)
		atomic_store(&world->unsupported[w->operation], 1);
	/* Collapse and insert want to end before the file does; 8 MiB is the most that is looked at. */
	outcome(w, ok, mode & FALLOC_FL_PUNCH_HOLE ? "EINTR" : "EINTR EINVAL EOPNOTSUPP");
	removal_end(&c, ok, from, to);
	if (ok && mode == FALLOC_FL_INSERT_RANGE && ftruncate(o->fd, ALL_PAGES * PAGE) && errno != EINTR && errno != EROFS && errno != ENOSPC)
		finding("truncate after insert range: %s", strerror(errno));
}

static void op_punch(struct worker *w)
{
	remove_range(w, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void op_zero_range(struct worker *w)
{
	remove_range(w, FALLOC_FL_ZERO_RANGE | (chance(w, 50) ? FALLOC_FL_KEEP_SIZE : 0));
}

static void op_collapse(struct worker *w)
{
	remove_range(w, FALLOC_FL_COLLAPSE_RANGE);
}

static void op_insert(struct worker *w)
{
	remove_range(w, FALLOC_FL_INSERT_RANGE);
}

static void op_preallocate(struct worker *w)
{
	struct open_file *o = pick_file(w);
	uint64_t from, to;

	if (!o)
		return;
	byte_range(w, &from, &to);
	if (chance(w, 60)) {
		from = rnd(w, PAGES / HUGE_PAGES) * HUGE;
		to = from + HUGE;
	}
	outcome(w, !fallocate(o->fd, chance(w, 50) ? FALLOC_FL_KEEP_SIZE : 0, from, to - from), "EINTR");
}

/* ---- names ---- */

static void op_create(struct worker *w)
{
	struct open_file *o = &w->open[rnd(w, 4)];

	close_file(o);
	if (create_in(w, o, rnd(w, SLOTS)))
		outcome(w, true, "");
}

static void op_unlink(struct worker *w)
{
	struct open_file o = { .file = NULL };
	uint64_t slot = rnd(w, SLOTS);
	char name[256];

	slot_name(name, slot);
	open_slot(&o, slot);
	outcome(w, !unlink(name), "ENOENT");
	close_file(&o);
}

static void op_rename(struct worker *w)
{
	struct open_file over = { .file = NULL };
	uint64_t from = rnd(w, SLOTS), to = rnd(w, SLOTS);
	char a[256], b[256];

	slot_name(a, from);
	slot_name(b, to);
	open_slot(&over, to);
	outcome(w, !renameat2(AT_FDCWD, a, AT_FDCWD, b, chance(w, 50) ? RENAME_EXCHANGE : 0), "ENOENT");
	close_file(&over);
}

static void op_stat(struct worker *w)
{
	struct open_file *o = pick_file(w);
	struct stat st;

	if (!o)
		return;
	if (fstat(o->fd, &st))
		finding("fstat: %s", strerror(errno));
	else if (st.st_blocks * 512UL > (ALL_PAGES + 2 * HUGE_PAGES) * PAGE && !o->file->shifting)
		finding("file %u of %ld bytes has %ld blocks", o->file->id, (long)st.st_size, (long)st.st_blocks);
	else
		outcome(w, lseek(o->fd, first_page(w, 1) * PAGE, chance(w, 50) ? SEEK_DATA : SEEK_HOLE) >= 0, "ENXIO");
}

const struct operation operations[] = {
	{ "read", 10, op_read },
	{ "write", 16, op_write },
	{ "write-crosswise", 6, op_write_crosswise },
	{ "sync", 3, op_sync },
	{ "map-read", 12, op_map_read },
	{ "map-write", 16, op_map_write },
	{ "map-private", 4, op_map_private },
	{ "fork", 1, op_fork },
	{ "truncate", 7, op_truncate },
	{ "punch", 7, op_punch },
	{ "zero-range", 4, op_zero_range },
	{ "collapse", 3, op_collapse },
	{ "insert", 3, op_insert },
	{ "preallocate", 4, op_preallocate },
	{ "create", 3, op_create },
	{ "unlink", 2, op_unlink },
	{ "rename", 3, op_rename },
	{ "stat", 2, op_stat },
	{ "hold-pipe", 4, op_hold_pipe },
	{ "hold-readv", 3, op_hold_readv },
	{ "hold-read", 3, op_hold_read_slow },
	{ "hold-write", 2, op_hold_write_slow },
	{ "hold-uring", 3, op_hold_uring },
};
const unsigned int operation_count = sizeof(operations) / sizeof(*operations);

/* One worker process, until the stop. */
void work(unsigned int number, uint64_t round)
{
	struct worker w = { .number = number, .slow = -1 };
	unsigned int weights = 0;
	struct sigaction action = { .sa_handler = sigbus };

	w.random = (settings.seed + 1) * 0x9e3779b97f4a7c15ULL ^ (round * MAX_WORKERS + number + 1) * 0xc2b2ae3d27d4eb4fULL;
	for (int i = 0; i < 8; i++)
		rnd(&w, 2);
	sigaction(SIGBUS, &action, NULL);
	w.buffer = aligned_alloc(PAGE, MOVE_PAGES * PAGE);
	if (!w.buffer)
		exit(2);
	holders_open(&w);
	for (unsigned int i = 0; i < operation_count; i++)
		weights += operations[i].weight;
	while (!atomic_load(&world->stop)) {
		unsigned int pick = rnd(&w, weights), i = 0;

		while (pick >= operations[i].weight)
			pick -= operations[i++].weight;
		if (atomic_load(&world->unsupported[i]))
			continue;
		w.operation = i;
		beat(number, operations[i].name);
		operations[i].run(&w);
	}
	for (unsigned int i = 0; i < 4; i++)
		close_file(&w.open[i]);
}
