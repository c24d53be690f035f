/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * One copy per packet, however many interfaces it crosses. The first hook that
 * sees a flow owns it and copies all of it. What another hook sees was either
 * seen by the owner before, or the flow has taken another path; the highest
 * sequence number tells which, without a clock.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* Whether a lies behind b in sequence space (serial number arithmetic,
 * RFC 1982). */
__inline bool beyond(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* Whether the agent does not want the connection of a response. It says so of
 * the requests. */
__inline bool is_unwanted(const struct packet *p)
{
	struct flow_state *fs = bpf_map_lookup_elem(&flows, &p->flow);

	return fs && fs->ignored;
}

/* Decides whether this hook copies the packet: OUTCOME_COPIED if so. *out is
 * the direction's state, or NULL if the kernel had no room for one, in which
 * case every hook copies. */
__inline enum outcome track(const struct packet *p, enum kind kind, __u32 hook,
			    struct flow_state **out)
{
	void *states = kind == RESPONSE ? (void *)&response_flows : (void *)&flows;
	__u16 opening = kind == RESPONSE ? FLAG_SYN | FLAG_ACK : FLAG_SYN;
	struct flow_state *fs = bpf_map_lookup_elem(states, &p->flow);
	bool opens = (p->flags & (FLAG_SYN | FLAG_ACK)) == opening;
	__u32 end = p->seq + p->len + !!(p->flags & FLAG_SYN) + !!(p->flags & FLAG_FIN);
	struct flow_state fresh = {
		.hook = hook,
		.end = end,
		.isn = p->seq,
		.opened = opens,
	};

	*out = fs;
	if (kind == RESPONSE && is_unwanted(p))
		return OUTCOME_IGNORED;
	if (!fs) {
		bpf_map_update_elem(states, &p->flow, &fresh, BPF_ANY);
		*out = bpf_map_lookup_elem(states, &p->flow);
		return OUTCOME_COPIED;
	}
	if (opens) {
		if (fs->opened && fs->isn == p->seq && fs->hook != hook)
			return fs->ignored ? OUTCOME_IGNORED : OUTCOME_DUPLICATE;
		*fs = fresh; /* the 4-tuple is used again */
		return OUTCOME_COPIED;
	}
	if (fs->ignored)
		return OUTCOME_IGNORED;
	if (beyond(end, fs->end)) {
		fs->end = end;
		fs->hook = hook;
	} else if (fs->hook != hook) {
		return OUTCOME_DUPLICATE;
	}
	return OUTCOME_COPIED;
}

/* Marks the packet if it is of a subflow. Once that is known it is so for all
 * that follow: not every packet says so. */
__inline void mark_subflow(struct __sk_buff *skb, struct packet *p, struct flow_state *fs)
{
	if (is_subflow(skb, p)) {
		if (fs)
			fs->subflow = 1;
	} else if (!fs || !fs->subflow) {
		return;
	}
	p->flags |= FLAG_SUBFLOW;
}
