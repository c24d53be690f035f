/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Everything the kernel program and the agent must agree on. bpf2go turns
 * these types into Go; there is no second definition to keep in step.
 * Integers are in host byte order, also the ports and sequence numbers that
 * arrive in network order. Padding is explicit.
 */
#pragma once

#include "headers/bpf.h"

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

enum {
	/* Payload bytes in one record. Head and payload together stay below the
	 * 32 KiB a per-CPU map value may have on the oldest kernels. */
	CHUNK_MAX = 32000,
	/* Records one packet may need: BIG TCP packets end at 8 * 65535 bytes. */
	CHUNKS_MAX = 17,
	SHARDS_MAX = 16,
	/* Words of the secret that spreads flows over the shards. */
	SHARD_KEYS = 7,
	/* Twice what the agent takes: a new set goes in before the old one goes
	 * out. */
	TARGETS_MAX = 32768,
	FLOWS_MAX = 65536,
	/* TLS handshakes that may be under way in pods at once; see side.h. */
	HELLOS_MAX = 4096,
};

/* A TCP connection, by the direction from its client to a target; what comes
 * back has the same flow. IPv4 addresses are in their IPv4-mapped IPv6 form
 * (::ffff:a.b.c.d). Addresses and interface indexes mean something within one
 * network namespace only; an instance of the programs serves one, 0 that of
 * the agent. */
struct flow {
	__u32 src[4];
	__u32 dst[4];
	__u16 sport;
	__u16 dport;
	__u32 instance;
};

/* An endpoint whose incoming packets are copied, and those it sends back if
 * responses are wanted. In instance 0 an address of all zeros means any
 * address, and matches at ingress only. In the others 127.0.0.1 stands for
 * 127.0.0.0/8. */
struct target {
	__u32 addr[4];
	__u16 port;
	__u16 pad;
	__u32 instance;
};

/* A port of the targets of an instance other than 0. */
struct pod_port {
	__u32 instance;
	__u16 port;
	__u16 pad;
};

/* From which side of a pod the requests to a port are taken; see side.h. */
enum side {
	SIDE_OUTSIDE,  /* as clients sent them: any interface but lo */
	SIDE_LOOPBACK, /* as a proxy in the pod handed them on: lo */
};

/* What is known about one direction of a flow. Every field is written by
 * whichever CPU handles a packet of the flow, without a lock: a lost update
 * costs at most a second copy of a packet, never a packet. */
struct flow_state {
	__u32 hook;   /* the owner: ifindex << 1 | direction; 0 if nobody */
	__u32 end;    /* highest sequence end seen, modulo 2^32 */
	__u32 isn;    /* sequence number of the SYN, if opened */
	__u8 opened;  /* the SYN was seen */
	__u8 ignored; /* set by the agent with requests: stop copying, both ways */
	__u8 lost;    /* a packet was not handed over since the last record */
	__u8 subflow; /* it is one of Multipath TCP, see FLAG_SUBFLOW */
};

/* Indexes of the programs that instances share. */
enum pod_program {
	POD_ETH, /* pod_ingress_eth */
	POD_L3,  /* pod_ingress_l3 */
	/* only if responses are wanted */
	POD_EGRESS_ETH, /* pod_egress_eth */
	POD_EGRESS_L3,  /* pod_egress_l3 */
	POD_PROGRAMS,
};

/* Bits of record.flags: the low byte is TCP's (RFC 9293, section 3.1). */
enum {
	FLAG_FIN = 0x01,
	FLAG_SYN = 0x02,
	FLAG_RST = 0x04,
	FLAG_PSH = 0x08,
	FLAG_ACK = 0x10,
	/* An earlier packet of this flow and direction was not handed over. */
	FLAG_LOST = 0x100,
	/* From the target. */
	FLAG_RESPONSE = 0x200,
	/* Of a subflow of Multipath TCP: what is between this payload and the
	 * one before may have gone by another connection. */
	FLAG_SUBFLOW = 0x400,
};

enum direction {
	DIRECTION_INGRESS = 0,
	DIRECTION_EGRESS = 1,
};

/*
 * A record in a ring buffer: this head, followed by len bytes of TCP payload.
 * A packet with more than CHUNK_MAX bytes becomes several records with
 * consecutive sequence numbers: SYN only on the first; FIN, RST and PSH only
 * on the last. A record of size 0 carries nothing and only wakes the reader.
 */
struct record {
	__u64 time; /* CLOCK_MONOTONIC, nanoseconds */
	__u32 seq;  /* of the SYN if there is one, else of the first byte */
	__u32 ack;
	__u32 len;    /* payload bytes in this record */
	__u32 offset; /* of those bytes in the packet's payload */
	__u32 ifindex;
	__u16 flags;
	__u8 direction; /* enum direction */
	__u8 pad;
	struct flow flow;
};

/* Where a record is put together. */
struct scratch {
	struct record head;
	__u8 payload[CHUNK_MAX];
};

/* What became of a packet. Each packet towards a target, or from one if
 * responses are wanted, and each fragment, has exactly one outcome. */
enum outcome {
	OUTCOME_COPIED,
	/* skipped, as it should be */
	OUTCOME_PURE_ACK,    /* no payload, no SYN, FIN or RST */
	OUTCOME_FRAGMENT,    /* part of an IP packet; later parts have no port */
	OUTCOME_DUPLICATE,   /* another hook already saw it */
	OUTCOME_IGNORED,     /* the agent does not want this flow */
	OUTCOME_PAUSED,      /* kill switch, or no agent alive */
	OUTCOME_MALFORMED,   /* lengths that contradict each other */
	OUTCOME_OVER_BUDGET, /* more bytes per second than allowed */
	OUTCOME_OTHER_SIDE,  /* taken from the other side of a proxy in the pod */
	/* lost, although it was wanted */
	OUTCOME_RING_FULL,
	OUTCOME_UNREADABLE, /* bytes the kernel would not let us read */
	OUTCOMES,
};

/* The packets with one outcome, per CPU. All packets seen are the sum over the
 * outcomes, so that the account is exact whenever it is read. */
struct tally {
	__u64 packets;
	__u64 payload; /* their payload bytes; 0 where it was not looked at */
	__u64 copied;  /* of those, the bytes that are in a ring */
	__u64 records; /* the records they are in */
};

/* Either way has an account of its own. Fragments, whose ports are not known,
 * are in that of requests. */
struct tallies {
	struct tally requests;
	struct tally responses;
};

/* When a shard's reader wants to be woken. The reader writes it; the program
 * sets it to WAKE_NEVER when it wakes the reader. */
enum wake {
	WAKE_NEVER, /* the reader is awake */
	WAKE_HALF,  /* it polls: only when the ring is half full */
	WAKE_NEXT,  /* it sleeps: at the next packet */
};

struct shard {
	enum wake wake;
	__u32 pad[15];
};

/* The one value of the control map, shared with the agent by mmap. Words that
 * are written at different rates or by different sides have cache lines of
 * their own. */
struct control {
	__u32 paused; /* kill switch: nothing is copied unless 0 */
	__u32 pad0;
	__u64 heartbeat; /* CLOCK_MONOTONIC ns of the agent's last sign of life */
	__u64 pad1[6];
	__u64 budget_spent; /* time up to which the byte budget is used; see budget.h */
	__u64 pad2[7];
	struct shard shards[SHARDS_MAX];
	__u64 ports[1024]; /* bit p: some target has port p */
};

#pragma clang diagnostic pop

/* Nanoseconds after which an agent that gave no sign of life is taken for
 * dead: a filter that outlived it copies nothing. */
#define HEARTBEAT_MAX 10000000000ULL
