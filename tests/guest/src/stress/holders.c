// SPDX-License-Identifier: GPL-2.0
/*
 * Strangers that keep a page of a file: pipes, other processes' reads, and devices that move data into or out of mapped pages.
 *
 * The pages are held without any mapping, for a while that the filesystem does not know. What the holder finds in them at the end is
 * still the file's, and what a device puts into them lands in this file or nowhere: never in the file that got the block next.
 */
#include "stress.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>

/* Device I/O goes through a region of the slow device that belongs to this worker. */
#define REGION (HOLD_PAGES * PAGE)

struct ring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static struct ring *ring_open(void)
{
	struct io_uring_params p = { 0 };
	struct ring *r = calloc(1, sizeof(*r));
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0) {
		free(r);
		return NULL;
	}
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		  IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
		       IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || r->sqes == MAP_FAILED) {
		perror("stress: io_uring");
		exit(2);
	}
	r->sq_tail = (unsigned int *)(sq + p.sq_off.tail);
	r->sq_mask = (unsigned int *)(sq + p.sq_off.ring_mask);
	r->sq_array = (unsigned int *)(sq + p.sq_off.array);
	r->cq_head = (unsigned int *)(cq + p.cq_off.head);
	r->cq_tail = (unsigned int *)(cq + p.cq_off.tail);
	r->cq_mask = (unsigned int *)(cq + p.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return r;
}

static bool ring_submit(struct ring *r, unsigned int opcode, int fd, void *buffer, unsigned int length, uint64_t offset)
{
	unsigned int tail = *r->sq_tail, index = tail & *r->sq_mask;
	struct io_uring_sqe *sqe = &r->sqes[index];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buffer;
	sqe->len = length;
	sqe->off = offset;
	r->sq_array[index] = index;
	atomic_store((_Atomic unsigned int *)r->sq_tail, tail + 1);
	return syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1;
}

static int ring_wait(struct ring *r)
{
	unsigned int head = *r->cq_head;
	int result;

	while (head == atomic_load((_Atomic unsigned int *)r->cq_tail))
		syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	result = r->cqes[head & *r->cq_mask].res;
	atomic_store((_Atomic unsigned int *)r->cq_head, head + 1);
	return result;
}

void holders_open(struct worker *w)
{
	w->ring = ring_open();
	if (!settings.slow)
		return;
	w->slow = open(settings.slow, O_RDWR | O_DIRECT);
	if (w->slow < 0) {
		perror(settings.slow);
		exit(2);
	}
}

static uint64_t region(const struct worker *w)
{
	return w->number * REGION;
}

/* What most holders need: a few pages of some file, mapped. */
struct held {
	struct open_file *o;
	unsigned long first, count;
	struct map m;
	uint32_t floors[HOLD_PAGES];
	unsigned long inside; /* pages_inside() when its store began */
};

/* Up to which page `bytes` that a device has stored count. */
static unsigned long stored_to(const struct held *h, ssize_t bytes)
{
	unsigned long end = h->first + (bytes > 0 ? bytes / PAGE : 0);

	return end < h->inside ? end : h->inside;
}

static bool hold(struct worker *w, struct held *h, unsigned long most)
{
	struct view views[HOLD_PAGES];

	h->o = pick_file(w);
	h->count = 1 + rnd(w, rnd(w, 2) ? 3 : most);
	h->first = first_page(w, h->count);
	if (!h->o)
		return false;
	if (!map_open(w, &h->m, h->o->fd, h->first, h->count, MAP_SHARED, rnd(w, 2)))
		return false;
	view_take(h->o->file, h->first, h->count, views);
	for (unsigned long i = 0; i < h->count; i++)
		h->floors[i] = views[i].floor;
	return true;
}

static void check_all(struct worker *w, struct held *h, unsigned long count, const char *how)
{
	for (unsigned long i = 0; i < count; i++)
		check_held(h->o->file, h->first + i, h->floors[i], w->buffer + i * WORDS, how);
}

static size_t read_fully(int fd, void *to, size_t count)
{
	size_t done = 0;
	ssize_t n;

	while (done < count && (n = read(fd, (char *)to + done, count - done)) > 0)
		done += n;
	return done;
}

