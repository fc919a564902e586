/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* arch/.../include/asm/ptrace.h: where a kprobe finds its arguments. */
struct pt_regs {
#if defined(__aarch64__)
	unsigned long regs[31], sp, pc, pstate;
#else
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
#endif
};
