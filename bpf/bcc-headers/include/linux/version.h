/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* BCC's helpers.h only asks whether the kernel is newer than some 4.x. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
