/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * A request to a pod may pass our hooks twice: as its client sent it, and as a
 * proxy in the pod hands it on to the application over lo, to the same port.
 * It is wanted once, and in plain text. So each port has a side that requests
 * are taken from: the outside, until a client completes a TLS handshake there,
 * which tells that something in front of the application decrypts. From then
 * on it is lo. The decision is made here and not by the agent because the
 * plain text follows the handshake faster than the agent would.
 *
 * A ClientHello alone tells nothing: anybody may send one to a port that
 * speaks HTTP. But it is answered there in plain text or not at all, and a
 * client sends the next TLS record only after a ServerHello (RFC 8446, figure
 * 1; RFC 5246, figure 1). In TLS 1.3 it comes before any request, or in one
 * segment with the first.
 */
#pragma once

#include "maps.h"
#include "packet.h"

enum {
	LOOPBACK_IFINDEX = 1, /* in every network namespace (include/net/flow.h) */
	INADDR_LOOPBACK = 0x7f000001,

	/* Content types of TLS records (RFC 8446, section 5.1). */
	TLS_CHANGE_CIPHER_SPEC = 20,
	TLS_HANDSHAKE = 22,
	TLS_APPLICATION_DATA = 23,
	TLS_MAJOR = 3,
};

__inline bool is_v4(const struct flow *f)
{
	return !f->dst[0] && !f->dst[1] && f->dst[2] == bpf_ntohl(0xffff);
}

__inline bool to_loopback(const struct flow *f)
{
	if (is_v4(f))
		return bpf_ntohl(f->dst[3]) >> 24 == 127;
	return !f->dst[0] && !f->dst[1] && !f->dst[2] && f->dst[3] == bpf_ntohl(1);
}

/* The content type of the TLS record that the payload begins with, or 0. */
__inline __u8 tls_record(struct __sk_buff *skb, const struct packet *p)
{
	__u8 head[2];

	if (p->len < sizeof(head) || bpf_skb_load_bytes(skb, p->payload, head, sizeof(head)) ||
	    head[1] != TLS_MAJOR)
		return 0;
	return head[0];
}

/* Remembers a connection from outside that begins with a ClientHello. */
__inline void note_hello(struct __sk_buff *skb, const struct packet *p, const struct flow_state *fs)
{
	if (!fs || !fs->opened || p->seq != fs->isn + 1 || skb->ifindex == LOOPBACK_IFINDEX)
		return;
	if (tls_record(skb, p) == TLS_HANDSHAKE)
		bpf_map_update_elem(&hellos, &p->flow, &p->ack, BPF_ANY);
}

/* Whether the packet goes on with a handshake that the server has answered.
 * The rest of a long ClientHello does not: it acknowledges what its beginning
 * did. */
__inline bool completes_handshake(struct __sk_buff *skb, const struct packet *p)
{
	__u32 *ack;

	switch (tls_record(skb, p)) {
	case TLS_CHANGE_CIPHER_SPEC:
	case TLS_HANDSHAKE:
	case TLS_APPLICATION_DATA:
		ack = bpf_map_lookup_elem(&hellos, &p->flow);
		return ack && *ack != p->ack;
	}
	return false;
}

/* Whether the packet passes on the side that requests to its port are taken
 * from, and so their responses. */
__inline bool on_our_side(struct __sk_buff *skb, const struct packet *p, enum kind kind)
{
	struct pod_port key = { .instance = p->flow.instance, .port = p->flow.dport };
	enum side *side = bpf_map_lookup_elem(&sides, &key);
	bool loopback = skb->ifindex == LOOPBACK_IFINDEX;

	if (!side)
		return !loopback; /* the target is just being removed */
	if (kind == REQUEST && !loopback && READ_ONCE(*side) == SIDE_OUTSIDE &&
	    completes_handshake(skb, p))
		WRITE_ONCE(*side, SIDE_LOOPBACK);
	return loopback == (READ_ONCE(*side) == SIDE_LOOPBACK);
}
