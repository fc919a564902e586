/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* arch/.../include/asm/ptrace.h: where a kprobe finds its arguments. */
struct pt_regs {
#if defined(__aarch64__)
	unsigned long regs[31], sp, pc, pstate;
#elif defined(__riscv)
	unsigned long epc;	/* and what follows in struct user_regs_struct */
#else
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
#endif
};
#if defined(__riscv)
/* arch/riscv/include/uapi/asm/ptrace.h: BCC's macros look at struct pt_regs through it. */
struct user_regs_struct {
	unsigned long pc, ra, sp, gp, tp, t0, t1, t2, s0, s1, a0, a1, a2, a3, a4, a5, a6, a7;
	unsigned long s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, t3, t4, t5, t6;
};
#endif
