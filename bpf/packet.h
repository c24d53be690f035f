/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * From the first byte of a packet to its TCP segment. Everything is read with
 * bpf_skb_load_bytes: it reaches into the fragments of a super-packet and,
 * unlike pulling them into the linear part, changes nothing.
 */
#pragma once

#include "maps.h"

enum link {
	LINK_ETH, /* starts with an Ethernet header */
	LINK_L3,  /* starts with an IP header: tun, ipip, wireguard, ... */
};

enum {
	ETH_HLEN = 14,
	ETH_P_IP = 0x0800,
	ETH_P_IPV6 = 0x86dd,
	ETH_P_8021Q = 0x8100,
	ETH_P_8021AD = 0x88a8,
	VLAN_HLEN = 4,
	VLANS_MAX = 2,

	IPPROTO_HOPOPTS = 0,
	IPPROTO_TCP = 6,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_DSTOPTS = 60,

	IPV4_HLEN_MIN = 20,
	IPV4_MF_OFFSET = 0x3fff, /* more fragments, or not the first */
	IPV4_OFFSET = 0x1fff,
	IPV6_HLEN = 40,
	IPV6_MF_OFFSET = 0xfff9,
	IPV6_OFFSET = 0xfff8,
	IPV6_EXTENSIONS_MAX = 6,

	TCP_HLEN_MIN = 20,
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_MPTCP = 30,
	/* The one option that most segments carry, with its padding. */
	TCP_TIMESTAMPS_LEN = 12,
	/* Options that are looked at; no stack sends nearly as many. */
	TCP_OPTIONS_MAX = 16,
	MP_JOIN = 1,
};

/* What a packet is to a target. It is always a constant: what handles packets is
 * compiled for each kind, so that requests do not pay for responses, and what
 * handles responses is left out where they are not wanted. */
enum kind {
	REQUEST,  /* goes to it */
	RESPONSE, /* comes from it; its flow is turned around, and so the client's */
};

struct packet {
	struct flow flow;
	__u32 addrs; /* offset of the source address; the destination follows */
	__u32 l4;    /* offset of the TCP header */
	__u32 end;   /* offset of the first byte behind the IP packet */
	bool v4;
	bool fragment;
	bool later_fragment; /* not the first: no TCP header */

	__u32 seq;
	__u32 ack;
	__u16 flags;
	__u32 payload; /* its offset */
	__u32 len;     /* of the payload; 0 as long as it is not known */

	__u32 copied;  /* payload bytes in the ring */
	__u32 records; /* that carry them */
};

/* The first bytes of an IP header, enough of either version to know what the
 * packet is about. */
union ip_head {
	__u8 version; /* upper half */
	struct {
		__u8 version_ihl;
		__u8 tos;
		__u16 tot_len;
		__u16 id;
		__u16 frag_off;
		__u8 ttl;
		__u8 protocol;
		__u16 check;
	} v4;
	struct {
		__u32 version_class_label;
		__u16 payload_len;
		__u8 next;
		__u8 hop_limit;
		__u32 src;
	} v6;
	__u32 words[3];
};

/* The offset of the IP header in what came out of a tunnel. Before Linux 5.14
 * the headers that it went through the tunnel with are still in front of it,
 * as if they were one long MAC header. The kernel does not tell how long they
 * are, only what the IP header is, whose packet ends where they all end. */
__inline int find_ip_behind(struct __sk_buff *skb)
{
	union ip_head want, found;
	__u32 offset = skb->len;

	if (bpf_skb_load_bytes_relative(skb, 0, &want, sizeof(want), BPF_HDR_START_NET))
		return 0;
	if (want.version >> 4 == 4)
		offset -= bpf_ntohs(want.v4.tot_len);
	else
		offset -= IPV6_HLEN + bpf_ntohs(want.v6.payload_len);
	if (bpf_skb_load_bytes(skb, offset, &found, sizeof(found)) ||
	    found.words[0] != want.words[0] || found.words[1] != want.words[1] ||
	    found.words[2] != want.words[2])
		return 0;
	return offset;
}

/* The offset of the IP header, or -1 if there is none. An outer VLAN tag
 * usually sits in the packet's metadata; up to two may be in line. */
__inline int find_ip(struct __sk_buff *skb, enum link link)
{
	__u32 offset = ETH_HLEN;
	__u16 proto;

	if (link == LINK_L3)
		return tunnel_headers ? find_ip_behind(skb) : 0;
	for (int i = 0; i <= VLANS_MAX; i++) {
		if (bpf_skb_load_bytes(skb, offset - 2, &proto, sizeof(proto)))
			return -1;
		proto = bpf_ntohs(proto);
		if (proto == ETH_P_IP || proto == ETH_P_IPV6)
			return offset;
		if (proto != ETH_P_8021Q && proto != ETH_P_8021AD)
			return -1;
		offset += VLAN_HLEN;
	}
	return -1;
}

__inline bool parse_ipv4(struct __sk_buff *skb, const union ip_head *h, __u32 ip, struct packet *p)
{
	__u32 hlen = (h->v4.version_ihl & 0xf) * 4;
	__u32 total = bpf_ntohs(h->v4.tot_len);

	if (h->v4.protocol != IPPROTO_TCP || hlen < IPV4_HLEN_MIN)
		return false;

	/* Behind tot_len there may be Ethernet padding. 0 is BIG TCP: a packet
	 * above 64 KiB has no other length than the buffer's. */
	p->end = total ? ip + total : skb->len;
	p->fragment = h->v4.frag_off & bpf_ntohs(IPV4_MF_OFFSET);
	p->later_fragment = h->v4.frag_off & bpf_ntohs(IPV4_OFFSET);
	p->v4 = true;
	p->addrs = ip + 12;
	p->l4 = ip + hlen;
	return true;
}

