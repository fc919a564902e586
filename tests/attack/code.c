/*
 * code KIND [FILE]: copies pages from code whose names, files or stack are hostile. Runs until
 * it is killed. FILE: an ELF file with the code `movb $2, (%rdi); ret` at each 16 bytes of its
 * second page, made by crafted_elf.py.
 */
#include "copies.h"
#include <time.h>

#define PAGES 61
#define EACH 16 /* bytes from one function to the next */

static const unsigned char WRITES[] = {0xc6, 0x07, 0x02, 0xc3};
static char *memory;
static char path[256];

static char *generated(size_t bytes)
{
	char *code = anonymous(bytes, PROT_READ | PROT_WRITE | PROT_EXEC);

	for (size_t at = 0; at + EACH <= bytes; at += EACH)
		memcpy(code + at, WRITES, sizeof(WRITES));
	return code;
}

static void churn(char *code, int functions)
{
	static int turn;

	for (int page = 0; page < 4; page++, turn++)
		copy_by((writer)(code + turn % functions * EACH), memory, PAGES);
	usleep(5000);
}

static void forever(char *code, int functions)
{
	for (;;)
		churn(code, functions);
}

static void perf_map(pid_t pid)
{
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", pid);
	unlink(path);
}

/* A map whose lines name the generated code. */
static void write_map(char *code, const char *line, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	FILE *file = fdopen(fd, "a");

	if (!file)
		fail(path);
	for (size_t written = 0; written < bytes; )
		written += fprintf(file, line, (unsigned long)code + written, EACH);
	fclose(file);
}

static char *mapped(const char *file, int *functions)
{
	int fd = open(file, O_RDONLY);
	struct stat status;
	char *at;

	if (fd < 0 || fstat(fd, &status))
		fail(file);
	at = mmap(NULL, status.st_size < (64 << 20) ? status.st_size : 64 << 20,
		  PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		fail("mmap");
	close(fd);
	*functions = PAGE / EACH;
	return at + PAGE;
}

/* Put anonymous memory in the file's place, then make the file shorter than what was read. */
static void truncate_own(const char *template)
{
	char *bytes, *code, *copy, name[64];
	int functions, from = open(template, O_RDONLY);
	size_t size = lseek(from, 0, SEEK_END);

	bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, from, 0);
	for (int turn = 0;; turn++) {
		int fd;

		snprintf(name, sizeof(name), "lib%d.so", turn);
		fd = open(name, O_RDWR | O_CREAT, 0755);
		if (write(fd, bytes, size) != (ssize_t)size)
			fail("write");
		code = mapped(name, &functions);
		for (int i = 0; i < 30; i++)
			churn(code, functions);
		copy = anonymous(size, PROT_READ | PROT_WRITE | PROT_EXEC);
		memcpy(copy, code - PAGE, size);
		mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, code - PAGE);
		if (ftruncate(fd, turn % 2 ? 100 : 0))
			fail("ftruncate");
		for (int i = 0; i < 30; i++)
			churn(code, functions);
		munmap(code - PAGE, size);
		close(fd);
		unlink(name);
	}
}

static __attribute__((noinline)) void deep(char *at, int depth)
{
	volatile char pad[16];

	pad[0] = depth;
	if (depth)
		deep(at, depth - 1);
	else
		*at = 2;
	pad[1] = depth;
}

static void deep_write(char *at)
{
	deep(at, 50000);
}

/* Write a page with the stack pointer or the frame pointer set to anything. */
static unsigned long hostile_word;

static void pivoted(char *at)
{
	asm volatile("mov %%rsp, %%r12\n\t"
		     "mov %[word], %%rsp\n\t"
		     "movb $2, (%[at])\n\t"
		     "mov %%r12, %%rsp"
		     : : [word] "r"(hostile_word), [at] "r"(at) : "r12", "memory");
}

static void framed(char *at)
{
	asm volatile("mov %%rbp, %%r12\n\t"
		     "mov %[word], %%rbp\n\t"
		     "movb $2, (%[at])\n\t"
		     "mov %%r12, %%rbp"
		     : : [word] "r"(hostile_word), [at] "r"(at) : "r12", "memory");
}

static void registers(void)
{
	char *own = anonymous(PAGE * 16, PROT_READ | PROT_WRITE);
	unsigned long *loop = (unsigned long *)own;
	unsigned long words[] = {0, 8, ~0UL, ~7UL, 0x8000000000000000UL, 0x00007ffffffff000UL,
				 0xffffffff81000000UL, 0xffffffffff600000UL, 0x1234,
				 (unsigned long)loop, (unsigned long)own + PAGE * 16 - 8};

	for (int i = 0; i < PAGE * 2; i++) /* each frame is its own caller */
		loop[i] = (unsigned long)loop;
	for (unsigned turn = 0;; turn++) {
		hostile_word = words[turn % (sizeof(words) / sizeof(*words))];
		copy_by(pivoted, memory, PAGES);
		copy_by(framed, memory, PAGES);
		usleep(5000);
	}
}

