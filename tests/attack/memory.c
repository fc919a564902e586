/* memory KIND: an address space that is hostile to who reads it. Runs until it is killed. */
#include "copies.h"
#include <pthread.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define MANY 65000 /* vm.max_map_count is 65,530 */
#define PAGES 61

static char *memory;

static void write_2(char *at)
{
	*(volatile char *)at = 2;
}

/* Mappings that cannot be merged: every other page has other rights. */
static char *many(size_t count)
{
	char *at = anonymous(count * PAGE, PROT_READ | PROT_WRITE);
	char name[80];

	for (size_t i = 0; i < count; i += 2) {
		mprotect(at + i * PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
		/* PR_SET_VMA_ANON_NAME, where this kernel has it */
		snprintf(name, sizeof(name), "%0*zu", 79, i);
		prctl(0x53564d41, 0, at + i * PAGE, PAGE, name);
	}
	return at;
}

static void many_maps(void)
{
	char *at = many(MANY);

	for (size_t first = 0;; first = (first + 4001) % (MANY - 4001)) {
		pid_t child;

		memset(at + first * PAGE, 1, 4001 * PAGE);
		child = fork_still();
		for (int page = 0; child > 0 && page < 4001; page++)
			at[(first + page) * PAGE] = 2;
		if (child > 0)
			end_child(child);
		usleep(1000);
	}
}

/* Hold the lock of the address space while others want to read /proc/PID/maps. */
static void *holder(void *unused)
{
	char *at = unused;

	for (;;) {
		char *big = anonymous(256UL << 20, PROT_READ | PROT_WRITE);

		madvise(big, 256UL << 20, MADV_NOHUGEPAGE);
		madvise(big, 256UL << 20, 22 /* MADV_POPULATE_READ */);
		mprotect(at, (size_t)MANY / 2 * PAGE, PROT_READ);
		munmap(big, 256UL << 20);
		mprotect(at, (size_t)MANY / 2 * PAGE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

static void locked(void)
{
	pthread_t thread;
	char *at = many(MANY / 2);

	for (int i = 0; i < 2; i++)
		pthread_create(&thread, NULL, holder, at);
	for (;;)
		copy_by(write_2, memory, PAGES);
}

/* The mapping is another one whenever its name is asked for. */
static void moving(void)
{
	size_t bytes = PAGES * PAGE;

	for (int turn = 0;; turn++) {
		char *to = anonymous(bytes, PROT_NONE);
		int fd = memfd_create(turn % 2 ? "\33[2J\33]0;PWNED\7\n\"'<script>" : "", 0);
		char *file;

		memory = mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		copy_by(write_2, memory, PAGES);
		if (ftruncate(fd, bytes))
			fail("ftruncate");
		file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		for (int page = 0; page < PAGES; page++)
			file[page * PAGE] = 1;
		munmap(file, bytes);
		close(fd);
	}
}

static void prot_none(void)
{
	int fd = open("/proc/self/mem", O_RDWR);

	for (;;) {
		pid_t child;

		mprotect(memory, PAGES * PAGE, PROT_READ | PROT_WRITE);
		memset(memory, 1, PAGES * PAGE);
		mprotect(memory, PAGES * PAGE, PROT_NONE);
		child = fork_still();
		for (int page = 0; page < PAGES; page++)
			if (pwrite(fd, "2", 1, (off_t)(memory + page * PAGE)) != 1)
				usleep(1);
		end_child(child);
		usleep(1000);
	}
}

/* A fault that nobody resolves, and one that never ends before its thread is killed. */
static void *stuck(void *at)
{
	*(volatile char *)at = 2;
	return NULL;
}

static void blocked(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	char *at = anonymous(512 * PAGE, PROT_READ | PROT_WRITE);
	struct uffdio_register area = {.range = {(unsigned long)at, 512 * PAGE},
				       .mode = UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_writeprotect protect = {.range = {(unsigned long)at, 256 * PAGE},
					      .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	pthread_attr_t small;
	pthread_t thread;

	memset(at, 1, 256 * PAGE);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &area) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &protect))
		perror("userfaultfd");
	else
		for (int i = 0; i < 512; i++)
			pthread_create(&thread, &small, stuck, at + i * PAGE);
	for (;;)
		copy_by(write_2, memory, PAGES);
}

static void huge(void)
{
	size_t bytes = 16UL << 20;
	char *at = anonymous(bytes + (2 << 20), PROT_READ | PROT_WRITE);

	at = (char *)(((unsigned long)at + (2 << 20) - 1) & ~((2UL << 20) - 1));
	madvise(at, bytes, MADV_HUGEPAGE);
	madvise(at, bytes, MADV_MERGEABLE);
	for (int turn = 0;; turn++) {
		copy_by(write_2, at, bytes / PAGE);
		if (turn % 2)
			madvise(at, bytes, MADV_DONTNEED);
		madvise(at, bytes / 2, turn % 3 ? MADV_WIPEONFORK : MADV_KEEPONFORK);
		madvise(at + bytes / 2, bytes / 2, turn % 5 ? MADV_DOFORK : MADV_DONTFORK);
		madvise(at, bytes, 25 /* MADV_COLLAPSE */);
		usleep(10000);
	}
}

/* Many files, each of which must be opened to name code of the next one. */
static void many_files(const char *template)
{
	char bytes[3 * PAGE], name[512];
	int from = open(template, O_RDONLY);
	int count = 3000;
	char **code = calloc(count, sizeof(*code));

	if (read(from, bytes, sizeof(bytes)) < 2 * PAGE)
		fail(template);
	for (int i = 0; i < count; i++) {
		int fd;

		snprintf(name, sizeof(name), "%0*d.so", 240, i);
		fd = open(name, O_RDWR | O_CREAT, 0755);
		if (fd < 0 || write(fd, bytes, sizeof(bytes)) < 0)
			fail(name);
		code[i] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		close(fd);
	}
	for (int i = 0;; i++)
		copy_by((writer)(code[i * 7919L % count] + PAGE), memory, PAGES);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memory = anonymous(PAGES * PAGE, PROT_READ | PROT_WRITE);
	madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
	if (!strcmp(kind, "many-maps"))
		many_maps();
	if (!strcmp(kind, "locked"))
		locked();
	if (!strcmp(kind, "moving"))
		moving();
	if (!strcmp(kind, "prot-none"))
		prot_none();
	if (!strcmp(kind, "blocked"))
		blocked();
	if (!strcmp(kind, "huge"))
		huge();
	if (!strcmp(kind, "many-files"))
		many_files(argv[2]);
	fprintf(stderr, "memory: no kind %s\n", kind);
	return 2;
}
