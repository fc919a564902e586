/*
 * Faults as fast as one CPU can: saturate CPU SECONDS PAGES
 *
 * Each turn forks; the child writes every page, and each is copied; then the
 * parent writes every page, and each is re-marked. Every 16th turn is compared
 * with /proc/self/pagemap. Prints JSON: see bench/saturation.py. The memory is
 * where cowtrace.workloads.region puts it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START	((volatile char *)0x200000000000UL)
#define PAGE	4096L
#define FRAME	((1ULL << 55) - 1)
#define CHECK_EVERY 16

/* Shared by parent and child. */
struct sums {
	long faults;	/* by getrusage, while the pages were written */
	long differed;	/* turns in which a frame was not as it had to be */
};

static long pages;
static uint64_t *before, *after;
static struct sums *sums;

static void *map(void *at, long size, int how)
{
	void *memory = mmap(at, size, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || (at && memory != at)) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

static void frames(uint64_t *entries)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	long size = pages * 8;

	if (fd < 0 || pread(fd, entries, size, (long)START / PAGE * 8) != size) {
		perror("/proc/self/pagemap");
		exit(1);
	}
	close(fd);
}

static void store(int check, int changes)
{
	struct rusage start, end;

	if (check)
		frames(before);
	getrusage(RUSAGE_SELF, &start);
	for (long page = 0; page < pages; page++)
		START[page * PAGE] = 2;
	getrusage(RUSAGE_SELF, &end);
	sums->faults += end.ru_minflt - start.ru_minflt;
	if (!check)
		return;
	frames(after);
	for (long page = 0; page < pages; page++)
		if ((((before[page] ^ after[page]) & FRAME) != 0) != changes) {
			sums->differed++;
			return;
		}
}

int main(int argc, char **argv)
{
	long turns = 0, checked = 0;
	cpu_set_t cpu;
	time_t end;

	if (argc != 4)
		return 2;
	CPU_ZERO(&cpu);
	CPU_SET(atoi(argv[1]), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	pages = atol(argv[3]);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	map((void *)START, pages * PAGE, MAP_PRIVATE | MAP_FIXED_NOREPLACE);
	before = map(NULL, pages * 8, MAP_SHARED | MAP_POPULATE);
	after = map(NULL, pages * 8, MAP_SHARED | MAP_POPULATE);
	sums = map(NULL, PAGE, MAP_SHARED | MAP_POPULATE);
	for (long page = 0; page < pages; page++)
		START[page * PAGE] = 1;
	for (end = time(NULL) + atol(argv[2]); time(NULL) < end; turns++) {
		int check = turns % CHECK_EVERY == 0;
		pid_t pid = fork();

		if (pid < 0) {
			perror("fork");
			return 1;
		}
		if (!pid) {
			store(check, 1);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		store(check, 0);
		checked += check;
	}
	printf("{\"pages\": %ld, \"faults\": %ld, \"checked\": %ld, \"differed\": %ld}\n",
	       turns * pages, sums->faults, checked, sums->differed);
	return 0;
}