/* The address of each write, and with it each stack, is another one. */
static void unique(char *code, long functions)
{
	for (long at = 0;; at += 7919) {
		pid_t child;

		memset(memory, 1, PAGES * PAGE);
		child = fork_still();
		for (int page = 0; page < PAGES; page++)
			((writer)(code + (at * PAGES + page) % functions * EACH))(memory + page * PAGE);
		end_child(child);
		if (at % 10 == 0)
			usleep(1000);
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "", *file = argc > 2 ? argv[2] : "";
	int functions = 4096;
	char *code;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memory = anonymous(PAGES * PAGE, PROT_READ | PROT_WRITE);
	madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	perf_map(getpid());
	if (!strcmp(kind, "file")) {
		code = mapped(file, &functions);
		forever(code, functions);
	}
	if (!strcmp(kind, "deleted-fifo")) {
		char gone[4096];

		code = mapped(file, &functions);
		snprintf(gone, sizeof(gone), "%s (deleted)", file);
		unlink(file);
		mkfifo(gone, 0666);
		forever(code, functions);
	}
	if (!strcmp(kind, "replaced")) { /* the name now is a FIFO, then a link to what only root reads */
		code = mapped(file, &functions);
		for (int turn = 0;; turn++) {
			unlink(file);
			if (turn % 2 ? symlink("/etc/shadow", file) : mkfifo(file, 0666))
				fail("replaced");
			for (int i = 0; i < 40; i++)
				churn(code, functions);
		}
	}
	if (!strcmp(kind, "truncated"))
		truncate_own(file);
	if (!strcmp(kind, "registers"))
		registers();
	if (!strcmp(kind, "deep")) {
		struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

		setrlimit(RLIMIT_STACK, &all);
		for (;;)
			copy_by(deep_write, memory, 7);
	}
	if (!strcmp(kind, "unique"))
		unique(generated(64 << 20), (64 << 20) / EACH);
	if (!strcmp(kind, "unique-file")) {
		code = mapped(file, &functions);
		unique(code, 60000);
	}
	code = generated(EACH * functions);
	if (!strcmp(kind, "map-fifo") && mkfifo(path, 0666))
		fail(path);
	if (!strcmp(kind, "map-link")) /* what never ends, what blocks, what only root may read */
		for (int turn = 0;; turn++) {
			const char *to[] = {"/dev/zero", "/proc/self/mem", "/etc/shadow", "/dev/tty", path};

			perf_map(getpid());
			if (symlink(to[turn % 5], path))
				fail(path);
			for (int i = 0; i < 20; i++)
				churn(code, functions);
		}
	if (!strcmp(kind, "map-sparse") && (close(open(path, O_WRONLY | O_CREAT, 0644)),
					    truncate(path, 10L << 30)))
		fail(path);
	if (!strcmp(kind, "map-lines")) /* as many entries as fit */
		write_map(code, "%lx %x a\n", 64 << 20);
	if (!strcmp(kind, "map-wide")) { /* one line */
		char *line = malloc(60 << 20);

		memset(line, 'x', (60 << 20) - 1);
		memcpy(line, "0 ffffffffffffffff \33]0;PWNED\7", 30);
		int fd = open(path, O_WRONLY | O_CREAT, 0644);
		if (write(fd, line, (60 << 20) - 1) < 0)
			fail(path);
		free(line);
	}
	if (!strcmp(kind, "map-numbers")) { /* numbers that no machine has */
		char *line = malloc(32 << 20);

		memset(line, 'f', (32 << 20) - 1);
		int fd = open(path, O_WRONLY | O_CREAT, 0644);
		for (int i = 0; i < 2; i++)
			if (write(fd, line, (32 << 20) - 1) < 0 || write(fd, " -1 PWNED\n", 10) < 0)
				fail(path);
		free(line);
	}
	if (!strcmp(kind, "map-grow"))
		for (;;) {
			write_map(code, "%lx %x grown\n", 1 << 20);
			for (int i = 0; i < 20; i++)
				churn(code, functions);
		}
	if (!strcmp(kind, "map-swap")) /* another file at each look */
		for (int turn = 0;; turn++) {
			perf_map(getpid());
			if (turn % 3 == 0 ? mkfifo(path, 0666) : turn % 3 == 1 ? mkdir(path, 0755) : 0)
				fail(path);
			if (turn % 3 == 2)
				write_map(code, "%lx %x swapped\n", 1 << 12);
			usleep(500);
			if (turn % 3 == 1)
				rmdir(path);
			if (turn % 50 == 0)
				churn(code, functions);
		}
	if (!strcmp(kind, "map-victim")) { /* a map for another one's process */
		perf_map(atoi(file));
		write_map((char *)0x400000, "%lx 10000000 PWNED %x\n", 1);
		for (int turn = 0;; turn++) {
			for (int i = 0; i < 20; i++)
				churn(code, functions);
			if (turn == 10) {
				perf_map(atoi(file));
				mkfifo(path, 0666);
			}
		}
	}
	if (!strcmp(kind, "far")) /* code at the ends of the address space */
		for (int turn = 0;; turn++) {
			char *at[] = {(char *)0x10000, (char *)0x7ffffffe0000};

			code = mmap(at[turn % 2], PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			if (code == MAP_FAILED)
				continue;
			for (int i = 0; i < PAGE; i += EACH)
				memcpy(code + i, WRITES, sizeof(WRITES));
			churn(code, PAGE / EACH);
			munmap(code, PAGE);
		}
	forever(code, functions);
}
