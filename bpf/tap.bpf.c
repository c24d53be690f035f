// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The tap: copies the TCP segments that go to a target, and those that come from
 * one if responses are wanted, into ring buffers, and leaves every packet as it
 * is. It attaches to tcx and to clsact alike and returns TC_NEXT whatever
 * happens, so that it hides nothing from the programs behind it. Runs on Linux
 * 5.10 and later.
 */
#include "contract.h"
#include "maps.h"
#include "packet.h"
#include "flow.h"
#include "side.h"
#include "budget.h"
#include "ship.h"

__inline bool has_port(const struct control *ctl, __u16 port)
{
	return ctl->ports[port >> 6] >> (port & 63) & 1;
}

__inline bool is_target(const struct flow *f, __u32 ifindex)
{
	struct target t = {
		.addr = { f->dst[0], f->dst[1], f->dst[2], f->dst[3] },
		.port = f->dport,
		.instance = f->instance,
	};

	if (f->instance && to_loopback(f)) {
		if (ifindex != LOOPBACK_IFINDEX)
			return false; /* forged, or routed by force */
		if (is_v4(f))
			t.addr[3] = bpf_ntohl(INADDR_LOOPBACK);
	}
	return bpf_map_lookup_elem(&targets, &t);
}

__inline bool is_target_anywhere(const struct flow *f)
{
	struct target t = { .port = f->dport };

	return !f->instance && bpf_map_lookup_elem(&targets, &t);
}

/* A target with an address takes what goes there wherever it is seen. One
 * without means "what comes in here": what leaves goes to some other host. */
__inline bool is_request(const struct flow *f, __u32 ifindex, enum direction direction)
{
	return is_target(f, ifindex) || (direction == DIRECTION_INGRESS && is_target_anywhere(f));
}

__inline bool is_opened(const struct flow *f)
{
	struct flow_state *fs = bpf_map_lookup_elem(&flows, f);

	return fs && fs->opened;
}

/* Which of two targets answers the other: the one that did not open the
 * connection. If that was not seen, it is taken for requests both ways, as it
 * is where responses are not wanted: a request must not be lost to them. */
