/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * A token bucket for all CPUs in one word, which is all that the atomic
 * operations of Linux 5.10 allow: budget_spent is the time up to which the
 * budget is used. Copying moves it ahead by what the bytes cost; while it lies
 * in the future, nothing is copied; it falls behind the clock by at most
 * BURST, the credit that can be saved up.
 */
#pragma once

#include "maps.h"
#include "packet.h"

#define BURST 125000000ULL /* ns */

/* Half of the credit is for requests alone: responses, usually the bigger part,
 * must not use up what they need. */
__inline bool over_budget(struct control *ctl, __u64 now, __u32 bytes, enum kind kind)
{
	__u64 cost = budget_cost;
	__u64 spent;

	if (!cost)
		return false;
	spent = READ_ONCE(ctl->budget_spent);
	if (spent > now || (kind == RESPONSE && now - spent < BURST / 2))
		return true;
	/* Two CPUs may do this at once and forget what the other just spent:
	 * once per BURST, a packet or two. */
	if (now - spent > BURST)
		WRITE_ONCE(ctl->budget_spent, now - BURST);
	__sync_fetch_and_add(&ctl->budget_spent, bytes * cost >> 20);
	return false;
}
