/*
 * Many processes, each of which copies a known number of pages after its fork.
 *
 *   crowd live N    forks N, each writes its pages and sleeps; says `ready`, and
 *                   ends them all when its stdin ends
 *   crowd short N   forks N one after another, at most 64 at a time, each writes
 *                   its pages and exits; says `ready` at the end, and before it
 *                   `faults N`: what getrusage counted in all of them while they wrote
 *
 * The process forked as number i (from 0) writes 1 + i % 7 pages. Prints `I PID` for
 * each. The memory is where cowtrace.workloads.region puts it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define START	((volatile char *)0x200000000000UL)
#define PAGE	4096
#define MOST	7
#define AT_ONCE	64

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long page_faults(void)
{
	static struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static pid_t forked(long i, int stays)
{
	pid_t pid = fork();
	long before;

	if (pid < 0)
		fail("fork");
	if (pid > 0)
		return pid;
	page_faults(); /* so that its own memory faults no more */
	before = page_faults();
	for (int page = 0; page <= i % MOST; page++)
		START[page * PAGE] = 2;
	while (stays)
		pause();
	_exit(page_faults() - before);
}

/* Waits for one of them: the page faults that it took, or -1 when there is none. */
static int ended(void)
{
	int status = 0;

	return wait(&status) > 0 ? WEXITSTATUS(status) : -1;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[2]) : 0;
	int stays = count && !strcmp(argv[1], "live");
	int living = 0, took;
	long faults = 0;
	pid_t *pids = calloc(count + 1, sizeof(*pids));

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	if (mmap((void *)START, MOST * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != START)
		fail("mmap");
	for (int page = 0; page < MOST; page++)
		START[page * PAGE] = 1;
	for (long i = 0; i < count; i++) {
		pids[i] = forked(i, stays);
		printf("%ld %d\n", i, pids[i]);
		if (!stays && ++living > AT_ONCE) {
			faults += ended();
			living--;
		}
	}
	while (!stays && (took = ended()) >= 0)
		faults += took;
	if (!stays)
		printf("faults %ld\n", faults);
	puts("ready");
	fflush(stdout);
	while (stays && getchar() != EOF)
		;
	for (long i = 0; stays && i < count; i++)
		kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	return 0;
}
