/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the stress program share: the model of what each page may hold (model.c), the operations (workload.c, holders.c),
 * and the worker that carries them out.
 *
 * Every 8 bytes of a file say by themselves where they belong: file, page, generation, and a check sum of these. So one look at any
 * word, wherever it is met (read(2), a mapping, a pipe, a block device), tells whether it may be there.
 */
#ifndef STRESS_H
#define STRESS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE_PAGES 512UL
#define HUGE (HUGE_PAGES * PAGE)
/* A file has so many pages that are checked in full, and behind them a few whose words belong to no file: see op_write_crosswise(). */
#define PAGES 2048UL
#define SCRATCH_PAGES 64UL
#define HOT_PAGES 64UL
#define ALL_PAGES (PAGES + SCRATCH_PAGES)
#define SCRATCH_ID 0xfffffU

#define SLOTS 4
#define MAX_FILES 96
#define MAX_WORKERS 16
#define MAX_OPERATIONS 40
/* The most pages that one operation moves, and the most that one holds. */
#define MOVE_PAGES 32UL
#define HOLD_PAGES 16UL

/* What is known of a page. All of it changes under the file's lock. */
struct page {
	uint32_t floor;	  /* no word of an older generation may be seen */
	uint32_t epoch;	  /* counts the beginnings and ends of removals */
	uint16_t active;  /* removals that are going on */
	uint16_t written; /* every word is there: a zero would be lost data */
};

struct file {
	atomic_uint lock;
	uint32_t id; /* 0: the entry is free */
	unsigned int users;
	bool unlinked;
	bool shifting; /* collapse and insert range move its pages: their numbers mean nothing */
	unsigned char handle[64]; /* its file handle: number and generation of the inode */
	atomic_uint clock;
	atomic_uint busy[MAX_WORKERS]; /* a lower bound of the generation that each worker may still be storing */
	struct page pages[ALL_PAGES];
};

/* In memory that all processes share. */
struct world {
	atomic_uint lock;
	atomic_uint next_id;
	atomic_uint stop;     /* workers end after their operation */
	atomic_uint findings;
	atomic_ulong done[MAX_OPERATIONS];	   /* operations that succeeded */
	atomic_ulong refused[MAX_OPERATIONS];	   /* that ended with an errno which the rules allow */
	atomic_ulong beats[MAX_WORKERS + 1];	   /* steps that each worker, and OTHER, has begun */
	_Atomic(const char *) doing[MAX_WORKERS + 1]; /* the one that it is at */
	atomic_ulong free_at_first;		   /* blocks, without any file */
	atomic_ulong words;			   /* that were looked at */
	atomic_uint unsupported[MAX_OPERATIONS];
	struct file files[MAX_FILES];
};

extern struct world *world;

struct settings {
	const char *dir;    /* where the filesystem is mounted */
	const char *device; /* that it is on */
	const char *slow;   /* a block device whose I/O takes long, for holders; NULL: none */
	const char *fstype, *options;
	const char *only; /* names of operations, with commas; NULL: all */
	uint64_t seed;
	unsigned int seconds, round, workers, patience;
	unsigned long free_mib;
	bool fsck;
};

extern struct settings settings;

struct open_file {
	int fd;
	struct file *file;
};

struct ring; /* io_uring: holders.c */

struct worker {
	unsigned int number;
	uint64_t random;
	unsigned int operation;
	struct open_file open[4];
	uint64_t *buffer; /* MOVE_PAGES, aligned */
	int slow;	  /* descriptor of settings.slow, or -1 */
	struct ring *ring;
};

struct operation {
	const char *name;
	unsigned int weight;
	void (*run)(struct worker *w);
};

/* What was known of a page before it was looked at. */
struct view {
	uint32_t floor, epoch;
	bool written;
};

/* An operation that stores words of one generation, or that removes pages. */
struct claim {
	struct file *file;
	unsigned int worker;
	uint32_t generation;
	uint32_t oldest; /* older generations belong to operations that had ended when this one began */
	unsigned long first, count;
	struct view *views; /* of a store: the pages as they were before */
};

/* Who freezes and remounts beside the workers, and who works alone between rounds. */
#define OTHER MAX_WORKERS

/* watch.c */
uint64_t now_ms(void);
void put_string(const char *path, const char *text);
/* To be called by `actor` before each step that may take long; `doing` is a string that stays. */
void beat(unsigned int actor, const char *doing);
/* Begins a child that watch() watches. */
void watched(unsigned int actor, void (*run)(unsigned int actor, uint64_t round), uint64_t round);
/* Until all have ended, who are told to at `until`. False: there was a finding, or one of them hangs. */
bool watch(uint64_t until);

/* model.c */
void world_create(void);
uint64_t word_of(uint32_t id, unsigned long page, uint32_t generation);
void fill(uint64_t *to, const struct file *file, unsigned long page, unsigned long count, uint32_t generation);
void fill_scratch(uint64_t *to, unsigned long count, uint32_t salt);
struct file *model_register(int fd, bool shifting);
struct file *model_find(int fd);
void model_put(struct file *file, int fd);
void model_forget_others(struct file *const *kept, unsigned int count);
void store_begin(struct claim *c, struct worker *w, struct file *file, unsigned long first, unsigned long count);
unsigned long pages_inside(int fd);
void store_end(struct claim *c, unsigned long whole_from, unsigned long whole_to);
void removal_begin(struct claim *c, struct worker *w, struct file *file, uint64_t from, uint64_t to);
void removal_end(struct claim *c, bool done, uint64_t from, uint64_t to);
void view_take(struct file *file, unsigned long first, unsigned long count, struct view *views);
void check_page(struct file *file, unsigned long page, const struct view *view, const uint64_t *words, const char *how);
void check_held(struct file *file, unsigned long page, uint32_t floor, const uint64_t *words, const char *how);
void finding(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* workload.c */
extern const struct operation operations[];
extern const unsigned int operation_count;
uint64_t rnd(struct worker *w, uint64_t below);
unsigned long first_page(struct worker *w, unsigned long count);
void work(unsigned int number, uint64_t round);
struct open_file *pick_file(struct worker *w);
void outcome(struct worker *w, bool ok, const char *allowed);
/* A mapping of pages of a file; at an address where 2 MiB pages can be mapped, if `huge`. NULL: refused. */
struct map {
	char *at, *room;
	size_t length, room_length;
};
bool map_open(struct worker *w, struct map *m, int fd, unsigned long first, unsigned long count, int flags, bool huge);
void map_close(struct map *m);
bool guarded(void (*touch)(void *context), void *context);

/* holders.c */
void holders_open(struct worker *w);
void op_hold_pipe(struct worker *w);
void op_hold_readv(struct worker *w);
void op_hold_read_slow(struct worker *w);
void op_hold_write_slow(struct worker *w);
void op_hold_uring(struct worker *w);

#endif
