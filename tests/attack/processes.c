/* processes KIND: processes and threads that come, go and change while they are looked at. */
#include "copies.h"
#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <time.h>

#define PAGES 7
static char *memory;
static char **arguments;

static void write_2(char *at)
{
	*(volatile char *)at = 2;
}

static void hostile_name(unsigned turn)
{
	const char *names[] = {"\33[2J\33[31mPWNED", "\n\n\n{\"a\":1}", "\"'`$(id)<b>", "\x9b" "31m\x90\xff\xfe",
			       "\xe2\x80\xae" "PWNED", "a\"} 1\nup 0", ") Z 1 1 1", "=1+cmd|'a'!A"};
	char name[16];

	if (turn % 2) {
		snprintf(name, sizeof(name), "%s", names[turn / 2 % 8]);
	} else {
		for (int i = 0; i < 15; i++)
			name[i] = 1 + (turn * 7919u + i * 31u) % 255;
		name[15] = 0;
	}
	prctl(PR_SET_NAME, name);
}

static void storm(int named)
{
	int living = 0;

	for (unsigned turn = 0;; turn++) {
		pid_t child = fork();

		if (!child) {
			if (named)
				hostile_name(turn);
			for (int page = 0; page < PAGES; page++)
				write_2(memory + page * PAGE);
			_exit(0);
		}
		living += child > 0;
		while (living > 8 && waitpid(-1, NULL, child > 0 ? 0 : WNOHANG) > 0)
			living--;
		if (turn % 8 == 0)
			usleep(3000);
	}
}

static void *renaming(void *at)
{
	for (unsigned turn = (unsigned long)at;; turn += 7) {
		hostile_name(turn);
		usleep(200000);
		*(volatile char *)at = 2;
	}
	return NULL;
}

static void threads(int count)
{
	char *many = anonymous((size_t)count * PAGE, PROT_READ | PROT_WRITE);
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (int i = 0; i < count; i++)
		pthread_create(&thread, &small, renaming, many + (size_t)i * PAGE);
	for (;;) {
		copy_by(write_2, many, count);
		usleep(20000);
	}
}

/* Each is the child of the one before. */
static void chain(int depth)
{
	for (int i = 0; i < depth; i++) {
		pid_t child = fork();

		if (child < 0)
			break;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (child)
			for (;;) {
				write_2(memory + i % PAGES * PAGE);
				usleep(500000);
			}
	}
	for (;;)
		copy_by(write_2, memory, PAGES);
}

/* Execute itself over and over, and leave a name behind that is another program's. */
static void executing(void)
{
	for (unsigned turn = 0;; turn++) {
		pid_t child = fork();

		if (!child) {
			hostile_name(turn);
			copy_by(write_2, memory, PAGES);
			execl("/proc/self/exe", "\33[31m\nPWNED", "once", NULL);
			_exit(1);
		}
		while (waitpid(-1, NULL, 0) > 0)
			;
		usleep(1000);
	}
}

static void *exec_from_thread(void *unused)
{
	execv("/proc/self/exe", arguments);
	return unused;
}

/* A thread executes: it takes the place of the leader, under its PID. */
static void thread_exec(void)
{
	pthread_t thread;

	for (int i = 0; i < 5; i++)
		copy_by(write_2, memory, PAGES);
	pthread_create(&thread, NULL, exec_from_thread, NULL);
	for (;;)
		copy_by(write_2, memory, PAGES);
}

static void *copying(void *unused)
{
	for (;;) {
		copy_by(write_2, memory, PAGES);
		usleep(1000);
	}
	return unused;
}

/* The leader has ended: /proc/PID/maps is empty, but its threads go on. */
static void leaderless(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, copying, NULL);
	pthread_exit(NULL);
}

static void zombies(int count)
{
	for (int i = 0; i < count; i++) {
		pid_t child = fork();

		if (!child) {
			write_2(memory);
			_exit(0);
		}
		usleep(300);
	}
	for (;;)
		pause();
}

