/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * From a packet to records in a ring. Waking the reader costs many times what
 * the copy does, and production would pay for it; so records never wake, and
 * the reader says in its shard's word when it wants to be woken.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/*
 * The same for both directions of a connection, so that they share a shard.
 * Clients choose what is hashed, and whoever could aim all his flows at one
 * shard would starve it. So the hash is multilinear with random coefficients:
 * whatever two flows are, they agree in its upper half by no more than chance
 * (Thorup, "High Speed Hashing for Integers and Strings", 2015, section 3.4).
 * The rest mixes the halves, or some keys would put neighbouring ports into
 * the same shard.
 */
__inline __u32 symmetric_hash(const struct flow *f)
{
	__u64 h = shard_key[6] + shard_key[5] * (__u32)(f->sport ^ f->dport) +
		  shard_key[4] * f->instance;

	for (int i = 0; i < 4; i++)
		h += shard_key[i] * (f->src[i] ^ f->dst[i]);
	h ^= h >> 32;
	h *= 0xff51afd7ed558ccdULL;
	return h >> 32;
}

/*
 * Wakes the reader if it wants to. The output before this call ends in a full
 * barrier (the xchg that commits a record), and the reader looks at the ring
 * after it has written its wish: one of the two sees the other, and no wake-up
 * is missed. An empty record is the only way to wake without data.
 */
__inline void wake_reader(void *ring, struct control *ctl, __u64 index, struct scratch *s)
{
	struct shard *shard;
	__u32 wake;

	/* Verifiers before 5.11 forget the bounds of what was on the stack. */
	barrier_var(index);
	shard = &ctl->shards[index & (SHARDS_MAX - 1)];
	wake = READ_ONCE(shard->wake);
	if (likely(wake == WAKE_NEVER))
		return;
	if (wake == WAKE_HALF && bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < ring_half)
		return;
	WRITE_ONCE(shard->wake, WAKE_NEVER);
	if (bpf_ringbuf_output(ring, s, 0, BPF_RB_FORCE_WAKEUP))
		WRITE_ONCE(shard->wake, wake);
}

/* Loads 1 to CHUNK_MAX bytes. Verifiers before 6.12 accept a variable length
 * only when both bounds follow from one comparison, which n - 1 makes
 * possible. */
__inline long load_chunk(struct __sk_buff *skb, __u32 offset, struct scratch *s, __u32 n)
{
	n -= 1;
	barrier_var(n);
	if (n >= CHUNK_MAX)
		return -1;
	return bpf_skb_load_bytes(skb, offset, s->payload, n + 1);
}

/* Whether n bytes of a response have to leave the ring to others. The last
 * quarter is for requests, none of which responses may cost its place; the one
 * before it for the time until the reader, woken at the half, has come. */
__inline bool is_reserved(void *ring, __u32 n)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) + n > ring_half + ring_half / 2;
}

/* Copies the packet into the ring, in as many records as it takes; the first
 * that fails ends it, because what follows a gap is of no use. */
__inline enum outcome output(struct __sk_buff *skb, struct packet *p, enum kind kind, void *ring,
			     struct scratch *s, struct flow_state *fs)
{
	enum outcome outcome = OUTCOME_UNREADABLE;

	for (int i = 0; i < CHUNKS_MAX; i++) {
		__u32 done = p->copied;
		__u32 n = p->len - done;
		__u16 flags = p->flags;

		if (n > CHUNK_MAX) {
			n = CHUNK_MAX;
			flags &= ~(FLAG_FIN | FLAG_RST | FLAG_PSH);
		}
		if (done)
			flags &= ~FLAG_SYN;
		if (fs && fs->lost)
			flags |= FLAG_LOST;
		if (kind == RESPONSE)
			flags |= FLAG_RESPONSE;
		s->head.seq = p->seq + done + (done && p->flags & FLAG_SYN);
		s->head.len = n;
		s->head.offset = done;
		s->head.flags = flags;
		if (n && load_chunk(skb, p->payload + done, s, n))
			break;
		barrier_var(n);
		if (n > CHUNK_MAX)
			break;
		if ((kind == RESPONSE && is_reserved(ring, n)) ||
		    bpf_ringbuf_output(ring, s, sizeof(s->head) + n, BPF_RB_NO_WAKEUP)) {
			outcome = OUTCOME_RING_FULL;
			break;
		}
		if (fs)
			fs->lost = 0;
		p->records++;
		p->copied += n;
		if (p->copied >= p->len)
			return OUTCOME_COPIED;
	}
	if (fs)
		fs->lost = 1;
	return outcome;
}

__inline enum outcome ship(struct __sk_buff *skb, struct packet *p, enum kind kind,
			   enum direction direction, __u64 now, struct control *ctl,
			   struct flow_state *fs)
{
	__u32 shard = symmetric_hash(&p->flow) & shard_mask;
	void *ring = bpf_map_lookup_elem(&rings, &shard);
	struct scratch *s = only(&scratch);
	enum outcome outcome;

	if (!ring || !s)
		return OUTCOME_RING_FULL; /* cannot be: the rings are there before the program is */
	s->head.time = now;
	s->head.ack = p->ack;
	s->head.ifindex = skb->ifindex;
	s->head.direction = direction;
	s->head.pad = 0;
	s->head.flow = p->flow;
	outcome = output(skb, p, kind, ring, s, fs);
	wake_reader(ring, ctl, shard, s);
	return outcome;
}
