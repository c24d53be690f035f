package capture

import (
	"slices"
	"testing"

	"github.com/google/gopacket/layers"
)

// Options as TCP sends them. Of Multipath TCP (RFC 8684, section 3): what a SYN
// offers, what one joins by, and where the payload of a segment belongs.
var (
	padding    = layers.TCPOption{OptionType: layers.TCPOptionKindNop}
	timestamps = []layers.TCPOption{padding, padding, {OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}
	offers     = mptcp(0, 4)
	joins      = mptcp(1, 12)
	places     = mptcp(2, 18)
)

func mptcp(subtype byte, length uint8) layers.TCPOption {
	return layers.TCPOption{OptionType: 30, OptionLength: length, OptionData: append([]byte{subtype << 4}, make([]byte, length-3)...)}
}

// TestProgramSubflows: what belongs to a subflow of Multipath TCP says so, from
// the first packet on that shows it, and nothing else does.
func TestProgramSubflows(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4, target6)
	const data = FlagACK | FlagPSH
	carrying := func(p packet, options ...layers.TCPOption) packet {
		p.tcpOptions = options
		return p
	}
	syn4, syn6 := to4(FlagSYN, 1, ""), to6(FlagSYN, 1, "")
	first4, next4, first6 := to4(data, 2, "first"), to4(data, 7, "next"), to6(data, 2, "first")
	for name, tt := range map[string]struct {
		packets []packet
		want    []bool
	}{
		"none":                       {[]packet{syn4, carrying(first4, timestamps...), next4}, []bool{false, false, false}},
		"offered, and declined":      {[]packet{carrying(syn4, offers), carrying(first4, timestamps...)}, []bool{false, false}},
		"offered, with early data":   {[]packet{carrying(to4(FlagSYN, 1, "early"), offers)}, []bool{false}},
		"offered and accepted":       {[]packet{carrying(syn4, offers), carrying(first4, places)}, []bool{false, true}},
		"said once":                  {[]packet{carrying(syn4, offers), carrying(first4, places), next4}, []bool{false, true, true}},
		"behind timestamps":          {[]packet{carrying(first6, append(slices.Clone(timestamps), places)...)}, []bool{true}},
		"joined":                     {[]packet{carrying(syn6, joins), first6}, []bool{true, true}},
		"joined, with other options": {[]packet{carrying(syn4, append(slices.Clone(timestamps), joins)...)}, []bool{true}},
		"another connection":         {[]packet{carrying(syn4, joins), to4(FlagSYN, 99, ""), to4(data, 100, "x")}, []bool{true, false, false}},
		"known late":                 {[]packet{first4, carrying(next4, places), to4(data, 2, "first")}, []bool{false, true, true}},
		"its end":                    {[]packet{carrying(to4(FlagFIN|FlagACK, 2, ""), places)}, []bool{false}},
		"hidden":                     {[]packet{carrying(first4, append(slices.Repeat([]layers.TCPOption{padding}, 17), places)...)}, []bool{true}},
		"behind the end":             {[]packet{carrying(first4, layers.TCPOption{OptionType: layers.TCPOptionKindEndList}, places)}, []bool{false}},
		"behind an unknown one":      {[]packet{carrying(first4, layers.TCPOption{OptionType: 254, OptionLength: 2}, places)}, []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			k.forget()
			for _, p := range tt.packets {
				k.run(k.TapIngressEth, p.bytes(t))
			}
			var got []bool
			for _, s := range k.segments() {
				got = append(got, s.Flags&FlagSubflow != 0)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("subflow %v, want %v", got, tt.want)
			}
		})
	}
}

// TestProgramOptionsEndWithTheHeader: no option is read out of payload.
func TestProgramOptionsEndWithTheHeader(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	p := to4(FlagACK, 1, "\x1e\x14\x20 and what follows")
	p.tcpOptions = append(slices.Clone(timestamps), padding, padding, padding, padding)
	for _, last := range []byte{1, 30} { // a NOP, and the kind of an option that is not there
		b := p.bytes(t)
		b[14+20+20+15] = last
		k.forget()
		k.run(k.TapIngressEth, b)
		if got := k.segments(); len(got) != 1 || got[0].Flags&FlagSubflow != 0 || string(got[0].Payload) != p.payload {
			t.Errorf("last byte %d of the options: %+v", last, got)
		}
	}
}