/* vmsplice puts the pages themselves into a pipe; tee shows what is in them while they are held. */
void op_hold_pipe(struct worker *w)
{
	int held[2], seen[2];
	struct iovec part;
	struct held h;
	ssize_t n;

	if (!hold(w, &h, HOLD_PAGES))
		return;
	if (pipe(held) || pipe(seen)) {
		finding("pipe: %s", strerror(errno));
		return;
	}
	part = (struct iovec){ h.m.at, h.count * PAGE };
	n = vmsplice(held[1], &part, 1, SPLICE_F_NONBLOCK);
	outcome(w, n > 0, "EFAULT EAGAIN");
	map_close(&h.m);
	if (n > 0) {
		unsigned long pages = n / PAGE;

		for (uint64_t looks = rnd(w, 4); looks > 0; looks--) {
			usleep(rnd(w, 10000));
			ssize_t m = tee(held[0], seen[1], n, SPLICE_F_NONBLOCK);

			if (m > 0 && read_fully(seen[0], w->buffer, m) == (size_t)m)
				check_all(w, &h, m / PAGE, "held by a pipe");
		}
		usleep(rnd(w, 20) ? rnd(w, 5000) : rnd(w, 500000));
		if (read_fully(held[0], w->buffer, n) == (size_t)n)
			check_all(w, &h, pages, "released by a pipe");
	}
	close(held[0]);
	close(held[1]);
	close(seen[0]);
	close(seen[1]);
}

/* Pages as another process sees them; here our own, which the kernel treats the same. */
void op_hold_readv(struct worker *w)
{
	struct iovec local, remote;
	struct held h;
	ssize_t n;

	if (!hold(w, &h, HOLD_PAGES))
		return;
	local = (struct iovec){ w->buffer, h.count * PAGE };
	remote = (struct iovec){ h.m.at, h.count * PAGE };
	n = syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &remote, 1UL, 0UL);
	outcome(w, n > 0, "EFAULT");
	if (n > 0)
		check_all(w, &h, n / PAGE, "process_vm_readv");
	map_close(&h.m);
}

/* Puts words for these pages on the device. */
static bool prepare_device(struct worker *w, struct held *h, struct claim *c)
{
	ssize_t n;

	store_begin(c, w, h->o->file, h->first, h->count);
	h->inside = pages_inside(h->o->fd);
	fill(w->buffer, h->o->file, h->first, h->count, c->generation);
	n = pwrite(w->slow, w->buffer, h->count * PAGE, region(w));
	if (n == (ssize_t)(h->count * PAGE))
		return true;
	finding("writing the slow device: %s", n < 0 ? strerror(errno) : "short");
	store_end(c, 0, 0);
	return false;
}

/* A direct read: the device stores into the mapped pages. */
void op_hold_read_slow(struct worker *w)
{
	struct claim c;
	struct held h;
	ssize_t n;

	if (w->slow < 0 || !hold(w, &h, HOLD_PAGES))
		return;
	if (prepare_device(w, &h, &c)) {
		n = pread(w->slow, h.m.at, h.count * PAGE, region(w));
		outcome(w, n > 0, "EFAULT");
		store_end(&c, h.first, stored_to(&h, n));
	}
	map_close(&h.m);
}

/* A direct write: the device loads from them. */
void op_hold_write_slow(struct worker *w)
{
	struct held h;
	ssize_t n;

	if (w->slow < 0 || !hold(w, &h, HOLD_PAGES))
		return;
	n = pwrite(w->slow, h.m.at, h.count * PAGE, region(w));
	outcome(w, n > 0, "EFAULT");
	map_close(&h.m);
	if (n > 0) {
		if (pread(w->slow, w->buffer, n, region(w)) == n)
			check_all(w, &h, n / PAGE, "written to a device");
		else
			finding("reading the slow device: %s", strerror(errno));
	}
}

/* As the direct read, but nobody waits in a system call, and the mapping goes while the device is at it. */
void op_hold_uring(struct worker *w)
{
	bool unmapped = rnd(w, 2);
	struct claim c;
	struct held h;
	int n;

	if (!w->ring || w->slow < 0 || !hold(w, &h, HOLD_PAGES))
		return;
	if (prepare_device(w, &h, &c)) {
		if (!ring_submit(w->ring, IORING_OP_READ, w->slow, h.m.at, h.count * PAGE, region(w))) {
			finding("io_uring: %s", strerror(errno));
			return;
		}
		if (unmapped)
			map_close(&h.m);
		n = ring_wait(w->ring);
		errno = -n;
		outcome(w, n > 0, "EFAULT");
		store_end(&c, h.first, stored_to(&h, n));
		if (!unmapped)
			map_close(&h.m);
	} else {
		map_close(&h.m);
	}
}