/* Stopped in the middle, by a signal and by a tracer; continued for a moment now and then. */
static void stopped(void)
{
	pid_t children[16];

	for (int i = 0; i < 16; i++) {
		children[i] = fork();
		if (!children[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (i % 2)
				ptrace(PTRACE_TRACEME, 0, 0, 0);
			for (;;)
				copy_by(write_2, memory, PAGES);
		}
	}
	for (int turn = 0;; turn++) {
		int i = turn % 16;

		kill(children[i], SIGSTOP);
		usleep(20000);
		if (i % 2)
			ptrace(PTRACE_CONT, children[i], 0, 0);
		if (turn % 3 == 0)
			kill(children[i], SIGCONT);
	}
}

static int shares(void *unused)
{
	memset(memory, 3, PAGES * PAGE);
	return unused != NULL;
}

/* Processes that share memory: CLONE_VM without CLONE_THREAD, and vfork. */
static void shared(void)
{
	char *stack = anonymous(65536, PROT_READ | PROT_WRITE);

	for (unsigned turn = 0;; turn++) {
		pid_t still, child;

		memset(memory, 1, PAGES * PAGE);
		still = fork_still();
		if (turn % 2) {
			child = clone(shares, stack + 65536, CLONE_VM | SIGCHLD | (turn % 4 == 1 ? CLONE_VFORK : 0),
				      NULL);
		} else {
			child = vfork();
			if (!child) {
				memory[0] = 2;
				_exit(0);
			}
		}
		waitpid(child, NULL, 0);
		end_child(still);
		usleep(500);
	}
}

static void nothing(int signal)
{
	memory[signal % PAGES * PAGE] = 2;
}

static void signals(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct itimerspec often = {{0, 100000}, {0, 100000}};
	timer_t timer;

	signal(SIGALRM, nothing);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &often, NULL);
	for (;;) {
		pid_t child = fork();

		if (!child)
			for (;;)
				copy_by(write_2, memory, PAGES);
		usleep(1000 + (child & 1023));
		kill(child, SIGKILL); /* perhaps within a fault */
		waitpid(child, NULL, 0);
	}
}

/* In a namespace of its own, PIDs start at 1 again: they are reused at once. */
static void namespaces(void)
{
	for (unsigned turn = 0;; turn++) {
		pid_t child = fork();

		if (!child) {
			char path[64] = "/tmp/perf-1.map";

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS))
				_exit(1);
			child = fork();
			if (!child) {
				/* Its own /tmp: a link out of the tree, then a pipe under the map's name. */
				if (mkdir("root", 0755) && errno != EEXIST)
					_exit(1);
				unlink("root/tmp");
				if (turn % 2)
					symlink("/root", "root/tmp");
				else if (mkdir("root/tmp", 0755) && errno != EEXIST)
					_exit(1);
				if (chroot("root") || chdir("/"))
					_exit(1);
				mkfifo(path, 0666);
				for (int i = 0; i < 200; i++) {
					hostile_name(i);
					copy_by(write_2, memory, PAGES);
				}
				_exit(0);
			}
			waitpid(child, NULL, 0);
			_exit(0);
		}
		waitpid(child, NULL, 0);
		usleep(1000);
	}
}

/* A working directory that is gone, descriptors up to the limit, arguments written over. */
static void odd(void)
{
	mkdir("gone", 0700);
	if (chdir("gone") || rmdir("../gone"))
		fail("gone");
	while (dup(0) >= 0)
		;
	for (char *at = arguments[0]; at < arguments[1] + strlen(arguments[1]); at++)
		*at = 1 + (at - arguments[0]) % 31;
	for (unsigned turn = 0;; turn++) {
		hostile_name(turn);
		copy_by(write_2, memory, PAGES);
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	arguments = argv;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memory = anonymous(PAGES * PAGE, PROT_READ | PROT_WRITE);
	memset(memory, 1, PAGES * PAGE);
	if (!strcmp(kind, "once")) {
		copy_by(write_2, memory, PAGES);
		return 0;
	}
	if (!strcmp(kind, "storm"))
		storm(0);
	if (!strcmp(kind, "names"))
		storm(1);
	if (!strcmp(kind, "threads"))
		threads(4000);
	if (!strcmp(kind, "chain"))
		chain(1000);
	if (!strcmp(kind, "exec"))
		executing();
	if (!strcmp(kind, "thread-exec"))
		thread_exec();
	if (!strcmp(kind, "leaderless"))
		leaderless();
	if (!strcmp(kind, "zombies"))
		zombies(2000);
	if (!strcmp(kind, "stopped"))
		stopped();
	if (!strcmp(kind, "shared"))
		shared();
	if (!strcmp(kind, "signals"))
		signals();
	if (!strcmp(kind, "namespaces"))
		namespaces();
	if (!strcmp(kind, "odd"))
		odd();
	fprintf(stderr, "processes: no kind %s\n", kind);
	return 2;
}
