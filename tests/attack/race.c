/* race FOLDER TARGET SECONDS: puts a link to TARGET in the place of FOLDER/x.cow once it is there. */
#include "copies.h"
#include <time.h>

int main(int argc, char **argv)
{
	struct stat status;
	time_t end = time(NULL) + atoi(argv[3]);

	if (chdir(argv[1]) || symlink(argv[2], "l"))
		fail(argv[1]);
	while (time(NULL) < end) {
		if (lstat("x.cow", &status) || !S_ISREG(status.st_mode))
			continue;
		rename("l", "x.cow");
		while (!lstat("x.cow", &status) && time(NULL) < end)
			;
		if (symlink(argv[2], "l"))
			continue;
	}
	return argc != 4;
}
