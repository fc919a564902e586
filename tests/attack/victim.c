/*
 * victim FILE PAGES: fork over and over; each time, this process copies PAGES pages of its region.
 * Its child writes nothing. FILE holds `struct truth`, which the harness reads and writes.
 */
#include "copies.h"

#define REGION ((char *)0x200000000000UL)

struct truth {
	volatile uint64_t region; /* pages of the region that were copied */
	volatile uint64_t copies; /* all of this process: minor faults while a child lived */
	volatile uint64_t late;	  /* minor faults while a child ended: copied or only re-marked */
	volatile uint64_t pause;  /* set by the harness */
	volatile uint64_t paused;
};

static uint64_t minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

__attribute__((noinline)) void victim_writes(char *at, int pages)
{
	for (int page = 0; page < pages; page++)
		*(volatile char *)(at + (size_t)page * PAGE) = 2;
}

int main(int argc, char **argv)
{
	int file = argc == 3 ? open(argv[1], O_RDWR) : -1, pages = argc == 3 ? atoi(argv[2]) : 0;
	struct truth *truth = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (truth == MAP_FAILED || mmap(REGION, (size_t)pages * PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != REGION)
		fail("victim");
	for (int cycle = 0;; cycle++) {
		uint64_t before, after;
		pid_t child;

		while (cycle > 1 && truth->pause) { /* the first two touch what is touched once */
			truth->paused = 1;
			usleep(2000);
		}
		truth->paused = 0;
		victim_writes(REGION, pages);
		before = minor_faults();
		child = fork_still();
		if (child < 0)
			fail("fork");
		victim_writes(REGION, pages);
		after = minor_faults();
		end_child(child);
		if (cycle > 1) {
			truth->region += pages;
			truth->copies += after - before;
			truth->late += minor_faults() - after;
		}
		usleep(20000);
	}
}
