// SPDX-License-Identifier: GPL-2.0
/*
 * The model: which words a page of a file may hold, and which not.
 *
 * Nothing here takes a lock across a system call, so that the races under test stay as they are. What may be said of a page is instead
 * derived from the order of beginnings and ends:
 *
 * - Each file has a clock. Whoever stores draws a generation from it, after noting a lower bound in `busy`. So all words older than the
 *   least bound belong to stores that have ended (`oldest`).
 * - When a removal has ended (truncate, punch, zero range), or a store of the whole page, no word that was stored entirely before it
 *   began may be seen again: the page's `floor` rises to what `oldest` was at its beginning.
 * - When a store of a whole page has ended and no removal touched the page since before it began, the page is `written`: from then to
 *   the beginning of the next removal a zero is lost data. `epoch` counts beginnings and ends of removals, so that a reader knows
 *   whether one came in between.
 *   (A page that was stored through a mapping counts only if all of it was inside the file before: what is stored behind the end, in the
 *   last page, is no data, and is zeroed when the file grows.)
 * - A word of another file or another page is never right, whatever the order.
 */
#include "stress.h"
#include <sched.h>
#include <stdarg.h>

struct world *world;
struct settings settings;

void world_create(void)
{
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (world == MAP_FAILED) {
		perror("stress: memory for the model");
		exit(2);
	}
	atomic_store(&world->next_id, 1);
}

static void lock(atomic_uint *l)
{
	while (atomic_exchange(l, 1))
		sched_yield();
}

static void unlock(atomic_uint *l)
{
	atomic_store(l, 0);
}

void finding(const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (atomic_fetch_add(&world->findings, 1) < 20)
		dprintf(1, "FINDING: %s\n", text);
	atomic_store(&world->stop, 1);
}

/* ---- words: id 20 bits, page 14, generation 22, check sum 8 ---- */

static uint64_t sum(uint64_t upper)
{
	return ((upper >> 8) * 0x9e3779b97f4a7c15ULL) >> 56;
}

uint64_t word_of(uint32_t id, unsigned long page, uint32_t generation)
{
	uint64_t upper = (uint64_t)id << 44 | (uint64_t)page << 30 | (uint64_t)generation << 8;

	return upper | sum(upper);
}

static uint32_t word_id(uint64_t word)
{
	return word >> 44;
}

static unsigned long word_page(uint64_t word)
{
	return word >> 30 & 0x3fff;
}

static uint32_t word_generation(uint64_t word)
{
	return word >> 8 & 0x3fffff;
}

static bool word_sound(uint64_t word)
{
	return (word & 0xff) == sum(word & ~0xffULL);
}

void fill(uint64_t *to, const struct file *file, unsigned long page, unsigned long count, uint32_t generation)
{
	for (unsigned long p = 0; p < count; p++) {
		uint64_t word = word_of(file->id, page + p, generation);

		for (unsigned long i = 0; i < WORDS; i++)
			*to++ = word;
	}
}

void fill_scratch(uint64_t *to, unsigned long count, uint32_t salt)
{
	for (unsigned long i = 0; i < count * WORDS; i++)
		to[i] = word_of(SCRATCH_ID, 0, salt & 0x3fffff);
}

/* ---- which file is it: its handle tells, since a number that is used again gets a new generation ---- */

static bool handle_of(int fd, unsigned char *to)
{
	struct {
		struct file_handle h;
		unsigned char bytes[128];
	} handle = { .h.handle_bytes = 128 };
	int mount;

	memset(to, 0, 64);
	if (name_to_handle_at(fd, "", &handle.h, &mount, AT_EMPTY_PATH) || handle.h.handle_bytes > 56) {
		finding("name_to_handle_at: %s", strerror(errno));
		return false;
	}
	memcpy(to, handle.h.f_handle, handle.h.handle_bytes);
	to[60] = handle.h.handle_bytes;
	to[61] = 1;
	return true;
}

struct file *model_register(int fd, bool shifting)
{
	unsigned char handle[64];
	struct file *file = NULL;

