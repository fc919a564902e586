/* SPDX-License-Identifier: GPL-2.0-only */
/* Find the registers of user mode of the current thread. */
#ifndef USER_REGS_H
#define USER_REGS_H

#include "kernel.h"

#ifdef SAMPLES

#define THREAD_SIZE	(PAGE_SIZE > 16384 ? PAGE_SIZE : 16384)	/* without KASAN */

/*
 * task_pt_regs(): at the end of the kernel stack, before two words of padding on
 * kernels with FRED ("x86/fred: Reserve space for the FRED stack frame", 6.9).
 * 0: a kernel thread, or not found.
 */
INLINE u64 user_regs(void)
{
	u64 end = read_kernel_u64(bpf_get_current_task(), TASK_STACK) + THREAD_SIZE;
	u64 regs = end - PT_REGS_BYTES;

	if (read_kernel_u64(regs, 8 * USER_IP) && is_user_mode(read_kernel_u64(regs, 8 * USER_MODE)))
		return regs;
	regs -= 16;
	if (read_kernel_u64(regs, 8 * USER_IP) && is_user_mode(read_kernel_u64(regs, 8 * USER_MODE)))
		return regs;
	return 0;
}

#endif /* SAMPLES */
#endif /* USER_REGS_H */
