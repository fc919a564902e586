/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC refuses to compile without it. */
#define CONFIG_BPF_SYSCALL 1