	if (!handle_of(fd, handle))
		return NULL;
	lock(&world->lock);
	for (unsigned int i = 0; i < MAX_FILES; i++) {
		struct file *f = &world->files[i];

		if (f->id && !memcmp(f->handle, handle, sizeof(handle)))
			finding("a new file has the handle of file %u, which %s", f->id, f->unlinked ? "was deleted" : "exists");
		if (!f->id && !file)
			file = f;
	}
	if (file) {
		memset(file->pages, 0, sizeof(file->pages));
		for (unsigned int i = 0; i < MAX_WORKERS; i++)
			atomic_store(&file->busy[i], UINT32_MAX);
		atomic_store(&file->clock, 1);
		memcpy(file->handle, handle, sizeof(handle));
		file->users = 1;
		file->unlinked = false;
		file->shifting = shifting;
		file->id = atomic_fetch_add(&world->next_id, 1);
	}
	unlock(&world->lock);
	return file;
}

struct file *model_find(int fd)
{
	unsigned char handle[64];
	struct file *file = NULL;
	struct stat st;

	if (!handle_of(fd, handle))
		return NULL;
	lock(&world->lock);
	for (unsigned int i = 0; i < MAX_FILES && !file; i++)
		if (world->files[i].id && !memcmp(world->files[i].handle, handle, sizeof(handle)))
			file = &world->files[i];
	if (file)
		file->users++;
	unlock(&world->lock);
	/* Deleted since it was opened, and forgotten by its last user: nothing to hold against it. */
	if (!file && !fstat(fd, &st) && st.st_nlink)
		finding("inode %lu has a name, and nobody made it", (unsigned long)st.st_ino);
	return file;
}

void model_put(struct file *file, int fd)
{
	struct stat st;
	bool gone = fd >= 0 && !fstat(fd, &st) && !st.st_nlink;

	lock(&world->lock);
	file->unlinked |= gone;
	if (!--file->users && file->unlinked)
		file->id = 0;
	unlock(&world->lock);
}

/* With all workers gone: only these exist. */
void model_forget_others(struct file *const *kept, unsigned int count)
{
	for (unsigned int i = 0; i < MAX_FILES; i++) {
		struct file *f = &world->files[i];
		bool keep = false;

		for (unsigned int k = 0; k < count; k++)
			keep |= kept[k] == f;
		if (!keep)
			f->id = 0;
		f->users = 0;
		for (unsigned int w = 0; w < MAX_WORKERS; w++)
			atomic_store(&f->busy[w], UINT32_MAX);
		for (unsigned long p = 0; p < ALL_PAGES; p++)
			f->pages[p].active = 0;
	}
}

/* ---- stores and removals ---- */

static void draw(struct claim *c, struct worker *w, struct file *file)
{
	uint32_t oldest;

	c->file = file;
	c->worker = w->number;
	atomic_store(&file->busy[w->number], atomic_load(&file->clock));
	c->generation = atomic_fetch_add(&file->clock, 1) + 1;
	oldest = c->generation;
	for (unsigned int i = 0; i < MAX_WORKERS; i++) {
		uint32_t bound = atomic_load(&file->busy[i]);

		/* The bound is the clock before the draw: the generation itself is above. */
		if (bound != UINT32_MAX && bound + 1 < oldest)
			oldest = bound + 1;
	}
	c->oldest = oldest;
}

static void release(struct claim *c)
{
	atomic_store(&c->file->busy[c->worker], UINT32_MAX);
}

void view_take(struct file *file, unsigned long first, unsigned long count, struct view *views)
{
	lock(&file->lock);
	for (unsigned long i = 0; i < count; i++) {
		const struct page *p = &file->pages[first + i];

		views[i] = (struct view){ p->floor, p->epoch, p->written && !p->active };
	}
	unlock(&file->lock);
}

void store_begin(struct claim *c, struct worker *w, struct file *file, unsigned long first, unsigned long count)
{
	draw(c, w, file);
	c->first = first;
	c->count = count;
	c->views = calloc(count, sizeof(*c->views));
	view_take(file, first, count, c->views);
}

/* The first page that is not entirely inside the file. Until a removal touches the pages before it, they stay inside. */
unsigned long pages_inside(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_size / PAGE;
}

/* The pages of [whole_from, whole_to) have been stored entirely. */
void store_end(struct claim *c, unsigned long whole_from, unsigned long whole_to)
{
	struct file *file = c->file;

	lock(&file->lock);
	for (unsigned long i = whole_from; i < whole_to && i < PAGES && !file->shifting; i++) {
		struct page *p = &file->pages[i];

		if (p->active || p->epoch != c->views[i - c->first].epoch)
			continue;
		p->written = 1;
		if (p->floor < c->oldest)
			p->floor = c->oldest;
	}
	unlock(&file->lock);
	release(c);
	free(c->views);
}

