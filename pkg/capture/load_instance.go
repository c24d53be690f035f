package capture

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// instanceLoader brings the programs of instances into the kernel. Verifying
// the tap takes the kernel most of 100 ms, so all instances share one: an
// instance is an entry point of a dozen instructions, which knows its number.
type instanceLoader struct {
	spec *ebpf.CollectionSpec
	maps *tapMaps
	pods []*ebpf.Program // what the entry points lead to
}

// newInstanceLoader loads what instances share. The maps belong to the caller.
func newInstanceLoader(spec *ebpf.CollectionSpec, maps *tapMaps) (_ *instanceLoader, err error) {
	l := &instanceLoader{spec: spec, maps: maps}
	defer func() {
		if err != nil {
			_ = l.close()
		}
	}()
	var shared struct {
		Eth *ebpf.Program `ebpf:"pod_ingress_eth"`
		L3  *ebpf.Program `ebpf:"pod_ingress_l3"`
	}
	if err := spec.LoadAndAssign(&shared, l.options()); err != nil {
		return nil, loadError(err)
	}
	l.pods = []*ebpf.Program{shared.Eth, shared.L3}
	for index, p := range map[tapPodProgram]*ebpf.Program{
		tapPodProgramPOD_ETH: shared.Eth,
		tapPodProgramPOD_L3:  shared.L3,
	} {
		if err := maps.Pods.Put(index, p); err != nil {
			return nil, fmt.Errorf("put %v in place: %w", p, err)
		}
	}
	return l, nil
}

func (l *instanceLoader) options() *ebpf.CollectionOptions {
	return &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		tapMapControl:  l.maps.Control,
		tapMapCounters: l.maps.Counters,
		tapMapCurrent:  l.maps.Current,
		tapMapFlows:    l.maps.Flows,
		tapMapHellos:   l.maps.Hellos,
		tapMapPods:     l.maps.Pods,
		tapMapRings:    l.maps.Rings,
		tapMapScratch:  l.maps.Scratch,
		tapMapSides:    l.maps.Sides,
		tapMapTargets:  l.maps.Targets,
	}}
}

func (l *instanceLoader) close() error {
	var errs []error
	for _, p := range l.pods {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// instancePrograms are the entry points of one instance.
type instancePrograms struct {
	IngressEth *ebpf.Program `ebpf:"enter_ingress_eth"`
	IngressL3  *ebpf.Program `ebpf:"enter_ingress_l3"`
}

// load brings the entry points of another instance into the kernel.
func (l *instanceLoader) load(id uint32) (*instancePrograms, error) {
	spec := l.spec.Copy()
	if err := spec.Variables[tapVarInstance].Set(id); err != nil {
		return nil, fmt.Errorf("set %s: %w", tapVarInstance, err)
	}
	programs := new(instancePrograms)
	if err := spec.LoadAndAssign(programs, l.options()); err != nil {
		return nil, loadError(err)
	}
	return programs, nil
}

func (p *instancePrograms) close() error {
	return errors.Join(p.IngressEth.Close(), p.IngressL3.Close())
}
