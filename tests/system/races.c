/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two threads write each page of a region at the same moment: races KIND PAGES ROUNDS FILE
 *
 * private: a child shares the pages until all are written, so each is copied once a round.
 * unmapped: the child unmaps them meanwhile, so each is copied or re-marked, once a round.
 * shared: pages of FILE that were written back, so each is re-marked once a round.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define START 0x200000000000UL
#define CHECK(done) do { if (!(done)) exit(__LINE__ & 127); } while (0)

static volatile char *region;
static volatile int at[2];	/* the page that each thread has reached */
static int pages, round;
static long page_bytes;

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *write_all(void *number)
{
	long me = (long)number;
	int page;

	pin(me);
	for (page = 0; page < pages; page++) {
		at[me] = round * pages + page + 1;
		while (at[!me] < at[me])
			;
		region[page * page_bytes] = me + 1;
	}
	return 0;
}

static void touch_all(char value)
{
	int page;

	for (page = 0; page < pages; page++)
		region[page * page_bytes] = value;
}

/* A child that has the pages; with `unmaps`, it gives them up one by one as soon as told. */
static pid_t fork_child(int told[2], int unmaps)
{
	pid_t child;
	volatile int wait;
	char word;
	int page;

	CHECK(!pipe(told));
	child = fork();
	CHECK(child >= 0);
	if (child) {
		close(told[0]);
		return child;
	}
	close(told[1]);
	word = read(told[0], &word, 1);
	for (page = 0; unmaps && page < pages; page++) {
		munmap((void *)(region + page * page_bytes), page_bytes);
		for (wait = 0; wait < 300; wait++)
			;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int shared, unmaps, rounds, told[2], fd = -1, page;
	pthread_t threads[2];
	pid_t child = 0;
	long i, size;
	char read_back;

	CHECK(argc == 5);
	shared = !strcmp(argv[1], "shared");
	unmaps = !strcmp(argv[1], "unmapped");
	pages = atoi(argv[2]);
	rounds = atoi(argv[3]);
	page_bytes = sysconf(_SC_PAGESIZE);
	size = pages * page_bytes;
	if (shared) {
		fd = open(argv[4], O_RDWR | O_CREAT | O_TRUNC, 0600);
		CHECK(fd >= 0 && !posix_fallocate(fd, 0, size));
	}
	region = mmap((void *)START, size, PROT_READ | PROT_WRITE,
		      MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), fd, 0);
	CHECK((void *)region == (void *)START);
	madvise((void *)region, size, MADV_NOHUGEPAGE);
	touch_all(1);
	for (round = 0; round < rounds; round++) {
		if (shared) {
			CHECK(!msync((void *)region, size, MS_SYNC));
			for (page = 0; page < pages; page++)
				read_back = region[page * page_bytes];
		} else {
			child = fork_child(told, unmaps);
			if (unmaps)
				CHECK(write(told[1], "x", 1) == 1);
		}
		for (i = 0; i < 2; i++)
			CHECK(!pthread_create(&threads[i], 0, write_all, (void *)i));
		for (i = 0; i < 2; i++)
			CHECK(!pthread_join(threads[i], 0));
		if (child) {
			close(told[1]);
			CHECK(waitpid(child, 0, 0) == child);
		}
	}
	(void)read_back;
	return 0;
}
