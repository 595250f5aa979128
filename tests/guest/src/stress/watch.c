// SPDX-License-Identifier: GPL-2.0
/*
 * Who makes no progress, and where he is.
 *
 * The process that watches makes no call that the filesystem could hold up: whatever touches it (workers, who freezes and remounts it,
 * who compares and unmounts it between rounds) is a child, says with beat() what it is about to do, and has `patience` seconds for it.
 * If one takes longer, everything that can be known from outside is printed while they still hang: what each of them does and for how
 * long, the kernel stacks of all of them, of the filesystem's threads and of everybody else who sleeps uninterruptibly, and in the kernel
 * log the same once more (sysrq w), with the locks that they hold where lockdep knows (sysrq d).
 */
#include "stress.h"
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define ACTORS (MAX_WORKERS + 1)

struct child {
	pid_t pid;
	uint64_t beats, since;
};

static struct child children[ACTORS];

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000UL + t.tv_nsec / 1000000;
}

void put_string(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void beat(unsigned int actor, const char *doing)
{
	atomic_store(&world->doing[actor], doing);
	atomic_fetch_add(&world->beats[actor], 1);
}

void watched(unsigned int actor, void (*run)(unsigned int actor, uint64_t round), uint64_t round)
{
	struct child *c = &children[actor];

	beat(actor, "the beginning");
	*c = (struct child){ .since = now_ms(), .beats = atomic_load(&world->beats[actor]), .pid = fork() };
	if (c->pid == 0) {
		run(actor, round);
		exit(0);
	}
	if (c->pid < 0) {
		c->pid = 0;
		finding("fork: %s", strerror(errno));
	}
}

/* ---- what is known of a process from outside ---- */

static void read_text(const char *name, char *to, size_t size)
{
	int fd = open(name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, to, size - 1);

	to[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

static void show_task(const char *process, const char *task)
{
	char path[600], name[64], text[4096];
	const char *state;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", process, task);
	read_text(path, name, sizeof(name));
	name[strcspn(name, "\n")] = 0;
	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", process, task);
	read_text(path, text, sizeof(text));
	state = strrchr(text, ')');
	if (!state || !state[1] || (strcmp(name, "stress") && strncmp(name, "ochre", 5) && state[2] != 'D'))
		return;
	printf("  -- %s, process %s, task %s, state %c\n", name, process, task, state[2]);
	snprintf(path, sizeof(path), "/proc/%s/task/%s/stack", process, task);
	read_text(path, text, sizeof(text));
	fputs(text, stdout);
}

static void each_number(const char *path, void (*call)(const char *process, const char *number), const char *process)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			call(process, e->d_name);
	if (d)
		closedir(d);
}

static void show_process(const char *unused, const char *process)
{
	char path[300];

	(void)unused;
	snprintf(path, sizeof(path), "/proc/%s/task", process);
	each_number(path, show_task, process);
}

static const char *name_of(unsigned int actor)
{
	return actor == OTHER ? "the one beside the workers" : "worker";
}

static void show_stuck(unsigned int stuck)
{
	printf("FAILED: %s (process %d) makes no progress in '%s' for %u s\n", name_of(stuck), children[stuck].pid,
	       atomic_load(&world->doing[stuck]), settings.patience);
	for (unsigned int i = 0; i < ACTORS; i++)
		if (children[i].pid)
			printf("  process %d, %s %u: in '%s' for %.1f s\n", children[i].pid, name_of(i), i, atomic_load(&world->doing[i]),
			       (now_ms() - children[i].since) / 1000.0);
	each_number("/proc", show_process, NULL);
	fflush(stdout);
	put_string("/proc/sysrq-trigger", "w");
	put_string("/proc/sysrq-trigger", "d");
}

/* ---- watching ---- */

static bool overdue(unsigned int actor)
{
	struct child *c = &children[actor];
	uint64_t beats = atomic_load(&world->beats[actor]);

	if (c->pid && beats != c->beats) {
		c->beats = beats;
		c->since = now_ms();
	}
	return c->pid && now_ms() - c->since > settings.patience * 1000UL;
}

static unsigned int running(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < ACTORS; i++)
		n += children[i].pid != 0;
	return n;
}

static void ended(pid_t pid, int status)
{
	for (unsigned int i = 0; i < ACTORS; i++) {
		if (children[i].pid != pid)
			continue;
		children[i].pid = 0;
		if (status)
			finding("%s %u ended with status %#x in '%s'", name_of(i), i, status, atomic_load(&world->doing[i]));
	}
}

bool watch(uint64_t until)
{
	while (running()) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0) {
			ended(pid, status);
			continue;
		}
		usleep(10000);
		if (now_ms() >= until)
			atomic_store(&world->stop, 1);
		for (unsigned int i = 0; i < ACTORS; i++) {
			if (!overdue(i))
				continue;
			show_stuck(i);
			for (unsigned int k = 0; k < ACTORS; k++)
				if (children[k].pid)
					kill(children[k].pid, SIGKILL);
			return false;
		}
	}
	return !atomic_load(&world->findings);
}
