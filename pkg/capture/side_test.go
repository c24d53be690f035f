package capture

import (
	"slices"
	"testing"
)

// TestSidesCanBeTakenOver: what one tap has found out of a pod's ports another
// one can be told, for the ports that it captures.
func TestSidesCanBeTakenOver(t *testing.T) {
	k := newKernel(t, 1, 1<<20, 0, target4)
	other := Target{Addr: target4.Addr, Port: target4.Port + 1}
	pod := k.pod(1, target4, other)
	inside := func(want ...uint16) {
		t.Helper()
		if got, err := pod.Inside(); err != nil || !slices.Equal(got, want) {
			t.Errorf("taken from lo: %v, %v, want %v", got, err, want)
		}
	}
	inside()
	if err := pod.TakeInside([]uint16{other.Port, 9}); err != nil {
		t.Fatal(err)
	}
	inside(other.Port)
	if err := pod.SetTargets([]Target{target4, other}, false); err != nil {
		t.Fatal(err)
	}
	inside(other.Port) // a side is kept as long as its port
	if err := pod.SetTargets([]Target{target4}, true); err != nil {
		t.Fatal(err)
	}
	inside(target4.Port)
}