__inline bool parse_ipv6(struct __sk_buff *skb, const union ip_head *h, __u32 ip, struct packet *p)
{
	struct {
		__u8 next;
		__u8 len;       /* in 8 bytes, not counting the first 8 */
		__u16 frag_off; /* of a fragment header */
	} ext;
	__u32 offset = ip + IPV6_HLEN;
	__u8 next = h->v6.next;

	/* 0 is a jumbogram (RFC 2675), which BIG TCP looks like. */
	p->end = h->v6.payload_len ? offset + bpf_ntohs(h->v6.payload_len) : skb->len;
	p->fragment = false;
	p->later_fragment = false;
	p->v4 = false;
	p->addrs = ip + 8;

	for (int i = 0; i < IPV6_EXTENSIONS_MAX && next != IPPROTO_TCP; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			return false;
		if (bpf_skb_load_bytes(skb, offset, &ext, sizeof(ext)))
			return false;
		if (next == IPPROTO_FRAGMENT) {
			/* One with offset 0 and nothing to follow is a whole
			 * packet (RFC 6946). */
			p->fragment = ext.frag_off & bpf_ntohs(IPV6_MF_OFFSET);
			p->later_fragment = ext.frag_off & bpf_ntohs(IPV6_OFFSET);
			offset += 8;
		} else {
			offset += (ext.len + 1) * 8;
		}
		next = ext.next;
		if (p->later_fragment)
			break; /* what follows is payload, not headers */
	}
	p->l4 = offset;
	return next == IPPROTO_TCP;
}

/* Finds the TCP header. False: not TCP, or nothing this program can read. */
__inline bool parse_ip(struct __sk_buff *skb, enum link link, struct packet *p)
{
	int ip = find_ip(skb, link);
	union ip_head h;

	/* The version, not the Ethernet type, decides: it is there on every
	 * kind of device. */
	if (ip < 0 || bpf_skb_load_bytes(skb, ip, &h, sizeof(h)))
		return false;
	switch (h.version >> 4) {
	case 4:
		return parse_ipv4(skb, &h, ip, p);
	case 6:
		return parse_ipv6(skb, &h, ip, p);
	}
	return false;
}

/* Reads the ports, all that is needed to turn most packets away. */
__inline bool parse_ports(struct __sk_buff *skb, struct packet *p)
{
	__u16 ports[2];

	if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)))
		return false;
	p->flow.sport = bpf_ntohs(ports[0]);
	p->flow.dport = bpf_ntohs(ports[1]);
	return true;
}

__inline bool parse_addresses(struct __sk_buff *skb, struct packet *p)
{
	__u32 v4[2];

	if (!p->v4)
		return !bpf_skb_load_bytes(skb, p->addrs, p->flow.src,
					   sizeof(p->flow.src) + sizeof(p->flow.dst));
	if (bpf_skb_load_bytes(skb, p->addrs, v4, sizeof(v4)))
		return false;
	p->flow.src[0] = p->flow.src[1] = 0;
	p->flow.dst[0] = p->flow.dst[1] = 0;
	p->flow.src[2] = p->flow.dst[2] = bpf_ntohl(0xffff);
	p->flow.src[3] = v4[0];
	p->flow.dst[3] = v4[1];
	return true;
}

__inline void reverse(struct flow *f)
{
	__u16 port = f->sport;

	f->sport = f->dport;
	f->dport = port;
	for (int i = 0; i < 4; i++) {
		__u32 word = f->src[i];

		f->src[i] = f->dst[i];
		f->dst[i] = word;
	}
}

/* Reads the rest of the TCP header. False: the lengths contradict each other
 * or the packet. */
__inline bool parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u32 seq;
		__u32 ack;
		__u8 offset;
		__u8 flags;
		__u16 window;
	} h;
	__u32 hlen;

	if (p->end > skb->len || bpf_skb_load_bytes(skb, p->l4 + 4, &h, sizeof(h)))
		return false;
	hlen = (h.offset >> 4) * 4;
	p->payload = p->l4 + hlen;
	if (hlen < TCP_HLEN_MIN || p->payload > p->end)
		return false;
	p->seq = bpf_ntohl(h.seq);
	p->ack = bpf_ntohl(h.ack);
	p->flags = h.flags;
	p->len = p->end - p->payload;
	return true;
}

/*
 * Whether the packet says that its connection is a subflow of Multipath TCP
 * (RFC 8684): a SYN that joins one to others, or payload that comes with any of
 * its options. A SYN that only offers it does not, since most servers decline,
 * and then no more of it is heard.
 */
__inline bool is_subflow(struct __sk_buff *skb, const struct packet *p)
{
	__u32 at = p->l4 + TCP_HLEN_MIN;
	struct {
		__u8 kind;
		__u8 len;
		__u8 subtype; /* upper half */
	} option;

	if (!(p->flags & FLAG_SYN) && (!p->len || p->payload - at <= TCP_TIMESTAMPS_LEN))
		return false; /* none that would say where the payload belongs */
	for (int i = 0; i < TCP_OPTIONS_MAX; i++) {
		if (at + sizeof(option) > p->payload ||
		    bpf_skb_load_bytes(skb, at, &option, sizeof(option)))
			return false; /* no room for one any more */
		if (option.kind == TCP_OPTION_MPTCP)
			return !(p->flags & FLAG_SYN) || option.subtype >> 4 == MP_JOIN;
		if (option.kind == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (option.kind == TCP_OPTION_END || option.len < 2)
			return false; /* receivers stop here, too */
		at += option.len;
	}
	return true; /* or whoever wants to be overlooked would send that many */
}
