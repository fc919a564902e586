/* Pages that one process copies, and no other: shared with a child that never writes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static char *anonymous(size_t bytes, int protection)
{
	char *at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

/* A child that waits to be killed. It does not even push a return address: no page of its own. */
static pid_t fork_still(void)
{
	long pid;

	asm volatile("syscall\n\t"
		     "test %%rax, %%rax\n\t"
		     "jnz 1f\n"
		     "2:\tmov %[pause], %%eax\n\t"
		     "syscall\n\t"
		     "jmp 2b\n"
		     "1:"
		     : "=a"(pid)
		     : "0"((long)SYS_clone), "D"((long)SIGCHLD), "S"(0L), "d"(0L),
		       [pause] "i"(SYS_pause)
		     : "rcx", "r11", "r10", "r8", "memory");
	if (pid < 0)
		errno = -pid;
	return pid;
}

static void end_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

typedef void (*writer)(char *);

/* Share `pages` pages with a child, and write each. */
static __attribute__((unused)) void copy_by(writer write, char *memory, int pages)
{
	pid_t child;

	memset(memory, 1, (size_t)pages * PAGE);
	child = fork_still();
	if (child < 0) {
		usleep(10000);
		return;
	}
	for (int page = 0; page < pages; page++)
		write(memory + (size_t)page * PAGE);
	end_child(child);
}
