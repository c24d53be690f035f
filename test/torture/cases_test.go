package torture

import (
	"net/netip"
)

// The endpoints that are captured. Nothing is sent to them.
var (
	served4 = netip.MustParseAddrPort("10.99.0.2:80")
	served6 = netip.MustParseAddrPort("[fd99::2]:80")
)

// scenario is one row of the table.
type scenario struct {
	name    string
	share   int // of all requests, in percent
	most    int // requests, whatever the share; 0 is no bound
	limit   int // of the agent's memory, in MiB; 0 is the usual
	sizes   sizes
	network network
	attack  attack
	bytes   int64 // sent on a single connection, whatever the share; 0 is the usual
}

// Ways to cut a stream into segments.
func wirePackets(*generator) int  { return 1460 }
func singleBytes(*generator) int  { return 1 }
func wholePackets(*generator) int { return maxPayload }

func anySize(g *generator) int {
	switch g.IntN(4) {
	case 0:
		return 1 + g.IntN(20)
	case 1:
		return 1 + g.IntN(maxPayload)
	}
	return 1 + g.IntN(1460)
}

// small is what a source may send however little is left for it.
var small = sizes{body: 2_000, field: 100}

var usual = sizes{body: 20_000, field: 2_000}

// scenarios are what the program is put through with a recording.
var scenarios = []scenario{
	{name: "in order", share: 15, sizes: usual,
		network: network{cut: wirePackets, pipeline: 8, messages: 40}},
	{name: "64 KB segments, deep pipelines", share: 15, sizes: usual,
		network: network{cut: wholePackets, pipeline: 60, messages: 200, synData: true}},
	{name: "reordered, repeated, overlapping", share: 15, sizes: usual,
		network: network{cut: anySize, reorder: 2, repeat: 5, overlap: 3, probe: 3, synData: true, pipeline: 6, messages: 30}},
	{name: "every byte a segment", share: 5, sizes: sizes{body: 1000, field: 100},
		network: network{cut: singleBytes, reorder: 4, repeat: 20, pipeline: 3, messages: 10}},
	{name: "large bodies", share: 1, most: 1000, limit: 1600, sizes: sizes{body: 20 << 20, field: 3_500},
		network: network{cut: anySize, repeat: 20, overlap: 20, pipeline: 2, messages: 10}},
	{name: "forged segments, resets, SYNs", share: 10, sizes: usual,
		network: network{cut: anySize, forge: 2, probe: 2, pipeline: 4, messages: 30}},
	{name: "addresses and ports used again", share: 10, sizes: usual,
		network: network{cut: anySize, reorder: 3, repeat: 10, lives: 4, synData: true, pipeline: 4, messages: 5}},
	{name: "contradicting segments", share: 8, sizes: usual,
		network: network{cut: anySize, dispute: 12, pipeline: 3, messages: 40}},
	{name: "segments lost", share: 10, sizes: sizes{body: 8_000, field: 2000},
		network: network{cut: anySize, wholeLines: true, lose: 12, reorder: 3, repeat: 10, pipeline: 3, messages: 40}},
	{name: "snapshot length too small", share: 6, sizes: usual,
		network: network{cut: anySize, truncate: 12, pipeline: 3, messages: 40}},
	{name: "connections open before the tap", share: 5, sizes: usual,
		network: network{cut: anySize, midway: true, pipeline: 3, messages: 15}},
	{name: "5 GiB on one connection", bytes: 5 << 30, sizes: sizes{body: 2 << 20, field: 2000},
		network: network{cut: wholePackets, reorder: 10, repeat: 20}},

	{name: "attack: heads without end", share: 1, sizes: usual, network: honest, attack: attack{clients: 10, client: headBombs}},
	{name: "attack: single bytes between holes", share: 1, sizes: usual, network: honest, attack: attack{clients: 30, client: crumbs}},
	{name: "attack: half-open connections", share: 1, sizes: usual, network: honest, attack: attack{clients: 1, client: synFlood}},
	{name: "attack: ambiguous requests", share: 1, sizes: usual, network: honest, attack: attack{clients: 40, client: ambiguous}},
	{name: "attack: deep pipelines", share: 1, sizes: usual, network: honest, attack: attack{clients: 5, client: pipelines}},
	{name: "attack: a million half-open connections", share: 1, sizes: usual, network: honest, attack: attack{clients: 1, client: millionSYNs, long: true}},
	{name: "attack: slow heads", share: 1, sizes: usual, network: honest, attack: attack{clients: 10, client: slowHeads}},
	{name: "attack: heads of many fields from everywhere", share: 1, sizes: small, network: honest, attack: attack{clients: 10, client: manyFields, sources: manySources}},
	{name: "attack: idle connections", share: 1, sizes: usual, network: honest, attack: attack{clients: 5, client: idle}},
	{name: "attack: a head byte by byte", share: 1, sizes: usual, network: honest, attack: attack{clients: 10, client: drops}},
	{name: "attack: colliding addresses and ports", share: 1, sizes: usual, network: honest, attack: attack{clients: 3, client: colliding}},
	{name: "attack: slow bodies", share: 1, sizes: usual, network: honest, attack: attack{clients: 100, client: slowBodies}},
	{name: "attack: slow bodies from everywhere", share: 1, sizes: small, network: honest, attack: attack{clients: 100, client: slowBodies, sources: manySources}},
	{name: "attack: slow bodies from the same address", share: 1, sizes: small, network: honest, attack: attack{clients: 100, client: slowBodies, sources: sameSource}},
}

// honest is what clients do that share the tap with hostile ones.
var honest = network{cut: wirePackets, reorder: 4, repeat: 20, pipeline: 3, messages: 20}
