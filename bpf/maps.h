/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#pragma once

#include "contract.h"

/* Constants of one loaded program, set before loading. */
volatile const __u32 shard_mask;  /* number of shards - 1, a power of two - 1 */
volatile const __u64 ring_half;   /* half of one ring, in bytes */
volatile const __u64 budget_cost; /* 2^-20 ns one byte costs; 0: no budget */
/* Whether what comes from targets is copied, too. If not, the verifier removes
 * whatever depends on it. */
volatile const bool responses;
/* Whether the kernel is one of those that find_ip_behind is for. */
volatile const bool tunnel_headers;
/* Random: chooses the shard of a flow, see ship.h. */
volatile const __u64 shard_key[SHARD_KEYS];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TARGETS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct target);
	__type(value, __u8);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct flow);
	__type(value, struct flow_state);
} flows SEC(".maps");

/* The way back of the same flows. Apart from them, so that responses never push
 * a request's state out; the agent makes it of size 1 if they are not wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct flow);
	__type(value, struct flow_state);
} response_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TARGETS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pod_port);
	__type(value, enum side);
} sides SEC(".maps");

/* The acknowledgement number of a TLS ClientHello, by its flow. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HELLOS_MAX);
	__type(key, struct flow);
	__type(value, __u32);
} hellos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, enum outcome);
	__type(value, struct tallies);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* The instance that the packet being handled belongs to; see enter() in
 * tap.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} current SEC(".maps");

/* The programs that instances share; the agent puts them in. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, POD_PROGRAMS);
	__type(key, enum pod_program);
	__type(value, __u32);
} pods SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
};

/* One ring per shard; the agent sets the real sizes and puts the rings in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/* The only element of a map with one. */
__inline void *only(void *map)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(map, &zero);
}
