package capture

import (
	"testing"
)

// TestProgramBehindTunnelHeaders: on kernels that leave them there, what is in
// front of the IP header does not hide it. In a test run the kernel takes the
// first 14 bytes for the MAC header, as it takes a tunnel's.
func TestProgramBehindTunnelHeaders(t *testing.T) {
	needRoot(t)
	spec, err := newSpec(1, 1<<20, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables[tapVarTunnelHeaders].Set(true); err != nil {
		t.Fatal(err)
	}
	k := loadSpec(t, spec, false, target4, target6)
	padded := to4(FlagACK, 3, "tiny")
	padded.padding = 30
	for name, tt := range map[string]struct {
		packet packet
		copied int
	}{
		"IPv4": {to4(FlagACK, 1, "GET / HTTP/1.1\r\n\r\n"), 1},
		"IPv6": {to6(FlagACK, 2, "GET / HTTP/1.1\r\n\r\n"), 1},
		// What is behind the packet cannot be told from what is in front.
		"padding": {padded, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k.t = t
			k.forget()
			k.run(k.TapIngressL3, tt.packet.bytes(t))
			got := k.segments()
			if len(got) != tt.copied {
				t.Fatalf("%d segments, want %d", len(got), tt.copied)
			}
			if tt.copied > 0 && (got[0].Flow != flowOf(tt.packet.src, tt.packet.dst) || string(got[0].Payload) != tt.packet.payload) {
				t.Errorf("got %+v", got[0])
			}
			// Nothing in front.
			k.forget()
			tt.packet.noEthernet, tt.packet.padding = true, 0
			k.run(k.TapIngressL3, tt.packet.bytes(t))
			if got := k.segments(); len(got) != 1 || string(got[0].Payload) != tt.packet.payload {
				t.Errorf("without other headers: %+v", got)
			}
		})
	}
}