__inline bool is_answer(struct __sk_buff *skb, const struct packet *p, const struct flow *back)
{
	struct flow_state *call = bpf_map_lookup_elem(&flows, back);
	__u8 flags;

	if (!call || !call->opened || bpf_skb_load_bytes(skb, p->l4 + 13, &flags, sizeof(flags)))
		return false;
	if ((flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN) {
		call->opened = 0; /* the 4-tuple is used again, the other way round */
		return false;
	}
	return !is_opened(&p->flow);
}

/* What comes from a target with an address is a response. One without means
 * nothing for what this host or others send from the same port; there, a
 * response is what goes back to where requests came from. */
__inline bool is_response(struct __sk_buff *skb, const struct packet *p, const struct control *ctl,
			  enum direction direction, const struct flow *back)
{
	if (!is_target(back, skb->ifindex) &&
	    !(is_target_anywhere(back) && bpf_map_lookup_elem(&flows, back)))
		return false;
	return !has_port(ctl, p->flow.dport) || !is_request(&p->flow, skb->ifindex, direction) ||
	       is_answer(skb, p, back);
}

/* What becomes of a packet that goes to a target or comes from one. */
__inline enum outcome handle(struct __sk_buff *skb, struct packet *p, enum kind kind,
			     enum direction direction, struct control *ctl)
{
	__u64 now = bpf_ktime_get_ns();
	struct flow_state *fs;
	enum outcome outcome;

	if (READ_ONCE(ctl->paused) ||
	    (__s64)(now - READ_ONCE(ctl->heartbeat)) > (__s64)HEARTBEAT_MAX)
		return OUTCOME_PAUSED;
	if (p->fragment)
		return OUTCOME_FRAGMENT;
	if (!parse_tcp(skb, p))
		return OUTCOME_MALFORMED;
	if (!p->len && !(p->flags & (FLAG_SYN | FLAG_FIN | FLAG_RST)))
		return OUTCOME_PURE_ACK;
	if (p->flow.instance && !on_our_side(skb, p, kind))
		return OUTCOME_OTHER_SIDE;
	outcome = track(p, kind, skb->ifindex << 1 | direction, &fs);
	if (outcome != OUTCOME_COPIED)
		return outcome;
	if (kind == REQUEST)
		mark_subflow(skb, p, fs);
	if (kind == REQUEST && p->flow.instance)
		note_hello(skb, p, fs);
	if (over_budget(ctl, now, sizeof(struct record) + p->len, kind)) {
		if (fs)
			fs->lost = 1;
		return OUTCOME_OVER_BUDGET;
	}
	return ship(skb, p, kind, direction, now, ctl, fs);
}

__inline void account(const struct packet *p, enum kind kind, enum outcome outcome)
{
	struct tallies *both = bpf_map_lookup_elem(&counters, &outcome);
	struct tally *t;

	if (!both)
		return;
	t = kind == RESPONSE ? &both->responses : &both->requests;
	t->packets++;
	t->payload += p->len;
	t->copied += p->copied;
	t->records += p->records;
}

__inline int tap(struct __sk_buff *skb, enum link link, enum direction direction, __u32 instance)
{
	struct control *ctl = only(&control);
	struct packet p = { .flow.instance = instance };

	if (!ctl || !parse_ip(skb, link, &p))
		return TC_NEXT;
	if (p.later_fragment) {
		account(&p, REQUEST, OUTCOME_FRAGMENT);
		return TC_NEXT;
	}
	if (!parse_ports(skb, &p))
		return TC_NEXT;
	if (responses && has_port(ctl, p.flow.sport) && parse_addresses(skb, &p)) {
		struct flow back = p.flow;

		reverse(&back);
		if (is_response(skb, &p, ctl, direction, &back)) {
			p.flow = back;
			account(&p, RESPONSE, handle(skb, &p, RESPONSE, direction, ctl));
			return TC_NEXT;
		}
	}
	if (!has_port(ctl, p.flow.dport) || !parse_addresses(skb, &p) ||
	    !is_request(&p.flow, skb->ifindex, direction))
		return TC_NEXT;
	account(&p, REQUEST, handle(skb, &p, REQUEST, direction, ctl));
	return TC_NEXT;
}

/*
 * One entry point per kind of device and direction. The kernel tells a program
 * neither, and the alternatives, a map lookup per packet or guessing from the
 * bytes, are slower or can be fooled.
 */
SEC("tc") int tap_ingress_eth(struct __sk_buff *skb)
{
	return tap(skb, LINK_ETH, DIRECTION_INGRESS, 0);
}

SEC("tc") int tap_egress_eth(struct __sk_buff *skb)
{
	return tap(skb, LINK_ETH, DIRECTION_EGRESS, 0);
}

SEC("tc") int tap_ingress_l3(struct __sk_buff *skb)
{
	return tap(skb, LINK_L3, DIRECTION_INGRESS, 0);
}

SEC("tc") int tap_egress_l3(struct __sk_buff *skb)
{
	return tap(skb, LINK_L3, DIRECTION_EGRESS, 0);
}

/*
 * Instances. Nothing that a program may ask on Linux 5.10 tells in which
 * network namespace it runs. So each namespace has entry points of its own,
 * which know, and leave their number where the programs they all share find it:
 * those are too large to be verified again for every pod.
 */
volatile const __u32 instance SEC(".rodata.instance");

__inline int enter(struct __sk_buff *skb, enum pod_program program)
{
	__u32 *here = only(&current);

	if (here) {
		*here = instance;
		bpf_tail_call(skb, &pods, program);
	}
	return TC_NEXT; /* cannot be: the programs are there before the instance is */
}

SEC("tc") int enter_ingress_eth(struct __sk_buff *skb)
{
	return enter(skb, POD_ETH);
}

SEC("tc") int enter_ingress_l3(struct __sk_buff *skb)
{
	return enter(skb, POD_L3);
}

SEC("tc") int enter_egress_eth(struct __sk_buff *skb)
{
	return enter(skb, POD_EGRESS_ETH);
}

SEC("tc") int enter_egress_l3(struct __sk_buff *skb)
{
	return enter(skb, POD_EGRESS_L3);
}

__inline int pod(struct __sk_buff *skb, enum link link, enum direction direction)
{
	__u32 *here = only(&current);

	if (!here || !*here)
		return TC_NEXT;
	return tap(skb, link, direction, *here);
}

SEC("tc") int pod_ingress_eth(struct __sk_buff *skb)
{
	return pod(skb, LINK_ETH, DIRECTION_INGRESS);
}

SEC("tc") int pod_ingress_l3(struct __sk_buff *skb)
{
	return pod(skb, LINK_L3, DIRECTION_INGRESS);
}

SEC("tc") int pod_egress_eth(struct __sk_buff *skb)
{
	return pod(skb, LINK_ETH, DIRECTION_EGRESS);
}

SEC("tc") int pod_egress_l3(struct __sk_buff *skb)
{
	return pod(skb, LINK_L3, DIRECTION_EGRESS);
}

/* The kernel wants a licence it knows to be compatible with the GPL. */
char _license[] SEC("license") = "GPL";