static unsigned long clamp_page(uint64_t page)
{
	return page < ALL_PAGES ? page : ALL_PAGES;
}

/* The bytes of [from, to) are about to go. */
void removal_begin(struct claim *c, struct worker *w, struct file *file, uint64_t from, uint64_t to)
{
	unsigned long last = clamp_page((to + PAGE - 1) / PAGE);

	lock(&file->lock);
	for (unsigned long i = clamp_page(from / PAGE); i < last; i++) {
		file->pages[i].active++;
		file->pages[i].epoch++;
		file->pages[i].written = 0;
	}
	unlock(&file->lock);
	draw(c, w, file);
	release(c); /* it stores no words itself */
}

void removal_end(struct claim *c, bool done, uint64_t from, uint64_t to)
{
	struct file *file = c->file;
	unsigned long last = clamp_page((to + PAGE - 1) / PAGE);
	unsigned long whole_from = clamp_page((from + PAGE - 1) / PAGE), whole_to = clamp_page(to / PAGE);

	lock(&file->lock);
	for (unsigned long i = clamp_page(from / PAGE); i < last; i++) {
		struct page *p = &file->pages[i];

		p->active--;
		p->epoch++;
		if (done && i >= whole_from && i < whole_to && p->floor < c->oldest)
			p->floor = c->oldest;
	}
	unlock(&file->lock);
}

/* ---- looking ---- */

static void bad_word(struct file *file, unsigned long page, unsigned long index, uint64_t word, uint32_t floor, const char *how,
		     const char *why)
{
	finding("%s: file %u%s page %lu word %lu: %s: %#lx says file %u page %lu generation %u (%s), wanted file %u, generation %u to %u",
		how, file->id, file->shifting ? " (shifting)" : "", page, index, why, (unsigned long)word, word_id(word), word_page(word),
		word_generation(word), word_sound(word) ? "sound" : "garbled", file->id, floor, atomic_load(&file->clock));
}

static bool check_word(struct file *file, unsigned long page, unsigned long index, uint64_t word, uint32_t floor, const char *how)
{
	const char *why = NULL;

	if (!word_sound(word))
		why = "garbage";
	else if (page >= PAGES && !file->shifting)
		why = word_id(word) == SCRATCH_ID ? NULL : "a foreign word in the scratch pages";
	else if (word_id(word) != file->id)
		why = word_id(word) == SCRATCH_ID ? "a scratch word" : "another file's word";
	else if (!file->shifting && word_page(word) != page)
		why = "another page's word";
	else if (word_generation(word) > atomic_load(&file->clock))
		why = "a word from the future";
	else if (!file->shifting && word_generation(word) < floor)
		why = "a stale word";
	if (why)
		bad_word(file, page, index, word, floor, how, why);
	return !why;
}

/* A page that was read after `view` was taken. */
void check_page(struct file *file, unsigned long page, const struct view *view, const uint64_t *words, const char *how)
{
	unsigned long zeros = 0, first_zero = 0;

	for (unsigned long i = 0; i < WORDS; i++) {
		if (!words[i]) {
			if (!zeros++)
				first_zero = i;
		} else if (!check_word(file, page, i, words[i], view->floor, how)) {
			return;
		}
	}
	atomic_fetch_add(&world->words, WORDS);
	if (zeros && view->written) {
		struct view now;

		view_take(file, page, 1, &now);
		if (now.epoch == view->epoch)
			finding("%s: file %u page %lu: %lu words from word %lu on are zero, which were written and not removed (floor %u, clock %u)",
				how, file->id, page, zeros, first_zero, view->floor, atomic_load(&file->clock));
	}
}

/* A page that a holder kept: whatever happened to the file meanwhile, these are still its bytes or zeros. */
void check_held(struct file *file, unsigned long page, uint32_t floor, const uint64_t *words, const char *how)
{
	for (unsigned long i = 0; i < WORDS; i++)
		if (words[i] && !check_word(file, page, i, words[i], floor, how))
			return;
	atomic_fetch_add(&world->words, WORDS);
}
