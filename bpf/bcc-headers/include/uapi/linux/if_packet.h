/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* Empty: BCC carries its own copy of what it needs from here. */
